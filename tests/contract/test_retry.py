"""The waits between attempts, and what servers ask for."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.retry import CAP_S, RETRY_AFTER_CAP_S, Backoff, retry_after_s


def longest(_least: float, most: float) -> float:
    return most


def test_the_bound_doubles_up_to_a_minute_and_begins_anew_after_a_success() -> None:
    backoff = Backoff(longest)
    assert [backoff.next_s() for _ in range(9)] == [1, 2, 4, 8, 16, 32, CAP_S, CAP_S, CAP_S]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_first_wait_and_cap_can_be_others() -> None:
    backoff = Backoff(longest, first_s=0.5, cap_s=3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1, 2, 3, 3]


def test_a_count_of_failures_kept_elsewhere_gives_the_same_waits() -> None:
    backoff = Backoff(longest)
    assert [backoff.after_s(failures) for failures in range(1, 10)] == [backoff.next_s() for _ in range(9)]


def test_the_wait_is_anywhere_below_the_bound() -> None:
    backoff = Backoff()
    waits = [backoff.after_s(10) for _ in range(500)]
    assert all(0.0 <= wait <= CAP_S for wait in waits)
    assert min(waits) < 0.2 * CAP_S < 0.8 * CAP_S < max(waits)


def test_the_wait_can_have_a_least_share_of_the_bound() -> None:
    backoff = Backoff(least=0.5)
    waits = [backoff.after_s(10) for _ in range(500)]
    assert all(0.5 * CAP_S <= wait <= CAP_S for wait in waits)
    assert min(waits) < 0.6 * CAP_S < 0.9 * CAP_S < max(waits)


def test_what_the_service_asks_for_comes_first_within_reason() -> None:
    backoff = Backoff(longest)
    assert backoff.next_s(30.0) == 31.0
    assert backoff.next_s(86_400.0) == RETRY_AFTER_CAP_S + 2.0
    assert Backoff(longest, retry_after_cap_s=5.0).next_s(86_400.0) == 6.0


def test_an_outage_of_months_is_no_harm() -> None:
    backoff = Backoff(longest)
    assert [backoff.next_s() for _ in range(5000)][-1] == CAP_S


NOON = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110."""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("9" * 400, 2.0**31),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),  # RFC 850's form
        ("Sun Nov  6 08:50:37 1994", 60.0),  # asctime's form
        ("Wed, 21 Oct 1992 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 2.0**31),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_s(header, NOON) == seconds


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "nan", "inf", "1e3", "٣", "²", "Sun, 99 Nov 1994"])
def test_anything_else_asks_for_nothing(header: str | None) -> None:
    assert retry_after_s(header, NOON) is None


@given(st.floats(0, 1e6))
def test_a_date_to_come_is_waited_for(seconds: float) -> None:
    wait_s = retry_after_s(formatdate(NOON + seconds, usegmt=True), NOON)
    assert wait_s is not None and abs(wait_s - seconds) <= 1.0


@given(st.text())
def test_no_header_asks_for_less_than_nothing(header: str) -> None:
    wait_s = retry_after_s(header)
    assert wait_s is None or 0.0 <= wait_s <= 2.0**31
