// Elements from data. Texts only ever become text nodes: no name of a host is read as markup.

/** An element; `attributes` may hold listeners (`onclick`), `class`, booleans and data attributes. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    // The attribute of an input is what a form goes back to when it is reset.
    else if (name === "value" && tag !== "input") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Replaces what a node holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The name of a host: isolated, so that its direction of writing changes nothing around it. */
export const name = (text) => h("bdi", {}, text);

/**
 * A table with a caption. `columns` are `{label, number, wide, key}`, `rows` arrays of texts or nodes.
 * `sort` is `{key, descending, by(key)}` where columns with a key can be sorted by.
 */
export function table(caption, columns, rows, { sort = null, captionHidden = false } = {}) {
  const heads = columns.map((column) => {
    const sorted = sort && column.key && sort.key === column.key;
    const label = sort && column.key
      ? h("button", { type: "button", "data-sort": column.key, onclick: () => sort.by(column.key) }, column.label)
      : column.label;
    return h("th", {
      scope: "col", class: column.number ? "number" : column.wide ? "wide" : null,
      "aria-sort": sorted ? (sort.descending ? "descending" : "ascending") : null,
    }, label);
  });
  const kind = (column) => (column.number ? "number" : column.wide ? "wide" : column.name ? "name" : null);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: captionHidden ? "hidden" : null }, caption),
      h("thead", {}, h("tr", {}, heads)),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, place) => h("td", { class: kind(columns[place]) }, cell ?? "")))))));
}

/** A command as a person types it: it breaks between words, and not at the hyphens of its options. */
export const command = (text) => h("code", {}, text.split(" ").map((word, place) => [place ? " " : null, h("span", {}, word)]));

/** Badges for words such as the states of a host. */
export const badges = (words) => words.flatMap((word, place) => [place ? " " : null, h("span", { class: `badge ${word}` }, word)]);

/** The value of a CSS variable, for what is drawn on a canvas. */
export const colour = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();

let noticeTimer = 0;
/** Tells something at the top of the page; an empty text takes it away. */
export function notice(text, { forMs = 0 } = {}) {
  const node = document.getElementById("notice");
  clearTimeout(noticeTimer);
  node.hidden = !text;
  fill(node, text);
  if (text && forMs) noticeTimer = setTimeout(() => notice(""), forMs);
}
