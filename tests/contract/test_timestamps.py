"""Moments: ISO 8601 with any offset or epoch milliseconds in, Java's `Instant` out."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.timestamps import format_instant, parse_timestamp

NOON = 1531397700000
"""2018-07-12T12:15:00Z, the start of the original's query."""
MOST_MS = 253_402_300_799_999

moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 - an offset is added
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    "value",
    [
        "2018-07-12T12:15:00Z",
        "2018-07-12t12:15:00z",
        "2018-07-12T12:15Z",
        "2018-07-12T12:15:00.000Z",
        "2018-07-12T14:15:00+02:00",
        "2018-07-12T14:15:00+0200",
        "2018-07-12T07:45:00-04:30",
        "2018-07-12T14:15:00 02:00",  # the plus of a query string, unescaped
        "2018-07-12 14:15:00 02:00",
        "20180712T121500Z",
        "2018-07-12T12:15:00",
        "2018-07-12 12:15",
        " 2018-07-12T12:15:00Z ",
        "1531397700000",
        1531397700000,
        1531397700000.0,
    ],
)
def test_one_moment_written_in_many_ways(value: object) -> None:
    assert parse_timestamp(value) == NOON


def test_a_date_is_its_first_moment_in_utc() -> None:
    assert parse_timestamp("2018-07-12") == parse_timestamp("2018-07-12T00:00:00Z")


def test_zero_is_1970() -> None:
    assert parse_timestamp(0) == parse_timestamp("1970-01-01T00:00:00Z") == 0


def test_less_than_a_millisecond_is_rounded_up() -> None:
    assert parse_timestamp("2018-07-12T12:15:00.0001Z") == NOON + 1
    assert parse_timestamp("2018-07-12T12:15:00.999999Z") == NOON + 1000


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (1531397700, "looks like seconds; epoch milliseconds are right, such as 1531397700000"),
        ("1531397700", "looks like seconds"),
        ("20180712", "looks like seconds"),
        (1531397700000000, "not micro- or nanoseconds"),
        (-1, "before 1970"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("1970-01-01T00:00:00+01:00", "before 1970"),
        ("0001-01-01T00:00:00+05:00", "before 1970"),
        ("9999-12-31T23:59:59-01:00", "after the year 9999"),
        ("yesterday", "ISO 8601 such as 2018-07-12T12:15:00Z, or epoch milliseconds"),
        ("", "ISO 8601 such as"),
        ("2018-13-01", "ISO 8601 such as"),
        ("2018-02-30T00:00:00Z", "ISO 8601 such as"),
        ("nan", "ISO 8601 such as"),
        (1.5, "ISO 8601 such as"),
        (float("nan"), "ISO 8601 such as"),
        (float("inf"), "ISO 8601 such as"),
        (True, "ISO 8601 such as"),
        (None, "ISO 8601 such as"),
        ([NOON], "ISO 8601 such as"),
        ("x" * 5000, "ISO 8601 such as"),
        ("9" * 5000, "ISO 8601 such as"),
    ],
)
def test_anything_else_is_refused_with_what_is_right(value: object, right: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked below
        parse_timestamp(value)
    assert right in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1531402200000, "2018-07-12T13:30:00Z"),
        (1531402665626, "2018-07-12T13:37:45.626Z"),
        (1531402665600, "2018-07-12T13:37:45.600Z"),
        (1531402665006, "2018-07-12T13:37:45.006Z"),
        (MOST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_written_as_java_writes_it(ms: int, text: str) -> None:
    assert format_instant(ms) == text


@given(st.integers(0, MOST_MS))
def test_what_is_written_is_read_back(ms: int) -> None:
    assert parse_timestamp(format_instant(ms)) == ms


@given(moments, offsets)
def test_an_offset_changes_the_text_and_not_the_moment(moment: datetime, offset: timezone) -> None:
    exact = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    assert parse_timestamp(exact.astimezone(offset).isoformat()) == parse_timestamp(exact.isoformat())


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_timestamp(text) <= MOST_MS
