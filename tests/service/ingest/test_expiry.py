"""A clock that runs ahead has nothing deleted before somebody can set it right."""

import pytest

from contract.times import DAY_MS, HOUR_MS
from service.ingest.expiry import ExpiryClock

NOW_MS = 1_800_000_000_000


class Clocks:
    """The system's clock and the steady one."""

    def __init__(self) -> None:
        self.ms = NOW_MS
        self.s = 0.0

    def go_on(self, ms: int) -> None:
        self.ms += ms
        self.s += ms / 1000

    def expiry(self, newest_ms: int | None) -> ExpiryClock:
        return ExpiryClock(newest_ms, wall_ms=lambda: self.ms, steady_s=lambda: self.s)


@pytest.mark.parametrize("newest_ms", [None, NOW_MS, NOW_MS - DAY_MS, NOW_MS + 5000])
def test_it_is_the_systems_clock_where_that_is_believable(newest_ms: int | None) -> None:
    clocks = Clocks()
    expiry = clocks.expiry(newest_ms)
    for _ in range(10):
        assert expiry.now_ms() == clocks.ms
        clocks.go_on(7 * DAY_MS)


def test_a_clock_that_was_ahead_at_the_start_is_followed_by_a_day_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.ms += 400 * DAY_MS
    expiry = clocks.expiry(NOW_MS)
    assert expiry.now_ms() == NOW_MS + DAY_MS
    clocks.go_on(HOUR_MS)
    assert expiry.now_ms() == NOW_MS + 2 * DAY_MS
    clocks.ms = NOW_MS + 2 * HOUR_MS
    assert expiry.now_ms() == clocks.ms, "it was set right"
    assert caplog.text.count("far ahead of the newest window") == 1


def test_a_clock_that_is_set_ahead_meanwhile_is_followed_by_a_day_an_hour() -> None:
    clocks = Clocks()
    expiry = clocks.expiry(NOW_MS)
    clocks.go_on(HOUR_MS)
    assert expiry.now_ms() == NOW_MS + HOUR_MS
    clocks.ms += 10 * DAY_MS
    clocks.go_on(HOUR_MS)
    assert expiry.now_ms() == NOW_MS + HOUR_MS + DAY_MS
    clocks.go_on(24 * HOUR_MS)
    assert expiry.now_ms() == clocks.ms
