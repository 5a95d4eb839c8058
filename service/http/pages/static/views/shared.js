// What several views need: the metric that is looked at, and what saturated means.

import { address, getJson, python, send } from "../api.js";
import { fill, h, notice } from "../dom.js";
import { shown } from "../numbers.js";
import { get, set } from "../state.js";
import { duration, iso, moment, MINUTE, range, RANGES } from "../time.js";

/** The load that counts as saturated: an edge of bins, so that the share of samples above it is exact. */
export const SATURATED = 58 / 64;

/** The share of samples at or above it, of a load-duration curve. */
export const saturatedShare = (curve) => curve[58];

/** The query of a load-duration curve as Python: its windows, and the curve of their histograms. */
export const loadDurationPython = (method, positional, { start, end, resample_rate: rate }, hosts = null) =>
  python(method, positional, { start, end, rate, hosts }).replace("print(frame)", "print(analytics.load_duration_curve(frame))");

/** Who used most of the CPU of a host at some time, in words; empty where that is not known. */
export const consumers = (used) => (used ?? []).map((one) => `${one.unit ? `${one.name} (${one.unit})` : one.name} ${shown(one.share, "1", 0)}`).join(", ");

/** Data that take less of a range than this part of it are hard to see in it. */
const SMALL_PART = 1 / 6;

/** A line over a chart that offers to show the part of the range that has data, where that is a small one. */
export function narrower() {
  const node = h("p", { class: "over no-print", hidden: true });
  return {
    node,
    /** `times` are the starts of the buckets with data, `width` milliseconds wide, in the range of the address. */
    show(times, width) {
      const { start, end, relative } = range(), first = Math.max(times[0], start), last = Math.min(times.at(-1) + width, end);
      node.hidden = !times.length || last - first >= SMALL_PART * (end - start);
      if (node.hidden) return;
      const goesOn = relative && end - last < 2 * width + 2 * MINUTE;
      const fitting = goesOn && Object.keys(RANGES).find((one) => duration(one) >= end - first);
      const changes = fitting ? { range: fitting, from: null, to: null } : { from: iso(first), to: iso(last), range: null };
      node.hidden = Boolean(fitting) && duration(fitting) >= end - start;
      node.style.textAlign = first + last > start + end ? "left" : "right";
      fill(node, goesOn ? `Data since ${moment(first)}. ` : `Data from ${moment(first)} to ${moment(last)}. `,
        h("button", { type: "button", onclick: () => set(changes) }, fitting ? RANGES[fitting] : "Show them"));
    },
    hide() {
      node.hidden = true;
    },
  };
}

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
