// Lines over time or over another axis, drawn by uPlot: bands, marks, zoom by dragging, a shared cursor.

import { message } from "./card.js";
import { onPoint, point } from "./cursor.js";
import { colour, fill, h } from "./dom.js";
import { shown } from "./numbers.js";
import { set } from "./state.js";
import { iso, isUtc, moment, tick } from "./time.js";

const { uPlot } = window;
const FONT = "12px system-ui, sans-serif";

/**
 * A chart in `container`. `options`: `time` (false for another axis), `unit`, `xUnit`, `maximum` (of the axis; null for that of
 * the data), `zoom(start, end)`, `pick(ms)` for a moment that is clicked on, `label` for those who do not see it.
 */
export function lineChart(container, options) {
  const { time = true, unit = "1", xUnit = "1", label = "Chart" } = options;
  const legend = h("ul", { class: "legend" });
  container.after(legend);
  container.setAttribute("role", "img");
  container.setAttribute("aria-label", label);
  let plot = null, shape = "", current = null, silent = false, pressed = null;
  if (options.pick) {
    container.addEventListener("pointerdown", (event) => { pressed = event.clientX; });
    container.addEventListener("click", (event) => {
      // A drag zooms, and ends with a click too.
      if (plot && current?.x.length && pressed !== null && Math.abs(event.clientX - pressed) < 4) options.pick(1000 * plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
    });
  }

  const width = () => Math.max(200, container.clientWidth);
  const height = () => Math.max(120, container.clientHeight);

  function marks(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const { start, end, colour: name } of current.periods ?? []) {
      const left = u.valToPos(start / 1000, "x", true), right = u.valToPos((end ?? Date.now()) / 1000, "x", true);
      ctx.fillStyle = colour(name);
      ctx.globalAlpha = 0.16;
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
      ctx.globalAlpha = 1;
    }
    const written = [];
    for (const { at, value, colour: name, text, line } of current.marks ?? []) {
      const x = u.valToPos(at / 1000, "x", true);
      ctx.strokeStyle = ctx.fillStyle = colour(name);
      ctx.lineWidth = devicePixelRatio;
      if (line) {
        ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.textAlign = "left";
        // Below those that it would lie on.
        const left = x + 3 * devicePixelRatio, right = left + ctx.measureText(text ?? "").width;
        let row = 0;
        while (written.some((one) => one.row === row && left < one.right && right > one.left)) row += 1;
        written.push({ row, left, right });
        ctx.fillText(text ?? "", left, bbox.top + (11 + 13 * row) * devicePixelRatio);
      } else {
        ctx.beginPath();
        ctx.arc(x, u.valToPos(value, "y", true), 4 * devicePixelRatio, 0, 7);
        ctx.lineWidth = 2 * devicePixelRatio;
        ctx.stroke();
      }
    }
    ctx.restore();
  }

  function told(u) {
    const { idx, left } = u.cursor;
    if (time && !silent) point(left >= 0 && idx !== null ? u.data[0][idx] * 1000 : null, follow);
    showLegend(left >= 0 ? idx : null);
  }

  function showLegend(idx) {
    const { series, x } = current;
    const place = idx ?? null;
    const at = place === null ? null : time ? moment(x[place] * 1000, { seconds: x.length > 1 && x[1] - x[0] < 60 }) : shown(x[place], xUnit);
    fill(legend, [
      ...series.filter((one) => one.legend !== false).map((one) => h("li", {}, h("i", { class: `${one.swatch ?? ""}${one.dash ? " dashed" : ""}` }), one.label, " ",
        place === null ? null : h("b", {}, one.show ? one.show(place) : shown(one.data[place], one.unit ?? unit)))),
      at === null ? null : h("li", {}, at),
    ]);
  }

  function follow(ms) {
    if (!plot || !current) return;
    silent = true;
    if (ms === null) plot.setCursor({ left: -10, top: -10 });
    else plot.setCursor({ left: plot.valToPos(ms / 1000, "x"), top: plot.bbox.height / devicePixelRatio / 2 });
    silent = false;
  }

  function build() {
    plot?.destroy();
    const ink = colour("--quiet"), grid = colour("--grid");
    const axis = { stroke: ink, font: FONT, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    plot = new uPlot({
      width: width(), height: height(), legend: { show: false }, pxAlign: 0,
      tzDate: (seconds) => (isUtc() ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
      cursor: { drag: { x: Boolean(options.zoom ?? time), y: false, setScale: false }, points: { size: 5 }, y: false },
      scales: {
        x: { time, range: (u, low, high) => current.domain ?? [low, high === low ? low + 1 : high] },
        y: { range: (u, low, high) => [0, options.maximum ?? Math.max((current.top ?? high ?? 1) * 1.05, 1e-9)] },
      },
      axes: [
        { ...axis, values: (u, splits, index, space, step) => splits.map((at) => (time ? tick(at * 1000, step * 1000) : shown(at, xUnit, 0))), space: 70 },
        // As wide as its longest number, such as "100.0 kB/s", and the same for all that are short.
        { ...axis, size: (u, texts) => Math.max(64, 16 + 6.5 * Math.max(0, ...(texts ?? []).map((one) => one.length))), values: (u, splits) => splits.map((at) => shown(at, unit, 0)) },
      ],
      series: [{}, ...current.series.map((one) => ({
        label: one.label, stroke: one.colour ? colour(one.colour) : "transparent", width: one.width ?? (one.colour ? 1.5 : 0),
        dash: one.dash, fill: one.fill ? colour(one.fill) : undefined, points: { show: one.points ?? false, size: 4, filter: one.colour && !one.bars ? alone : undefined }, spanGaps: false,
        paths: one.bars ? uPlot.paths.bars({ size: [0.95, 100], align: 1 }) : one.steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
      }))],
      bands: (current.bands ?? []).map(({ upper, lower, fill: name }) => ({ series: [upper + 1, lower + 1], fill: colour(name) })),
      hooks: {
        draw: [marks],
        setCursor: [told],
        setSelect: [(u) => {
          const { left, width: selected } = u.select;
          if (selected < 4) return;
          const [from, to] = [left, left + selected].map((at) => u.posToVal(at, "x"));
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          if (options.zoom) options.zoom(from, to);
          else set({ from: iso(from * 1000), to: iso(to * 1000), range: null });
        }],
      },
    }, [current.x, ...current.series.map((one) => one.data)], container);
  }

  const ended = onPoint(follow);
  const observer = new ResizeObserver(() => plot?.setSize({ width: width(), height: height() }));
  observer.observe(container);
  const repaint = () => current?.x.length && build();
  addEventListener("theme", repaint);

  return {
    /**
     * Shows data: `x` (epoch seconds, or numbers), `series` of `{label, data, colour, fill, swatch, dash, bars, unit}`, `bands` of
     * `{upper, lower, fill}` by place of series, `marks`, `periods`, `domain` of x; `empty` is told where there is nothing.
     */
    show(data) {
      current = data;
      container.dataset.marks = data.marks?.length ?? 0;
      message(container, data.x.length ? "" : data.empty ?? "No data in this range.");
      if (!data.x.length) {
        plot?.destroy();
        plot = null;
        fill(legend);
        return;
      }
      const now = JSON.stringify([data.series.map((one) => [one.label, one.colour, one.fill, one.bars, one.dash]), data.bands, isUtc()]);
      if (!plot || now !== shape) build();
      else plot.setData([data.x, ...data.series.map((one) => one.data)]);
      shape = now;
      showLegend(null);
    },
    fail(text) {
      message(container, text);
    },
    close() {
      ended();
      observer.disconnect();
      removeEventListener("theme", repaint);
      plot?.destroy();
    },
  };
}

/** Places of values that no line reaches, as those beside them are missing: dots. A host's first minutes are one. */
function alone(u, number, all) {
  if (all) return null;
  const values = u.data[number], found = [];
  values.forEach((one, place) => {
    if ((one ?? null) !== null && (values[place - 1] ?? null) === null && (values[place + 1] ?? null) === null) found.push(place);
  });
  return found.length ? found : null;
}

/** Columns over time with a gap (null) where no window is for more than `gap` milliseconds. */
export function withGaps(times, columns, gap) {
  const x = [], found = columns.map(() => []);
  times.forEach((at, place) => {
    if (place && at - times[place - 1] > gap) {
      x.push((times[place - 1] + gap / 2) / 1000);
      for (const column of found) column.push(null);
    }
    x.push(at / 1000);
    columns.forEach((column, number) => found[number].push(column[place]));
  });
  return { x, columns: found };
}

/**
 * Lines with times of their own over the times of all: `lines` are `{times, values, gap}`, as of `withGaps`. Between two values of a
 * line it goes on over the times of others (undefined), but not over its own gaps (null).
 */
export function together(lines) {
  const own = lines.map(({ times, values, gap }) => withGaps(times, [values], gap));
  const x = [...new Set(own.flatMap((line) => line.x))].sort((a, b) => a - b);
  const columns = own.map((line) => {
    const values = new Map(line.x.map((at, place) => [at, line.columns[0][place]]));
    return x.map((at) => values.get(at));
  });
  return { x, columns };
}

/** The usual distance of two neighbours in milliseconds, but no less than `rate`. */
export function spacing(times, rate) {
  if (times.length < 3) return rate;
  const distances = times.slice(1).map((at, place) => at - times[place]).sort((a, b) => a - b);
  // The mean of the middle half: windows of five minutes lie four and six minutes apart in buckets of two.
  const middle = distances.slice(distances.length >> 2, Math.max((distances.length >> 2) + 1, Math.ceil(0.75 * distances.length)));
  return Math.max(rate, middle.reduce((sum, one) => sum + one, 0) / middle.length);
}
