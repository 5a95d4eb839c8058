// Several hosts in one chart, each in its colour; or each with the same time a week earlier behind it.

import { address, exactly, getJson, getLabelled, getNames, getWindows, python, segment } from "../api.js";
import { card } from "../card.js";
import { fill, h, name, table } from "../dom.js";
import { lineChart, spacing, together } from "../linechart.js";
import { difference, meanOf, merged, quantile, shown } from "../numbers.js";
import { get, hostLink, link, params, set } from "../state.js";
import { durationText, iso, range, rateFor } from "../time.js";
import { labelFilter, labelTitle } from "./labels.js";
import { annotations, metricOf, metricSelect } from "./shared.js";

export const title = "Compare";
const MOST = 6, WEEK = 7 * 86_400_000;
const STATISTICS = { mean: "mean", p95: "95th percentile", max: "maximum" };

/** Opens the view in `root`. */
export function open(root) {
  const input = h("input", { type: "search", list: "known", size: "28", placeholder: "name of a host", maxlength: "128" });
  const known = h("datalist", { id: "known" });
  const label = labelFilter({ asks: true });
  const form = h("form", { class: "controls", onsubmit: (event) => { event.preventDefault(); add(input.value.trim()); } },
    h("label", {}, "Host ", input), known, h("button", {}, "Add"), label.nodes);
  const statistic = h("select", { onchange: () => set({ stat: statistic.value === "mean" ? null : statistic.value }) },
    Object.entries(STATISTICS).map(([value, text]) => h("option", { value }, text)));
  const overlay = h("input", { type: "checkbox", onchange: () => flip() });
  const metric = metricSelect();
  const chosen = h("ul", { class: "plain controls" }), note = h("p", { class: "quiet", role: "status" }), heading = h("h1", {}, "Compare");
  const error = h("p", { class: "error", role: "alert" });
  let found = [], asked = {}, rate = 0, compared = [], loading = null, isComplete = false, offered = null;
  const hosts = () => [...new Set(params().getAll("host"))].slice(0, MOST);

  const lines = card("Side by side", {
    source: () => ({
      path: question(0), also: overlay.checked ? question(WEEK) : null, csv: false, file: "compare.csv",
      python: [code(0), ...(overlay.checked ? [code(WEEK).split("\n\n").at(-1).replaceAll("frame", "before")] : [])].join("\n\n"),
    }),
    rows: () => ({
      columns: [{ label: "time" }, { label: "host" }, { label: "when" }, { label: get("stat", "mean"), number: true }],
      rows: found.flatMap((one) => [...one.windows.map((row) => [iso(row.time), one.host, "now", valueOf(row)]), ...one.before.map((row) => [iso(row.time), one.host, "a week earlier", valueOf(row)])]),
    }),
  });
  const question = (back) => address("/api/v1/query", { metric: asked.metric, stat: get("stat", "mean"), by: "user", user: compared.map(exactly), start: asked.start - back, end: asked.end - back, resample_rate: asked.resample_rate });
  const code = (back) => python("query", [[asked.metric]], { stats: [get("stat", "mean")], by: "user", users: compared.map(exactly), start: asked.start - back, end: asked.end - back, rate: asked.resample_rate });
  const plot = h("div", { class: "plot tall" });
  lines.body.append(h("div", { class: "controls" }, metric.label, h("label", {}, "Value ", statistic), h("label", {}, overlay, "a week earlier")), plot);
  const chart = lineChart(plot, { label: "Loads of hosts side by side" });
  const whole = ["mean", "p95", "max"];
  const summary = card("Over the whole range", {
    source: () => ({
      path: address("/api/v1/query", { metric: asked.metric, stat: whole, by: "user", user: compared.map(exactly), start: asked.start, end: asked.end, resample_rate: "all" }), file: "compared.csv", accept: "text/csv",
      python: python("query", [[asked.metric]], { stats: whole, by: "user", users: compared.map(exactly), start: asked.start, end: asked.end, rate: "all" }),
    }),
  });
  root.append(heading, h("div", { class: "choices" }, form, error, chosen, note), lines.node, summary.node);

  const flip = () => set({ overlay: get("overlay") === "7d" ? null : "7d" });
  addEventListener("overlay", flip);
  const valueOf = (row) => (get("stat", "mean") === "p95" ? row.p95 : get("stat", "mean") === "max" ? row.max : row.mean);

  function add(host) {
    error.textContent = "";
    if (!host) return;
    const names = [...known.options].map((one) => one.value);
    if (isComplete && names.length && !names.includes(host)) error.textContent = `No host is named “${host}”${get("label") ? ` and has ${get("label")}` : ""}. The list under the field has those there are.`;
    else if (hosts().length >= MOST) error.textContent = `At most ${MOST} hosts are compared at a time.`;
    else {
      input.value = "";
      set({ host: [...hosts(), host] });
    }
  }

  /** The hosts that are compared: of those chosen the ones with the label; where none is chosen, the hottest with it. */
  async function toCompare(named, { start, end }, signal) {
    const of = get("label");
    if (!of) {
      fill(note);
      return hosts();
    }
    if (hosts().length) {
      const labelled = new Set(await getLabelled(hosts(), of, signal)), left = hosts().filter((one) => !labelled.has(one));
      fill(note, left.length ? `Not labelled ${of}, and left out: ${left.join(", ")}.` : null);
      return hosts().filter((one) => labelled.has(one));
    }
    const { series } = await getJson(address("/api/v1/query", { metric: named.name, stat: "p95", by: "user", user: of, start, end, resample_rate: "all", top: MOST }), signal);
    const hottest = series.toSorted((one, other) => other.values[0] - one.values[0]).map((one) => one.group);
    fill(note, hottest.length ? `Those with ${of} whose p95 is highest, up to ${MOST} of them.` : null);
    return hottest;
  }

  async function refresh({ quiet = false } = {}) {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    metric.update();
    statistic.value = get("stat", "mean");
    overlay.checked = get("overlay") === "7d";
    fill(heading, "Compare", labelTitle());
    label.update();
    if (!quiet && offered !== get("label")) {
      const of = get("label");
      getNames(signal, of).then(({ names, all }) => {
        [isComplete, offered] = [all, of];
        fill(known, names.map((one) => h("option", { value: one })));
      }).catch(() => {});
    }
    const named = metricOf(), { start, end } = range();
    let wanted;
    try {
      wanted = await toCompare(named, { start, end }, signal);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      chart.fail(problem.message);
      return;
    }
    compared = wanted;
    fill(chosen, wanted.map((host, place) => h("li", {}, h("i", { class: `badge swatch-${place + 1}` }, " "), h("a", { href: hostLink(host) }, name(host)),
      h("button", { type: "button", "aria-label": `Remove ${host}`, onclick: () => set({ host: wanted.filter((one) => one !== host) }) }, "×"))));
    rate = rateFor({ start, end }, 250);
    asked = { metric: named.name, start, end, resample_rate: durationText(rate) };
    summary.node.hidden = !wanted.length;
    if (!wanted.length) {
      if (get("label")) chart.fail([`No host with ${get("label")} ${hosts().length ? "is chosen" : "reported in this range"}. `, h("a", { href: link("/compare", { host: hosts() }) }, "Leave out the label"), "."]);
      else chart.fail(["Add hosts by name, or select some in the ", h("a", { href: link("/") }, "fleet"), " (Space, or Ctrl and a click)."]);
      return;
    }
    const read = async (host, back) => {
      const rows = await getWindows(address(`/api/v1/windows/byUser/${segment(host)}`, { ...asked, start: start - back, end: end - back, histograms: true }), signal);
      for (const row of rows) row.p95 = quantile(row.histogram, 0.95, named.bounded, row.min, row.max);
      return rows;
    };
    try {
      await annotations.load({ start, end }, signal);
      found = await Promise.all(wanted.map(async (host) => ({
        host, windows: await read(host, 0), before: overlay.checked ? await read(host, WEEK) : [],
      })));
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      chart.fail(problem.message);
      return;
    }
    paint(named);
    lines.refresh();
    summary.refresh();
  }

  function paint(named) {
    const series = found.flatMap(({ host, windows, before }, place) => [
      { label: host, rows: windows, back: 0, colour: `--series-${place + 1}`, swatch: `swatch-${place + 1}`, width: 2 },
      ...(before.length ? [{ label: `${host}, a week earlier`, rows: before, back: WEEK, colour: `--series-${place + 1}`, swatch: `swatch-${place + 1}`, dash: [5, 4] }] : []),
    ]);
    const { x, columns } = together(series.map(({ rows, back }) => {
      const times = rows.map((row) => row.time + back);
      return { times, values: rows.map(valueOf), gap: 1.5 * spacing(times, rate) };
    }));
    chart.show({
      x, domain: [asked.start / 1000, asked.end / 1000],
      series: series.map(({ rows: _, back: __, ...one }, place) => ({ ...one, data: columns[place], unit: named.unit })),
      marks: annotations.marks(),
      empty: "None of these hosts reported in this range.",
    });
    const statistics = (rows) => {
      const flat = merged(rows.map((row) => row.histogram)), low = Math.min(...rows.map((row) => row.min)), high = Math.max(...rows.map((row) => row.max));
      return { mean: meanOf(rows), p95: quantile(flat, 0.95, named.bounded, low, high), max: rows.length ? high : null };
    };
    const of = (value) => shown(value, named.unit);
    fill(summary.body, table(`${named.text}, of all samples`, [{ label: "host", name: true }, { label: "mean", number: true }, { label: "p95", number: true }, { label: "maximum", number: true }, { label: "mean a week earlier", number: true }, { label: "change", number: true }],
      found.map(({ host, windows, before }) => {
        const now = statistics(windows), then = statistics(before);
        const change = now.mean !== null && then.mean !== null ? now.mean - then.mean : null;
        return [h("a", { href: hostLink(host) }, name(host)), of(now.mean), of(now.p95), of(now.max), of(then.mean), named.bounded ? difference(change) : of(change)];
      })));
  }

  return {
    refresh,
    follows: () => (compared.length ? { users: compared } : null),
    close() {
      loading?.abort();
      removeEventListener("overlay", flip);
      chart.close();
    },
  };
}
