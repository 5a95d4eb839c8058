"""Disks and interfaces of a host by name, in a real browser: a line each, all of them in the table, as text only."""

import time

import pytest
from msgspec.structs import replace
from playwright.sync_api import Browser, expect

from tests.support.dashboards import opened
from tests.support.devices import disks, interfaces, report
from tests.support.hostile_names import NAMES
from tests.support.reports import post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

USER, HOSTILE = "with disks", NAMES[2]
BUSY, RECEIVED = "Busy time of the busiest disk", "Bytes received, by interface"


@pytest.fixture(scope="module", autouse=True)
def told(service: RunningService) -> None:
    now_ms = time.time_ns() // 60_000_000_000 * 60_000
    many = {f"eth{number}": 100.0 * number for number in range(1, 9)}
    sent = [
        replace(
            report(0, disks(sda=0.5, nvme0n1=0.25), interfaces(**many, **{HOSTILE[:64]: 5000.0}), user=USER),
            start_timestamp=now_ms - 60_000 * step - 5000,
            end_timestamp=now_ms - 60_000 * step,
        )
        for step in range(1, 31)
    ]
    with service.client() as client:
        assert post(client, *sent).status_code == 202


def test_each_disk_has_a_line_and_rows(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={USER}&range=1h") as seen:
        card = seen.card(BUSY)
        expect(card.locator(".legend")).to_contain_text("sda")
        expect(card.locator(".legend")).to_contain_text("nvme0n1")
        assert seen.drawn(BUSY) > 200
        card.get_by_role("button", name="Table").click()
        rows = seen.rows(BUSY)
        assert {(row[1], float(row[2])) for row in rows} == {("sda", 0.5), ("nvme0n1", 0.25)}
        card.get_by_role("button", name="curl").click()
        expect(card.locator("pre")).to_contain_text("device=each")
        card.get_by_role("button", name="Python").click()
        expect(card.locator("pre")).to_contain_text('device="each"')
        assert seen.complaints == []


def test_of_many_interfaces_those_with_most_are_drawn_and_none_is_left_out(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, service, f"/host?id={USER}&range=1h") as seen:
        card = seen.card(RECEIVED)
        expect(card).to_contain_text("those 6 of 9 with most; the table has all")
        legend = card.locator(".legend")
        expect(legend).to_contain_text("eth8")
        expect(legend).to_contain_text(HOSTILE[:64])
        expect(legend).not_to_contain_text("eth1")
        card.get_by_role("button", name="Table").click()
        assert {row[1] for row in seen.rows(RECEIVED)} == {*(f"eth{number}" for number in range(1, 9)), HOSTILE[:64]}
        assert seen.page.title() != "pwned"
        assert seen.complaints == []
