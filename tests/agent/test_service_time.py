"""The service's time: windows of a host whose clock is wrong are filed when they were, each once."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from agent.clock import ServiceTime
from contract.times import DAY_MS, now_ms
from tests.support.agents import FakeService, RunningAgent, serving
from tests.support.running import wait_until

T = 1_800_000_000.0
LIMIT_MS = 60_000


def told(date_s: float, asked_at: float = 100.0, answered_at: float = 100.1) -> ServiceTime:
    service_time = ServiceTime(wall_ms=lambda: round(T * 1000))
    service_time.heard(date_s, asked_at, answered_at)
    return service_time


def test_without_an_answer_nothing_is_corrected() -> None:
    assert ServiceTime().correction_ms(5, 1.0) == 0
    assert ServiceTime().ahead_s() is None


@pytest.mark.parametrize("days", [-1000, -3, 14, 400])
def test_a_window_is_moved_to_when_it_was_by_the_service(days: int) -> None:
    service_time = told(T)
    wrong_ms = round(T * 1000) + days * DAY_MS
    moved = wrong_ms + service_time.correction_ms(wrong_ms, 100.0)
    assert moved == pytest.approx(T * 1000, abs=2000)
    before = wrong_ms - 5000
    assert before + service_time.correction_ms(before, 95.0) == moved - 5000


@pytest.mark.parametrize("seconds", [-57, 0, 57])
def test_a_clock_that_differs_by_less_is_believed(seconds: int) -> None:
    assert told(T).correction_ms(round((T + seconds) * 1000), 100.0) == 0


def test_answers_that_agree_do_not_make_windows_jitter() -> None:
    service_time = told(T)
    before = service_time.at_ms(100.0)
    for second in range(1, 60):
        service_time.heard(T + second, 100.3 + second, 100.6 + second)
        assert service_time.at_ms(100.0) == before


def test_a_slow_answer_is_replaced_by_a_quick_one_and_a_clock_that_was_set_is_followed() -> None:
    service_time = told(T, 80.0, 100.0)
    service_time.heard(T, 100.0, 100.1)
    assert service_time.at_ms(100.0) == pytest.approx(T * 1000, abs=1100)
    service_time.heard(T + 3600, 101.0, 101.1)
    assert service_time.at_ms(101.0) == pytest.approx((T + 3600) * 1000, abs=1100)


def faked(days: str) -> dict[str, str]:
    """The environment of a process whose wall clock is so many days off, and whose steady clocks are not."""
    path = subprocess.run(["faketime", "-m", "-f", days, "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": path.stdout.strip(), "FAKETIME": days, "DONT_FAKE_MONOTONIC": "1"}
