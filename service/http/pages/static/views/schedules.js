// Reports that the service makes by itself: what is planned, how the last run ended, the last report, a new schedule.

import { getJson, segment, send } from "../api.js";
import { BASE } from "../base.js";
import { fill, h, name, notice, table } from "../dom.js";
import { ago, moment, zone } from "../time.js";

const WEEK = { mon: "Monday", tue: "Tuesday", wed: "Wednesday", thu: "Thursday", fri: "Friday", sat: "Saturday", sun: "Sunday" };
const ALL = Object.keys(WEEK).join(" ");
const DAYS = { [ALL]: "every day", "mon tue wed thu fri": "Monday to Friday", ...WEEK };
const RANGES = { "1d": "the last day", "7d": "the last week", "28d": "the last four weeks" };

const options = (texts) => Object.entries(texts).map(([value, text]) => h("option", { value }, text));
const days = (one) => DAYS[one.join(" ")] ?? one.map((day) => WEEK[day]).join(", ");
const about = (one) => [one.user ? name(one.user) : "the whole fleet", `, ${RANGES[one.last] ?? `the last ${one.last}`}`];

/** The card; `hosts` is the id of a list of hosts to choose from, `chosen()` the one that the page is about. */
export function schedules(hosts, chosen) {
  const host = h("input", { name: "scheduled-host", type: "search", size: "22", list: hosts, placeholder: "the whole fleet", maxlength: "128" });
  const day = h("select", { name: "days" }, options(DAYS)), last = h("select", { name: "last" }, options(RANGES));
  const at = h("input", { name: "at", type: "time", required: true, value: "06:00" });
  const problem = h("p", { class: "error", role: "alert" });
  const list = h("div", {});
  const form = h("form", { class: "fields no-print", "aria-label": "New schedule", onsubmit: (event) => { event.preventDefault(); add(); } },
    h("label", {}, "About", host), h("label", {}, "of", last), h("label", {}, "On", day), h("label", {}, "at", at), h("button", { class: "main" }, "Schedule"));
  const node = h("section", { class: "card" }, h("header", {}, h("h2", {}, "On a schedule")), form, problem, list);
  day.value = "mon";
  last.value = "7d";

  async function changed(method, path, body, words) {
    problem.textContent = "";
    try {
      await send(method, path, body);
      notice(words, { forMs: 3000 });
      await refresh();
      return true;
    } catch (error) {
      problem.textContent = error.message;
      return false;
    }
  }

  async function add() {
    const body = { user: host.value.trim() || null, last: last.value, days: day.value.split(" "), at: at.value, tz: zone() };
    if (await changed("POST", "/api/v1/schedules", body, "Scheduled.")) host.value = chosen();
  }

  function ended(one) {
    if (!one.run) return "it has not been made yet";
    const at_ = Date.parse(one.run.at);
    return one.run.failure
      ? [h("span", { class: "badge hot" }, "failed"), `${ago(at_)}: ${one.run.failure}`]
      : [h("span", { class: "badge good" }, "made"), ago(at_)];
  }

  const report = (one) => (one.made
    ? h("a", { href: `${BASE}/api/v1/schedules/${one.id}/report`, target: "_blank", rel: "noopener" }, `Read that of ${moment(Date.parse(one.made))}`)
    : "none yet");

  function paint(found) {
    fill(list, found.length
      ? table("Schedules, with the last report of each", [{ label: "report", name: true }, { label: "when" }, { label: "next" }, { label: "last run", wide: true }, { label: "last report" }, { label: "end it" }],
        found.map((one) => [about(one.schedule), `${days(one.schedule.days)}, ${one.schedule.at} ${one.schedule.tz}`, moment(Date.parse(one.next)), ended(one), report(one),
          h("button", { type: "button", "aria-label": `End the schedule of ${one.schedule.user ?? "the fleet"}`, onclick: () => changed("DELETE", `/api/v1/schedules/${segment(String(one.id))}`, undefined, "The schedule has ended.") }, "End")]))
      : h("p", { class: "empty" }, "Nothing is scheduled."));
  }

  async function refresh(signal) {
    if (document.activeElement !== host && !host.value) host.value = chosen();
    try {
      paint((await getJson("/api/v1/schedules", signal)).schedules);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(list, h("p", { class: "error" }, error.message));
    }
  }
  return { node, refresh };
}
