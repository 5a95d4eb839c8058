"""Durations, moments and the clock: what is written is read back, anything else is answered with what is expected."""

import contextlib
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.times import (
    DAY_MS,
    HOUR_MS,
    MAX_RATE_MS,
    MIN_RATE_MS,
    MINUTE_MS,
    SECOND_MS,
    WEEK_MS,
    format_duration,
    format_instant,
    now_ms,
    parse_duration,
    parse_timestamp,
)

NOON = 1531397700000
"""2018-07-12T12:15:00Z, the start of the original's query."""
LAST_MS = 253_402_300_799_999

moments = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30))  # noqa: DTZ001 - an offset is added
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def test_lengths_are_milliseconds() -> None:
    assert (SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS, WEEK_MS) == (1000, 60_000, 3_600_000, 86_400_000, 604_800_000)


def test_now_is_the_systems_clock() -> None:
    before = time.time_ns() // 1_000_000
    assert before <= now_ms() <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1s", SECOND_MS),
        ("15m", 15 * MINUTE_MS),
        ("1h30m", 90 * MINUTE_MS),
        ("30m1h", 90 * MINUTE_MS),
        ("1d12h", 36 * HOUR_MS),
        ("4w", 4 * WEEK_MS),
        ("52w", 52 * WEEK_MS),
        ("1500ms", 1500),
        ("1000000u", SECOND_MS),
        ("1000000\u00b5", SECOND_MS),
        ("1000000\u03bc", SECOND_MS),
        ("1000000000ns", SECOND_MS),
        ("0h90s", 90 * SECOND_MS),
    ],
)
def test_influxql_durations_are_milliseconds(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", "numbers with units"),
        ("m", "numbers with units"),
        ("15 m", "numbers with units"),
        ("1h 30m", "numbers with units"),
        ("1.5h", "numbers with units"),
        ("-1h", "numbers with units"),
        ("15m; DROP DATABASE METRICS", "numbers with units"),
        ("\u0661\u0665m", "numbers with units"),  # Arabic-Indic digits
        ("15", "such as 15s"),
        ("15M", "such as 30d, 4w or 52w, got "),
        ("1mo", "such as 30d, 4w or 52w, got "),
        ("1y", "such as 30d, 4w or 52w, got "),
        ("1s1u", "expected a whole number of milliseconds"),
        ("999ms", "expected 1s to 52w, got "),
        ("0s", "expected 1s to 52w, got "),
        ("53w", "expected 1s to 52w, got "),
        ("365d", "expected 1s to 52w, got "),
        ("999999999999999999w" * 99, "got 1881 characters"),
        ("9" * 5000 + "s", "got 5001 characters"),
    ],
)
def test_other_texts_are_refused_with_what_is_expected(text: str, right: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked below
        parse_duration(text)
    assert right in str(error.value)
    assert len(str(error.value)) < 250


def test_bounds_can_be_others() -> None:
    assert parse_duration("50ms", least_ms=10) == 50
    with pytest.raises(ValueError, match="expected 10ms to 1h, got '2h'"):
        parse_duration("2h", least_ms=10, most_ms=HOUR_MS)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (1500, "1500ms"),
        (90 * MINUTE_MS, "90m"),
        (DAY_MS, "1d"),
        (30 * DAY_MS, "30d"),
        (14 * DAY_MS, "2w"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_that_divides_it(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(MIN_RATE_MS, MAX_RATE_MS))
def test_a_duration_that_is_written_is_read_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=6))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    total = sum(parse_duration(f"{number}{unit}", least_ms=0, most_ms=10 * MAX_RATE_MS) for number, unit in parts)
    assert parse_duration(text, least_ms=0, most_ms=10 * MAX_RATE_MS) == total


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert MIN_RATE_MS <= parse_duration(text) <= MAX_RATE_MS


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
        (1531397700, "expected epoch milliseconds such as 1531397700000, got 1531397700, which looks like seconds"),
        ("1531397700", "looks like seconds"),
        ("20180712", "looks like seconds"),
        (1531397700000000, "micro- or nanoseconds?"),
        (-1, "expected a moment of 1970 or later"),
        ("1969-12-31T23:59:59Z", "expected a moment of 1970 or later"),
        ("1970-01-01T00:00:00+01:00", "expected a moment of 1970 or later"),
        ("0001-01-01T00:00:00+05:00", "expected a moment of 1970 or later"),
        ("9999-12-31T23:59:59-01:00", "9999"),
        ("yesterday", "ISO 8601 such as 2018-07-12T12:15:00Z or epoch milliseconds"),
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
def test_anything_else_is_refused_with_what_is_expected(value: object, right: str) -> None:
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
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_written_as_java_writes_it(ms: int, text: str) -> None:
    assert format_instant(ms) == text


@given(st.integers(0, LAST_MS))
def test_a_moment_that_is_written_is_read_back(ms: int) -> None:
    assert parse_timestamp(format_instant(ms)) == ms


@given(moments, offsets)
def test_an_offset_changes_the_text_and_not_the_moment(moment: datetime, offset: timezone) -> None:
    exact = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    assert parse_timestamp(exact.astimezone(offset).isoformat()) == parse_timestamp(exact.isoformat())


@given(st.text(max_size=30))
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_timestamp(text) <= LAST_MS
