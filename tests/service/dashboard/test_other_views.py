"""Comparisons, alerts, agents and reports, in a real browser."""

import contextlib
import csv
import io
import json
import re
import shlex
import sqlite3
import subprocess
import time

import httpx
import pytest
from playwright.sync_api import Browser, Route, expect

from tests.support.dashboard_fleet import HOT, IDLE, SILENT, WEB, report
from tests.support.dashboards import opened
from tests.support.running import RunningService, wait_until
from tests.support.steering import SteeredAgent

pytestmark = pytest.mark.server

SIDE = "Side by side"


def test_hosts_stand_side_by_side_and_are_added_by_name(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/compare") as seen:
        assert "Add hosts by name" in seen.card(SIDE).inner_text()
        for name in (WEB, HOT):
            seen.page.get_by_role("combobox", name="Host").fill(name)
            seen.page.get_by_role("button", name="Add").click()
            expect(seen.card(SIDE).locator(".legend")).to_contain_text(name)
        assert seen.parameters["host"] == [WEB, HOT]
        seen.page.get_by_role("combobox", name="Host").fill("nobody")
        seen.page.get_by_role("button", name="Add").click()
        expect(seen.page.locator(".error").nth(1)).to_contain_text("No host is named")
        seen.page.get_by_role("button", name=f"Remove {HOT}").click()
        expect(seen.card(SIDE).locator(".legend")).not_to_contain_text(HOT)


def test_last_week_lies_over_this_one_by_a_key(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/compare?host={WEB}") as seen:
        seen.page.keyboard.press("w")
        expect(seen.card(SIDE).locator(".legend")).to_contain_text(f"{WEB}, a week earlier")
        assert seen.parameters["overlay"] == ["7d"]
        change = seen.page.locator("main section.card").last.locator("tbody td").last
        expect(change).to_have_text(re.compile(r"^\+\d+\.\d pp$"))
        seen.page.keyboard.press("w")
        expect(seen.card(SIDE).locator(".legend")).not_to_contain_text("a week earlier")


_DRAWN = """([canvas, share]) => {
  const paper = document.createElement("canvas").getContext("2d");
  paper.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--series-1").trim();
  paper.fillRect(0, 0, 1, 1);
  const wanted = paper.getImageData(0, 0, 1, 1).data;
  const column = canvas.getContext("2d").getImageData(Math.round(canvas.width * share), 0, 1, canvas.height).data;
  let count = 0;
  for (let at = 0; at < column.length; at += 4) {
    if (column[at + 3] > 128 && [0, 1, 2].every((one) => Math.abs(column[at + one] - wanted[one]) < 40)) count += 1;
  }
  return count;
}"""


"""How many pixels of a column of a chart have the colour of its first line."""


def test_a_time_without_reports_is_a_gap_in_what_is_compared(browser: Browser, service: RunningService) -> None:
    def without_the_middle(route: Route) -> None:
        answer = route.fetch()
        windows = answer.json()["windows"]
        third = len(windows) // 3
        route.fulfill(response=answer, json={"windows": windows[:third] + windows[-third:]})

    with opened(browser, service, "/compare") as seen:
        for way, is_line_there in (("**/nothing/**", True), ("**/windows/byUser/**", False)):
            seen.page.route(way, without_the_middle)
            seen.go(f"/compare?host={WEB}&range=24h")
            expect(seen.card(SIDE).locator(".legend")).to_contain_text(WEB)
            canvas = seen.card(SIDE).locator(".uplot canvas").element_handle()
            at = {share: seen.page.evaluate(_DRAWN, [canvas, share]) for share in (0.25, 0.5, 0.9)}
            assert at[0.25] > 0
            assert at[0.9] > 0
            assert (at[0.5] > 0) == is_line_there


def test_what_fires_is_silenced_and_told_again(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, "/alerts") as seen:
        seen.page.get_by_role("button", name=f"Silence hot of {HOT}").click()
        seen.page.get_by_label("Comment").fill("moving house")
        seen.page.get_by_role("button", name="Silence", exact=True).click()
        expect(seen.card("Silences").locator("tbody")).to_contain_text("moving house")
        [silence] = client.get("/api/v1/silences").json()["silences"]
        assert (silence["rule"], silence["user"]) == ("hot", HOT)
        seen.page.get_by_role("button", name="End the silence of hot").click()
        expect(seen.card("Silences")).to_contain_text("Nothing is silenced.")
        assert client.get("/api/v1/silences").json()["silences"] == []


def test_alerts_are_kept_by_label_and_the_address_says_so(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/alerts?rule=hot") as seen:
        expect(seen.card("Firing and pending")).to_contain_text(HOT)
        field = seen.page.get_by_label("Label", exact=True)
        field.focus()
        expect(seen.page.locator("#labels option[value='role=web']")).to_have_count(1)
        field.fill("role=web")
        seen.page.keyboard.press("Enter")
        expect(seen.card("Firing and pending")).not_to_contain_text(HOT)
        expect(seen.page.locator("h1")).to_have_text("Alerts: role=web")
        assert seen.parameters["label"] == ["role=web"]
        assert all("user=role%3Dweb" in one for one in [one for one in seen.asked if "/api/v1/alerts?" in one][-2:])
        told = seen.card("Would have fired").locator("[role=status]").last
        expect(told).to_contain_text("of hosts with role=web")
        assert {row[0] for row in seen.rows("Would have fired")} == {WEB}
        assert 'user="role=web"' in seen.query("Would have fired", "Python")
        line = shlex.split(seen.query("Would have fired", "curl"))
        asked = subprocess.run([*line, "--silent"], capture_output=True, check=True, timeout=60)
        assert {one["user"] for one in json.loads(asked.stdout)["periods"]} == {WEB}
        seen.page.reload()
        seen.settled("/alerts")
        expect(seen.card("Firing and pending")).not_to_contain_text(HOT)
        field.fill("role=db")
        seen.page.keyboard.press("Enter")
        expect(seen.card("Firing and pending")).to_contain_text(HOT)
        seen.page.go_back()
        expect(seen.card("Firing and pending")).not_to_contain_text(HOT)
        assert seen.complaints == []


def test_hosts_are_compared_by_label(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/compare?host={WEB}&host={HOT}") as seen:
        expect(seen.card(SIDE).locator(".legend")).to_contain_text(HOT)
        seen.page.get_by_label("Label", exact=True).fill("role=web")
        seen.page.keyboard.press("Enter")
        expect(seen.card(SIDE).locator(".legend")).not_to_contain_text(HOT)
        assert seen.parameters == {"host": [WEB, HOT], "label": ["role=web"]}
        expect(seen.page.locator("h1")).to_have_text("Compare: role=web")
        expect(seen.page.locator("main")).to_contain_text(f"Not labelled role=web, and left out: {HOT}.")
        assert f"user={WEB}&" in seen.query(SIDE, "curl") and HOT not in seen.query(SIDE, "Python")
        expect(seen.page.locator(f"#known option[value='{HOT}']")).to_have_count(0)
        seen.go("/compare?label=role%3Dweb")
        expect(seen.page.locator("main .legend")).to_contain_text(WEB)
        found = csv.DictReader(io.StringIO(seen.download(SIDE)))
        names = {row["host"] for row in found}
        assert len(names) == 6 and WEB in names and all(name.startswith("web-") for name in names)
        seen.go("/compare?label=role%3Dnosuch")
        expect(seen.card(SIDE)).to_contain_text("No host with role=nosuch")
        assert seen.complaints == []


def test_a_silence_that_cannot_be_is_refused_in_words(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/alerts") as seen:
        seen.page.get_by_label("Comment").evaluate("node => node.removeAttribute('maxlength')")
        seen.page.get_by_label("Comment").fill("x" * 501)
        seen.page.get_by_role("button", name="Silence", exact=True).click()
        expect(seen.card("Silences").locator(".error")).to_contain_text("comment")


def test_a_rule_is_made_by_hand_and_changes_no_other(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, "/alerts") as seen:
        form = seen.page.get_by_role("form", name="New rule")
        form.locator("[name=user]").fill("web-0*")
        form.locator("[name=above]").fill("95.5")
        form.locator("[name=for]").select_option("15m")
        form.locator("[name=rule-name]").fill("hot")
        form.get_by_role("button", name="Make rule").click()
        expect(seen.card("New rule").get_by_role("alert")).to_contain_text("stands in rules.toml")
        form.locator("[name=rule-name]").fill("by-hand")
        form.get_by_role("button", name="Make rule").click()
        expect(seen.card("Would have fired").locator("select")).to_have_value("by-hand")
        made = client.get("/api/v1/rules/by-hand").json()["rule"]
        wanted = {"kind": "threshold", "users": ["web-0*"], "metric": "cpuUtilization", "above": 0.955, "for": "15m"}
        assert {key: made[key] for key in wanted} == wanted
        form.locator("[name=rule-name]").fill("by-hand")
        form.get_by_role("button", name="Make rule").click()
        expect(seen.card("New rule").get_by_role("alert")).to_have_text("A rule is named by-hand already.")
    assert client.delete("/api/v1/rules/by-hand", headers={"If-Match": "*"}).status_code == 204


def test_a_rule_is_tried_on_what_was_reported(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/alerts?rule=hot") as seen:
        card = seen.card("Would have fired")
        expect(card.locator("[role=status]").last).to_contain_text("hot would have fired")
        assert card.locator(".uplot").count() == 1
        assert {row[0] for row in seen.rows("Would have fired")} == {HOT, WEB}


def test_agents_are_listed_with_what_they_do_and_cost(
    browser: Browser, service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("agents")
    with service.client() as client, SteeredAgent(service.url, "listed", folder, client, "--samples", "10") as agent:
        agent.wait(lambda shown: shown["connected"] and shown["overhead"]["cpu_share"] is not None, "two reports")
        with opened(browser, service, "/agents?q=list") as seen:
            [row] = seen.rows("Agents")
            assert row[0] == "listed"
            assert "in sync" in row[1] and "connected" in row[1]
            assert (row[3], row[4]) == ("50 ms", "10")
            assert row[7].endswith(" %") and row[8].endswith(" MB")
            seen.page.get_by_role("combobox", name="Settings").select_option("false")
            expect(seen.card("Agents")).to_contain_text("No agent is like this")


def test_a_clock_that_is_off_is_told_in_words(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    offsets = {"clock-ahead": 150.0, "clock-behind": -7_300.0, "clock-late": -12.4, "clock-right": 0.8}
    told: dict[str, dict[str, float]] = {name: {"clock_ahead_s": ahead_s} for name, ahead_s in offsets.items()}
    now_ms = time.time_ns() // 1_000_000
    reports = [
        report(name, now_ms, 0.2) | {"agent": {"version": "1", "cpu_seconds": 1.0, "resident_bytes": 1, **clock}}
        for name, clock in {**told, "clock-unknown": {}}.items()
    ]
    assert client.post("/api/v1/metrics", json=reports).status_code == 202
    wait_until(lambda: client.get("/api/v1/agents?selector=user:clock-*").json()["total"] == 5, "the agents")
    with opened(browser, service, "/agents?q=clock-*") as seen:
        assert {row[0]: row[9] for row in seen.rows("Agents")} == {
            "clock-ahead": "2 min ahead", "clock-behind": "2 h behind", "clock-late": "12 s behind",
            "clock-right": "", "clock-unknown": "",
        }  # fmt: skip


def test_a_report_is_made_read_and_downloaded(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/reports?range=24h") as seen:
        seen.page.get_by_role("button", name="Make the report").click()
        expect(seen.page.get_by_role("heading", name="Fleet report")).to_be_visible(timeout=200_000)
        assert HOT in seen.page.locator("main").inner_text()
        with seen.page.expect_download() as saved:
            seen.page.get_by_role("link", name="Download Markdown").click()
        assert saved.value.path().read_text().startswith("# Fleet report")
        assert "loadlens-analytics report fleet --last 7d" in seen.page.locator("main").inner_text()


def test_a_report_is_made_on_a_schedule_and_a_run_that_fails_is_said(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, "/reports", timezone_id="Europe/Berlin") as seen:
        card = seen.card("On a schedule")
        expect(card).to_contain_text("Nothing is scheduled.")
        card.get_by_label("About").fill(IDLE)
        card.get_by_role("combobox", name="of", exact=True).select_option("the last day")
        card.get_by_role("combobox", name="On", exact=True).select_option("Friday")
        card.get_by_label("at", exact=True).fill("07:30")
        card.get_by_role("button", name="Schedule").click()
        expect(card.locator("tbody")).to_contain_text("Friday, 07:30 Europe/Berlin")
        expect(card.locator("tbody")).to_contain_text("it has not been made yet")
        quiet = {"user": SILENT, "last": "1h"}
        assert client.post("/api/v1/schedules", json=quiet).status_code == 201
        with contextlib.closing(sqlite3.connect(service.data_dir / "control.db", timeout=60)) as control, control:
            control.execute("UPDATE reporting_schedule SET next_ms = 0")  # as if their times had come
        planned = "/api/v1/schedules"
        wait_until(lambda: all(one["run"] for one in client.get(planned).json()["schedules"]), "the runs", 200)
        seen.page.keyboard.press("r")
        expect(card.locator("tbody tr").nth(1)).to_contain_text("failed")
        expect(card.locator("tbody tr").nth(1)).to_contain_text("none yet")
        link = card.get_by_role("link", name="Read that of")
        with seen.page.expect_popup() as other:
            link.click()
        expect(other.value.locator("h1")).to_contain_text(IDLE)
        for name in (SILENT, IDLE):
            card.get_by_role("button", name=f"End the schedule of {name}").click()
        expect(card).to_contain_text("Nothing is scheduled.")
        assert seen.complaints == []


def test_agents_are_kept_by_label_and_it_goes_along(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, "/agents") as seen:
        seen.page.get_by_label("Host").fill("role=db")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_url("**label=role*")
        assert 'service.agents("label:role=db")' in seen.query("Agents", "Python")
        seen.page.get_by_role("navigation").get_by_role("link", name="Fleet").click()
        seen.page.wait_for_selector('html[data-hosts="1"]')
