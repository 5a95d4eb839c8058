"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("report-figures").textContent);
  const templates = JSON.parse(document.getElementById("report-templates").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 700px)");
  const touch = matchMedia("(hover: none)");
  const CONFIG = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "sendChartToCloud"],
    plotlyServerURL: "", // nothing is uploaded anywhere
    displayModeBar: narrow.matches || touch.matches ? false : "hover", // it would lie over legends
  };
  const PAPER_PX = 690; // what fits between the margins of A4
  const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const KEY = "loadlens-theme";

  const shown = () => {
    const theme = root.dataset.theme;
    return theme === "auto" ? (system.matches ? "dark" : "light") : theme;
  };

  const layoutOf = (figure) => {
    const layout = { ...figure.layout, template: templates[shown()] };
    return narrow.matches ? narrowed(layout) : layout;
  };

  // Names of hosts stand above their row instead of beside it, where they would leave no room.
  const narrowed = (layout) => {
    const small = { ...layout, font: { size: 11 } };
    const { tickvals, ticktext, rangebreaks } = layout.xaxis;
    if (tickvals?.length === 8 && !rangebreaks) {
      const every = (_, place) => place % 2 === 0;
      small.xaxis = { ...layout.xaxis, tickvals: tickvals.filter(every), ticktext: ticktext.filter(every), tickangle: 0 };
    }
    for (const [axis, change] of Object.entries(layout.meta?.narrow ?? {})) small[axis] = { ...layout[axis], ...change };
    if (layout.meta?.rows) {
      small.yaxis = { ...layout.yaxis, showticklabels: false, ticks: "", title: { text: "" } };
      small.annotations = layout.yaxis.categoryarray.map((name) => ({
        text: name, x: 0, xref: "paper", xanchor: "left", y: name, yshift: 13, showarrow: false, font: { size: 10 },
      }));
      small.height = layout.height * 1.6;
    }
    return small;
  };

  // One after the other, each in a task of its own: the page can be read and scrolled meanwhile.
  const draw = async () => {
    for (const plot of plots) {
      const figure = figures[plot.dataset.figure];
      try {
        await Plotly.newPlot(plot, figure.data, layoutOf(figure), CONFIG);
        plot.dataset.drawn = "";
      } catch (error) {
        plot.className = "missing";
        plot.textContent = "This figure cannot be drawn here.";
        console.error(error);
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
    root.dataset.drawn = document.querySelectorAll("[data-drawn]").length;
  };

  const redraw = (change) => {
    for (const plot of document.querySelectorAll("[data-figure][data-drawn]")) Plotly.relayout(plot, change);
  };

  const remembered = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };

  const remember = (theme) => {
    try { localStorage.setItem(KEY, theme); } catch { /* a file may not be allowed to keep anything */ }
  };

  const setUpTheme = () => {
    const button = document.getElementById("theme");
    const choose = (theme) => {
      root.dataset.theme = theme;
      button.textContent = THEMES[theme];
      redraw({ template: templates[shown()] });
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      const names = Object.keys(THEMES);
      const next = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
      choose(next);
      remember(next);
    });
    system.addEventListener("change", () => choose(root.dataset.theme));
    choose(root.dataset.theme === "auto" && Object.hasOwn(THEMES, remembered()) ? remembered() : root.dataset.theme);
  };

  // Paper is white and narrower than the window.
  const setUpPrint = () => {
    addEventListener("beforeprint", () => redraw({ template: templates.light, width: PAPER_PX }));
    addEventListener("afterprint", () => redraw({ template: templates[shown()], width: null, autosize: true }));
  };

  const keyOf = (cell) => {
    if (cell.dataset.v === undefined) return cell.textContent;
    return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  };

  // What has no value stays last, whichever way the others go.
  const compare = (one, other, way) => {
    if (one === null || other === null) return (one === null) - (other === null);
    if (typeof one === "number") return way * (one - other);
    return way * one.localeCompare(other, "en", { numeric: true });
  };

  const sort = (table, header) => {
    const numbers = header.classList.contains("right");
    const now = header.getAttribute("aria-sort");
    const next = now === "descending" ? "ascending" : now === "ascending" ? "descending" : numbers ? "descending" : "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", next);
    const way = next === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row.cells[header.cellIndex]), row]);
    rows.sort((one, other) => compare(one[0], other[0], way));
    body.append(...rows.map(([, row]) => row));
  };

  const setUpTables = () => {
    for (const table of document.querySelectorAll("table")) {
      for (const header of table.querySelectorAll("th")) {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = header.textContent;
        button.title = "Sort by this column";
        button.addEventListener("click", () => sort(table, header));
        header.replaceChildren(button);
      }
      if (table.closest("details")) setUpSearch(table);
    }
  };

  const setUpSearch = (table) => {
    const input = document.createElement("input");
    input.type = "search";
    const label = document.createElement("label");
    label.className = "find";
    label.append("Find", input);
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of table.tBodies[0].rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    });
    table.parentElement.before(label);
  };

  setUpTheme();
  setUpTables();
  setUpPrint();
  draw();
})();
