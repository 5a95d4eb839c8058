// A heat map: a byte a cell, painted at once as an image and scaled by the browser, so that its cost is that of its pixels.

import { message } from "./card.js";
import { onPoint, point } from "./cursor.js";
import { colour, fill, h } from "./dom.js";
import { tick, ticks } from "./time.js";

const LIGHT = ["#f4f7fa", "#d5e6ee", "#f7d9a0", "#f3a65a", "#de6140", "#a62347", "#5b0f52"];
const DARK = ["#20262d", "#3a2157", "#6b1f6f", "#a8325e", "#df5a35", "#f6a822", "#fcf6a8"];
const AXIS = 22;

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

/** The colours of levels 0 to 255 as 32-bit pixels; 0 is no data. */
function palette() {
  const stops = (isDark() ? DARK : LIGHT).map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const pixels = new Uint32Array(256);
  for (let level = 1; level < 256; level += 1) {
    const place = ((level - 1) / 254) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    const [r, g, b] = stops[low].map((one, channel) => Math.round(one + (stops[low + 1][channel] - one) * (place - low)));
    pixels[level] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  const missing = colour("--missing");
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(missing.slice(at, at + 2), 16));
  pixels[0] = (255 << 24) | (b << 16) | (g << 8) | r;
  return pixels;
}

/** A strip of the palette with its ends named. */
export function scaleStrip(low, high) {
  const canvas = h("canvas", { width: "254", height: "1", "aria-hidden": "true" });
  const paint = () => {
    const context = canvas.getContext("2d"), image = context.createImageData(254, 1);
    new Uint32Array(image.data.buffer).set(palette().subarray(2, 256));
    context.putImageData(image, 0, 0);
  };
  paint();
  addEventListener("theme", paint);
  const top = h("span", {}, high);
  return { node: h("span", { class: "scale" }, low, canvas, top, " · ", h("i", {}, "grey"), ": no data"), top };
}

/**
 * A heat map in `container`. `options`: `label`, `time` (false for a grid without times), `describe(row, column)` for the tip,
 * `pick(row, event)`, `zoom(start, end)`, `zoomRows(first, last)`, `xLabels` and `yLabels` for a grid.
 */
