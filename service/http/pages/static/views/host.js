// One host: its load over time with everything that is known of it, its cores, its size, its agent's settings.

import { address, exactly, getJson, getUser, getWindows, hasAddress, python, segment, ServiceError } from "../api.js";
import { BASE } from "../base.js";
import { card } from "../card.js";
import { badges, fill, h, name } from "../dom.js";
import { heatMap, levels, scaleStrip } from "../heatmap.js";
import { lineChart, spacing, withGaps } from "../linechart.js";
import { difference, loadDuration, meanOf, merged, plural, quantile, quantileWords, shown } from "../numbers.js";
import { get, hostLink, link, set } from "../state.js";
import { ago, durationText, iso, moment, MINUTE, range, rateFor, zone } from "../time.js";
import { labelLinks } from "./labels.js";
import { devicesCard } from "./devices.js";
import { annotations, consumers, loadDurationPython, metricOf, metrics, metricSelect, narrower, noteForm } from "./shared.js";
import { processes } from "./processes.js";
import { settings } from "./settings.js";
import { stacked } from "./stacked.js";

export const title = "Host";
const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const BUCKETS = 300;
/** Kinds of CPU time that are drawn on top of each other; `cpuTimeWork` is some of them together. */
const KINDS = [["cpuTimeUser", "programs"], ["cpuTimeSystem", "kernel"], ["cpuTimeIrq", "interrupts"], ["cpuTimeGuest", "virtual machines"], ["cpuTimeSteal", "stolen"], ["cpuTimeIowait", "idle, waiting for input and output"]];

/** What the tiles do not have the room to say. */
const MEAN = "The mean of all samples in the range, as exact as they are. A window counts by its samples; within a window, a sample weighs the time that it covers.";
const QUANTILES = "Of all samples in the range: windows have histograms, which add up, so it does not depend on the width of buckets. It is exact to a bin.";

