// Numbers as texts, and quantiles of histograms exactly as the service takes them (contract/histogram.py).

const PREFIXED = { By: "B", "By/s": "B/s", Hz: "Hz" };

/** A value in its unit. */
export function shown(value, unit = "1", digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (unit === "1") return `${(100 * value).toFixed(digits)} %`;
  const [factor, prefix] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => Math.abs(value) >= size) ?? [1, ""];
  const text = (value / factor).toFixed(Math.abs(value / factor) < 10 ? 2 : 1);
  if (unit in PREFIXED) return `${text} ${prefix}${PREFIXED[unit]}`;
  if (unit === "Cel") return `${value.toFixed(1)} °C`;
  if (unit.startsWith("{operation}")) return `${text}${prefix} /s`;
  return `${text}${prefix}`;
}

/** A difference of shares, in percentage points; one that shows as nothing has no sign. */
export function difference(value) {
  if (value === null || value === undefined) return "–";
  const text = (100 * value).toFixed(1);
  return Number(text) === 0 ? "0.0 pp" : `${value > 0 ? "+" : ""}${text} pp`;
}

export const whole = (value) => Math.round(value).toLocaleString("en-US");

/** How many there are of something: `1 host`, `2 hosts`. */
export const plural = (number, thing, things = `${thing}s`) => `${whole(number)} ${number === 1 ? thing : things}`;

const BINS = 64;
const GROWTH = 1.01 / 0.99, LOG_GROWTH = Math.log(GROWTH), FIRST = Math.ceil(Math.log(1e-3) / LOG_GROWTH) - 1;

/** The value that stands for a bin. */
function valueOf(bin, bounded) {
  if (bounded) return Math.min(Math.max((bin + 0.5) / BINS, 0), 1);
  return bin <= FIRST ? 0 : (2 * Math.exp(bin * LOG_GROWTH)) / (GROWTH + 1);
}

/** The `q`-quantile of a flat histogram `[bin, count, ...]` between its extremes; null for an empty one. */
export function quantile(flat, q, bounded, minimum = -Infinity, maximum = Infinity) {
  let total = 0;
  for (let place = 1; place < flat.length; place += 2) total += flat[place];
  if (!total) return null;
  const rank = Math.max(1, Math.ceil(q * total));
  let seen = 0;
  for (let place = 0; place < flat.length; place += 2) {
    seen += flat[place + 1];
    if (seen >= rank) return Math.min(Math.max(valueOf(flat[place], bounded), minimum), maximum);
  }
  return null;
}

/** The sum of histograms. */
export function merged(histograms) {
  const counts = new Map();
  for (const flat of histograms) {
    for (let place = 0; place < flat.length; place += 2) counts.set(flat[place], (counts.get(flat[place]) ?? 0) + flat[place + 1]);
  }
  return [...counts].sort((a, b) => a[0] - b[0]).flat();
}

/** The share of samples in each of 64 bins of shares, idle and saturated ones among the first and the last. */
export function shares(flat) {
  const counts = new Array(BINS).fill(0);
  let total = 0;
  for (let place = 0; place < flat.length; place += 2) {
    counts[Math.min(Math.max(flat[place], 0), BINS - 1)] += flat[place + 1];
    total += flat[place + 1];
  }
  return counts.map((count) => (total ? count / total : 0));
}

/**
 * How high the axis of such shares is, and which bins rise above it: idle and full ones may hold so many samples that nothing would be
 * seen of all between.
 */
export function scaleOfShares(found) {
  const inner = Math.max(...found.slice(1, -1)), cut = [0, BINS - 1].filter((bin) => inner > 0 && found[bin] > 2 * inner);
  return cut.length ? { top: inner, cut } : { top: Math.max(...found), cut };
}

/** What a bin of shares is called. */
export function binWords(bin) {
  const [from, to] = [bin, bin + 1].map((edge) => shown(edge / BINS));
  return bin === 0 ? `below ${to}` : bin === BINS - 1 ? `at ${from} or above` : `from ${from} to ${to}`;
}

/** How exact a quantile of samples is, in words: those of shares come from 64 bins, with exactly 0 and exactly 1 apart, others from bins 2 % wide. */
export function quantileWords(value, bounded) {
  if (value === null || value === undefined) return "";
  if (bounded) return value === 0 || value === 1 ? "exact" : `to within ${(50 / BINS).toFixed(1)} points`;
  return "to within 1 %";
}

/** The share of samples at or above each load `k/64`, for k from 0 to 63: exact. */
export function loadDuration(flat) {
  const found = shares(flat);
  const above = new Array(BINS);
  let sum = 0;
  for (let bin = BINS - 1; bin >= 0; bin -= 1) above[bin] = sum += found[bin];
  return above;
}

/** The mean of windows, weighted by their samples. */
export function meanOf(windows) {
  let sum = 0, count = 0;
  for (const one of windows) {
    sum += one.mean * one.count;
    count += one.count;
  }
  return count ? sum / count : null;
}
