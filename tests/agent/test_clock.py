"""Windows keep their place in time, whatever the wall clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import REMEMBERED, ServiceTime, Timeline
from contract.times import DAY_MS

T = 1_800_000_000_000


def test_a_window_ends_its_duration_after_its_start() -> None:
    assert Timeline().place(T, 5.0214) == (T, T + 5021)


def test_windows_that_follow_each_other_do_not_overlap_when_the_clock_is_slowed() -> None:
    timeline = Timeline()
    assert timeline.place(T, 5.0) == (T, T + 5000)
    assert timeline.place(T + 4998, 5.0) == (T + 5000, T + 9998)
    assert timeline.place(T + 9996, 5.0) == (T + 9998, T + 14996)


def test_a_clock_that_jumps_forward_is_followed() -> None:
    timeline = Timeline()
    timeline.place(T, 5.0)
    assert timeline.place(T + 3_600_000, 5.0) == (T + 3_600_000, T + 3_605_000)


def test_a_clock_that_jumps_back_is_followed_and_no_end_is_given_out_twice() -> None:
    timeline = Timeline()
    hour = [timeline.place(T + 5000 * window, 5.0)[1] for window in range(720)]
    again = [timeline.place(T + 5000 * window, 5.0) for window in range(720)]
    assert [end for _, end in again] == [end + 1 for end in hour]
    assert all(end - start in (5000, 5001) for start, end in again)


def test_ends_of_earlier_runs_are_not_given_out_again() -> None:
    assert Timeline([T + 5000, T + 5001]).place(T, 5.0) == (T, T + 5002)


def test_memory_is_bounded() -> None:
    timeline = Timeline()
    for window in range(5 * REMEMBERED):
        timeline.place(T + window, 0.001)
    assert len(timeline._ends) <= 2 * REMEMBERED


@given(
    st.lists(
        st.tuples(st.integers(-20_000, 20_000), st.floats(0.01, 10.0)),
        min_size=1,
        max_size=60,
    )
)
def test_ends_differ_and_windows_are_never_empty_for_any_clock(jumps: list[tuple[int, float]]) -> None:
    timeline, wall, ends = Timeline(), T, set()
    for jump, duration in jumps:
        start, end = timeline.place(wall + jump, duration)
        assert start < end
        assert end not in ends
        ends.add(end)
        wall = wall + jump + round(duration * 1000)


# The service's time


def told(date_s: float, asked_at: float = 100.0, answered_at: float = 100.1) -> ServiceTime:
    service_time = ServiceTime(wall_ms=lambda: T)
    service_time.heard(date_s, asked_at, answered_at)
    return service_time


def test_without_an_answer_nothing_is_corrected() -> None:
    assert ServiceTime().correction_ms(5, 1.0) == 0
    assert ServiceTime().ahead_s() is None


@pytest.mark.parametrize("days", [-1000, -3, 14, 400])
def test_a_window_is_moved_to_when_it_was_by_the_service(days: int) -> None:
    service_time = told(T / 1000)
    wrong_ms = T + days * DAY_MS
    moved = wrong_ms + service_time.correction_ms(wrong_ms, 100.0)
    assert moved == pytest.approx(T, abs=2000)
    before = wrong_ms - 5000
    assert before + service_time.correction_ms(before, 95.0) == moved - 5000


@pytest.mark.parametrize("seconds", [-57, 0, 57])
def test_a_clock_that_differs_by_less_is_believed(seconds: int) -> None:
    assert told(T / 1000).correction_ms(T + seconds * 1000, 100.0) == 0


def test_answers_that_agree_do_not_make_windows_jitter() -> None:
    service_time = told(T / 1000)
    before = service_time.at_ms(100.0)
    for second in range(1, 60):
        service_time.heard(T / 1000 + second, 100.3 + second, 100.6 + second)
        assert service_time.at_ms(100.0) == before


def test_a_slow_answer_is_replaced_by_a_quick_one_and_a_clock_that_was_set_is_followed() -> None:
    service_time = told(T / 1000, 80.0, 100.0)
    service_time.heard(T / 1000, 100.0, 100.1)
    assert service_time.at_ms(100.0) == pytest.approx(T, abs=1100)
    service_time.heard(T / 1000 + 3600, 101.0, 101.1)
    assert service_time.at_ms(101.0) == pytest.approx(T + 3_600_000, abs=1100)
