// One moment is pointed at in all charts: whoever is under the pointer tells it, all others show it.

const listeners = new Set();

/** Tells a moment (epoch ms, or null for none) to all but the one who tells it. */
export function point(ms, from) {
  for (const listener of listeners) if (listener !== from) listener(ms);
}

/** Listens; returns what ends it. */
export function onPoint(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
