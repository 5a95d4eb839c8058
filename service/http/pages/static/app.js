// The page: which view the address asks for, the controls of the time range, and following new data.

import { BASE, viewPath } from "./base.js";
import { fill, h, notice } from "./dom.js";
import { keys } from "./keys.js";
import { follow } from "./live.js";
import { plural, whole } from "./numbers.js";
import { get, go, link, params, set } from "./state.js";
import { DEFAULT_RANGE, duration, HOUR, isUtc, iso, moment, offset, range, RANGES, zone } from "./time.js";
import * as agents from "./views/agents.js";
import * as alerts from "./views/alerts.js";
import * as compare from "./views/compare.js";
import * as fleet from "./views/fleet.js";
import * as host from "./views/host.js";
import * as reports from "./views/reports.js";

const VIEWS = { "/": fleet, "/host": host, "/compare": compare, "/alerts": alerts, "/agents": agents, "/reports": reports };
const main = document.getElementById("main");
const byId = (id) => document.getElementById(id);
const HEALTH_EVERY_MS = 30_000;
let shown = null, view = null, stopFollowing = null, followed = "";

/** Shows what the address asks for. */
async function render({ quiet = false } = {}) {
  const here = viewPath(location.pathname), path = VIEWS[here] ? here : "/";
  if (path !== shown) {
    view?.close?.();
    stopFollowing?.();
    stopFollowing = null;
    followed = "";
    shown = path;
    document.title = `${VIEWS[path].title} · Loadlens`;
    for (const one of document.querySelectorAll("nav [data-view]")) {
      if (viewPath(one.pathname) === path) one.setAttribute("aria-current", "page");
      else one.removeAttribute("aria-current");
    }
    fill(main);
    view = VIEWS[path].open(main);
  }
  controls();
  try {
    await view.refresh({ quiet });
    document.documentElement.dataset.shown = path;
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message);
  }
  listen();
}

/** Follows the reports that the view wants to be told of. */
function listen() {
  const wanted = isLive() ? view.follows?.() ?? null : null;
  const key = JSON.stringify(wanted);
  if (key === followed) return;
  stopFollowing?.();
  followed = key;
  stopFollowing = wanted && follow(wanted, (report) => {
    if (report) view.heard?.(report);
    render({ quiet: true });
  }, (state) => { byId("live").dataset.state = state; });
}

const isLive = () => get("live") !== "0" && range().relative !== null;

function controls() {
  const { start, end, relative } = range();
  const select = byId("range");
  const known = relative === null || RANGES[relative] ? RANGES : { ...RANGES, [relative]: `Last ${relative}` };
  fill(select, relative === null ? h("option", { value: "" }, `${moment(start)} to ${moment(end)}`) : null,
    Object.entries(known).map(([value, text]) => h("option", { value }, text)));
  select.value = relative ?? "";
  // Two moments take more room than a length of time.
  document.documentElement.toggleAttribute("data-absolute", relative === null);
  byId("live").setAttribute("aria-pressed", String(isLive()));
  byId("live").disabled = relative === null;
  byId("tz").textContent = isUtc() ? "UTC" : "Local";
  byId("tz").setAttribute("aria-label", isUtc() ? "Times are in UTC; show local time" : `Times are in ${zone()}; show UTC`);
  for (const anchor of document.querySelectorAll("[data-view]")) anchor.setAttribute("href", link(viewPath(anchor.pathname)));
}

/** Moves the range by a part of its length. */
export function shift(part) {
  const { start, end } = range();
  const by = (end - start) * part;
  const now = Date.now();
  if (part > 0 && end + by >= now) set({ from: null, to: null, range: lengthText(end - start) });
  else set({ from: iso(start + by), to: iso(end + by), range: null });
}

/** Twice the range, or half of it, around its middle; one that ends now goes on doing so. */
export function zoom(factor) {
  const { start, end, relative } = range();
  const length = Math.min(Math.max((end - start) * factor, 60_000), 3650 * 24 * HOUR);
  if (relative) {
    const choices = Object.keys(RANGES), place = choices.indexOf(relative);
    set({ range: choices[Math.min(choices.length - 1, Math.max(0, place + (factor > 1 ? 1 : -1)))] });
    return;
  }
  const middle = (start + end) / 2;
  set({ from: iso(middle - length / 2), to: iso(Math.min(middle + length / 2, Date.now())), range: null });
}

