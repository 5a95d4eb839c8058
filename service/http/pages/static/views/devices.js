// Disks and interfaces of one host by name, a line each.

import { address, python, segment } from "../api.js";
import { card } from "../card.js";
import { h } from "../dom.js";
import { lineChart, spacing, withGaps } from "../linechart.js";
import { meanOf } from "../numbers.js";
import { iso } from "../time.js";
import { annotations } from "./shared.js";

const DRAWN = 6;

/** A card of what each device of the host `id` did: `points` are windows of `metric`, `rate` ms wide, with their `device`. */
export function devicesCard(id, metric, points, question, rate) {
  const byName = new Map();
  for (const one of points) {
    if (one.device === null) continue;
    if (!byName.has(one.device)) byName.set(one.device, []);
    byName.get(one.device).push(one);
  }
  const names = [...byName.keys()];
  const most = [...names].sort((a, b) => meanOf(byName.get(b)) - meanOf(byName.get(a)) || (a < b ? -1 : 1)).slice(0, DRAWN).sort();
  const asked = { ...question, metric: metric.name, device: "each" };
  const plot = h("div", { class: "plot small" });
  const made = card(metric.text, {
    level: "h3", help: names.length > DRAWN ? `those ${DRAWN} of ${names.length} with most; the table has all` : "",
    source: () => ({
      path: address(`/api/v1/windows/byUser/${segment(id)}`, asked), file: `${id}-${metric.name}.csv`, accept: "text/csv",
      python: python("history", [id, metric.name], { start: question.start, end: question.end, rate: question.resample_rate, device: "each" }),
    }),
    rows: () => ({
      columns: [{ label: "time" }, { label: "device" }, { label: "mean", number: true }],
      rows: names.flatMap((name) => byName.get(name).map((row) => [iso(row.time), name, row.mean])),
    }),
  });
  made.body.append(plot);
  const chart = lineChart(plot, { label: metric.text, unit: metric.unit, maximum: metric.bounded ? 1 : null });
  const times = [...new Set(points.map((one) => one.time))].sort((a, b) => a - b);
  const data = most.map((name) => {
    const means = new Map(byName.get(name).map((row) => [row.time, row.mean]));
    return times.map((at) => means.get(at) ?? null);
  });
  const { x, columns } = withGaps(times, data, 1.5 * spacing(times, rate));
  const top = Math.max(...columns.flat().filter((one) => one !== null && one !== undefined), 1e-9);
  chart.show({
    x, domain: [question.start / 1000, question.end / 1000], top,
    series: most.map((label, place) => ({ label, data: columns[place], colour: `--series-${place + 1}`, swatch: `swatch-${place + 1}`, width: 1.5 })),
    marks: annotations.marks(),
  });
  return { node: made.node, close: () => chart.close() };
}
