"""What a newcomer stumbles over: little data in a long range, bins that are cut off, how exact a number is."""

import re
import time

import pytest
from playwright.sync_api import Browser, expect

from tests.support.dashboard_fleet import WEB, report
from tests.support.dashboards import opened
from tests.support.reports import post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

YOUNG = "young"
LOAD = "Load over time"


@pytest.fixture(scope="module", autouse=True)
def young(service: RunningService) -> None:
    """A host without cores or agent that began to report ten minutes ago."""
    now_ms = time.time_ns() // 1_000_000
    with service.client() as client:
        reports = [report(YOUNG, now_ms - minute * 60_000, 0.3, memory=False) for minute in range(10, 0, -1)]
        for one in reports:
            one["metrics"] = [
                {name: value for name, value in metric.items() if "by_core" not in name} for metric in one["metrics"]
            ]
        assert post(client, *reports).status_code == 202


def test_a_range_of_which_little_has_data_offers_that_part(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={YOUNG}") as seen:
        offer = seen.card(LOAD).locator(".over")
        expect(offer).to_contain_text("Data since")
        offer.get_by_role("button").click()
        expect(seen.page.locator("#range")).to_have_value("15m")
        expect(offer).to_be_hidden()
        seen.go(f"/host?id={WEB}&range=6h")
        expect(seen.card(LOAD).locator(".over")).to_be_hidden()


def test_a_quantile_says_how_exact_it_is_and_a_mean_how_it_is_weighted(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        tiles = seen.page.locator(".tile")
        expect(tiles.filter(has_text=re.compile("^p95"))).to_contain_text("to within 0.8 points")
        mean = tiles.filter(has_text=re.compile("^Mean")).first
        expect(mean).to_contain_text("exact")
        assert "weighs the time that it covers" in (mean.get_attribute("title") or "")
        seen.go("/")
        expect(tiles.filter(has_text="p95 of samples")).to_contain_text("to within 0.8 points")


def test_a_host_without_an_agent_is_not_sent_to_the_settings_of_one(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={YOUNG}") as seen:
        expect(seen.card("Who used the CPU")).to_contain_text("no agent of this project reports for this host")
        assert "settings below" not in seen.page.locator("main").inner_text()
        assert "Settings of its agent" not in seen.page.locator("main").inner_text()


def test_a_card_with_nothing_to_show_is_no_larger_than_its_words(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={YOUNG}", width=390) as seen:
        expect(seen.card("Cores")).to_contain_text("does not report its cores")
        assert seen.card("Cores").evaluate("(node) => node.offsetHeight") < 200


def test_zooming_in_has_a_button_beside_zooming_out(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}&range=6h") as seen:
        seen.page.get_by_role("button", name="Zoom in").click()
        expect(seen.page.locator("#range")).to_have_value("3h")
        seen.page.get_by_role("button", name="Zoom out").click()
        expect(seen.page.locator("#range")).to_have_value("6h")


def test_a_phones_tool_bar_is_two_lines_and_tables_show_that_they_go_on(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, service, "/", width=390) as seen:
        assert seen.page.locator(".bar").evaluate("(node) => node.offsetHeight") < 90
        table = seen.card("Hosts").locator(".scroll")
        assert table.evaluate("(node) => node.scrollWidth > node.clientWidth")
        assert "local" in table.evaluate("(node) => getComputedStyle(node).backgroundAttachment")


def test_bins_that_rise_above_the_distribution_are_said(browser: Browser, service: RunningService) -> None:
    address = "document.querySelector('link[href$=\"numbers.js\"]').href"
    module = f"async () => {{ const {{ scaleOfShares, binWords }} = await import({address});"
    with opened(browser, service, "/") as seen:
        found = seen.page.evaluate(
            f"{module} const bins = new Array(64).fill(0.005); bins[0] = 0.6; bins[63] = 0.1; bins[20] = 0.02;"
            "const flat = new Array(64).fill(1 / 64);"
            "return [scaleOfShares(bins), scaleOfShares(flat), [0, 20, 63].map(binWords)]; }"
        )
    assert found == [
        {"top": 0.02, "cut": [0, 63]}, {"top": 1 / 64, "cut": []},
        ["below 1.6 %", "from 31.3 % to 32.8 %", "at 98.4 % or above"],
    ]  # fmt: skip
