// The fleet: all hosts over time, how their samples are distributed, who is busy, idle, silent, and what fires.

import { address, getPicture, getWindows, python } from "../api.js";
import { SERVICE } from "../base.js";
import { card } from "../card.js";
import { badges, command, fill, h, name, table } from "../dom.js";
import { heatMap, scaleStrip } from "../heatmap.js";
import { lineChart, spacing, withGaps } from "../linechart.js";
import { binWords, difference, loadDuration, merged, plural, quantile, quantileWords, scaleOfShares, shares, shown, whole } from "../numbers.js";
import { get, hostLink, link, params, set } from "../state.js";
import { ago, durationText, HOUR, iso, moment, range, tick } from "../time.js";
import { labelFilter, labelGroups, labelLinks, labelTitle } from "./labels.js";
import { annotations, loadDurationPython, metricOf, metricSelect, narrower, noteForm, saturatedShare, SATURATED } from "./shared.js";

export const title = "Fleet";
const SORTS = { name: "name", mean: "mean", p95: "95th percentile", max: "maximum", change: "change", cores: "cores", seen: "last seen" };
const DEFAULT_SORT = "p95";
/** Of a list at once, as the service allows. */
const MOST_HOSTS = 10_000;
/** The order in which one looks for something by a key: names as they are read, numbers from the highest. */
const natural = (key) => (key === "name" ? "asc" : "desc");
/** What is said of hosts before it is known. */
const NO_TABLES = { states: {}, weighted: [], reporting: [], machines: [], hottest: [], idlest: [], silent: [], known_labels: {}, labelled: {}, firing: { total: 0, rules: {}, alerts: [] } };
const STATES = { "": "all", hot: "hot", idle: "idle", silent: "silent", alerting: "alerting" };

/** Waits until the browser has painted what there is, but not for a page that nobody looks at. */
const painted = () => new Promise((done) => {
  requestAnimationFrame(() => setTimeout(done));
  setTimeout(done, 100);
});