export function heatMap(container, options) {
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": options.label, "aria-roledescription": "heat map" });
  const vertical = h("div", { class: "cross", hidden: true }), horizontal = h("div", { class: "cross", hidden: true });
  const drag = h("div", { class: "drag", hidden: true }), tip = h("div", { class: "tip", hidden: true });
  const spoken = h("div", { class: "hidden", "aria-live": "polite" });
  container.append(canvas, vertical, horizontal, drag, tip, spoken);
  const image = document.createElement("canvas");
  let data = null, at = null, start = null, picked = [], marks = [];
  const left = options.yLabels ? 64 : 0;

  const width = () => container.clientWidth - left;
  const height = () => container.clientHeight - AXIS;

  function paint() {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(container.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(container.clientHeight * ratio));
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.clearRect(0, 0, container.clientWidth, container.clientHeight);
    // A card that is hidden has no size.
    if (!data?.rows || width() <= 0 || height() <= 0) return;
    image.width = data.columns;
    image.height = data.rows;
    const plain = image.getContext("2d"), picture = plain.createImageData(data.columns, data.rows);
    const colours = palette(), out = new Uint32Array(picture.data.buffer);
    for (let place = 0; place < out.length; place += 1) out[place] = colours[data.pixels[place]];
    plain.putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(image, left, 0, width(), height());
    axis(context);
    drawMarks(context);
    showPicked();
  }

  /** What people said of moments: a line each, and its words above, below those that they would lie on. */
  function drawMarks(context) {
    const end = data.start + data.rate * data.columns, written = [];
    context.save();
    context.font = "11px system-ui, sans-serif";
    for (const { at: moment_, text } of marks) {
      if (moment_ < data.start || moment_ >= end) continue;
      const x = left + ((moment_ - data.start) / (end - data.start)) * width(), wide = context.measureText(text).width;
      const begin = Math.min(x + 3, left + width() - wide - 3);
      let row = 0;
      while (written.some((one) => one.row === row && begin < one.end && begin + wide > one.begin)) row += 1;
      written.push({ row, begin, end: begin + wide });
      context.fillStyle = colour("--card");
      context.globalAlpha = 0.85;
      context.fillRect(begin - 2, 2 + 14 * row, wide + 4, 13);
      context.globalAlpha = 1;
      context.strokeStyle = context.fillStyle = colour("--accent");
      context.setLineDash([4, 3]);
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, height());
      context.stroke();
      context.fillText(text, begin, 12 + 14 * row);
    }
    context.restore();
    container.dataset.marks = written.length;
  }

  function axis(context) {
    context.fillStyle = colour("--quiet");
    context.font = "12px system-ui, sans-serif";
    if (options.time === false) {
      (options.xLabels ?? []).forEach(([column, text]) => context.fillText(text, left + (column / data.columns) * width(), height() + 15));
    } else {
      const end = data.start + data.rate * data.columns;
      const { ticks: found, step } = ticks(data.start, end, Math.max(2, Math.floor(width() / 80)));
      for (const one of found) {
        const x = left + ((one - data.start) / (end - data.start)) * width();
        context.fillRect(x, height(), 1, 4);
        context.fillText(tick(one, step), Math.min(x + 3, left + width() - 44), height() + 15);
      }
    }
    if (!options.yLabels) return;
    const every = Math.ceil((14 * data.rows) / height());
    for (let row = 0; row < data.rows; row += every) {
      context.fillText(options.yLabels(row), 2, ((row + 0.5) / data.rows) * height() + 4, left - 6);
    }
  }

  const columnAt = (x) => Math.min(data.columns - 1, Math.max(0, Math.floor(((x - left) / width()) * data.columns)));
  const rowAt = (y) => Math.min(data.rows - 1, Math.max(0, Math.floor((y / height()) * data.rows)));
  const timeAt = (column) => data.start + data.rate * column;

  function place(row, column, { tell = true } = {}) {
    at = { row, column };
    const x = left + ((column + 0.5) / data.columns) * width(), y = row === null ? null : ((row + 0.5) / data.rows) * height();
    Object.assign(vertical.style, { left: `${x}px`, top: "0", width: "1px", height: `${height()}px` });
    vertical.hidden = false;
    horizontal.hidden = y === null;
    tip.hidden = y === null;
    if (y === null) return;
    Object.assign(horizontal.style, { left: `${left}px`, top: `${y}px`, width: `${width()}px`, height: "1px" });
    fill(tip, options.describe(row, column));
    const wide = tip.offsetWidth;
    Object.assign(tip.style, { left: `${x + 14 + wide > container.clientWidth ? Math.max(0, x - wide - 14) : x + 14}px`, top: `${Math.max(0, Math.min(y + 12, container.clientHeight - tip.offsetHeight - 4))}px` });
    if (tell && options.time !== false) point(timeAt(column + 0.5), follow);
  }

  function leave() {
    at = null;
    for (const node of [vertical, horizontal, tip]) node.hidden = true;
    if (options.time !== false) point(null, follow);
  }

  function follow(ms) {
    if (!data?.rows) return;
    const column = ms === null ? -1 : Math.floor((ms - data.start) / data.rate);
    if (column < 0 || column >= data.columns) {
      for (const node of [vertical, horizontal, tip]) node.hidden = true;
    } else place(null, column, { tell: false });
  }

  const inside = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!data?.rows || event.button) return;
    start = inside(event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!data?.rows) return;
    const [x, y] = inside(event);
    place(rowAt(y), columnAt(x));
    if (!start) return;
    const alongTime = Math.abs(x - start[0]) >= Math.abs(y - start[1]);
    const far = Math.max(Math.abs(x - start[0]), Math.abs(y - start[1])) > 5;
    drag.hidden = !far || !(alongTime ? options.zoom : options.zoomRows);
    if (alongTime) Object.assign(drag.style, { left: `${Math.min(x, start[0])}px`, width: `${Math.abs(x - start[0])}px`, top: "0", height: `${height()}px` });
    else Object.assign(drag.style, { left: `${left}px`, width: `${width()}px`, top: `${Math.min(y, start[1])}px`, height: `${Math.abs(y - start[1])}px` });
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!start || !data?.rows) return;
    const from = start, [x, y] = inside(event);
    start = null;
    drag.hidden = true;
    if (Math.abs(x - from[0]) > 5 && Math.abs(x - from[0]) >= Math.abs(y - from[1])) {
      options.zoom?.(timeAt(columnAt(Math.min(x, from[0]))), timeAt(columnAt(Math.max(x, from[0])) + 1));
    } else if (Math.abs(y - from[1]) > 5) {
      options.zoomRows?.(rowAt(Math.min(y, from[1])), rowAt(Math.max(y, from[1])));
    } else options.pick?.(rowAt(y), event);
  });
  canvas.addEventListener("pointercancel", () => { start = null; drag.hidden = true; });
  canvas.addEventListener("pointerleave", () => { if (!start) leave(); });
  canvas.addEventListener("blur", leave);
  canvas.addEventListener("keydown", (event) => {
    if (!data?.rows || event.altKey || event.metaKey) return;
    const { row, column } = at?.row === null || !at ? { row: 0, column: data.columns - 1 } : at;
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] };
    if (moves[event.key]) {
      const [down, right] = at && at.row !== null ? moves[event.key] : [0, 0];
      place(Math.min(data.rows - 1, Math.max(0, row + down)), Math.min(data.columns - 1, Math.max(0, column + right)));
      fill(spoken, tip.textContent);
    } else if (event.key === "Enter" || event.key === " ") options.pick?.(row, event);
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function showPicked() {
    for (const node of container.querySelectorAll(":scope > .picked")) node.remove();
    for (const row of picked) {
      const node = h("div", { class: "picked" });
      Object.assign(node.style, { left: `${left}px`, width: `${width()}px`, top: `${(row / data.rows) * height() - 1}px`, height: `${Math.max(3, height() / data.rows + 2)}px` });
      container.append(node);
    }
  }

  const observer = new ResizeObserver(paint);
  observer.observe(container);
  const ended = onPoint(follow);
  addEventListener("theme", paint);

  return {
    /** Shows `{pixels, rows, columns, start, rate}`; `rowsPicked` are framed. */
    show(next, { rowsPicked = [], empty = "No data in this range." } = {}) {
      data = next;
      picked = rowsPicked;
      message(container, data.rows ? "" : empty);
      paint();
    },
    /** Marks moments, `{at, text}`, once they are known. */
    mark(next) {
      if (JSON.stringify(next) === JSON.stringify(marks)) return;
      marks = next;
      paint();
    },
    fail(text) {
      message(container, text);
    },
    close() {
      ended();
      observer.disconnect();
      removeEventListener("theme", paint);
    },
  };
}

/** Levels of values for `show`: 0 for none, 1 for 0, 255 for `highest`. */
export function levels(values, highest) {
  return Uint8Array.from(values, (value) => (value === null || value === undefined || Number.isNaN(value) ? 0 : 1 + Math.round(254 * Math.min(Math.max(value / highest, 0), 1))));
}
