// Reports: made for the range on the screen, read here, downloaded in any form, or made on a schedule.

import { address, getJson, getNames, segment } from "../api.js";
import { BASE, SERVICE } from "../base.js";
import { fill, h } from "../dom.js";
import { get, set } from "../state.js";
import { range } from "../time.js";
import { schedules } from "./schedules.js";

export const title = "Reports";
const BADGES = { act: "hot", watch: "pending", note: "good" };
const FORMS = { html: "HTML, one file with everything in it", md: "Markdown", json: "JSON" };

/** Opens the view in `root`. */
export function open(root) {
  const host = h("input", { name: "host", type: "search", size: "26", list: "report-hosts", placeholder: "the whole fleet", maxlength: "128" });
  const list = h("datalist", { id: "report-hosts" });
  const target = h("input", { name: "target", type: "number", min: "1", max: "100", step: "1", size: "5", value: "80" });
  const make = h("button", { class: "main" }, "Make the report");
  const form = h("form", { class: "fields", "aria-label": "Report", onsubmit: (event) => { event.preventDefault(); set({ host: host.value.trim(), target: target.value === "80" ? null : target.value, made: "1" }); show(); } },
    h("label", {}, "Host", host), list, h("label", {}, "Target utilization in %", target), make);
  const state = h("p", { role: "status" });
  const downloads = h("p", { class: "head" });
  const reader = h("div", {});
  const planned = schedules(list.id, () => get("host"));
  const command = h("section", { class: "card", hidden: true });
  root.append(h("h1", {}, "Reports"), h("section", { class: "card" }, form, h("p", { class: "quiet" }, "What changed, who is hot, who is idle, what to do: about the range that is chosen above. A report takes some seconds."), state, downloads, reader), planned.node, command);
  let loading = null, shownFor = "";

  const path = (form_) => {
    const { start, end } = range();
    const minute = (ms) => Math.floor(ms / 60_000) * 60_000;
    return address(get("host") ? `/reports/users/${segment(get("host"))}` : "/reports/fleet", { start: minute(start), end: minute(end), target: get("target") ? Number(get("target")) / 100 : null, format: form_ });
  };

  async function show() {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    shownFor = location.search;
    fill(state, "The report is being made …");
    fill(downloads);
    fill(reader);
    make.disabled = true;
    try {
      const report = await getJson(path("json"), signal);
      fill(state, "The report is made.");
      fill(downloads, h("a", { href: BASE + path("html"), target: "_blank", rel: "noopener" }, "Read all of it, with its figures"),
        Object.entries(FORMS).map(([form_, text]) => h("a", { href: BASE + path(form_), download: `loadlens-report.${form_}` }, `Download ${text}`)));
      fill(reader, h("h2", {}, report.title), h("p", { class: "quiet" }, report.subject),
        h("ul", { class: "plain" }, report.findings.map((one) => h("li", {}, h("span", { class: `badge ${BADGES[one.severity] ?? ""}` }, one.severity), one.sentence, " ", h("span", { class: "quiet" }, one.action)))));
    } catch (error) {
      if (error.name !== "AbortError") fill(state, error.message);
    } finally {
      make.disabled = false;
    }
  }

  async function refresh({ quiet = false } = {}) {
    if (document.activeElement !== host) host.value = get("host");
    target.value = get("target", "80");
    if (!list.options.length) getNames().then(({ names }) => fill(list, names.map((one) => h("option", { value: one })))).catch(() => {});
    // A line for each Monday is of the week before, whatever range is looked at; a percent sign ends a line of a crontab.
    const line = `loadlens-analytics report ${get("host") ? `user '${get("host").replaceAll("'", "'\\''")}'` : "fleet"} --last 7d --url ${SERVICE} --out report.html`.replaceAll("%", "\\%");
    await planned.refresh();
    command.hidden = false;
    fill(command, h("h2", {}, "Elsewhere"), h("p", {}, "Any scheduler can make it, as PDF too; this line of a crontab does so each Monday at 7, of the week before:"), h("pre", { tabindex: "0" }, `0 7 * * 1  ${line}`),
      h("p", { class: "quiet" }, "docs/reports.md has the same for systemd, and PDF and PNG."));
    if (get("made") && !quiet && shownFor !== location.search) await show();
  }

  return { refresh, close: () => loading?.abort() };
}
