// What several views need: the metric that is looked at, and what saturated means.

import { address, getJson, python, send } from "../api.js";
import { h, notice } from "../dom.js";
import { shown } from "../numbers.js";
import { get, set } from "../state.js";

/** The load that counts as saturated: an edge of bins, so that the share of samples above it is exact. */
export const SATURATED = 58 / 64;

/** The share of samples at or above it, of a load-duration curve. */
export const saturatedShare = (curve) => curve[58];

/** The query of a load-duration curve as Python: its windows, and the curve of their histograms. */
export const loadDurationPython = (method, positional, { start, end, resample_rate: rate }, hosts = null) =>
  python(method, positional, { start, end, rate, hosts }).replace("print(frame)", "print(analytics.load_duration_curve(frame))");

/** Who used most of the CPU of a host at some time, in words; empty where that is not known. */
export const consumers = (used) => (used ?? []).map((one) => `${one.unit ? `${one.name} (${one.unit})` : one.name} ${shown(one.share, "1", 0)}`).join(", ");

const options = () => [...document.getElementById("metrics").content.querySelectorAll("option")];

/** The metric of the address: its name, what it is called, its unit, whether it is a share, and whether cores or devices have it. */
export function metricOf(chosen = get("metric")) {
  const found = options().find((one) => one.value === chosen) ?? options()[0];
  const { unit, bounded, cores, devices } = found.dataset;
  return { name: found.value, text: found.textContent, unit, bounded: bounded === "true", cores: cores === "true", devices: devices === "true" };
}

/** All metrics there are. */
export const metrics = () => options().map((one) => metricOf(one.value));

/** A choice of the metric, kept in the address. */
export function metricSelect() {
  const node = h("select", { onchange: () => set({ metric: node.value === options()[0].value ? null : node.value }) },
    options().map((one) => h("option", { value: one.value }, one.textContent)));
  return { node, label: h("label", {}, "Metric", node), update: () => { node.value = metricOf().name; } };
}

/** Deploys, incidents and the like, as people and their tools have told them. */
export const annotations = {
  found: [],
  /** Those that touch a range, about one host or about any. */
  async load({ start, end, user = null }, signal) {
    const answer = await getJson(address("/api/v1/annotations", { start, end, user, limit: 100 }), signal).catch((error) => {
      if (error.name === "AbortError") throw error;
      return {};
    });
    this.found = (answer.annotations ?? []).map((one) => ({ ...one, at: Date.parse(one.time) }));
  },
  /** As marks of a chart. */
  marks() {
    return this.found.map((one) => ({ at: one.at, line: true, colour: "--accent", text: one.text }));
  },
};

/** A form that notes a moment, of the hosts that `user()` names; `done` is called when it is kept. */
export function noteForm(user, done) {
  const text = h("input", { name: "note", size: "28", maxlength: "500", required: true, placeholder: "deploy 1.4" });
  const error = h("span", { class: "error", role: "alert" });
  const form = h("form", {
    class: "controls no-print", "aria-label": "Note a moment", onsubmit: async (event) => {
      event.preventDefault();
      error.textContent = "";
      try {
        await send("POST", "/api/v1/annotations", { text: text.value, user: user() });
        form.reset();
        notice("Noted.", { forMs: 2500 });
        await done();
      } catch (problem) {
        error.textContent = problem.message;
      }
    },
  }, h("label", {}, "Note what happens now ", text), h("button", {}, "Note"), error);
  return form;
}
