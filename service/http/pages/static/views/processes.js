// Who used a host's CPU: processes or units stacked over time, and who it was at a moment.

import { address, getJson, python } from "../api.js";
import { card } from "../card.js";
import { fill, h, name } from "../dom.js";
import { lineChart, withGaps } from "../linechart.js";
import { shown } from "../numbers.js";
import { get, set } from "../state.js";
import { durationText, moment } from "../time.js";
import { annotations } from "./shared.js";
import { stacked } from "./stacked.js";

const MOST_BUCKETS = 2000;

/** What a process or unit is called, as nodes: names are anybody's text. */
const called = (one) => [name(one.name), one.unit ? [" (", name(one.unit), ")"] : null, one.command && one.command !== one.name ? [" ", h("code", {}, name(one.command))] : null];
const label = (one) => (one.unit ? `${one.name} (${one.unit})` : one.name);

/** A card of the host `id()`. `refresh` is told the range, and who the agent is by a promise; `pick` a moment of the range. */
export function processes(id) {
  const by = h("select", { onchange: () => set({ who: by.value === "process" ? null : by.value }) }, h("option", { value: "process" }, "processes"), h("option", { value: "unit" }, "units and containers"));
  let asked = {}, found = null, loading = null;
  const made = card("Who used the CPU", {
    help: "click on a spike to see who it was",
    source: () => ({ path: address("/api/v1/who", asked), csv: false, file: `${id()}-who.csv`, python: python("who", [id()], { start: asked.start, end: asked.end, by: asked.by, rate: asked.resample_rate }) }),
    rows: () => ({
      columns: [{ label: "time" }, { label: "name" }, { label: "user" }, { label: "unit" }, { label: "command" }, { label: "CPU seconds", number: true }],
      rows: (found?.buckets ?? []).flatMap((one) => [...found.top, { name: "others", user: "", unit: "", command: "" }].map((who, place) => [one.time, who.name, who.user, who.unit, who.command, one.top_s[place] ?? one.others_s])),
    }),
  });
  const plot = h("div", { class: "plot" });
  const whole = h("div", {});
  const then = h("div", { role: "status", "aria-live": "polite", id: "who-then" });
  made.body.append(h("div", { class: "controls" }, h("label", {}, "Show ", by)), plot, then, whole);
  const chart = lineChart(plot, { label: "CPU by process over time", pick });

  async function refresh({ start, end, rate, agent }, signal) {
    by.value = get("who") === "unit" ? "unit" : "process";
    const width = Math.max(rate, Math.ceil((end - start) / MOST_BUCKETS / 1000) * 1000);
    asked = { host: id(), start, end, by: by.value, resample_rate: durationText(width) };
    try {
      found = await getJson(address("/api/v1/who", asked), signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      found = null;
      chart.fail(error.message);
      fill(whole);
      fill(then);
      return;
    }
    paint(width, found.buckets.length ? null : await agent);
    made.refresh();
  }

  /** What to do where nobody said who ran: `agent` is the host's, null where it has none, undefined where we may not know. */
  const silence = (agent) => (agent ? "The agent did not say which processes ran. Choose it in its settings below, or start it with --processes names."
    : agent === null ? "Which processes ran is not known: no agent of this project reports for this host. One started with --processes names says it." : "Which processes ran was not reported.");

  function paint(width, agent) {
    const { top, buckets } = found;
    fill(then);
    fill(whole, top.length ? [h("h3", {}, "In the whole range"), list(found)] : null);
    plot.classList.toggle("blank", !buckets.length);
    const shares = top.map((_, place) => buckets.map((one) => one.top_s[place] / one.core_s)).concat([buckets.map((one) => one.others_s / one.core_s)]);
    const { x, columns } = withGaps(buckets.map((one) => Date.parse(one.time)), shares, 1.5 * Math.max(width, 5000));
    chart.show({
      x, domain: [asked.start / 1000, asked.end / 1000],
      ...stacked(columns.map((data, place) => (place < top.length ? { label: label(top[place]), data } : { label: "others", data, rest: true }))),
      marks: annotations.marks(),
      empty: silence(agent),
    });
  }

  const list = (of) => h("ol", { class: "plain who" }, of.top.map((one) => h("li", {}, h("b", {}, shown(one.share)), " ", called(one), one.user ? h("span", { class: "quiet" }, ` ${one.user}`) : null)),
    h("li", { class: "quiet" }, `${shown(of.busy_s ? of.others_s / of.busy_s : 0)} others`));

  /** Says who it was around a moment: in its bucket. */
  async function pick(at) {
    if (!found?.buckets?.length) return;
    loading?.abort();
    loading = new AbortController();
    const starts = found.buckets.map((one) => Date.parse(one.time)), width = starts.length > 1 ? Math.min(...starts.slice(1).map((one, place) => one - starts[place])) : asked.end - asked.start;
    const start = starts.filter((one) => one <= at).at(-1) ?? starts[0];
    try {
      const of = await getJson(address("/api/v1/who", { host: id(), by: asked.by, start, end: start + width }), loading.signal);
      fill(then, h("h3", {}, `${moment(start)}, of ${shown(of.core_s ? of.busy_s / of.core_s : 0)} that the host used`), list(of));
    } catch (error) {
      if (error.name !== "AbortError") fill(then, h("p", { class: "error" }, error.message));
    }
  }

  return { node: made.node, refresh, pick, close: () => { loading?.abort(); chart.close(); } };
}
