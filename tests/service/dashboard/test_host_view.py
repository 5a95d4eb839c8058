"""One host in a real browser: its load with everything that is known of it, exact, and its data for others."""

import csv
import io
import json
import subprocess
import sys
import time
from datetime import datetime

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.dashboard_fleet import HOT, IDLE, STEP_MS, WEB, newest_ms, report, until
from tests.support.dashboards import opened
from tests.support.running import ROOT, RunningService, clean_environment, wait_until
from tests.support.steering import SteeredAgent

pytestmark = pytest.mark.server

LOAD = "Load over time"


def test_the_95th_percentile_of_samples_stands_beside_the_mean(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        legend = seen.card(LOAD).locator(".legend").first.inner_text()
        assert all(word in legend for word in ("mean", "p95 of samples", "p5", "min", "max"))
        share = {label: float(seen.tile(label).rstrip(" %")) for label in ("Mean", "Median", "p95", "p99")}
        assert share["Mean"] < share["p95"] <= share["p99"]
        assert "4 cores" in seen.page.locator("main").inner_text()
        assert seen.complaints == []


def test_csv_has_what_is_drawn(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    newest = newest_ms(client)
    with opened(browser, service, f"/host?id={WEB}&{until(newest, 6)}") as seen:
        rows = [*csv.DictReader(io.StringIO(seen.download(LOAD)))]
        times = [round(datetime.fromisoformat(row["time"]).timestamp() * 1000) for row in rows]
        assert times == [*range(newest - 6 * 12 * STEP_MS, newest, STEP_MS)]
        assert {"time", "mean", "min", "max", "histogram"} <= set(rows[0])


def test_a_value_that_stands_alone_is_drawn(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, f"/host?id={WEB}&{until(newest_ms(client), 1 / 12)}") as seen:
        wait_until(lambda: seen.coloured(LOAD) > 0, "a dot")


def test_the_query_as_curl_and_as_python_give_the_same(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, f"/host?id={WEB}&{until(newest_ms(client), 6)}") as seen:
        curl, python = seen.query(LOAD, "curl"), seen.query(LOAD, "Python")
    answered = subprocess.run(
        ["bash", "-c", f"{curl} --silent"], capture_output=True, text=True, check=True, timeout=60
    )
    count = len([*csv.DictReader(io.StringIO(answered.stdout))])
    printed = subprocess.run(
        [sys.executable, "-c", python.replace("print(frame)", "print(len(frame))")], capture_output=True, text=True,
        check=True, cwd=ROOT, env=clean_environment(), timeout=60,
    )  # fmt: skip
    assert count == int(printed.stdout) == 6 * 12


def test_the_data_are_a_table_for_those_who_do_not_see_the_chart(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, f"/host?id={WEB}&{until(newest_ms(client), 6)}") as seen:
        button = seen.card(LOAD).get_by_role("button", name="Table")
        button.click()
        assert button.get_attribute("aria-expanded") == "true"
        assert len(seen.rows(LOAD)) == 6 * 12
        assert seen.card(LOAD).locator(".plot").get_attribute("role") == "img"


def test_what_is_strange_and_what_changed_is_marked_and_told(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        findings = seen.card(LOAD).locator("ul.plain")
        expect(findings).to_contain_text("anomaly")
        expect(findings).to_contain_text("Change of the level: from 2")
        seen.page.get_by_label("anomalies and changes").uncheck()
        expect(findings).not_to_contain_text("anomaly")
        assert seen.parameters["marks"] == ["0"]


def test_a_forecast_goes_on_behind_now_and_says_how_sure_it_is(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}&range=2d") as seen:
        seen.page.get_by_label("forecast").check()
        legend = seen.card(LOAD).locator(".legend").first
        expect(legend).to_contain_text("forecast")
        expect(seen.card(LOAD).locator("ul.plain")).to_contain_text("Forecast of the series for 24h")
        seen.page.reload()
        expect(seen.card(LOAD).locator(".legend").first).to_contain_text("forecast")


def test_size_advice_comes_with_its_reason(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        expect(seen.card("Size")).to_contain_text("95 % of the samples used at most")
        seen.go(f"/host?id={HOT}")
        expect(seen.card("Size")).to_contain_text("at least 5 are needed")


def test_each_core_is_seen_by_pointer_and_by_keyboard(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}&range=6h") as seen:
        canvas = seen.card("Cores").locator("canvas").first
        canvas.focus()
        seen.page.keyboard.press("ArrowDown")
        seen.page.keyboard.press("ArrowDown")
        tip = seen.card("Cores").locator(".tip")
        assert tip.inner_text().startswith("Core 1")
        assert tip.inner_text().replace("\n", "") in seen.card("Cores").locator("[aria-live]").text_content()


def test_the_load_duration_curve_falls(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        seen.card("Load duration").get_by_role("button", name="Table").click()
        shares = [float(row[1]) for row in seen.rows("Load duration")]
        assert len(shares) == 64
        assert shares[0] == pytest.approx(1) and shares == sorted(shares, reverse=True)


def test_the_hours_of_the_week_are_shown(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        card = seen.card("Hours of the week")
        card.locator("canvas").first.hover(position={"x": 200, "y": 10})
        assert "Monday" in card.locator(".tip").inner_text()


def test_other_metrics_that_are_reported_are_there(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}&range=6h") as seen:
        seen.page.get_by_role("heading", name="Memory in use").wait_for()
        assert seen.page.get_by_role("heading", name="Swap in use").count() == 0
        seen.page.get_by_label("Metric").select_option("memoryUtilization")
        seen.page.wait_for_url("**metric=memoryUtilization*")
        expect(seen.page.locator(".tile").nth(1)).to_contain_text("4")


def test_a_host_that_nobody_knows_leads_back(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/host?id=nobody") as seen:
        expect(seen.page.locator("main")).to_contain_text("No host of this name has reported")
        expect(seen.page.locator("main .card:visible, main .tile:visible")).to_have_count(0)
        seen.go("/host")
        expect(seen.page.locator("h1")).to_have_text("No host is chosen")
        expect(seen.page.locator("main .card:visible, main .tile:visible")).to_have_count(0)
        seen.page.locator("main").get_by_role("link", name="fleet").click()
        seen.settled("/")


def test_a_range_without_data_says_where_to_look(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={IDLE}&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z") as seen:
        seen.card(LOAD).get_by_role("link", name="Look at the last 30 days").click()
        seen.page.wait_for_url("**range=30d*")
        expect(seen.page.locator(".tile").nth(1)).to_contain_text("%")


def test_the_newest_window_is_shown_as_it_comes(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, "/host?id=web-03&range=15m") as seen:
        expect(seen.page.locator("#live")).to_have_attribute("data-state", "live")
        answer = client.post("/api/v1/metrics", json=report("web-03", time.time_ns() // 1_000_000, 0.777))
        assert answer.status_code == 202
        expect(seen.page.locator("#now")).to_have_text("77.7 %")


def test_live_can_be_stopped_and_the_address_says_so(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/host?id=web-04&range=15m") as seen:
        seen.page.get_by_role("button", name="Live").click()
        assert seen.parameters["live"] == ["0"]
        assert seen.page.locator("#live").get_attribute("aria-pressed") == "false"


def test_settings_are_changed_and_seen_to_be_in_force(
    browser: Browser, service: RunningService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        service.client() as client,
        SteeredAgent(service.url, "steered", tmp_path_factory.mktemp("agent"), client, "--samples", "20") as agent,
    ):
        agent.wait(lambda shown: shown["connected"] and client.get("/api/v1/users").text.count("steered"), "its report")
        with opened(browser, service, "/host?id=steered&range=15m") as seen:
            card = seen.card("Agent and its settings")
            card.get_by_label("Samples in a report").fill("7")
            card.get_by_role("button", name="Apply").click()
            expect(card.locator("[role=status]")).to_contain_text("7 in a report")
            expect(card.locator("[role=status]")).to_contain_text("in force")
            card.get_by_label("Seconds between samples").fill("600")
            card.get_by_label("Seconds between samples").evaluate("node => node.max = 999999")
            card.get_by_role("button", name="Apply").click()
            expect(card.locator(".error")).to_contain_text("interval")


@pytest.mark.parametrize(
    ("path", "card"), [(f"/host?id={WEB}&range=6h", "Load duration"), ("/?range=6h", "Load duration")]
)
def test_a_load_duration_curve_is_that_of_the_library(
    browser: Browser, service: RunningService, path: str, card: str
) -> None:
    with opened(browser, service, path) as seen:
        curl, python = seen.query(card, "curl"), seen.query(card, "Python")
        seen.card(card).get_by_role("button", name="Table").click()
        share = {row[0]: float(row[1]) for row in seen.rows(card)}
        assert len(seen.download(card).splitlines()) == 1 + len(share)
    assert json.loads(subprocess.check_output(["bash", "-c", f"{curl} --silent"], timeout=60))["windows"]
    at = "print(analytics.load_duration_curve(frame).set_index('load').loc[0.25, 'share'])"
    printed = subprocess.run(
        [sys.executable, "-c", python.replace("print(analytics.load_duration_curve(frame))", at)],
        capture_output=True, text=True, check=True, cwd=ROOT, env=clean_environment(), timeout=120,
    )  # fmt: skip
    assert share["0.25"] == pytest.approx(float(printed.stdout), abs=0.01)


def test_the_distribution_of_samples_comes_as_a_query_too(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?range=6h") as seen:
        python = seen.query("Distribution of samples", "Python")
    printed = subprocess.run(
        [sys.executable, "-c", python], capture_output=True, text=True, check=True, cwd=ROOT, env=clean_environment(),
        timeout=120,
    )  # fmt: skip
    assert "samples" in printed.stdout.splitlines()[0]
