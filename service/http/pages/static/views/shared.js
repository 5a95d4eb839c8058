// What several views need: the metric that is looked at, and what saturated means.

import { h } from "../dom.js";
import { get, set } from "../state.js";

/** The load that counts as saturated: an edge of bins, so that the share of samples above it is exact. */
export const SATURATED = 58 / 64;

/** The share of samples at or above it, of a load-duration curve. */
export const saturatedShare = (curve) => curve[58];

const options = () => [...document.getElementById("metrics").content.querySelectorAll("option")];

/** The metric of the address: its name, what it is called, its unit, and whether it is a share. */
export function metricOf(chosen = get("metric")) {
  const found = options().find((one) => one.value === chosen) ?? options()[0];
  return { name: found.value, text: found.textContent, unit: found.dataset.unit, bounded: found.dataset.bounded === "true" };
}

/** All metrics there are. */
export const metrics = () => options().map((one) => metricOf(one.value));

/** A choice of the metric, kept in the address. */
export function metricSelect() {
  const node = h("select", { onchange: () => set({ metric: node.value === options()[0].value ? null : node.value }) },
    options().map((one) => h("option", { value: one.value }, one.textContent)));
  return { node, label: h("label", {}, "Metric", node), update: () => { node.value = metricOf().name; } };
}
