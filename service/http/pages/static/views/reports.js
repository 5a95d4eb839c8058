// Reports: made for the range on the screen, read here, downloaded in any form, or made on a schedule.

import { address, getJson } from "../api.js";
import { fill, h, notice } from "../dom.js";
import { get, set } from "../state.js";
import { iso, range } from "../time.js";

export const title = "Reports";
const FORMS = { html: ["HTML, one file with everything in it", "text/html"], md: ["Markdown", "text/markdown"], json: ["JSON", "application/json"] };

/** Opens the view in `root`. */
export function open(root) {
  const host = h("input", { name: "host", type: "search", size: "26", list: "report-hosts", placeholder: "the whole fleet", maxlength: "128" });
  const list = h("datalist", { id: "report-hosts" });
  const target = h("input", { name: "target", type: "number", min: "1", max: "100", step: "1", size: "5", value: "80" });
  const make = h("button", { class: "main" }, "Make the report");
  const form = h("form", { class: "fields", "aria-label": "Report", onsubmit: (event) => { event.preventDefault(); set({ host: host.value.trim(), target: target.value === "80" ? null : target.value, made: "1" }); show(); } },
    h("label", {}, "Machine", host), list, h("label", {}, "Target utilization in %", target), make);
  const state = h("p", { role: "status" });
  const downloads = h("p", { class: "head" });
  const reader = h("div", {});
  const schedule = h("section", { class: "card" });
  root.append(h("h1", {}, "Reports"), h("section", { class: "card" }, form, h("p", { class: "quiet" }, "What changed, who is hot, who is idle, what to do: about the range that is chosen above. A report takes some seconds."), state, downloads, reader), schedule);
  let loading = null, shownFor = "";

  const path = (form_) => {
    const { start, end } = range();
    const minute = (ms) => Math.floor(ms / 60_000) * 60_000;
    return address(get("host") ? `/reports/users/${encodeURIComponent(get("host"))}` : "/reports/fleet", { start: minute(start), end: minute(end), target: get("target") ? Number(get("target")) / 100 : null, format: form_ });
  };

  async function show() {
    loading?.abort();
    const { signal } = (loading = new AbortController());
    const address_ = path("html");
    shownFor = location.search;
    fill(state, "The report is being made …");
    fill(downloads);
    fill(reader);
    make.disabled = true;
    try {
      const answer = await fetch(address_, { signal });
      if (!answer.ok) {
        const problem = await answer.json().catch(() => ({}));
        fill(state, problem.detail ?? `The service answered ${answer.status}.`);
        return;
      }
      const page = await answer.text();
      const findings = new DOMParser().parseFromString(page, "text/html");
      fill(state, `Made: ${findings.title}.`);
      fill(downloads, h("a", { href: address_, target: "_blank", rel: "noopener" }, "Read it in a tab of its own"),
        Object.entries(FORMS).map(([form_, [text]]) => h("a", { href: path(form_), download: `loadlens-report.${form_}` }, `Download ${text}`)));
      summary(findings);
    } catch (error) {
      if (error.name !== "AbortError") fill(state, "The report could not be made: the service cannot be reached.");
    } finally {
      make.disabled = false;
    }
  }

  /** The findings of a report, as texts: its page is one of its own, with a policy of its own. */
  async function summary() {
    const document_ = await getJson(path("json")).catch((error) => notice(error.message, { forMs: 6000 }));
    if (!document_) return;
    fill(reader, h("h2", {}, document_.title), h("ul", {}, (document_.findings ?? []).map((one) => h("li", {}, h("span", { class: `badge ${one.level === "act" ? "hot" : "good"}` }, one.level ?? ""), one.text ?? one.what ?? "", one.advice ? h("span", { class: "quiet" }, ` ${one.advice}`) : null))));
  }

  async function refresh({ quiet = false } = {}) {
    const { start, end, relative } = range();
    if (document.activeElement !== host) host.value = get("host");
    target.value = get("target", "80");
    if (!list.options.length) getJson("/api/v1/users").then(({ users }) => fill(list, users.map((one) => h("option", { value: one.user_id })))).catch(() => {});
    const command = `loadlens-analytics report${get("host") ? ` --user '${get("host").replaceAll("'", "'\\''")}'` : ""} ${relative ? `--last ${relative}` : `--start ${iso(start)} --end ${iso(end)}`} --url ${location.origin} --output report.html`;
    fill(schedule, h("h2", {}, "On a schedule"), h("p", {}, "Any scheduler can make it; this line of a crontab does so each Monday at 7:"), h("pre", { tabindex: "0" }, `0 7 * * 1  ${command}`),
      h("p", { class: "quiet" }, "docs/reports.md has the same for systemd, and PDF and PNG."));
    if (get("made") && !quiet && shownFor !== location.search) await show();
  }

  return { refresh, close: () => loading?.abort() };
}