function lengthText(ms) {
  return Object.keys(RANGES).reduce((best, one) => (Math.abs(duration(one) - ms) < Math.abs(duration(best) - ms) ? one : best), DEFAULT_RANGE);
}

export const toggleLive = () => set({ live: get("live") === "0" ? null : "0" });
export const toggleZone = () => set({ tz: isUtc() ? null : "utc" });
export function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("loadlens-theme", document.documentElement.dataset.theme); } catch { /* it holds for this page */ }
  dispatchEvent(new Event("theme"));
}

const form = byId("absolute-form");
const local = (ms) => new Date(ms + offset(ms)).toISOString().slice(0, 19);
const fromLocal = (text) => {
  const plain = Date.parse(`${text}Z`);
  return plain - offset(plain - offset(plain));
};

export function toggleDates() {
  form.hidden = !form.hidden;
  byId("absolute").setAttribute("aria-expanded", String(!form.hidden));
  if (form.hidden) return;
  const { start, end } = range();
  form.elements.from.value = local(start);
  form.elements.to.value = local(end);
  form.elements.from.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const from = fromLocal(form.elements.from.value), to = fromLocal(form.elements.to.value);
  const error = form.querySelector(".error");
  error.hidden = from < to;
  error.textContent = "The end has to be later than the beginning.";
  if (!(from < to)) return;
  toggleDates();
  set({ from: iso(from), to: iso(to), range: null });
});
byId("time").addEventListener("submit", (event) => event.preventDefault());
byId("range").addEventListener("change", (event) => event.target.value && set({ range: event.target.value, from: null, to: null }));
for (const [id, act] of Object.entries({
  absolute: toggleDates, back: () => shift(-0.5), forth: () => shift(0.5), out: () => zoom(2), in: () => zoom(0.5), live: toggleLive, tz: toggleZone, theme: toggleTheme,
})) byId(id).addEventListener("click", act);

// Links to views do not load the page anew; with a modifier they do what the browser does.
document.addEventListener("click", (event) => {
  const anchor = event.target.closest("a[href]");
  if (!anchor || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  if (anchor.origin !== location.origin || anchor.target || anchor.hasAttribute("download") || !VIEWS[viewPath(anchor.pathname)]) return;
  event.preventDefault();
  if (anchor.getAttribute("href").startsWith("#")) byId(anchor.hash.slice(1))?.focus();
  else {
    go(anchor.pathname + anchor.search);
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
});

/** Says in the foot of the page what somebody should look at, and in a cluster what waits for the store. */
async function health() {
  const answer = await fetch(`${BASE}/readyz`).catch(() => null);
  const { problems = [], lag = null } = (await answer?.json().catch(() => null)) ?? {};
  const told = [...problems];
  if (lag?.reports) {
    const most = Object.entries(lag.partitions).reduce((one, other) => (other[1] > one[1] ? other : one))[0];
    told.push(`${plural(lag.reports, "report")} ${lag.reports === 1 ? "waits" : "wait"} for the store, the oldest for ${whole(lag.seconds)} s, most in partition ${most}.`);
  }
  const node = document.querySelector("footer .problems") ?? document.querySelector("footer").appendChild(h("ul", { class: "problems", "aria-label": "Problems of the service" }));
  node.hidden = !told.length;
  fill(node, told.map((one) => h("li", {}, one)));
  setTimeout(health, HEALTH_EVERY_MS);
}

addEventListener("popstate", () => render());
addEventListener("navigate", () => render());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
// Paper is white: what is drawn on canvases is drawn anew for it.
for (const one of ["beforeprint", "afterprint"]) addEventListener(one, () => dispatchEvent(new Event("theme")));
keys({ shift, zoom, toggleLive, toggleZone, toggleTheme, toggleDates, refresh: () => render(), go: (path) => go(link(path)), search: () => document.querySelector("main input[type=search]")?.focus() });
if (params().has("from") && !(Date.parse(get("from")) < Date.parse(get("to")))) notice("The dates of the address are wrong; the last day is shown.", { forMs: 8000 });
render();
health();
