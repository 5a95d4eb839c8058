"""Comparisons, alerts, agents, reports, and what all views share, in a real browser."""

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
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Route, expect

from tests.support.dashboard_fleet import HOT, IDLE, SILENT, WEB, report
from tests.support.dashboards import opened, signed_in
from tests.support.running import RunningService, wait_until
from tests.support.steering import SteeredAgent

pytestmark = pytest.mark.server

VIEWS = ["/", f"/host?id={WEB}", f"/compare?host={WEB}&host={HOT}", "/alerts?rule=hot", "/agents", "/reports"]
SIDE = "Side by side"
SHIFT = """() => new Promise((done) => {
  const add = (list) => done(list.getEntries().filter((one) => !one.hadRecentInput).map((one) =>
    [one.value, ...one.sources.map((source) => source.node?.className ?? source.node?.nodeName)]));
  new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done([]), 2000);
})"""


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


def test_what_is_wrong_with_the_service_is_said_at_the_foot(browser: Browser, service: RunningService) -> None:
    """Until it is right again."""
    rules = service.data_dir.parent / "rules.toml"
    good = rules.read_text()
    problems = 'footer [aria-label="Problems of the service"]'
    try:
        rules.write_text("nonsense")
        with service.client() as client:
            wait_until(lambda: "problems" in client.get("/readyz").json(), "the problem")
        with opened(browser, service, "/agents") as seen:
            expect(seen.page.locator(problems)).to_contain_text("Rules stay as they were")
    finally:
        rules.write_text(good)
    with service.client() as client:
        wait_until(lambda: "problems" not in client.get("/readyz").json(), "the end of the problem")
    with opened(browser, service, "/agents") as seen:
        expect(seen.page.locator(problems)).to_be_hidden()


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
        assert "loadlens-analytics report fleet --last 24h" in seen.page.locator("main").inner_text()


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


def test_times_are_local_or_utc(browser: Browser, service: RunningService) -> None:
    query = f"/host?id={WEB}&from=2026-01-05T10:00:00Z&to=2026-01-05T12:00:00Z"
    with opened(browser, service, query, timezone_id="Asia/Tokyo") as seen:
        assert "19:00 to" in seen.page.locator("#range option:checked").inner_text()
        seen.page.keyboard.press("u")
        expect(seen.page.locator("#tz")).to_have_text("UTC")
        assert "10:00 to" in seen.page.locator("#range option:checked").inner_text()
        assert seen.parameters["tz"] == ["utc"]


