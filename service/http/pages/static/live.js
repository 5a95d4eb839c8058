// Follows the service's stream of reports, and says when there is something new to show.

import { exactly } from "./api.js";
import { BASE } from "./base.js";

const LEAST_MS = 5000, LEAST_OF_ONE_MS = 1000;
const QUIET_MS = 60_000;
const MOST_USERS = 20;

/**
 * Calls `fresh(report)` when reports of `users` come in, at most every five seconds (those of one host every second), and once a minute without any. `state(text)`
 * is told how the connection is. Of a large fleet some hosts set the pace: the stream of all would only be thrown away.
 */
export function follow({ users = [], fields = "user_id,end_timestamp" }, fresh, state) {
  const search = new URLSearchParams({ fields });
  for (const user of users.slice(0, MOST_USERS)) search.append("user", exactly(user));
  const least = users.length === 1 ? LEAST_OF_ONE_MS : LEAST_MS;
  let source = null, timer = 0, last = Date.now(), newest = null, ended = false;

  const due = () => {
    clearTimeout(timer);
    timer = setTimeout(tell, newest ? Math.max(0, last + least - Date.now()) : QUIET_MS);
  };
  const tell = () => {
    if (ended || document.hidden) return;
    last = Date.now();
    const report = newest;
    newest = null;
    fresh(report);
    due();
  };
  const open = () => {
    if (ended || document.hidden || source) return;
    source = new EventSource(`${BASE}/api/v1/stream?${search}`);
    source.onopen = () => state("live");
    source.onmessage = (event) => {
      const first = newest === null;
      newest = JSON.parse(event.data);
      if (first) due();
    };
    source.onerror = () => state(source?.readyState === EventSource.CLOSED ? "off" : "reconnecting");
  };
  const close = () => {
    source?.close();
    source = null;
    clearTimeout(timer);
  };
  const seen = () => {
    if (document.hidden) close();
    else {
      open();
      tell();
    }
  };
  document.addEventListener("visibilitychange", seen);
  open();
  due();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", seen);
    close();
  };
}
