"""How finely a report looks."""

import pytest

from analytics.reports.data import HOSTS, TOTAL, not_finer
from contract.times import DAY_MS, HOUR_MS


@pytest.mark.parametrize(
    ("days", "hosts", "rate_ms"),
    [(1 / 24, 1, 10_000), (1, 10, 300_000), (6, 1200, HOUR_MS), (35, 100, HOUR_MS), (30, 10_000, 12 * HOUR_MS)],
)
def test_buckets_are_as_short_as_the_fleet_allows(days: float, hosts: int, rate_ms: int) -> None:
    assert HOSTS.rate_ms(int(days * DAY_MS), hosts * days * DAY_MS) == rate_ms


def test_the_course_of_the_whole_fleet_is_looked_at_more_finely_but_not_at_any_price() -> None:
    assert TOTAL.rate_ms(35 * DAY_MS, 100 * 35 * DAY_MS) == 300_000
    assert TOTAL.rate_ms(30 * DAY_MS, 10_000 * 30 * DAY_MS) == HOUR_MS


def test_a_range_of_years_is_reported_on_too() -> None:
    assert HOSTS.rate_ms(100 * 366 * DAY_MS, 1e6 * 100 * 366 * DAY_MS) == 7 * DAY_MS


def test_buckets_are_not_shorter_than_what_was_reported() -> None:
    assert not_finer(5000) == 10_000
    assert not_finer(300_000) == 300_000
    assert not_finer(300_001) == 900_000
