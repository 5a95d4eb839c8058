// The keyboard: each key does what a control of the page does; `?` lists them.

import { fill, h } from "./dom.js";

const SEQUENCE_MS = 1200;

/** Listens for keys; `acts` are what they do. */
export function keys(acts) {
  const list = [
    ["?", "Show this list", () => help()],
    ["g f", "Go to the fleet", () => acts.go("/")],
    ["g c", "Go to comparisons", () => acts.go("/compare")],
    ["g l", "Go to alerts", () => acts.go("/alerts")],
    ["g a", "Go to agents", () => acts.go("/agents")],
    ["g r", "Go to reports", () => acts.go("/reports")],
    ["/", "Search hosts", acts.search],
    ["←", "Earlier, by half the range", () => acts.shift(-0.5), "ArrowLeft"],
    ["→", "Later, by half the range", () => acts.shift(0.5), "ArrowRight"],
    ["-", "Zoom out", () => acts.zoom(2)],
    ["+", "Zoom in", () => acts.zoom(0.5), "+", "="],
    ["t", "Choose dates", acts.toggleDates],
    ["l", "Follow new data, or stop", acts.toggleLive],
    ["u", "Local time or UTC", acts.toggleZone],
    ["w", "The same time a week earlier beside it, or not (compare and host)", () => dispatchEvent(new Event("overlay"))],
    ["r", "Load anew", acts.refresh],
    ["d", "Light or dark", acts.toggleTheme],
  ];
  const dialog = document.getElementById("keys");
  const help = () => {
    if (dialog.open) return dialog.close();
    fill(dialog, h("h2", { id: "keys-title" }, "Keys"),
      h("dl", { class: "pairs" }, list.map(([key, text]) => [h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, text)])),
      h("p", { class: "quiet" }, "In a heat map: arrows move (with Shift ten at a time), Enter opens the host, Space selects it. Drag along time in any chart to zoom; the browser's Back returns."),
      h("form", { method: "dialog" }, h("button", {}, "Close")));
    return dialog.showModal();
  };
  document.getElementById("help").addEventListener("click", help);

  let first = "", since = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, select, textarea, dialog, [contenteditable], iframe")) {
      if (event.key === "Escape" && event.target.matches("input")) event.target.blur();
      return;
    }
    const sequence = first && event.timeStamp - since < SEQUENCE_MS ? `${first} ${event.key}` : event.key;
    first = event.key === "g" && sequence === "g" ? "g" : "";
    since = event.timeStamp; // when it was pressed: the page may have been busy since
    const found = list.find(([key, , , ...names]) => key === sequence || names.includes(sequence));
    if (!found) return;
    event.preventDefault();
    found[2]();
  });
}
