// What rules have found: firing and pending alerts, silences, the history, and what a rule would have said before.

import { address, exactly, getJson, python, segment, send } from "../api.js";
import { card } from "../card.js";
import { badges, fill, h, name, notice, table } from "../dom.js";
import { lineChart } from "../linechart.js";
import { get, hostLink, link, set } from "../state.js";
import { ago, durationText, iso, moment, range, rateFor } from "../time.js";
import { plural, shown } from "../numbers.js";
import { labelFilter, labelTitle } from "./labels.js";
import { newRule } from "./newrule.js";
import { annotations, consumers } from "./shared.js";

export const title = "Alerts";
const DURATIONS = { "30m": "30 minutes", "2h": "2 hours", "8h": "8 hours", "1d": "a day", "7d": "a week" };

/** Opens the view in `root`. */
export function open(root) {
  const now = section("Firing and pending"), silences = section("Silences"), past = section("History");
  const rule = h("input", { name: "rule", size: "16", maxlength: "128", required: true, value: "*" }), user = h("input", { name: "user", size: "16", maxlength: "128", required: true, value: "*" });
  const length = h("select", { name: "duration" }, Object.entries(DURATIONS).map(([value, text]) => h("option", { value }, text)));
  const comment = h("input", { name: "comment", size: "24", maxlength: "500", placeholder: "why" });
  const problem = h("p", { class: "error", role: "alert" });
  const form = h("form", { class: "fields no-print", "aria-label": "New silence", onsubmit: (event) => { event.preventDefault(); silence(); } },
    h("label", {}, "Rule", rule), h("label", {}, "Host", user), h("label", {}, "For", length), h("label", {}, "Comment", comment), h("button", { class: "main" }, "Silence"));
  const silenceList = h("div", {});
  silences.body.append(h("p", { class: "quiet" }, "What is silenced is listed and not told. * stands for any characters."), form, problem, silenceList);

  const choose = h("select", { onchange: () => set({ rule: choose.value }) });
  const host = h("input", { type: "search", size: "20", placeholder: "the first that fires", onchange: () => set({ host: host.value.trim() }) });
  const test = card("Would have fired", {
    help: "a rule against what was reported in the range",
    source: () => ({ path: "/api/v1/backtests", body: question(), csv: false, file: "would-have-fired.csv", python: backtestPython(question()) }),
    rows: () => ({ columns: [{ label: "host" }, { label: "fired" }, { label: "resolved" }, { label: "value", number: true }], rows: (tested?.periods ?? []).map((one) => [one.user || "the fleet", iso(one.fired), one.resolved ? iso(one.resolved) : "", one.value]) }),
  });
  const backtestPython = ({ rule: name_, start, end: to, user: of = null }) => python("backtest", [name_, start, to], { user: of });
  const plot = h("div", { class: "plot" });
  const told = h("div", { role: "status" });
  const asks = h("div", { class: "controls" }, h("label", {}, "Rule ", choose), h("label", {}, "Host ", host), h("button", { type: "button", onclick: () => backtest() }, "Test"));
  test.body.append(asks, plot, told);
  const chart = lineChart(plot, { label: "What the rule looks at, and when it would have fired" });
  const made = newRule((name) => (get("rule") === name ? refresh() : set({ rule: name }, { replace: true })));
  root.classList.add("waiting");
  const heading = h("h1", {}, "Alerts"), label = labelFilter({ asks: true });
  root.append(heading, h("div", { class: "controls" }, label.nodes), now.node, made.node, silences.node, past.node, test.node);
  let rules = [], tested = null, loading = null, testedFor = "";

  function section(label) {
    const body = h("div", {});
    return { node: h("section", { class: "card" }, h("header", {}, h("h2", {}, label)), body), body };
  }

  const who = (id) => (id ? h("a", { href: hostLink(id) }, name(id)) : "the fleet");
  const showAll = () => h("a", { href: link("/alerts", { label: null }) }, "Show all");
  const value = (one) => (Math.abs(one) <= 1 ? shown(one) : one.toPrecision(4));

  async function refresh() {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    fill(heading, "Alerts", labelTitle());
    label.update();
    try {
      const [alerts, resolved, silent, defined] = await Promise.all([
        getJson(address("/api/v1/alerts", { limit: 500, user: get("label") }), signal),
        getJson(address("/api/v1/alerts", { state: "resolved", limit: 200, user: get("label") }), signal), getJson("/api/v1/silences", signal), getJson("/api/v1/rules", signal),
      ]);
      rules = defined.rules.map((one) => one.rule);
      paintAlerts(alerts, resolved);
      paintSilences(silent.silences);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(now.body, h("p", { class: "error" }, error.message));
      return;
    } finally {
      if (!signal.aborted) root.classList.remove("waiting");
    }
    fill(choose, rules.map((one) => h("option", { value: one.name }, one.name)));
    choose.value = get("rule") || rules[0]?.name || "";
    host.value = get("host");
    asks.hidden = !rules.length;
    plot.classList.toggle("blank", !rules.length);
    if (!rules.length) chart.fail("There are no rules yet to test.");
    else if (get("rule") && testedFor !== location.search) await backtest();
    else if (!tested) chart.fail("Choose a rule, and press Test.");
  }

  function paintAlerts({ alerts, total }, { alerts: resolved }) {
    fill(now.body, alerts.length
      ? table(plural(total, "alert"), [{ label: "state" }, { label: "severity" }, { label: "rule" }, { label: "host", name: true }, { label: "since" }, { label: "value", number: true }, { label: "most of the CPU by", name: true }, { label: "silence" }],
        alerts.map((one) => [badges([one.state]), one.severity ? badges([one.severity]) : "", h("a", { href: link("/alerts", { rule: one.rule, host: one.user, label: get("label") }) }, one.rule), who(one.user), `${moment(Date.parse(one.since))}, ${ago(Date.parse(one.since))}`, value(one.value), consumers(one.who),
          one.silenced ? "silenced" : h("button", { type: "button", "aria-label": `Silence ${one.rule} of ${one.user || "the fleet"}`, onclick: () => propose(one) }, "Silence …")]))
      : h("p", { class: "empty" }, get("label") ? [`Of hosts with ${get("label")} nothing fires, and nothing is pending. `, showAll()] : rules.length ? "Nothing fires, and nothing is pending." : "Nothing fires: there are no rules yet. Make the first below."));
    fill(past.body, resolved.length
      ? table(resolved.length === 1 ? "The one that was resolved" : `The last ${resolved.length} that were resolved`, [{ label: "rule" }, { label: "host", name: true }, { label: "fired" }, { label: "resolved" }, { label: "lasted" }, { label: "value", number: true }, { label: "most of the CPU by", name: true }],
        resolved.map((one) => [one.rule, who(one.user), moment(Date.parse(one.fired)), moment(Date.parse(one.resolved)), ago(Date.parse(one.fired), Date.parse(one.resolved)).replace(" ago", ""), value(one.value), consumers(one.who)]))
      : h("p", { class: "empty" }, get("label") ? `Of hosts with ${get("label")} nothing was resolved yet.` : "Nothing was resolved yet."));
  }

  function paintSilences(found) {
    fill(silenceList, found.length
      ? table("Silences in force", [{ label: "rule" }, { label: "host" }, { label: "until" }, { label: "comment", wide: true }, { label: "end it" }],
        found.map((one) => [one.rule, name(one.user), moment(Date.parse(one.until)), one.comment, h("button", { type: "button", "aria-label": `End the silence of ${one.rule}`, onclick: () => end(one.id) }, "End")]))
      : h("p", { class: "empty" }, "Nothing is silenced."));
  }

  function propose(alert) {
    rule.value = exactly(alert.rule);
    user.value = alert.user ? exactly(alert.user) : "*";
    comment.focus();
  }

  async function silence() {
    problem.textContent = "";
    try {
      await send("POST", "/api/v1/silences", { rule: rule.value, user: user.value, duration: length.value, comment: comment.value });
      notice("Silenced.", { forMs: 3000 });
      form.reset();
      await refresh();
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  async function end(id) {
    try {
      await send("DELETE", `/api/v1/silences/${segment(id)}`);
      notice("The silence has ended.", { forMs: 3000 });
      await refresh();
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  const question = () => {
    const { start, end: to } = range();
    return { rule: choose.value, start: iso(start), end: iso(to), ...(get("label") ? { user: get("label") } : {}) };
  };

  async function backtest() {
    testedFor = location.search;
    const wanted = rules.find((one) => one.name === choose.value);
    if (!wanted) return;
    fill(told, "Testing …");
    const { start, end: to } = range();
    try {
      tested = await send("POST", "/api/v1/backtests", question());
    } catch (error) {
      chart.fail(error.message);
      fill(told);
      return;
    }
    const shownUser = get("host") || tested.periods.find((one) => one.user)?.user || "";
    const metric = wanted.metric ?? "cpuLoadAvg", stat = wanted.stat ?? null;
    const rate = durationText(rateFor({ start, end: to }, 300));
    let entries = [];
    try {
      const base = shownUser ? `/api/v1/metrics/${metric}/byUser/${segment(shownUser)}` : `/api/v1/metrics/${metric}/fleet`;
      ({ entries } = await getJson(address(base, { start, end: to, resample_rate: rate, stat })));
      await annotations.load({ start, end: to, user: shownUser || null });
    } catch { /* the periods are shown without what they are about */ }
    const level = wanted.above ?? wanted.below ?? null;
    const x = entries.map((one) => Date.parse(one.date) / 1000);
    chart.show({
      x, domain: [start / 1000, to / 1000],
      series: [{ label: `${stat ?? metric} of ${shownUser || "the fleet"}`, data: entries.map((one) => one.value), colour: "--series-1", width: 2, swatch: "swatch-1" },
        ...(level === null || wanted.kind !== "threshold" ? [] : [{ label: wanted.above === undefined || wanted.above === null ? "below" : "above", data: x.map(() => level), colour: "--hot", dash: [4, 4], swatch: "swatch-hot" }])],
      periods: tested.periods.filter((one) => one.user === shownUser || !one.user).map((one) => ({ start: one.fired, end: one.resolved ?? to, colour: "--hot" })),
      marks: annotations.marks(),
      empty: "Nothing was reported in this range.",
    });
    fill(told, h("p", {}, `${tested.rule} would have fired ${plural(tested.periods.length, "time")}${get("label") ? ` of hosts with ${get("label")}` : ""}, on windows of ${tested.rate}.`),
      tested.periods.length ? h("div", { class: "data" }, table("When it would have fired", [{ label: "host", name: true }, { label: "fired" }, { label: "resolved" }, { label: "value", number: true }],
        tested.periods.slice(0, 50).map((one) => [who(one.user), moment(one.fired), one.resolved ? moment(one.resolved) : "still", value(one.value)]))) : null);
    test.refresh();
  }

  return {
    refresh,
    follows: () => ({ users: [] }),
    close() {
      root.classList.remove("waiting");
      loading?.abort();
      chart.close();
    },
  };
}
