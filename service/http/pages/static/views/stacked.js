// Parts of a whole over time, one on top of the other.

import { shown } from "../numbers.js";

const COLOURS = 6;

/**
 * The `series`, `bands` and `top` of a chart of parts, from the lowest up: `parts` are `{label, data}`, whose data add up, with
 * `rest` for the one that is nobody's. Each line is the sum of those below it; the legend tells the parts themselves.
 */
export function stacked(parts) {
  const sums = [];
  for (const { data } of parts) {
    const below = sums.at(-1);
    sums.push(data.map((one, at) => (one === null ? null : one + (below ? below[at] : 0))));
  }
  const colours = parts.map((one, place) => (one.rest ? "--missing" : `--series-${(place % COLOURS) + 1}`));
  return {
    series: parts.map(({ label, data, rest }, place) => ({
      label, data: sums[place], colour: colours[place], width: 1, fill: place ? undefined : colours[0], steps: true,
      swatch: rest ? "swatch-band-wide" : `swatch-${(place % COLOURS) + 1}`, unit: "1", show: (at) => shown(data[at]),
    })),
    bands: parts.slice(1).map((_, place) => ({ upper: place + 1, lower: place, fill: colours[place + 1] })),
    top: Math.max(0.02, ...(sums.at(-1) ?? []).filter((one) => one !== null)),
  };
}
