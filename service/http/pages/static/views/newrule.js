// A form that makes the plainest rule: tell me when a host is above a level for some time.

import { segment, send } from "../api.js";
import { BASE } from "../base.js";
import { command, h, notice } from "../dom.js";
import { metricOf, metrics } from "./shared.js";

const LENGTHS = { "0s": "at once", "1m": "a minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "an hour" };
const NAME = "[a-z0-9][a-z0-9._\\-]*";

/** A card with the form; `done(name)` is called when the rule is kept. */
export function newRule(done) {
  const user = h("input", { name: "user", size: "14", maxlength: "128", required: true, value: "*", placeholder: "web-*" });
  const metric = h("select", { name: "metric", onchange: () => unit() }, metrics().map((one) => h("option", { value: one.name }, one.text)));
  const level = h("input", { name: "above", type: "number", min: "0", step: "any", required: true, value: "90", size: "8" });
  const levelUnit = h("span", {});
  const length = h("select", { name: "for" }, Object.entries(LENGTHS).map(([value, text]) => h("option", { value }, text)));
  const called = h("input", { name: "rule-name", size: "14", maxlength: "64", required: true, pattern: NAME, placeholder: "busy", title: "a to z, 0 to 9, dots, hyphens and underscores" });
  const problem = h("p", { class: "error", role: "alert" });
  length.value = "5m";
  const form = h("form", { class: "fields no-print", "aria-label": "New rule", onsubmit: (event) => { event.preventDefault(); make(); } },
    h("label", {}, "Host", user), h("label", {}, "Metric", metric), h("label", {}, levelUnit, level), h("label", {}, "For", length), h("label", {}, "Name of the rule", called), h("button", { class: "main" }, "Make rule"));
  const node = h("section", { class: "card" }, h("header", {}, h("h2", {}, "New rule")),
    h("p", { class: "quiet" }, "Fires while a host's mean is above the level. * stands for any characters. Other kinds of rules, and whom they tell, come from ",
      command("--rules rules.toml"), " or by ", h("a", { href: `${BASE}/docs` }, "PUT /api/v1/rules/{name}"), "."), form, problem);
  unit();

  function unit() {
    const { unit: of, bounded } = metricOf(metric.value);
    levelUnit.textContent = bounded ? "Above, in %" : `Above${of === "1" ? "" : `, in ${of}`}`;
    level.max = bounded ? "100" : "";
  }

  async function make() {
    problem.textContent = "";
    const { name, bounded } = metricOf(metric.value);
    const above = Number(level.value) / (bounded ? 100 : 1);
    try {
      // None of this name may be there: a form that makes a rule changes no other.
      await send("PUT", `/api/v1/rules/${segment(called.value)}`, { kind: "threshold", users: [user.value], metric: name, above, for: length.value }, { "If-None-Match": "*" });
    } catch (error) {
      problem.textContent = error.status === 412 ? `A rule is named ${called.value} already.` : error.message;
      return;
    }
    notice("The rule is in force.", { forMs: 3000 });
    const kept = called.value;
    form.reset();
    length.value = "5m";
    unit();
    await done(kept);
  }

  return { node };
}
