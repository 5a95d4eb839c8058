"""So much in a time for each, and what was taken comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.credentials.rates import Rate


def test_all_of_it_may_be_taken_at_once_and_comes_back_evenly() -> None:
    rate = Rate(10, 100.0, kept=10)
    rate.take("a", 0.0, 9)
    assert rate.wait_s("a", 0.0) == 0.0
    rate.take("a", 0.0)
    assert rate.wait_s("a", 0.0) == pytest.approx(10.0)
    assert rate.wait_s("a", 9.0) == pytest.approx(1.0)
    assert rate.wait_s("a", 10.0) == 0.0
    assert rate.wait_s("b", 0.0) == 0.0


def test_one_is_taken_where_there_is_one() -> None:
    rate = Rate(2, 100.0, kept=10)
    assert [rate.admits("a", 0.0) for _ in range(3)] == [True, True, False]
    assert not rate.admits("a", 49.0)
    assert rate.admits("a", 50.0)
    assert rate.wait_s("a", 50.0) == pytest.approx(50.0)


def test_more_than_there_is_is_waited_for_afterwards() -> None:
    rate = Rate(10, 100.0, kept=10)
    rate.take("a", 0.0, 35)
    assert rate.wait_s("a", 0.0) == pytest.approx(260.0)


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(1, 5)), max_size=60))
def test_over_any_time_no_more_is_taken_than_the_window_and_the_rate_give(asked: list[tuple[float, int]]) -> None:
    rate = Rate(10, 100.0, kept=10)
    now_s, taken, last = 0.0, 0, 0
    for pause_s, amount in asked:
        now_s += pause_s
        if not rate.wait_s("a", now_s):
            rate.take("a", now_s, amount)
            taken, last = taken + amount, amount
    # The last that is let in may take more than there is.
    assert taken <= 10 + now_s / 10.0 + max(last, 5)


def test_what_is_remembered_is_bounded() -> None:
    rate = Rate(1, 100.0, kept=3)
    for key in "abcad":
        rate.take(key, 0.0)
    assert len(rate) == 3
    assert [key for key in "abcd" if rate.wait_s(key, 0.0)] == ["a", "c", "d"]
