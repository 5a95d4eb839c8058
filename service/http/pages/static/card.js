// The frame of a chart: title, data as CSV, its query as curl and as Python, and a table for those who do not see it.

import { curl, saveCsv, saveRows } from "./api.js";
import { fill, h, notice, table } from "./dom.js";
import { plural } from "./numbers.js";

const MOST_ROWS = 1000;

/**
 * A card. `source()` answers `{path, accept, body, also, python, csv, file}` of what is shown: `body` where it is posted, `also` the path of a second question, `csv`
 * is false where CSV is made of the table's rows. `rows()` answers `{columns: [{label, number}], rows, of}` with plain texts and numbers, `of` where there are more.
 */
export function card(title, { help = "", source = null, rows = null, level = "h2" } = {}) {
  const body = h("div", {});
  const extra = h("div", {});
  let open = null;
  const heading = h(level, {}, title);

  const show = (what, content) => {
    open = open === what ? null : what;
    for (const button of tools.children) button.setAttribute("aria-expanded", String(button.dataset.tool === open));
    fill(extra, open ? content() : []);
  };
  const query = (label, text) => {
    navigator.clipboard?.writeText(text).then(() => notice(`${label} copied.`, { forMs: 2500 }), () => {});
    return h("div", { class: "query" }, h("pre", { tabindex: "0", "data-query": label }, text));
  };
  const csv = async () => {
    const { path, csv: ofService = true, file = "loadlens.csv" } = source?.() ?? { csv: false };
    try {
      if (path && ofService) await saveCsv(path, file);
      else {
        const { columns, rows: found } = rows();
        saveRows(columns.map((column) => column.label), found, file);
      }
    } catch (error) {
      notice(error.message, { forMs: 8000 });
    }
  };
  const tool = (name, label, act) => h("button", { type: "button", "data-tool": name, "aria-expanded": name === "csv" ? null : "false", onclick: act }, label);
  const tools = h("div", { class: "tools", role: "group", "aria-label": `Data of ${title}` },
    rows || source ? tool("csv", "CSV", csv) : null,
    source ? tool("curl", "curl", () => show("curl", () => query("curl", lines(source())))) : null,
    source ? tool("python", "Python", () => show("python", () => query("Python", source().python))) : null,
    rows ? tool("table", "Table", () => show("table", dataTable)) : null);

  function dataTable() {
    const { columns, rows: found, of = found.length } = rows(), told = Math.min(found.length, MOST_ROWS);
    const note = of > told ? `The first ${told} of ${of} rows; CSV has all.` : `${plural(told, "row")}.`;
    return h("div", { class: "data" }, table(`${title}. ${note}`, columns, found.slice(0, MOST_ROWS)));
  }
  const node = h("section", { class: "card" },
    h("header", {}, heading, help ? h("span", { class: "quiet" }, help) : null, tools), body, extra);
  return {
    node,
    body,
    heading,
    /** Shows the table or query that is open anew, for new data. */
    refresh() {
      if (open === "table") fill(extra, dataTable());
      else if (open && source) extra.querySelector("pre").textContent = open === "curl" ? lines(source()) : source().python;
    },
  };
}

/** A question as lines for a shell, one for each. */
const lines = (source) => [curl(source), source.also ? curl({ ...source, path: source.also }) : null].filter(Boolean).join("\n");

/** A message over a plot, in place of data; an empty one takes it away. */
export function message(container, text) {
  let node = container.querySelector(":scope > .message");
  if (!text) {
    node?.remove();
    return;
  }
  if (!node) {
    node = h("div", { class: "message", role: "status" });
    container.append(node);
  }
  // One child, so that words and links between them stand in one line.
  fill(node, h("p", {}, text));
}
