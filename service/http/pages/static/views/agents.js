// The agents: what each does, what is asked of it, what it costs, and what waits on its disk.

import { address, getJson, python } from "../api.js";
import { SERVICE } from "../base.js";
import { card } from "../card.js";
import { badges, command, fill, h, name, table } from "../dom.js";
import { plural, whole } from "../numbers.js";
import { get, hostLink, link, set } from "../state.js";
import { ago, clockWords } from "../time.js";

export const title = "Agents";
const PAGE = 100;
const SYNC = { "": "all", true: "in sync", false: "not in sync" };
const CONNECTED = { "": "all", true: "connected", false: "not connected" };

/** Opens the view in `root`. */
export function open(root) {
  const about = h("p", { class: "quiet", role: "status" });
  const select = (label, parameter, options) => {
    const node = h("select", { onchange: () => set({ [parameter]: node.value, after: null }) }, Object.entries(options).map(([value, text]) => h("option", { value }, text)));
    return { node, parameter, label: h("label", {}, label, node) };
  };
  const selects = [select("Settings ", "in_step", SYNC), select("Stream ", "connected", CONNECTED)];
  const search = h("input", { type: "search", size: "18", maxlength: "120", placeholder: "web-* or role=web", onchange: () => look(search.value.trim()) });
  /** A label is kept as one, and so goes along to other views. */
  const look = (text) => set({ q: isLabel(text) ? null : text, label: isLabel(text) ? text : null, after: null });
  const isLabel = (text) => /^[A-Za-z][\w.-]*=./.test(text);
  const looked = () => get("q") || get("label");
  let found = [], loading = null;
  const list = card("Agents", {
    source: () => ({ path: question(), csv: false, file: "agents.csv", python: python("agents", [selector() ?? "all"], { in_sync: yes(get("in_step")), connected: yes(get("connected")) }) }),
    rows: () => ({ columns: columns(), rows: found.map(plain) }),
  });
  const rows = h("div", {});
  list.body.append(h("div", { class: "controls" }, h("label", {}, "Host ", search), selects.map((one) => one.label)), rows);
  root.append(h("h1", {}, "Agents"), about, list.node);

  /** A search without wildcards means names that hold it, `role=web` those with the label. */
  const selector = () => {
    const text = looked();
    if (isLabel(text)) return `label:${text}`;
    return text ? `user:${/[*?[]/.test(text) ? text : `*${text}*`}` : null;
  };
  const yes = (text) => (text ? text === "true" : null);
  const question = () => address("/api/v1/agents", { selector: selector(), in_step: get("in_step"), connected: get("connected"), after: get("after"), limit: PAGE });
  const columns = () => [
    { label: "host", name: true }, { label: "state", wide: true }, { label: "last heard of" }, { label: "samples every", number: true }, { label: "in a report", number: true },
    { label: "waiting on disk", number: true }, { label: "dropped", number: true }, { label: "CPU", number: true }, { label: "memory", number: true }, { label: "clock" }, { label: "version" }, { label: "system" },
  ];
  const state = (one) => (one.in_step ? "in sync" : one.settled ? "settled" : "waiting");
  const plain = (one) => [
    one.user_id, one.why ?? "in sync", one.last_seen, one.reported?.interval ?? "", one.reported?.samples ?? "", one.spool?.waiting ?? "", one.spool?.dropped ?? "", one.overhead?.cpu_share ?? "", one.overhead?.resident_bytes ?? "", clockWords(one.clock_ahead_s), one.version ?? "", `${one.os_type} ${one.os_version}`,
  ];

  function row(one) {
    const { interval, samples } = one.reported ?? {};
    const { cpu_share: cpu, resident_bytes: memory } = one.overhead ?? {};
    return [
      h("a", { href: hostLink(one.user_id) }, name(one.user_id)), [h("span", { class: `badge ${one.in_step ? "good" : "pending"}` }, state(one)), one.connected ? badges(["connected"]) : null, one.shared_windows ? h("span", { class: "badge silent" }, "several hosts") : null, one.why ? h("div", { class: "quiet" }, one.why) : null],
      ago(Date.parse(one.last_seen)), interval ? `${Math.round(1000 * interval)} ms` : "–", samples ?? "–", one.spool ? whole(one.spool.waiting) : "–", one.spool ? whole(one.spool.dropped) : "–",
      cpu === null || cpu === undefined ? "–" : `${(100 * cpu).toFixed(2)} %`, memory ? `${(memory / 1e6).toFixed(0)} MB` : "–", clockWords(one.clock_ahead_s), one.version ?? "–", `${one.os_type} ${one.os_version}`,
    ];
  }

  async function refresh() {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    for (const { node, parameter } of selects) node.value = get(parameter);
    if (document.activeElement !== search) search.value = looked();
    let page;
    try {
      page = await getJson(question(), signal);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      fill(rows, h("p", { class: "error" }, error.message));
      return;
    }
    found = page.agents;
    fill(about, `${plural(page.total, "agent")}, ${plural(page.in_step, "samples as it is", "sample as they are")} asked to.`);
    const filtered = looked() || get("in_step") || get("connected");
    fill(rows, found.length ? table(`${found.length} of ${plural(page.total, "agent")}`, columns(), found.map(row))
      : h("p", { class: "empty" }, filtered ? ["No agent is like this. ", h("a", { href: link("/agents", { label: null }) }, "Show all")] : ["No agent has reported yet. Start one: ", command(`loadlens-agent --url ${SERVICE}`)]),
    h("div", { class: "controls" }, get("after") ? h("button", { type: "button", onclick: () => history.back() }, "Back") : null, page.next ? h("button", { type: "button", onclick: () => set({ after: page.next }) }, "Next") : null));
    list.refresh();
  }

  return { refresh, follows: () => ({ users: found.filter((one) => one.connected).map((one) => one.user_id) }), close: () => loading?.abort() };
}
