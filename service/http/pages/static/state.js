// The page's state is its address: a link shows another person the same, and the browser's back goes back.

import { BASE } from "./base.js";

const SHARED = ["range", "from", "to", "tz", "metric", "label"];

export const params = () => new URLSearchParams(location.search);
export const get = (name, fallback = "") => params().get(name) ?? fallback;

function changed(search, changes) {
  for (const [name, value] of Object.entries(changes)) {
    search.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") search.append(name, one);
    }
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

/** The address of a view, at the same time range and label; `changes` are added. */
export function link(path, changes = {}) {
  const here = params();
  const kept = new URLSearchParams();
  for (const name of SHARED) if (here.has(name)) kept.set(name, here.get(name));
  return BASE + path + changed(kept, changes);
}

/** The address of a host's view. */
export const hostLink = (id) => link("/host", { id });

/** Goes to an address of the page. */
export function go(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event("navigate"));
}

/** Changes parts of the address; `replace` where going back should not stop there, as while somebody types. */
export function set(changes, options) {
  go(location.pathname + changed(params(), changes), options);
}
