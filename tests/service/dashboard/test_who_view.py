"""Who used the CPU, in a real browser: stacked under the load, named for a moment that is clicked on, as text only."""

import time

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.dashboard_fleet import IDLE
from tests.support.dashboards import opened
from tests.support.hostile_names import NAMES
from tests.support.nightly_backup import reports
from tests.support.reports import post, small
from tests.support.running import RunningService

pytestmark = pytest.mark.server

WHO, USER, HOSTILE = "Who used the CPU", "backed-up", NAMES[2]


KINDS = {"user": 0.3, "system": 0.1, "iowait": 0.2, "steal": 0.15, "irq": 0.01, "guest": 0.0, "work": 0.41}


@pytest.fixture(scope="module", autouse=True)
def told(service: RunningService) -> None:
    now_ms = time.time_ns() // 1_000_000
    times = {"type": "TIMES"} | {name: {"avg": mean, "observations": 60} for name, mean in KINDS.items()}
    with service.client() as client:
        post(client, *reports(USER, now_ms, HOSTILE))
        kinds = [small("kinds", now_ms - step * 60_000) for step in range(60)]
        assert post(client, *(one | {"metrics": [*one["metrics"], times]} for one in kinds)).status_code == 202


def test_kinds_of_time_are_stacked(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, "/host?id=kinds&range=6h") as seen:
        card = seen.card("Kinds of CPU time")
        legend = card.locator(".legend")
        for words in ("programs", "kernel", "interrupts", "virtual machines", "stolen", "waiting for input and output"):
            expect(legend).to_contain_text(words)
        assert seen.drawn("Kinds of CPU time") > 500
        card.get_by_role("button", name="Table").click()
        assert [float(cell) for cell in seen.rows("Kinds of CPU time")[0][1:]] == [0.3, 0.1, 0.01, 0.0, 0.15, 0.2]
        expect(seen.card("CPU utilization without stolen time")).to_have_count(1)
        assert seen.complaints == []
    answer = client.get(
        "/api/v1/query", params={"metric": "cpuTimeSteal,cpuTimeWork", "user": "kinds", "resample_rate": "all"}
    )
    assert "0.15" in answer.text
    assert "0.41" in answer.text


def test_processes_and_units_are_stacked_and_named(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={USER}&range=7d") as seen:
        card = seen.card(WHO)
        expect(card.locator("ol.who").last).to_contain_text("python3 (backup.service)")
        expect(card.locator("ol.who").last).to_contain_text(HOSTILE)
        expect(card.locator("ol.who").last).to_contain_text("others")
        assert "others" in card.locator(".legend").inner_text()
        assert seen.drawn(WHO) > 1000
        card.get_by_label("Show").select_option("unit")
        expect(card.locator("ol.who").last).to_contain_text("backup.service")
        expect(card.locator("ol.who").last).not_to_contain_text("python3")
        assert seen.parameters["who"] == ["unit"]
        assert len(seen.rows(WHO)) == 0
        card.get_by_role("button", name="Table").click()
        assert any(row[1] == "others" for row in seen.rows(WHO))
        assert seen.page.title() != "pwned"
        assert seen.complaints == []


def test_a_click_on_a_spike_says_who_it_was(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={USER}&range=7d") as seen:
        canvas = seen.card("Load over time").locator(".u-over").first
        canvas.click(position={"x": 200, "y": 40})
        expect(seen.page.locator("#who-then")).to_contain_text("that the host used")
        expect(seen.page.locator("#who-then ol.who")).to_contain_text("postgres (postgresql.service)")
        headings = (
            seen.card(WHO)
            .locator("ol.who")
            .evaluate_all("lists => lists.map(list => list.previousElementSibling.textContent)")
        )
        assert ["that the host used" in headings[0], headings[1:]] == [True, ["In the whole range"]]
        assert seen.complaints == []


def test_a_host_that_says_nothing_says_how_it_can(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={IDLE}") as seen:
        expect(seen.card(WHO)).to_contain_text("--processes names")
        assert seen.complaints == []


def test_the_python_of_the_card_gives_a_frame(service: RunningService, client: httpx.Client) -> None:
    answer = client.get("/api/v1/who", params={"host": USER, "by": "unit", "resample_rate": "1h"})
    assert answer.json()["buckets"]
