"""Windows keep their place in time, whatever the wall clock does."""

from hypothesis import given
from hypothesis import strategies as st

from agent.clock import REMEMBERED, Timeline

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
