"""The story of who did it, as it was recorded: an agent and pidstat looked at three known programs at the same time.

`who`, the page and the report name the three right, each within two points of what pidstat said.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

import analytics
from contract.times import DAY_MS
from tests.support.burners import DUTIES
from tests.support.dashboards import opened
from tests.support.reports import post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

RECORDED = Path(__file__).parents[2] / "data" / "who"
USER = "story"
WHO = "Who used the CPU"
_POINTS = 0.02


class Story(NamedTuple):
    """What was recorded."""

    reports: list[dict[str, Any]]
    pidstat: dict[str, float]
    """The share of a core of each program in the time that the reports tell of."""


def recorded() -> Story:
    reports = [json.loads(line) for line in (RECORDED / "agent.ndjson").read_text().splitlines()]
    first_ms = reports[0]["end_timestamp"] - 1000 * reports[0]["processes"]["seconds"]
    seen: dict[str, list[float]] = {name: [] for name in DUTIES}
    for line in (RECORDED / "pidstat.txt").read_text().splitlines():
        clock, percent, name = line.split()
        hours, minutes, seconds = map(int, clock.split(":"))
        at_ms = first_ms // DAY_MS * DAY_MS + 1000 * (3600 * hours + 60 * minutes + seconds)
        if first_ms + 500 < at_ms <= reports[-1]["end_timestamp"] + 500:
            seen[name].append(float(percent) / 100)
    return Story(reports, {name: float(np.mean(percents)) for name, percents in seen.items()})


STORY = recorded()


@pytest.fixture(scope="module", autouse=True)
def _told(service: RunningService) -> None:
    """The reports, as if they had come in just now."""
    later_ms = time.time_ns() // 1_000_000 - STORY.reports[-1]["end_timestamp"] - 1000
    moved = [
        one | {name: one[name] + later_ms for name in ("start_timestamp", "end_timestamp")} for one in STORY.reports
    ]
    with service.client() as client:
        assert post(client, *moved).json()["accepted"] == len(moved)


def in_order() -> list[str]:
    return sorted(STORY.pidstat, key=lambda name: -STORY.pidstat[name])


def test_it_was_worth_recording() -> None:
    shares = [STORY.pidstat[name] for name in in_order()]
    assert len(STORY.reports) >= 10
    assert in_order() == [*DUTIES]
    # Apart by more than what they may be off.
    assert all(high - low > 2 * _POINTS for high, low in zip(shares, [*shares[1:], 0.0], strict=True))


def test_who_names_them_within_two_points_of_pidstat(service: RunningService) -> None:
    with analytics.connect(service.url) as source:
        whole = source.who(USER, top=20)
        seconds = sum(one["processes"]["seconds"] for one in STORY.reports)
        told = whole.set_index("name")["cpu_s"] / seconds
        for name, share in STORY.pidstat.items():
            assert abs(told[name] - share) <= _POINTS, (name, told[name], share)
        assert [name for name in whole["name"] if name in DUTIES] == in_order()
        assert whole["share"].sum() == pytest.approx(1.0)
        over_time = source.who(USER, top=20, rate="1m")
        later = analytics.who(over_time, top=20).set_index("name")["cpu_s"] / seconds
        for name, share in STORY.pidstat.items():
            assert abs(later[name] - share) <= _POINTS, (name, later[name], share)


def test_the_page_names_them(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={USER}&range=1h") as seen:
        legend = seen.card(WHO).locator(".legend")
        for name in DUTIES:
            expect(legend).to_contain_text(name)
        named = seen.card(WHO).locator("ol.who").first.inner_text()
        places = [named.index(name) for name in in_order()]
        assert places == sorted(places)
        assert seen.complaints == []


def test_the_report_names_them(client: httpx.Client) -> None:
    answer = client.get(f"/reports/users/{USER}", params={"format": "json", "last": "1h"}, timeout=110)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    names = [column["name"] for column in found["tables"]["who"]["columns"]]
    rows = [dict(zip(names, row, strict=True)) for row in found["tables"]["who"]["rows"]]
    assert [row["process"] for row in rows if row["process"] in DUTIES] == in_order()
    used = {row["process"]: row["of all that was used"] for row in rows}
    busy = sum(one["processes"]["busy_s"] for one in STORY.reports)
    seconds = sum(one["processes"]["seconds"] for one in STORY.reports)
    for name, share in STORY.pidstat.items():
        assert abs(used[name] * busy / seconds - share) <= _POINTS