def test_dates_are_chosen_in_the_time_that_is_shown(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/", timezone_id="Asia/Tokyo") as seen:
        seen.page.keyboard.press("t")
        seen.page.get_by_label("From").fill("2026-01-05T19:00:00")
        seen.page.get_by_label("to", exact=True).fill("2026-01-05T18:00:00")
        seen.page.get_by_role("button", name="Show", exact=True).click()
        expect(seen.page.locator("#absolute-form .error")).to_be_visible()
        seen.page.get_by_label("to", exact=True).fill("2026-01-05T21:00:00")
        seen.page.get_by_role("button", name="Show", exact=True).click()
        seen.page.wait_for_url("**from=*")
        assert seen.parameters["from"] == ["2026-01-05T10:00:00Z"]
        assert seen.parameters["to"] == ["2026-01-05T12:00:00Z"]


def test_the_keyboard_does_what_the_page_does_and_lists_itself(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        seen.page.keyboard.press("?")
        assert seen.page.locator("#keys").is_visible()
        assert "Go to the fleet" in seen.page.locator("#keys").inner_text()
        seen.page.keyboard.press("Escape")
        for keys, path in (("gl", "/alerts"), ("ga", "/agents"), ("gr", "/reports"), ("gc", "/compare"), ("gf", "/")):
            seen.typed(keys, path)
            assert seen.page.locator("nav [aria-current]").count() == 1
        seen.page.keyboard.press("/")
        seen.page.keyboard.type("idle")
        seen.page.wait_for_selector('html[data-hosts="1"]')
        assert [row[0] for row in seen.rows("Hosts")] == [IDLE]
        seen.page.keyboard.press("Escape")
        seen.page.keyboard.press("-")
        seen.page.wait_for_url("**range=2d*")
        seen.page.keyboard.press("ArrowLeft")
        seen.page.wait_for_url("**from=*")


def test_light_and_dark_follow_the_system_until_they_are_switched(browser: Browser, service: RunningService) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    with opened(browser, service, "/agents", scheme="dark") as seen:
        assert seen.page.evaluate(background) == "rgb(20, 24, 28)"
        seen.page.keyboard.press("d")
        assert seen.page.evaluate(background) == "rgb(246, 247, 249)"
        seen.page.reload()
        assert seen.page.evaluate(background) == "rgb(246, 247, 249)"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(browser: Browser, service: RunningService, scheme: str, width: int) -> None:
    with opened(browser, service, VIEWS[0], scheme=scheme, width=width) as seen:
        for path in VIEWS:
            seen.go(path)
            found = Axe().run(seen.page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_a_phone_shows_every_view_without_scrolling_sideways(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, VIEWS[0], width=375) as seen:
        for path in VIEWS:
            seen.go(path)
            assert seen.page.evaluate("document.documentElement.scrollWidth") == 375, path
        assert seen.complaints == []


def test_it_prints_on_white_paper_without_its_controls(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}", scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator("nav").is_hidden() and seen.page.locator(".tools").first.is_hidden()
        assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert seen.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_link_shows_another_person_the_same(browser: Browser, service: RunningService) -> None:
    query = f"/compare?host={WEB}&host={HOT}&stat=p95&range=6h&tz=utc"
    with opened(browser, service, query) as mine, opened(browser, service, query) as theirs:
        for seen in (mine, theirs):
            assert seen.page.locator("#range").input_value() == "6h"
            expect(seen.card(SIDE).locator(".legend")).to_contain_text(WEB)
        legends = [seen.card(SIDE).locator(".legend").inner_text() for seen in (mine, theirs)]
        assert legends[0] == legends[1]


def test_a_person_signs_in_with_the_token_once(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("token") / "data"
    with RunningService(folder, "--token", "not-to-be-guessed") as asking:
        assert httpx.get(asking.url, auth=("me", "wrong"), trust_env=False).status_code == 401
        with signed_in(browser, asking, "not-to-be-guessed") as seen:
            expect(seen.page.locator("#live")).to_have_attribute("data-state", "live")
            assert "No host has reported yet" in seen.page.locator("main").inner_text()


def test_queries_of_a_service_that_asks_for_a_token_read_it_from_the_environment(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("asking") / "data"
    with RunningService(folder, "--token", "not-to-be-guessed") as asking:
        with signed_in(browser, asking, "not-to-be-guessed") as seen:
            line, code = seen.query("Hosts", "curl"), seen.query("Hosts", "Python")
            assert "not-to-be-guessed" not in line + code
            monkeypatch.setenv("LOADLENS_TOKEN", "not-to-be-guessed")
            shown = subprocess.run(
                ["bash", "-c", f"{line} --silent --fail"], check=True, timeout=60, capture_output=True
            )
            assert shown.stdout.startswith(b"user_id,")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, {})
            assert "Empty DataFrame" in printed.getvalue()


def test_what_people_say_of_a_moment_is_told_where_it_matters(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        change = seen.card("Load over time").locator("li", has_text="Change of the level")
        expect(change).to_have_count(1)
        asked = {"start": f"{time.time_ns() // 1_000_000 - 86_400_000}"}
        [found] = client.get(f"/api/v1/analysis/changes/byUser/{WEB}", params=asked).json()["changes"]
        told = {"text": "deploy 1.4", "time": found["time"] - 2 * 60_000, "user": "web-*"}
        assert client.post("/api/v1/annotations", json=told).status_code == 201
        seen.page.keyboard.press("r")
        expect(change).to_contain_text("2 minutes after “deploy 1.4”")


def test_a_moment_is_noted_by_hand(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, "/host?id=web-05") as seen:
        seen.page.get_by_label("Note what happens now").fill("moved the database")
        seen.page.get_by_role("button", name="Note", exact=True).click()
        expect(seen.page.locator("#notice")).to_have_text("Noted.")
        [kept] = [
            one
            for one in client.get("/api/v1/annotations").json()["annotations"]
            if one["text"] == "moved the database"
        ]
        assert kept["user"] == "web-05"


@pytest.mark.parametrize("path", VIEWS)
def test_what_is_read_does_not_move_while_a_view_is_filled(
    browser: Browser, service: RunningService, path: str
) -> None:
    with opened(browser, service, path) as seen:
        moved = seen.page.evaluate(SHIFT)
        assert sum(value for value, *_ in moved) < 0.005, moved


WITH_QUERIES = [
    "/?group=role", "/?q=web&state=idle&group=zone", f"/host?id={WEB}&range=2d",
    f"/compare?host={WEB}&host={HOT}&overlay=7d", "/compare?label=role%3Dweb", "/alerts?rule=hot",
    "/alerts?rule=hot&label=role%3Ddb", "/agents", "/agents?label=role%3Dweb&in_step=false",
]  # fmt: skip


@pytest.mark.parametrize("path", WITH_QUERIES)
def test_each_button_of_each_card_gives_what_it_says(browser: Browser, service: RunningService, path: str) -> None:
    with opened(browser, service, path) as seen:
        expect(seen.page.locator(".tools").first).to_be_visible()
        titles = seen.page.locator("section.card:visible:has(.tools) :is(h2, h3)").all_inner_texts()
        assert titles
        for title in dict.fromkeys(titles):
            card = seen.card(title)
            buttons = card.locator(".tools button").all_inner_texts()
            if "CSV" in buttons:
                assert len(seen.download(title).splitlines()[0].split(",")) > 1, title
            if "curl" in buttons:
                for line in seen.query(title, "curl").splitlines():
                    subprocess.run(
                        ["bash", "-c", f"{line} --silent --show-error --fail-with-body"], check=True, timeout=60,
                        capture_output=True,
                    )  # fmt: skip
            if "Python" in buttons:
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(seen.query(title, "Python"), {})
                assert printed.getvalue().strip(), title
            if "Table" in buttons:
                card.get_by_role("button", name="Table", exact=True).click()
                expect(card.locator(".data table").last).to_be_visible()
        assert seen.page.locator("#notice").inner_text() in ("", "curl copied.", "Python copied.")
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


def test_what_people_say_of_a_moment_stands_in_every_chart_over_time(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    said = client.post(
        "/api/v1/annotations", json={"text": "deploy 9", "time": time.time_ns() // 1_000_000 - 3_600_000}
    )
    try:
        with opened(browser, service, "/?range=6h") as seen:
            for path, cards in {
                "/?range=6h": ("Hosts over time", "Utilization"),
                f"/host?id={WEB}&range=6h": ("Load over time", "Cores", "Memory in use"),
                f"/compare?host={WEB}&range=6h": (SIDE,),
                "/alerts?rule=hot&range=6h": ("Would have fired",),
            }.items():
                seen.go(path)
                for card in cards:
                    expect(seen.card(card).locator("[data-marks]").first).not_to_have_attribute("data-marks", "0")
            assert seen.complaints == []
    finally:
        client.delete(f"/api/v1/annotations/{said.json()['id']}")
