// How a host's agent samples: what is asked of it, what is in force, and a form that changes it.

import { address, getJson, getTagged, segment, send } from "../api.js";
import { fill, h, notice } from "../dom.js";
import { ago } from "../time.js";

const FAST_MS = 700, FOR_MS = 30_000;
const METRICS = ["cpu", "memory", "swap", "disk", "network", "load", "times", "scheduler", "pressure", "bursts", "limits",
  "memory_bytes", "filesystems", "frequency", "temperature", "disks", "interfaces"];

/** A card with the settings of an agent. */
export function settings() {
  const state = h("div", { role: "status", "aria-live": "polite" });
  const interval = h("input", { name: "interval", type: "number", min: "0.01", max: "60", step: "any", placeholder: "agent's own", size: "8" });
  const samples = h("input", { name: "samples", type: "number", min: "1", max: "10000", step: "1", placeholder: "agent's own", size: "8" });
  const paused = h("select", { name: "paused" }, h("option", { value: "" }, "agent's own"), h("option", { value: "false" }, "sample"), h("option", { value: "true" }, "pause"));
  const processes = h("select", { name: "processes" }, [["", "agent's own"], ["off", "off"], ["names", "their names"], ["full", "their command lines too"]].map(([value, text]) => h("option", { value }, text)));
  const which = METRICS.map((one) => ({ one, node: h("input", { type: "checkbox", name: "metric", value: one }) }));
  const chosen = h("input", { type: "checkbox", name: "own-metrics" });
  const error = h("p", { class: "error", role: "alert" });
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); save(); } },
    h("div", { class: "fields" }, h("label", {}, "Seconds between samples", interval), h("label", {}, "Samples in a report", samples), h("label", {}, "Sampling", paused), h("label", {}, "Processes", processes)),
    h("fieldset", { class: "controls" }, h("legend", {}, h("label", {}, chosen, "Choose what is sampled")), which.map(({ one, node }) => h("label", {}, node, one))),
    error, h("div", { class: "controls" }, h("button", { class: "main" }, "Apply"), h("button", { type: "button", onclick: () => { form.reset(); save(); } }, "Back to the agent's own")));
  const body = h("div", {});
  const node = h("section", { class: "card" }, h("header", {}, h("h2", {}, "Agent and its settings")), body);
  let id = "", timer = 0, dirty = false, filled = "";
  form.addEventListener("input", () => { dirty = true; });

  /** The agent; null where the host has none, undefined where that cannot be asked. */
  async function refresh(user, signal) {
    id = user;
    let agent;
    try {
      // Asked for as a list, because there are hosts that others than our agents report.
      const { total } = await getJson(address("/api/v1/agents", { selector: `agent:${id}`, limit: 1 }), signal);
      if (total) agent = await getJson(`/api/v1/agents/${segment(id)}`, signal);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      fill(body, h("p", { class: "empty" }, problem.message));
      return undefined;
    }
    if (!agent) {
      fill(body, h("p", { class: "empty" }, "No agent of this project reports for this host, so its settings cannot be changed from here."));
      return null;
    }
    if (!form.isConnected) fill(body, state, form);
    const reported = agent.reported ?? {};
    fill(state, h("p", {}, h("span", { class: `badge ${agent.in_step ? "good" : "pending"}` }, agent.in_step ? "in force" : "not in force yet"), agent.in_step ? "The agent samples as it is asked to." : agent.why ?? ""),
      h("p", { class: "quiet" }, [reported.interval ? `samples every ${1000 * reported.interval} ms` : null, reported.samples ? `${reported.samples} in a report` : null, reported.metrics ? [].concat(reported.metrics).join(", ") : null,
        agent.version ? `version ${agent.version}` : null, agent.connected ? "connected" : `last heard of ${ago(Date.parse(agent.last_seen))}`].filter(Boolean).join(" · ")));
    if (!dirty && filled !== JSON.stringify([id, agent.layers])) await fillForm(agent);
    return agent;
  }

  async function fillForm(agent) {
    filled = JSON.stringify([id, agent.layers]);
    const own = (agent.layers ?? []).find((layer) => layer.target.startsWith("agent:"))?.settings ?? {};
    interval.value = own.interval ?? "";
    samples.value = own.samples ?? "";
    paused.value = own.paused === undefined ? "" : String(own.paused);
    processes.value = own.processes ?? "";
    chosen.checked = Boolean(own.metrics);
    for (const { one, node: box } of which) box.checked = (own.metrics ?? agent.reported?.metrics ?? []).includes(one);
  }

  async function save() {
    error.textContent = "";
    const wanted = {};
    if (interval.value) wanted.interval = Number(interval.value);
    if (samples.value) wanted.samples = Number(samples.value);
    if (paused.value) wanted.paused = paused.value === "true";
    if (processes.value) wanted.processes = processes.value;
    if (chosen.checked) wanted.metrics = which.filter(({ node: box }) => box.checked).map(({ one }) => one);
    try {
      const path = `/api/v1/agents/${segment(id)}/settings`;
      const { tag } = await getTagged(path);
      await send("PUT", path, wanted, { "If-Match": tag });
    } catch (problem) {
      error.textContent = problem.message;
      return;
    }
    dirty = false;
    notice("Told to the agent.", { forMs: 3000 });
    watch(Date.now() + FOR_MS);
  }

  /** Looks until it is in force. */
  async function watch(until) {
    clearTimeout(timer);
    const agent = await refresh(id).catch(() => null);
    if (agent && !agent.in_step && !agent.settled && Date.now() < until) timer = setTimeout(() => watch(until), FAST_MS);
  }

  return { node, refresh, close: () => clearTimeout(timer) };
}