/** Opens the view in `root`. */
export function open(root) {
  const heading = h("h1", {});
  const about = h("p", { class: "quiet" });
  const links = h("p", { class: "head" });
  const tiles = h("dl", { class: "tiles" }, Array.from({ length: 5 }, () => h("div", { class: "tile" })));
  const metric = metricSelect();
  const shows = { forecast: "forecast", marks: "anomalies and changes", overlay: "a week earlier" };
  const checks = Object.entries(shows).map(([key, text]) => {
    const node = h("input", { type: "checkbox", onchange: () => flip(key) });
    return { key, node, label: h("label", {}, node, text) };
  });
  let windows = [], before = [], cores = [], week = null, marks = [], forecast = null, rate = 0, asked = {}, loading = null, last = null, heard = null, judged = {};

  const history = card("Load over time", {
    source: () => ({
      path: address(`/api/v1/windows/byUser/${segment(id())}`, { ...asked, histograms: true }), file: `${id()}.csv`, accept: "text/csv",
      python: python("history", [id(), asked.metric], { start: asked.start, end: asked.end, rate: asked.resample_rate }),
    }),
    rows: () => ({
      columns: [{ label: "time" }, ...["mean", "min", "max", "p5", "p50", "p95", "samples"].map((label) => ({ label, number: true }))],
      rows: windows.map((one) => [iso(one.time), one.mean, one.min, one.max, one.p5, one.p50, one.p95, one.count]),
    }),
  });
  const historyPlot = h("div", { class: "plot tall" });
  const findings = h("ul", { class: "plain findings" });
  const part = narrower();
  history.body.append(h("div", { class: "controls" }, metric.label, checks.map((one) => one.label)), h("div", { class: "under" }, part.node, historyPlot));
  history.node.append(findings, noteForm(() => exactly(id()), () => refresh({ quiet: true })));
  const who = processes(() => id());
  const chart = lineChart(historyPlot, { label: "Load of the host over time", pick: (at) => who.pick(at) });

  const coreCard = card("Cores", {
    help: "mean of each core",
    source: () => ({
      path: address(`/api/v1/windows/byUser/${segment(id())}`, { ...asked, core: "each" }), file: `${id()}-cores.csv`, accept: "text/csv",
      python: python("history", [id(), asked.metric], { start: asked.start, end: asked.end, rate: asked.resample_rate, core: "each" }),
    }),
    rows: () => ({ columns: [{ label: "time" }, { label: "core", number: true }, { label: "mean", number: true }, { label: "max", number: true }], rows: cores.map((one) => [iso(one.time), one.core ?? "host", one.mean, one.max]) }),
  });
  const corePlot = h("div", { class: "heat cores" });
  const coreStrip = scaleStrip("0", "");
  coreCard.body.append(corePlot, coreStrip.node);
  let coreNumbers = [];
  const coreMap = heatMap(corePlot, {
    label: "Mean of each core over time", yLabels: (row) => `core ${coreNumbers[row]}`, zoom: (start, end) => set({ from: iso(start), to: iso(end), range: null }),
    describe: (row, column) => {
      const at = asked.start - (asked.start % rate) + rate * column;
      const found = cores.find((one) => one.core === coreNumbers[row] && one.time === at);
      return [`Core ${coreNumbers[row]}`, h("br"), found ? shown(found.mean, metricOf().unit) : "no data", h("br"), moment(at)];
    },
  });

  const duration = card("Load duration", {
    help: "the share of samples that were at least so high",
    source: () => ({
      path: address(`/api/v1/windows/byUser/${segment(id())}`, { ...asked, histograms: true }), csv: false, file: `${id()}-load-duration.csv`,
      python: loadDurationPython("history", [id(), asked.metric], asked),
    }),
    rows: () => ({ columns: [{ label: "load" }, { label: "share of samples at or above", number: true }], rows: curve().map((share, bin) => [bin / 64, share]) }),
  });
  const durationPlot = h("div", { class: "plot small" });
  duration.body.append(durationPlot);
  const durationChart = lineChart(durationPlot, { time: false, label: "Load-duration curve", maximum: 1, xUnit: "1", zoom: () => {} });
  const curve = () => loadDuration(merged(windows.map((one) => one.histogram)));

  const analysis = (kind) => address(`/api/v1/analysis/${kind}/byUser/${segment(id())}`, { metric: metricOf().name, start: asked.start, end: asked.end, tz: kind === "week" ? zone() : null });
  const weekCard = card("Hours of the week", {
    help: "mean of the last four weeks",
    source: () => ({ path: analysis("week"), csv: false, python: `${python("history", [id(), metricOf().name], { end: asked.end, start: asked.end - 28 * 86_400_000, rate: "1h" }).replace("print(frame)", `print(analytics.hour_of_week_profile(frame, ${JSON.stringify(zone())}))`)}` }),
    rows: () => ({ columns: [{ label: "day" }, { label: "hour", number: true }, { label: "mean", number: true }, { label: "p95", number: true }], rows: (week?.mean ?? []).map((mean, hour) => [DAYS[Math.floor(hour / 24)], hour % 24, mean, week.p95[hour]]) }),
  });
  const weekPlot = h("div", { class: "heat week" });
  const weekStrip = scaleStrip("0", "");
  weekCard.body.append(weekPlot, weekStrip.node);
  const weekMap = heatMap(weekPlot, {
    label: "Mean load at each hour of the week", time: false, yLabels: (row) => DAYS[row].slice(0, 3), xLabels: [0, 6, 12, 18].map((hour) => [hour, `${String(hour).padStart(2, "0")}:00`]),
    describe: (row, column) => [`${DAYS[row]}, ${column}:00`, h("br"), `mean ${shown(week.mean[24 * row + column], metricOf().unit)}`, h("br"), `p95 ${shown(week.p95[24 * row + column], metricOf().unit)}`],
  });

  let sized = null;
  const size = card("Size", {
    source: () => ({ path: analysis("size"), csv: false, python: python("history", [id()], { start: asked.end - 42 * 86_400_000, end: asked.end, rate: "1h", core: "each" }).replace("print(frame)", "print(analytics.right_size(frame))") }),
    rows: () => ({ columns: ["host", "verdict", "now", "recommended", "unit", "reason"].map((label) => ({ label })), rows: sized ? [[id(), sized.verdict ?? "", sized.now ?? "", sized.recommended ?? "", sized.unit ?? "", sized.why ?? sized.unavailable]] : [] }),
  });
  const sizeText = h("div", { role: "status" });
  size.body.append(sizeText);
  const agent = settings();
  const others = h("div", { class: "columns" });
  const grid = h("div", { class: "columns rest" }, coreCard.node, duration.node, weekCard.node, size.node, agent.node);
  // How high the first of these is shows when it is filled, so they wait for it.
  const below = h("div", { class: "stack waiting" }, who.node, grid, h("h2", {}, "Other metrics"), others);
  const known = h("div", { class: "stack" }, links, tiles, history.node, below);
  const unknown = h("p", { role: "status", hidden: true });
  root.append(h("div", { class: "head" }, heading, about), unknown, known);
  const small = [];

  const id = () => get("id");
  const has = (key) => (key === "marks" ? get("marks") !== "0" : get(key) === (key === "overlay" ? "7d" : "1"));
  const flip = (key) => set({ [key]: key === "marks" ? (has(key) ? "0" : null) : has(key) ? null : key === "overlay" ? "7d" : "1" });
  const overlayKey = () => flip("overlay");
  addEventListener("overlay", overlayKey);

  async function refresh({ quiet = false } = {}) {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    metric.update();
    for (const { key, node } of checks) node.checked = has(key);
    document.title = `${id() || "Host"} · Loadlens`;
    fill(heading, name(id()));
    fill(links, hasAddress(id()) ? h("a", { href: `${BASE}/reports/users/${segment(id())}` }, "Report") : null, h("a", { href: link("/compare", { host: [id()] }) }, "Compare"), h("a", { href: link("/") }, "Fleet"));
    if (!id()) {
      fill(heading, "No host is chosen");
      nobody("Choose one in the ", h("a", { href: link("/") }, "fleet"), ".");
      return;
    }
    try {
      segment(id());
    } catch (error) {
      nobody(error.message, " ", h("a", { href: link("/") }, "All hosts"));
      return;
    }
    const { start, end } = range();
    const named = metricOf();
    if (!quiet && !windows.length) chart.fail("Loading …");
    rate = rateFor({ start, end }, BUCKETS);
    asked = { metric: named.name, start, end, resample_rate: durationText(rate) };
    try {
      windows = await read(named, asked, signal);
      const usual = spacing(windows.map((one) => one.time), rate);
      if (usual > 1.5 * rate) {
        // It reports less often than that: buckets as wide as its windows leave no holes.
        rate = rateFor({ start, end }, BUCKETS, 0.9 * usual);
        asked.resample_rate = durationText(rate);
        windows = await read(named, asked, signal);
      }
      const week_ = 7 * 86_400_000;
      before = has("overlay") ? await read(named, { ...asked, start: start - week_, end: end - week_ }, signal) : [];
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (error.status === 404) nobody("No host of this name has reported. ", h("a", { href: link("/") }, "All hosts"));
      else chart.fail(error.message);
      return;
    }
    unknown.hidden = true;
    known.hidden = false;
    last = windows.at(-1) ?? null;
    await annotations.load({ start, end, user: id() }, signal);
    paint(named);
    const agented = agent.refresh(id(), signal), coresShown = loadCores(named, signal);
    const first = Promise.all([who.refresh({ start, end, rate, agent: agented }, signal), coresShown]).then(() => below.classList.remove("waiting"));
    const rest = [first, describe(signal), agented];
    if (!quiet) rest.push(analyse(named, signal), loadOthers(named, agented, signal));
    await Promise.all(rest);
    for (const one of [history, coreCard, duration, weekCard, size]) one.refresh();
  }

  /** Says why there is no host to show, in place of one. */
  function nobody(...words) {
    fill(about);
    fill(unknown, words);
    unknown.hidden = false;
    known.hidden = true;
  }

  /** The newest window where it came while we looked, otherwise the last bucket. */
  function newest() {
    if (heard && heard.end_timestamp >= (last?.time ?? 0) && heard.user_id === id() && metricOf().name === "cpuUtilization") {
      return { mean: heard.cpuLoadAvg, p95: heard["cpuLoadAvg.p95"], words: "the newest window" };
    }
    return last ? { ...last, words: `mean of ${durationText(rate)}` } : null;
  }

  async function read(named, question, signal) {
    const found = await getWindows(address(`/api/v1/windows/byUser/${segment(id())}`, { ...question, histograms: true }), signal);
    for (const one of found) for (const [key, q] of [["p5", 0.05], ["p50", 0.5], ["p95", 0.95]]) one[key] = quantile(one.histogram, q, named.bounded, one.min, one.max);
    return found;
  }

  async function describe(signal) {
    const user = await getUser(id(), signal);
    if (user) fill(about, [`${user.os_type} ${user.os_version}`, user.cores ? plural(user.cores, "core") : null, `last seen ${ago(Date.parse(user.last_seen))}`, user.shared_windows ? "several hosts report under this name: their windows are mixed" : null].filter(Boolean).join(" · "), " ", labelLinks(user.labels ?? {}));
  }

  function paint(named) {
    const { start, end } = asked;
    const gap = 1.5 * spacing(windows.map((one) => one.time), rate);
    const rows = windows.map((one) => ({ at: one.time, ...one, ahead: null }));
    const shifted = before.map((one) => ({ at: one.time + 7 * 86_400_000, earlier: one.mean }));
    const ahead = has("forecast") && forecast?.time ? forecast.time.map((at, place) => ({ at, expected: forecast.mean[place], lower: forecast.lower[place], upper: forecast.upper[place] })) : [];
    const byTime = new Map();
    for (const one of [...rows, ...shifted, ...ahead]) byTime.set(one.at, { ...byTime.get(one.at), ...one });
    const all = [...byTime.values()].sort((a, b) => a.at - b.at);
    const keys = ["mean", "min", "max", "p5", "p95", "p50", "earlier", "expected", "lower", "upper"];
    const { x, columns } = withGaps(all.map((one) => one.at), keys.map((key) => all.map((one) => one[key] ?? null)), Math.max(gap, ahead.length ? 3_700_000 : 0));
    const [mean, min, max, p5, p95, , earlier, expected, lower, upper] = columns;
    const line = (label, data, options) => ({ label, data, unit: named.unit, ...options });
    chart.show({
      x, domain: [start / 1000, (ahead.length ? ahead.at(-1).at + 3_600_000 : end) / 1000],
      top: named.bounded ? Math.max(...windows.map((one) => one.max), 0.02) : undefined,
      series: [
        line("max", max, { swatch: "swatch-band-wide" }), line("min", min, { swatch: "swatch-band-wide" }), line("p95 of samples", p95, { colour: "--series-2", swatch: "swatch-2" }),
        line("p5", p5, { swatch: "swatch-band" }), line("mean", mean, { colour: "--series-1", width: 2, swatch: "swatch-1" }),
        ...(before.length ? [line("mean a week earlier", earlier, { colour: "--series-4", dash: [5, 4], swatch: "swatch-4" })] : []),
        ...(ahead.length ? [line("forecast", expected, { colour: "--series-3", dash: [6, 3], width: 2, swatch: "swatch-3" }), line("80 % from", lower, { swatch: "swatch-band" }), line("to", upper, { swatch: "swatch-band" })] : []),
      ],
      bands: [{ upper: 0, lower: 1, fill: "--band-wide" }, { upper: 2, lower: 3, fill: "--band" },
        ...(ahead.length ? [{ upper: before.length ? 8 : 7, lower: before.length ? 7 : 6, fill: "--band" }] : [])],
      marks: [...(has("marks") ? marks : []), ...annotations.marks()],
      empty: ["Nothing was reported in this range. ", h("a", { href: "?" + new URLSearchParams({ id: id(), range: "30d" }) }, "Look at the last 30 days"), "."],
    });
    part.show(windows.map((one) => one.time), rate);
    const flat = merged(windows.map((one) => one.histogram)), low = Math.min(...windows.map((one) => one.min)), high = Math.max(...windows.map((one) => one.max));
    const tile = (label, value, more, title = null) => h("div", { class: "tile", title }, h("dt", {}, label), h("dd", {}, value), h("dd", { class: "more" }, more));
    const q = (label, share) => {
      const value = flat.length ? quantile(flat, share, named.bounded, low, high) : null;
      return tile(label, shown(value, named.unit), ["of samples", quantileWords(value, named.bounded)].filter(Boolean).join(", "), QUANTILES);
    };
    fill(tiles, tile("Now", h("span", { id: "now" }, shown(newest()?.mean, named.unit)), newest() ? `${newest().words}, p95 ${shown(newest().p95, named.unit)}` : "no data"),
      tile("Mean", shown(meanOf(windows), named.unit), "of samples over the range, exact", MEAN), q("Median", 0.5), q("p95", 0.95), q("p99", 0.99));
    durationChart.show(named.bounded && windows.length
      ? { x: curve().map((_, bin) => bin / 64), domain: [0, 1], series: [{ label: "share of samples at or above", data: curve(), colour: "--series-1", fill: "--band", swatch: "swatch-1", unit: "1" }] }
      : { x: [], series: [], empty: named.bounded ? "No data in this range." : "Shown of shares, such as CPU utilization." });
  }

  async function loadCores(named, signal) {
    coreCard.node.hidden = !named.cores;
    if (coreCard.node.hidden) return;
    cores = (await getWindows(address(`/api/v1/windows/byUser/${segment(id())}`, { ...asked, core: "each" }), signal)).filter((one) => one.core !== null);
    coreNumbers = [...new Set(cores.map((one) => one.core))].sort((a, b) => a - b);
    const first = Math.floor(asked.start / rate), columns = Math.ceil(asked.end / rate) - first;
    const values = new Array(columns * coreNumbers.length).fill(null);
    const rowOf = new Map(coreNumbers.map((core, row) => [core, row]));
    for (const one of cores) values[rowOf.get(one.core) * columns + Math.floor(one.time / rate) - first] = one.mean;
    const highest = named.bounded ? 1 : Math.max(...cores.map((one) => one.mean), 1e-9);
    coreStrip.top.textContent = shown(highest, named.unit);
    coreMap.show({ pixels: levels(values, highest), rows: coreNumbers.length, columns, start: first * rate, rate }, { empty: "This host does not report its cores one by one." });
    // No larger than what it says, where there is nothing to see.
    corePlot.classList.toggle("blank", !coreNumbers.length);
    coreStrip.node.hidden = !coreNumbers.length;
    coreMap.mark(annotations.marks());
  }

  async function analyse(named, signal) {
    const get_ = (kind) => getJson(analysis(kind), signal).catch((error) => {
      if (error instanceof ServiceError) return { unavailable: error.message };
      throw error;
    });
    const slow = [
      get_("size").then(paintSize),
      get_("week").then((found) => {
        week = found.mean ? found : null;
        if (week) weekStrip.top.textContent = shown(Math.max(...week.mean), named.unit);
        if (week) weekMap.show({ pixels: levels(week.mean, Math.max(...week.mean, 1e-9)), rows: 7, columns: 24, start: 0, rate: 1 });
        else weekMap.fail(found.unavailable);
        weekPlot.classList.toggle("blank", !week);
        weekStrip.node.hidden = !week;
      }),
      Promise.all([get_("anomalies"), get_("changes")]).then(([strange, changed]) => {
        const used = (one) => (one.who?.length ? `; most of the CPU by ${consumers(one.who)}` : "");
        const follows = (one) => (one.follows ? `, ${one.follows}` : "") + used(one);
        marks = [
          ...(strange.anomalies ?? []).map((one) => ({ at: one.time, value: one.value, colour: "--hot", text: `Anomaly (${one.kind}): ${shown(one.value, named.unit)}, expected ${shown(one.expected, named.unit)}${follows(one)}` })),
          ...(changed.changes ?? []).map((one) => ({ at: one.time, line: true, colour: "--series-4", text: one.kind === "level" ? "level" : "spread", words: `Change of the ${one.kind}: from ${shown(one.before, named.unit)} to ${shown(one.after, named.unit)}${follows(one)}` })),
        ];
        judged = { ...strange, ...changed };
      }),
      has("forecast") ? get_("forecast").then((found) => { forecast = found; }) : null,
    ];
    await Promise.all(slow.slice(2));
    paint(named);
    paintFindings();
    await Promise.all(slow);
  }

  function paintFindings() {
    const told = marks.map((one) => h("li", {}, h("span", { class: `badge ${one.line ? "pending" : "hot"}` }, one.line ? "change" : "anomaly"), `${moment(one.at)}: ${one.words ?? one.text}`));
    fill(findings, has("marks") ? [told.slice(-8), told.length ? null : h("li", { class: "quiet" }, judged.unavailable ?? "No anomaly and no lasting change in this range.")] : null,
      has("forecast") && forecast ? h("li", { class: "quiet" }, forecast.summary ?? forecast.unavailable) : null);
  }

  function paintSize(found) {
    sized = found;
    fill(sizeText, found.unavailable ? h("p", { class: "empty" }, found.unavailable) : [
      h("p", {}, badges([found.verdict]),
        found.recommended !== null ? h("strong", {}, found.unit === "cores" ? plural(found.recommended, "core") : `${found.recommended} ${found.unit}`) : null,
        found.unit === "cores" ? ` (it has ${found.now})` : null),
      h("p", {}, found.why), found.confidence === null ? null : h("p", { class: "quiet" }, `A day within the next two weeks stays under ${shown(found.target, "1", 0)} with a chance of ${shown(found.confidence, "1", 0)}.`)]);
  }

  async function loadOthers(named, agented, signal) {
    const question = { start: asked.start, end: asked.end, resample_rate: durationText(Math.max(rate, MINUTE)) };
    const wanted = metrics().filter((one) => one.name !== named.name);
    const found = await Promise.all(wanted.map((one) => getWindows(address(`/api/v1/windows/byUser/${segment(id())}`, { ...question, metric: one.name, device: one.devices ? "each" : null }), signal).catch((error) => {
      if (error.name === "AbortError") throw error;
      return [];
    })));
    for (const one of small.splice(0)) one.close();
    const kinds = new Map(wanted.flatMap((one, place) => (found[place].length && KINDS.some(([known]) => known === one.name) ? [[one.name, found[place]]] : [])));
    const reported = wanted.flatMap((one, place) => (found[place].length && !kinds.has(one.name) ? [[one, found[place]]] : []));
    fill(others, reported.length || kinds.size ? null : h("p", { class: "empty" }, `Only the CPU is reported of this host.${(await agented) ? " Settings of its agent add others." : ""}`));
    if (kinds.size) drawKinds(kinds, question);
    for (const [one, points] of reported) {
      if (points.some((row) => row.device)) {
        const made = devicesCard(id(), one, points, question, Math.max(rate, MINUTE));
        others.append(made.node);
        small.push(made);
        continue;
      }
      const plot = h("div", { class: "plot small" });
      const made = card(one.text, {
        level: "h3",
        source: () => ({ path: address(`/api/v1/windows/byUser/${segment(id())}`, { ...question, metric: one.name }), file: `${id()}-${one.name}.csv`, accept: "text/csv", python: python("history", [id(), one.name], { start: question.start, end: question.end, rate: question.resample_rate }) }),
        rows: () => ({ columns: [{ label: "time" }, { label: "mean", number: true }, { label: "max", number: true }], rows: points.map((row) => [iso(row.time), row.mean, row.max]) }),
      });
      made.body.append(plot);
      others.append(made.node);
      const drawn = lineChart(plot, { label: one.text, unit: one.unit, maximum: one.bounded ? 1 : null });
      const { x, columns: [mean, high] } = withGaps(points.map((row) => row.time), ["mean", "max"].map((key) => points.map((row) => row[key])), 1.5 * spacing(points.map((row) => row.time), rate));
      drawn.show({ x, domain: [question.start / 1000, question.end / 1000], series: [{ label: "max", data: high, colour: "--series-2", swatch: "swatch-2" }, { label: "mean", data: mean, colour: "--series-1", width: 2, swatch: "swatch-1" }], marks: annotations.marks() });
      small.push(drawn);
    }
  }

  /** The kinds of CPU time on top of each other, and a table of them. */
  function drawKinds(kinds, question) {
    const drawn = KINDS.filter(([one]) => kinds.has(one)), plot = h("div", { class: "plot small" });
    const times = kinds.get(drawn[0][0]).map((row) => row.time);
    const byTime = drawn.map(([one]) => new Map(kinds.get(one).map((row) => [row.time, row.mean])));
    const data = byTime.map((means) => times.map((at) => means.get(at) ?? null));
    const made = card("Kinds of CPU time", {
      level: "h3",
      source: () => ({ path: address("/api/v1/query", { ...question, metric: drawn.map(([one]) => one).join(","), user: exactly(id()) }), file: `${id()}-kinds-of-time.csv`, accept: "text/csv", python: python("query", [drawn.map(([one]) => one)], { users: [exactly(id())], start: question.start, end: question.end, rate: question.resample_rate }) }),
      rows: () => ({ columns: [{ label: "time" }, ...drawn.map(([, label]) => ({ label, number: true }))], rows: times.map((at, place) => [iso(at), ...data.map((one) => one[place])]) }),
    });
    made.body.append(plot);
    others.append(made.node);
    const one = lineChart(plot, { label: "Kinds of CPU time" });
    const { x, columns } = withGaps(times, data, 1.5 * spacing(times, rate));
    one.show({ x, domain: [question.start / 1000, question.end / 1000], ...stacked(columns.map((values, place) => ({ label: drawn[place][1], data: values, rest: drawn[place][0] === "cpuTimeIowait" }))), marks: annotations.marks() });
    small.push(one);
  }

  return {
    refresh,
    follows: () => (id() ? { users: [id()], fields: "user_id,end_timestamp,cpuLoadAvg,cpuLoadAvg.p95" } : null),
    heard(report) {
      if (report.cpuLoadAvg !== undefined && report.cpuLoadAvg !== null) heard = report;
    },
    close() {
      loading?.abort();
      removeEventListener("overlay", overlayKey);
      for (const one of [chart, coreMap, durationChart, weekMap, ...small]) one.close();
      who.close();
      agent.close();
    },
  };
}
