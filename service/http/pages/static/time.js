// Time ranges, widths of buckets, and moments as texts in local time or UTC.

import { get } from "./state.js";

const S = 1000, M = 60 * S, H = 60 * M, D = 24 * H;
export const DAY = D, HOUR = H, MINUTE = M;
const UNITS = { s: S, m: M, h: H, d: D, w: 7 * D };
/** The ranges to choose from, and what they are called. */
export const RANGES = {
  "15m": "Last 15 minutes", "1h": "Last hour", "3h": "Last 3 hours", "6h": "Last 6 hours", "12h": "Last 12 hours",
  "24h": "Last 24 hours", "2d": "Last 2 days", "7d": "Last 7 days", "14d": "Last 14 days", "30d": "Last 30 days",
  "90d": "Last 90 days", "52w": "Last year",
};
export const DEFAULT_RANGE = "24h";
const RATES = [S, 2 * S, 5 * S, 10 * S, 15 * S, 30 * S, M, 2 * M, 5 * M, 10 * M, 15 * M, 30 * M,
  H, 2 * H, 3 * H, 6 * H, 12 * H, D, 7 * D, 28 * D, 84 * D, 364 * D];

/** The milliseconds of a duration such as `15m`; NaN for anything else. */
export function duration(text) {
  const match = /^(\d{1,6})([smhdw])$/.exec(text ?? "");
  return match ? Number(match[1]) * UNITS[match[2]] : NaN;
}

/** A duration in the largest unit that divides it. */
export function durationText(ms) {
  const unit = ["w", "d", "h", "m", "s"].find((one) => ms % UNITS[one] === 0 && ms >= UNITS[one]);
  return unit ? `${ms / UNITS[unit]}${unit}` : `${ms}ms`;
}

/** The range of the address, in epoch milliseconds; `relative` is its text where it ends now. */
export function range(now = Date.now()) {
  const from = Date.parse(get("from")), to = Date.parse(get("to"));
  if (from < to) return { start: from, end: to, relative: null };
  const asked = get("range", DEFAULT_RANGE);
  const relative = duration(asked) > 0 ? asked : DEFAULT_RANGE;
  return { start: roundStart(now - duration(relative), duration(relative)), end: now, relative };
}

/**
 * Where a range so long begins: with a bucket of the service's rollups, at most 1.4 % of its length earlier. All pages
 * say the same of it then, on screens of any width, and no page waits for the windows of part of a bucket.
 */
const roundStart = (start, length) => {
  const step = [D, H, 5 * M].find((one) => length >= 72 * one) ?? 1;
  return Math.floor(start / step) * step;
};

/** The width of buckets that gives at most `buckets` of them, and is no finer than `least` milliseconds. */
export function rateFor({ start, end }, buckets, least = 0) {
  const wanted = Math.max((end - start) / buckets, least);
  return RATES.find((rate) => rate >= wanted) ?? RATES.at(-1);
}

export const isUtc = () => get("tz") === "utc";
export const zone = () => (isUtc() ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);

const formats = new Map();
function format(options) {
  const key = JSON.stringify([isUtc(), options]);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone() }));
  return formats.get(key);
}

/** A moment, as precise as the range it belongs to needs. */
export function moment(ms, { seconds = false } = {}) {
  if (!Number.isFinite(ms)) return "never";
  const time = { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) };
  return format({ weekday: "short", day: "numeric", month: "short", year: sameYear(ms) ? undefined : "numeric", ...time }).format(ms);
}
const sameYear = (ms) => new Date(ms).getUTCFullYear() === new Date().getUTCFullYear();

/** A tick of an axis of time, `step` milliseconds from the next. */
export function tick(ms, step) {
  if (step >= D) return format({ day: "numeric", month: "short" }).format(ms);
  const text = format({ hour: "2-digit", minute: "2-digit", ...(step < M ? { second: "2-digit" } : {}) }).format(ms);
  return text === "00:00" ? format({ day: "numeric", month: "short" }).format(ms) : text;
}

/** How far the clock of the zone is ahead of UTC at a moment, in milliseconds. */
export function offset(ms) {
  if (isUtc()) return 0;
  return -new Date(ms).getTimezoneOffset() * M;
}

/** Round moments between two, for an axis of at most `most` ticks: `{ticks, step}`. */
export function ticks(start, end, most) {
  const step = [S, 5 * S, 15 * S, 30 * S, M, 5 * M, 15 * M, 30 * M, H, 2 * H, 3 * H, 6 * H, 12 * H, D, 2 * D, 7 * D, 14 * D, 28 * D, 91 * D, 364 * D]
    .find((one) => (end - start) / one <= most) ?? 364 * D;
  const shift = offset(start);
  const found = [];
  for (let at = Math.ceil((start + shift) / step) * step - shift; at < end; at += step) found.push(at);
  return { ticks: found, step };
}

/** How long ago a moment is. */
export const ago = (ms, now = Date.now()) => `${length(Math.max(0, now - ms))} ago`;

/** How far a clock is ahead (negative: behind), in seconds, as words; none where it is right within a second. */
export function clockWords(seconds) {
  if (seconds === null || seconds === undefined || Math.abs(seconds) <= 1) return "";
  return `${length(S * Math.abs(seconds))} ${seconds > 0 ? "ahead" : "behind"}`;
}

/** A length of time in the largest unit that fits. */
function length(ms) {
  const [unit, size] = [["d", D], ["h", H], ["min", M]].find(([, one]) => ms >= one) ?? [];
  return unit ? `${Math.floor(ms / size)} ${unit}` : `${Math.round(ms / S)} s`;
}

/** ISO 8601 in UTC, without a fraction of a second where there is none. */
export const iso = (ms) => new Date(Math.round(ms)).toISOString().replace(".000Z", "Z");
