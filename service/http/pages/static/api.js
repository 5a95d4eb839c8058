// Asking the service: one place for addresses, errors, and queries as a person would write them.

import { ASKS_FOR_TOKEN, BASE, SERVICE } from "./base.js";
import { iso } from "./time.js";

/** What went wrong, in words that say what to do. */
export class ServiceError extends Error {
  constructor(message, status = 0, errors = []) {
    super(message);
    this.status = status;
    this.errors = errors;
  }
}

const WORDS = {
  0: "The service cannot be reached. Is it running? The page tries again by itself.",
  401: "You are not signed in any more. Load the page anew to sign in.",
  403: "The token that you have signed in with is not good for this.",
};

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(BASE + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError(WORDS[0]);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  const details = (problem.errors ?? []).map((one) => `${one.pointer.replace(/^\//, "")}: ${one.detail}`);
  throw new ServiceError(WORDS[answer.status] ?? [problem.detail ?? `The service answered ${answer.status}.`, ...details].join(" "), answer.status, problem.errors);
}

/** The address of a question; moments are epoch milliseconds, lists are given several times. */
export function address(path, parameters = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") search.append(name, name === "start" || name === "end" ? iso(one) : one);
    }
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

export const getJson = async (path, signal) => (await ask(path, { signal, headers: { Accept: "application/json" } })).json();

/** Changes something; answers the document, if there is one. */
export async function send(method, path, body, headers = {}) {
  const answer = await ask(path, {
    method,
    headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), "X-Loadlens-Actor": "dashboard", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return answer.status === 204 || answer.status === 202 ? null : answer.json();
}

/** A document with its ETag. */
export async function getTagged(path, signal) {
  const answer = await ask(path, { signal });
  return { document: await answer.json(), tag: answer.headers.get("ETag") };
}

/**
 * The fleet's picture: its header, a byte for each pixel in `pixels`, and `tables`, a promise of what is said besides, which comes
 * later.
 */
export async function getPicture(path, signal) {
  const cut = (error) => { throw error.name === "AbortError" ? error : new ServiceError(WORDS[0]); };
  const answer = await ask(path, { signal });
  // Chromium counts what is read to its end by a reader as broken off: all of it is read by a copy, its beginning as it comes.
  const whole = answer.clone().arrayBuffer().catch(cut);
  whole.catch(() => {}); // it is waited for later
  const reader = answer.body.getReader();
  let bytes = new Uint8Array(0);
  const read = async (length) => {
    while (bytes.length < length) {
      const { done, value } = await reader.read().catch(cut);
      if (done) throw new ServiceError(WORDS[0]);
      const more = new Uint8Array(bytes.length + value.length);
      more.set(bytes);
      more.set(value, bytes.length);
      bytes = more;
    }
  };
  const text = (part) => JSON.parse(new TextDecoder().decode(part));
  await read(4);
  const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
  await read(start);
  const header = text(bytes.subarray(4, start)), end = start + header.rows * header.columns;
  await read(end);
  reader.cancel().catch(() => {});
  const tables = whole.then((data) => text(new Uint8Array(data, end)));
  tables.catch(() => {});
  return { header: { ...header, pixels: bytes.subarray(start, end) }, tables };
}

/** The pattern, as the service reads them, that stands for exactly this text. */
export const exactly = (text) => text.replace(/[[*?]/g, (one) => `[${one}]`);

/** Whether a browser can ask about a host: it takes these two for steps in a path, whatever the escape. */
export const hasAddress = (id) => id !== "." && id !== "..";

/** A text as a segment of a path; throws where it has none: `agents/../settings` would be the whole fleet's. */
export function segment(id) {
  if (!hasAddress(id)) throw new ServiceError(`A browser cannot ask about a host that is called ${id}; loadlens-analytics and loadlens-service agents can.`);
  return encodeURIComponent(id);
}

/** What is known of a host, or undefined: the first behind the last name that comes before it. */
export async function getUser(id, signal) {
  const characters = [...id], last = characters.pop().codePointAt(0);
  const before = characters.join("") + String.fromCodePoint(last - 1, 0x10ffff);
  const { users } = await getJson(address("/api/v1/users", { after: before, limit: 1 }), signal);
  return users.find((one) => one.user_id === id);
}

const MOST_NAMES = 1000;

/** The first names of hosts, or of those with a label, to choose from, and whether they are all there are. */
export async function getNames(signal, label = "") {
  const { users, next } = await getJson(address("/api/v1/users", { label, limit: MOST_NAMES }), signal);
  return { names: users.map((one) => one.user_id), all: next === null };
}

/** Those of some hosts that have a label. */
export async function getLabelled(names, label, signal) {
  const { users } = await getJson(address("/api/v1/users", { user: names.map(exactly), label }), signal);
  return users.map((one) => one.user_id);
}

/** How many of the first hosts have each value of each label, to choose from. */
export async function getLabels(signal) {
  const { users } = await getJson(address("/api/v1/users", { limit: MOST_NAMES }), signal);
  const known = {};
  for (const [key, value] of users.flatMap((one) => Object.entries(one.labels))) {
    known[key] ??= {};
    known[key][value] = (known[key][value] ?? 0) + 1;
  }
  return known;
}

/** Windows with their `time` in epoch milliseconds. */
export async function getWindows(path, signal) {
  const { windows } = await getJson(path, signal);
  for (const one of windows) one.time = Date.parse(one.time);
  return windows;
}

/** Saves what a question answers as CSV. */
export async function saveCsv(path, file) {
  save(await (await ask(path, { headers: { Accept: "text/csv" } })).blob(), file);
}

/** Saves rows as CSV. */
export function saveRows(columns, rows, file) {
  // A name must not be a formula to a spreadsheet.
  const text = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? ""));
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const cell = (value) => quoted(text(value));
  save(new Blob([[columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")], { type: "text/csv" }), file);
}

function save(blob, file) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = file.replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A question as a line for a shell; with a `body` it is posted. */
export function curl({ path, accept = null, body = null }) {
  const posted = body ? `--header 'Content-Type: application/json' --data ${quoted(JSON.stringify(body))} ` : "";
  // Shells put the token in where the line is run: it is not written down.
  const token = ASKS_FOR_TOKEN ? '--header "Authorization: Bearer $LOADLENS_TOKEN" ' : "";
  return `curl ${token}${accept ? `--header ${quoted(`Accept: ${accept}`)} ` : ""}${posted}${quoted(SERVICE + path)}`;
}

/** A question as Python: a method of the client with its arguments. */
export function python(method, positional, named) {
  const value = (one) => (typeof one === "boolean" ? (one ? "True" : "False") : JSON.stringify(one));
  const list = [...positional.map(value), ...Object.entries(named).filter(([, one]) => one !== null && one !== undefined)
    .map(([key, one]) => `${key}=${value(key === "start" || key === "end" ? iso(one) : one)}`)];
  const [more, token] = ASKS_FOR_TOKEN ? ["import os\n\n", ', os.environ["LOADLENS_TOKEN"]'] : ["", ""];
  return `${more}import analytics\n\nwith analytics.connect(${JSON.stringify(SERVICE)}${token}) as service:\n    frame = service.${method}(${list.join(", ")})\nprint(frame)`;
}
