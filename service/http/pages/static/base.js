// Where the service is on its host: the path that everything of it is under, which may be empty.

/** That path, such as /loadlens, without a slash at its end. */
export const BASE = document.documentElement.dataset.base ?? "";

/** The address by which programs ask the service. */
export const SERVICE = location.origin + BASE;

/** Whether it asks programs for a token. */
export const ASKS_FOR_TOKEN = "asksForToken" in document.documentElement.dataset;

/** The path of a view as the page names it, from that of an address. */
export const viewPath = (path) => (path.startsWith(BASE) ? path.slice(BASE.length) || "/" : path);