/** Opens the view in `root`. */
export function open(root) {
  const tiles = h("dl", { class: "tiles" }, Array.from({ length: 6 }, () => h("div", { class: "tile" })));
  const heading = h("h1", {}, "Fleet");
  const select = (label, parameter, options, fallback) => {
    const node = h("select", { onchange: () => set({ [parameter]: node.value === fallback ? null : node.value, first: null, count: null }) },
      Object.entries(options).map(([value, text]) => h("option", { value }, text)));
    return { node, label: h("label", {}, label, node), parameter, fallback };
  };
  const sortSelect = h("select", { onchange: () => sortBy(sortSelect.value, natural(sortSelect.value)) }, Object.entries(SORTS).map(([value, text]) => h("option", { value }, text)));
  const orderSelect = h("select", { onchange: () => sortBy(sorted().key, orderSelect.value) }, h("option", { value: "asc" }, "ascending"), h("option", { value: "desc" }, "descending"));
  const controls = [
    select("Show", "state", STATES, ""),
    select("OS", "os", { "": "all", Linux: "Linux", MacOS: "MacOS", Windows: "Windows" }, ""),
    select("Value", "stat", { mean: "mean", max: "maximum", min: "minimum" }, "mean"),
  ];
  let typing = 0;
  const search = h("input", {
    type: "search", size: "14", maxlength: "128", oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => set({ q: search.value, first: null, count: null }, { replace: true }), 250);
    },
  });
  const metric = metricSelect(), label = labelFilter(), groups = labelGroups();
  const picked = h("p", { class: "controls" });
  const plot = h("div", { class: "heat" });
  const strip = scaleStrip("0 %", "100 %");
  const note = h("p", { class: "quiet" });
  let picture = null, windows = [], asked = {}, selection = {}, loading = null;

  const heat = card("Hosts over time", {
    source: () => ({
      path: address("/api/v1/windows/fleet", { ...asked, by: "user", ...selection }), file: "fleet.csv", accept: "text/csv",
      python: python("fleet", [asked.metric], { start: asked.start, end: asked.end, rate: asked.resample_rate, by: "user", histograms: false, hosts: chosenOnly() }),
    }),
    rows: () => ({ columns: hostColumns(), rows: (picture?.machines ?? []).map(plainHost), of: picture ? shownHosts() : 0 }),
  });
  heat.body.append(
    h("div", { class: "controls" }, h("label", {}, "Find ", search), h("label", {}, "Sort by", sortSelect), h("label", {}, "order", orderSelect), controls.map((one) => one.label), metric.label, label.nodes), picked, plot,
    h("div", { class: "controls" }, strip.node, note));
  const map = heatMap(plot, {
    label: "Hosts over time. Arrows move, Enter opens a host, Space selects it; a table is below.",
    describe: (row, column) => describe(row, column),
    pick: (row, event) => pick(row, event),
    zoom: (start, end) => set({ from: iso(start), to: iso(end), range: null }),
    zoomRows: (first, last) => zoomRows(first, last),
  });

  const trend = card("Utilization", {
    help: "of all samples of the hosts above",
    source: () => ({
      path: windowsTogether(), file: "utilization.csv", accept: "text/csv",
      python: python("fleet", [asked.metric], { start: asked.start, end: asked.end, rate: asked.resample_rate, hosts: chosenOnly() }),
    }),
    rows: () => ({
      columns: [{ label: "time" }, ...["mean", "min", "max", "p5", "p50", "p95", "samples"].map((label) => ({ label, number: true }))],
      rows: windows.map((one) => [iso(one.time), one.mean, one.min, one.max, one.p5, one.p50, one.p95, one.count]),
    }),
  });
  const trendPlot = h("div", { class: "plot" });
  const part = narrower();
  trend.body.append(h("div", { class: "under" }, part.node, trendPlot));
  trend.node.append(noteForm(() => "*", () => refresh({ quiet: true })));
  const trendChart = lineChart(trendPlot, { label: "Utilization of the fleet over time", maximum: 1 });

  const distribution = card("Distribution of samples", {
    help: "each counts once: who samples more often weighs more",
    source: () => ({
      path: windowsTogether(), csv: false, file: "distribution.csv",
      python: loadDurationPython("fleet", [asked.metric], asked, chosenOnly()).replace("print(analytics.load_duration_curve(frame))", "curve = analytics.load_duration_curve(frame)\nprint(curve.assign(samples=-curve[\"share\"].diff(-1)))"),
    }),
    rows: () => ({
      columns: [{ label: "load from" }, { label: "share of samples in the range", number: true }, { label: "share of samples now", number: true }],
      rows: bins().all.map((share, bin) => [`${((100 * bin) / 64).toFixed(1)} %`, share, bins().now[bin]]),
    }),
  });
  const distributionPlot = h("div", { class: "plot small" });
  const above = h("p", { class: "over" });
  distribution.body.append(h("div", { class: "under" }, above, distributionPlot));
  const distributionChart = lineChart(distributionPlot, { time: false, label: "Distribution of samples over loads", zoom: () => {} });

  const duration = card("Load duration", {
    help: "samples that were at least so high: who samples more often weighs more",
    source: () => ({
      path: windowsTogether(), csv: false, file: "load-duration.csv",
      python: loadDurationPython("fleet", [asked.metric], asked, chosenOnly()),
    }),
    rows: () => ({ columns: [{ label: "load" }, { label: "share of samples at or above", number: true }], rows: curve().map((share, bin) => [bin / 64, share]) }),
  });
  const durationPlot = h("div", { class: "plot small" });
  duration.body.append(durationPlot);
  const durationChart = lineChart(durationPlot, { time: false, label: "Load-duration curve of the fleet", maximum: 1, xUnit: "1", zoom: () => {} });
  const curve = () => loadDuration(merged(windows.map((one) => one.histogram)));

  const lists = h("div", { class: "columns lists" });
  const hosts = card("Hosts", {
    source: () => ({
      path: address("/api/v1/fleet/machines", { metric: asked.metric, start: asked.start, end: asked.end, limit: MOST_HOSTS, ...order(), ...selection }), file: "machines.csv", accept: "text/csv",
      python: python("hosts", [asked.metric], { start: asked.start, end: asked.end, hosts: { ...order(), ...selection } }),
    }),
    rows: () => ({ columns: hostColumns(), rows: (picture?.machines ?? []).map(plainHost), of: picture ? shownHosts() : 0 }),
  });
  const columns = h("div", { class: "columns main-first" }, trend.node, distribution.node, duration.node);
  root.append(h("div", { class: "head" }, heading), tiles, heat.node, columns, lists, groups.node, hosts.node);

  const bins = () => ({ all: shares(merged(windows.map((one) => one.histogram))), now: shares(windows.at(-1)?.histogram ?? []) });
  const chosen = () => params().getAll("sel");

  function describe(row, column) {
    const count = picture.edges[row + 1] - picture.edges[row];
    const level = picture.pixels[row * picture.columns + column];
    const value = level ? shown(((level - 1) / 254) * picture.scale, picture.unit) : "no data";
    const who = count === 1 ? [name(picture.labels[row])] : [`${count} hosts from `, name(picture.labels[row])];
    return [who, h("br"), count > 1 && level ? `highest ${value}` : value, h("br"), moment(picture.start + picture.rate * column)];
  }

  function pick(row, event) {
    const count = picture.edges[row + 1] - picture.edges[row];
    if (count > 1) return zoomRows(row, row);
    const id = picture.labels[row];
    if (event.key === " " || event.ctrlKey || event.metaKey || event.shiftKey) return toggle(id);
    history.pushState(null, "", hostLink(id));
    return dispatchEvent(new Event("navigate"));
  }

  const toggle = (id) => set({ sel: chosen().includes(id) ? chosen().filter((one) => one !== id) : [...chosen(), id].slice(-8) });
  const zoomRows = (first, last) => set({ first: picture.edges[first] || null, count: picture.edges[last + 1] - picture.edges[first] });

  /** What hosts are sorted by: the hottest come first where the address says nothing else. */
  function sorted() {
    const key = get("sort", DEFAULT_SORT);
    return { key, order: get("order", natural(key)) };
  }
  const order = () => ({ sort: sorted().key, order: sorted().order });
  const sortBy = (key, order) => set({ sort: key === DEFAULT_SORT ? null : key, order: order === natural(key) ? null : order, first: null, count: null });
  const sortByHead = (key) => sortBy(key, sorted().key === key ? (sorted().order === "asc" ? "desc" : "asc") : natural(key));

  /** Which hosts the address means, as the service reads it; their order only where a part of it is meant. */
  function chosenHosts(sort, order) {
    const first = Number(get("first")) || 0, count = Number(get("count")) || 0;
    const texts = Object.fromEntries(["q", "os", "state", "label"].map((key) => [key, get(key)]).filter(([, value]) => value));
    return { ...texts, ...(first || count ? { sort, order } : {}), ...(first ? { first } : {}), ...(count ? { count } : {}) };
  }
  const shownHosts = () => picture.edges.at(-1) - picture.edges[0];
  const chosenOnly = () => (Object.keys(selection).length ? selection : null);
  const windowsTogether = () => address("/api/v1/windows/fleet", { ...asked, histograms: true, ...selection });

  async function refresh({ quiet = false } = {}) {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    for (const { node, parameter, fallback } of controls) node.value = get(parameter, fallback);
    const { sort, order: direction } = order();
    sortSelect.value = sort;
    orderSelect.value = direction;
    if (document.activeElement !== search) search.value = get("q");
    metric.update();
    const { start, end } = range();
    const named = metricOf();
    const wanted = chosenHosts(sort, direction);
    const question = {
      metric: named.name, stat: get("stat"), start, end, columns: Math.min(400, Math.max(60, Math.round(plot.clientWidth / 3))),
      rows: Math.max(10, plot.clientHeight - 22), tables: "last", sort, order: direction, ...wanted,
    };
    if (!quiet && !picture) map.fail("Loading …");
    let tables = null;
    try {
      const found = await getPicture(address("/api/v1/fleet/picture", question), signal);
      // Lists stay as they are until the others come.
      picture = { ...(picture ?? NO_TABLES), ...found.header };
      tables = found.tables;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      map.fail(error.message);
      return;
    }
    selection = wanted;
    // What the numbers of hosts are over: all that the page says is of the same time.
    const [since, until] = picture.counted;
    asked = { metric: named.name, start: since, end: Math.min(Math.max(end, Date.now()), until), resample_rate: durationText(picture.rate) };
    paintMap();
    const rest = Promise.all([getWindows(windowsTogether(), signal), annotations.load({ start, end }, signal)]);
    rest.catch(() => {}); // it is waited for below
    await painted();
    const said = await tables;
    signal.throwIfAborted();
    picture = { ...picture, ...said };
    paint(named);
    try {
      [windows] = await rest;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      trendChart.fail(error.message);
      distributionChart.fail(error.message);
      durationChart.fail(error.message);
      return;
    }
    for (const one of windows) {
      for (const [key, q] of [["p5", 0.05], ["p50", 0.5], ["p95", 0.95]]) one[key] = quantile(one.histogram, q, named.bounded, one.min, one.max);
    }
    map.mark(annotations.marks());
    paintTrend(named);
    paintTiles(named);
    for (const one of [heat, trend, distribution, duration, hosts]) one.refresh();
    await groups.refresh(picture.labelled, shownHosts(), { metric: named.name, start: asked.start, end: asked.end, selection }, named.unit, { quiet, signal });
  }

  function paintMap() {
    const rowsPicked = chosen().flatMap((id) => {
      const row = picture.labels.indexOf(id);
      return row >= 0 && picture.edges[row + 1] - picture.edges[row] === 1 ? [row] : [];
    });
    map.show(picture, { rowsPicked, empty: picture.known === 0 ? begin() : nothing() });
    document.documentElement.dataset.drawn = Number(document.documentElement.dataset.drawn ?? 0) + 1;
  }

  function paint(named) {
    const unknown = picture.known === 0;
    label.update(picture.known_labels);
    groups.offer(picture.known_labels);
    fill(heading, "Fleet", labelTitle());
    strip.top.textContent = shown(picture.scale, picture.unit, 0);
    paintFiring();
    const per = picture.rows ? Math.ceil(shownHosts() / picture.rows) : 1;
    const part = get("first") || get("count");
    fill(note, `${whole(shownHosts())} of ${plural(picture.total, "host")}, a column is ${durationText(picture.rate)}`,
      per > 1 ? `, a row up to ${per} hosts: its highest value. Click a row, or drag over rows, to see them.` : ".",
      part ? [" ", h("a", { href: location.pathname + withoutRows() }, "Show all rows")] : null);
    const found = chosen();
    fill(picked, found.length ? [h("span", {}, `${found.length} selected: `, found.slice(0, 4).map((id, place) => [place ? ", " : "", name(id)]), found.length > 4 ? ", …" : ""),
      h("a", { href: link("/compare", { host: found }) }, "Compare them"), h("button", { type: "button", onclick: () => set({ sel: null }) }, "Clear")] : null);
    fill(lists, list("Hottest", picture.hottest, "The highest 95th percentiles of samples.", "p95"), list("Idlest", picture.idlest, "The lowest 95th percentiles of samples.", "p95"),
      list("Silent", picture.silent, `${plural(picture.states.silent, "host has", "hosts have")} not reported for ten minutes.`, "seen"), firing);
    fill(hosts.body, picture.machines.length
      ? table(`${whole(picture.machines.length)} of ${plural(picture.total, "host")}, ${named.text}, over the whole range`, hostColumns(), picture.machines.map(hostRow),
        { sort: { key: sorted().key, descending: sorted().order === "desc", by: sortByHead } })
      : h("p", { class: "empty" }, unknown ? begin() : nothing()));
    document.documentElement.dataset.hosts = picture.total;
  }

  const firing = h("section", { class: "card" }, h("header", {}, h("h2", {}, "Firing")), h("div", {}));
  const begin = () => ["No host has reported yet. Start an agent: ", command(`loadlens-agent --url ${SERVICE}`), ", or load a fleet to look at: ", command("loadlens-service demo"), "."];
  const nothing = () => (get("q") || get("state") || get("os") || get("label") || get("first")
    ? ["No host is like this. ", h("a", { href: link("/", { label: null }) }, "Show all")]
    : ["No host reported in this range. ", h("a", { href: location.pathname + "?range=30d" }, "Look at the last 30 days"), "."]);
  const withoutRows = () => {
    const kept = params();
    kept.delete("first");
    kept.delete("count");
    return kept.size ? `?${kept}` : "";
  };

  function list(label, found, text, key) {
    return h("section", { class: "card" }, h("header", {}, h("h2", {}, label)), h("p", { class: "quiet" }, text),
      found.length ? table(label, [{ label: "host", name: true }, { label: key === "seen" ? "last seen" : "p95", number: true }, { label: "mean", number: true }],
        found.map((one) => [h("a", { href: hostLink(one.user_id) }, name(one.user_id)), key === "seen" ? ago(one.seen) : shown(one.p95, picture.unit), shown(one.mean, picture.unit)]), { captionHidden: true })
        : h("p", { class: "empty" }, "None."));
  }

  const hostColumns = () => [
    { label: "host", key: "name", name: true }, { label: "state" }, { label: "mean", key: "mean", number: true }, { label: "p95", key: "p95", number: true },
    { label: "maximum", key: "max", number: true }, { label: "change", key: "change", number: true }, { label: "cores", key: "cores", number: true },
    { label: "system" }, { label: "last seen", key: "seen" }, ...(hasLabels() ? [{ label: "labels" }] : []),
  ];
  const hasLabels = () => Object.keys(picture?.known_labels ?? {}).length > 0;
  const hostRow = (one) => [
    h("span", {}, h("input", { type: "checkbox", "aria-label": `Select ${one.user_id}`, checked: chosen().includes(one.user_id), onchange: () => toggle(one.user_id) }), " ",
      h("a", { href: hostLink(one.user_id) }, name(one.user_id))),
    badges(one.states), shown(one.mean, picture.unit), shown(one.p95, picture.unit), shown(one.maximum, picture.unit),
    picture.unit === "1" ? difference(one.change) : shown(one.change, picture.unit), one.cores || "–", one.os_type, ago(one.seen), ...(hasLabels() ? [labelLinks(one.labels)] : []),
  ];
  const plainHost = (one) => [one.user_id, one.states.join(" "), one.mean, one.p95, one.maximum, one.change, one.cores, one.os_type, iso(one.seen), ...(hasLabels() ? [Object.entries(one.labels).map((pair) => pair.join("=")).join(",")] : [])];

  function paintTrend(named) {
    const usual = spacing(windows.map((one) => one.time), picture.rate);
    const weighted = new Map(picture.weighted.map((value, column) => [picture.start + picture.rate * column, value]));
    const { x, columns: [mean, p5, p50, p95, cores] } = withGaps(windows.map((one) => one.time),
      ["mean", "p5", "p50", "p95"].map((key) => windows.map((one) => one[key])).concat([windows.map((one) => weighted.get(one.time) ?? null)]), 1.5 * usual);
    trendChart.show({
      x, domain: [picture.start / 1000, range().end / 1000],
      series: [
        { label: "p95 of samples", data: p95, colour: "--series-2", swatch: "swatch-2", unit: named.unit },
        { label: "p5", data: p5, colour: null, swatch: "swatch-band", unit: named.unit },
        { label: "median", data: p50, colour: "--series-3", dash: [4, 3], swatch: "swatch-3", unit: named.unit },
        { label: "mean", data: mean, colour: "--series-1", width: 2, swatch: "swatch-1", unit: named.unit },
        ...(named.name === "cpuUtilization" && get("stat", "mean") === "mean"
          ? [{ label: "mean by cores", data: cores, colour: "--series-4", dash: [6, 3], swatch: "swatch-4", unit: named.unit }] : []),
      ],
      bands: [{ upper: 0, lower: 1, fill: "--band" }],
      marks: annotations.marks(),
    });
    part.show(windows.map((one) => one.time), picture.rate);
    const { all, now } = bins();
    const edges = all.map((_, bin) => bin / 64);
    const { top, cut } = scaleOfShares(all);
    fill(above, cut.length && named.bounded ? h("span", {}, `Higher than drawn: ${cut.map((bin) => `${shown(all[bin])} ${binWords(bin)}`).join("; ")}`) : null);
    distributionChart.show(named.bounded && windows.length ? {
      x: edges, domain: [0, 1], top: cut.length ? top : Math.max(...all, ...now),
      series: [
        { label: "in the range", data: all, colour: "--series-1", fill: "--band", bars: true, swatch: "swatch-1" },
        { label: `in the last ${durationText(picture.rate)}`, data: now, colour: "--series-2", steps: true, width: 2, swatch: "swatch-2" },
      ],
    } : { x: [], series: [], empty: named.bounded ? "No data in this range." : "Distributions are shown of shares, such as CPU utilization." });
    const whole_ = named.bounded && windows.length ? curve() : [];
    durationChart.show({
      x: whole_.map((_, bin) => bin / 64), domain: [0, 1], empty: named.bounded ? "No data in this range." : "Shown of shares, such as CPU utilization.",
      series: [{ label: "share of samples at or above", data: whole_, colour: "--series-1", fill: "--band", swatch: "swatch-1", unit: "1" }],
    });
  }

  /** The mean of the newest column that most of those have reported in who do, and when that was. */
  function newestMean() {
    const { weighted, reporting, start, rate } = picture;
    const seen = reporting.filter((count) => count > 0).sort((a, b) => a - b);
    const at = weighted.findLastIndex((value, column) => value !== null && reporting[column] >= seen[seen.length >> 1] / 2);
    if (at < 0) return { value: null, when: "" };
    const [from, to] = [start + at * rate, start + (at + 1) * rate].map((one) => tick(one, Math.min(rate, HOUR)));
    return { value: weighted[at], when: at === weighted.length - 1 ? `mean since ${from}` : `mean of ${from} to ${to}` };
  }

  function paintTiles(named) {
    const all = merged(windows.map((one) => one.histogram));
    const now = newestMean();
    const from = windows.length ? Math.min(...windows.map((one) => one.min)) : null, to = windows.length ? Math.max(...windows.map((one) => one.max)) : null;
    const p95 = all.length ? quantile(all, 0.95, named.bounded, from, to) : null;
    const { total: firingNow, rules } = picture.firing, some = chosenOnly() !== null;
    const tile = (label, value, more, to_, title = null) => h("div", { class: "tile", title }, h("dt", {}, label), h("dd", {}, to_ ? h("a", { href: to_ }, value) : value), h("dd", { class: "more" }, more));
    fill(tiles,
      tile("Hosts", whole(shownHosts()), some ? `of ${whole(picture.known)} are shown` : `of ${whole(picture.known)} reported in the range`),
      tile(named.bounded ? "Utilization now" : `${named.text} now`, shown(now.value, named.unit), [now.when, named.name === "cpuUtilization" ? "weighted by cores" : "each host alike"].filter(Boolean).join(", "), null,
        "The mean of the newest column of the heat map that has most of the hosts which report."),
      tile("p95 of samples", shown(p95, named.unit), [some ? "of those shown" : "of all hosts", "over the whole range", quantileWords(p95, named.bounded)].filter(Boolean).join(", "), null,
        "Each sample counts once: a host that samples more often weighs more."),
      tile("Saturated", named.bounded && all.length ? shown(saturatedShare(loadDuration(all)), "1", 2) : "–", `share of samples at ${(100 * SATURATED).toFixed(1)} % or above`),
      tile("Silent", whole(picture.states.silent), "no report for ten minutes", link("/", { q: get("q"), os: get("os"), state: "silent" })),
      tile("Firing", whole(firingNow), firingNow ? Object.keys(rules).slice(0, 3).join(", ") : "no rule fires", link("/alerts")));
  }

  function paintFiring() {
    const { alerts } = picture.firing;
    fill(firing.lastChild, alerts.length
      ? table("Firing alerts", [{ label: "rule" }, { label: "host", name: true }, { label: "since" }],
        alerts.map((one) => [h("a", { href: link("/alerts", { rule: one.rule }) }, one.rule), one.user ? h("a", { href: hostLink(one.user) }, name(one.user)) : "the fleet", ago(one.fired)]), { captionHidden: true })
      : h("p", { class: "empty" }, "Nothing fires. ", h("a", { href: link("/alerts") }, "Rules and silences")));
  }

  return {
    refresh,
    follows: () => (picture && range().relative ? { users: (picture.known <= 20 ? picture.machines : picture.machines.filter((one) => !one.states.includes("silent"))).map((one) => one.user_id) } : { users: [] }),
    close() {
      loading?.abort();
      clearTimeout(typing);
      map.close();
      trendChart.close();
      distributionChart.close();
      durationChart.close();
    },
  };
}
