// The fleet by its labels: a filter, and the hosts of each value of a label beside each other.

import { address, exactly, getJson, getLabels, python } from "../api.js";
import { card } from "../card.js";
import { fill, h, name, table } from "../dom.js";
import { plural, shown, whole } from "../numbers.js";
import { get, link, set } from "../state.js";

const STATISTICS = ["mean", "p95", "max"];
const NOT_LABELLED = "not labelled";
const FRESH_MS = 30_000;
/** So many values of a label are told, as the service does. */
const MOST_VALUES = 100;

/** The labels of a host, each a link to those that have it too. */
export const labelLinks = (labels) => Object.entries(labels).map(([key, value]) =>
  h("a", { class: "badge", href: link("/", { label: `${key}=${exactly(value)}` }) }, `${key}=${value}`));

/** What is said of a view whose hosts have the label of the address, behind its title. */
export const labelTitle = () => (get("label") ? [": ", name(get("label"))] : null);

/**
 * A field for a label such as `role=web`, with those there are to choose from; kept in the address. It is always there, so that nothing moves.
 * Where the view does not know them, they are asked for when somebody comes to the field (`asks`).
 */
export function labelFilter({ asks = false } = {}) {
  const choices = h("datalist", { id: "labels" });
  const input = h("input", {
    type: "search", list: "labels", size: "12", maxlength: "128", placeholder: "role=web",
    onchange: () => set({ label: input.value.trim(), first: null, count: null }),
    onfocus: () => asks && !choices.options.length && getLabels().then(offer, () => {}),
  });
  const offer = (known) => fill(choices, Object.entries(known).flatMap(([key, values]) => Object.entries(values).map(([value, count]) =>
    h("option", { value: `${key}=${exactly(value)}` }, plural(count, "host")))));
  return {
    nodes: [h("label", {}, "Label", input), choices],
    update(known = null) {
      if (document.activeElement !== input) input.value = get("label");
      if (known) offer(known);
    },
  };
}

/** A card with a row for each value of the label that the address has as `group`; hidden where there are no labels. */
export function labelGroups() {
  const select = h("select", { onchange: () => set({ group: select.value }) });
  const content = h("div", {});
  let rows = [], asked = {}, madeOf = "", madeAt = 0;
  const group = () => get("group");
  const question = () => address("/api/v1/query", { metric: asked.metric, stat: STATISTICS, by: `label:${group()}`, start: asked.start, end: asked.end, resample_rate: "all", ...asked.selection });
  const columns = () => [{ label: group(), name: true }, { label: "hosts", number: true }, ...["mean", "p95", "maximum"].map((label) => ({ label, number: true }))];
  const groups = card("By label", {
    help: "of all samples of those of the hosts above that have it",
    source: () => ({
      path: question(), file: "labels.csv", accept: "text/csv",
      python: python("query", [[asked.metric]], { stats: STATISTICS, by: `label:${group()}`, start: asked.start, end: asked.end, rate: "all", hosts: Object.keys(asked.selection).length ? asked.selection : null }),
    }),
    rows: () => ({ columns: columns(), rows: rows.map((one) => [one.value, one.hosts, ...STATISTICS.map((stat) => one[stat])]) }),
  });
  groups.body.append(h("div", { class: "controls" }, h("label", {}, "Group by", select)), content);
  groups.node.hidden = true;

  function paint(series, values, of, unit) {
    // A label with very many values has not all of them told, so it is not known how many hosts do without it.
    const told = Object.values(values).reduce((sum, one) => sum + one, 0);
    const counts = Object.keys(values).length < MOST_VALUES ? { ...values, [NOT_LABELLED]: of - told } : values;
    rows = Object.values(Object.groupBy(series, (one) => one.group)).map((found) => ({
      value: found[0].group, hosts: counts[found[0].group] ?? null, ...Object.fromEntries(found.map((one) => [one.stat, one.values[0]])),
    })).sort((one, other) => other.p95 - one.p95);
    const label = (one) => (one.value === NOT_LABELLED ? one.value : h("a", { href: link("/", { label: `${group()}=${exactly(one.value)}` }) }, one.value));
    fill(content, rows.length
      ? table(`Hosts by ${group()}, the highest p95 first`, columns(), rows.map((one) => [label(one), one.hosts === null ? "–" : whole(one.hosts), ...STATISTICS.map((stat) => shown(one[stat], unit))]))
      : h("p", { class: "empty" }, "No host reported in this range."));
  }

  /** Offers the labels that are `known`. */
  function offer(known) {
    const names = Object.keys(known);
    groups.node.hidden = !names.length;
    fill(select, h("option", { value: "" }, "choose a label"), names.map((one) => h("option", { value: one }, one)));
    select.value = names.includes(group()) ? group() : "";
  }

  /** Shows the groups of `range`, `{metric, start, end, selection}`; `counts` are of hosts by label and value, `of` how many there are in all. New data are looked at once in a while. */
  async function refresh(counts, of, range, unit, { quiet, signal }) {
    asked = range;
    if (!select.value) {
      rows = [];
      madeOf = "";
      fill(content, h("p", { class: "quiet" }, "Hosts with the same value of a label, taken together."));
      return;
    }
    const what = JSON.stringify([group(), range.selection, range.metric, range.end - range.start]);
    if (quiet && what === madeOf && Date.now() - madeAt < FRESH_MS) return;
    [madeOf, madeAt] = [what, Date.now()];
    try {
      paint((await getJson(question(), signal)).series, counts[group()] ?? {}, of, unit);
    } catch (error) {
      madeOf = "";
      if (error.name === "AbortError") throw error;
      rows = [];
      fill(content, h("p", { class: "error" }, error.message));
    }
    groups.refresh();
  }
  return { node: groups.node, offer, refresh };
}
