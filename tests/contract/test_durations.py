"""Durations: what InfluxQL writes is understood, anything else is answered with what would be right."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.durations import LEAST_MS, MOST_MS, format_duration, parse_duration

SECOND, MINUTE, HOUR, DAY, WEEK = 1000, 60_000, 3_600_000, 86_400_000, 604_800_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1s", SECOND),
        ("15m", 15 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("30m1h", 90 * MINUTE),
        ("1d12h", 36 * HOUR),
        ("4w", 4 * WEEK),
        ("52w", 52 * WEEK),
        ("1500ms", 1500),
        ("1000000u", SECOND),
        ("1000000\u00b5", SECOND),
        ("1000000\u03bc", SECOND),
        ("1000000000ns", SECOND),
        ("0h90s", 90 * SECOND),
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
        ("15", "as in 15s"),
        ("15M", "30d, 4w or 52w is right"),
        ("1mo", "30d, 4w or 52w is right"),
        ("1y", "30d, 4w or 52w is right"),
        ("1s1u", "not a whole number of milliseconds"),
        ("999ms", "1s to 52w is right"),
        ("0s", "1s to 52w is right"),
        ("53w", "1s to 52w is right"),
        ("365d", "1s to 52w is right"),
        ("999999999999999999w" * 99, "1s to 52w is right"),
        ("9" * 5000 + "s", "numbers with units"),
    ],
)
def test_other_texts_are_refused_with_what_is_right(text: str, right: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is checked below
        parse_duration(text)
    assert right in str(error.value)
    assert len(str(error.value)) < 250


def test_bounds_can_be_others() -> None:
    assert parse_duration("50ms", least_ms=10) == 50
    with pytest.raises(ValueError, match="10ms to 1h is right"):
        parse_duration("2h", least_ms=10, most_ms=HOUR)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (1, "1ms"), (1500, "1500ms"), (90 * MINUTE, "90m"), (DAY, "1d"), (30 * DAY, "30d"), (14 * DAY, "2w")],
)
def test_a_duration_is_written_in_the_largest_unit_that_divides_it(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(LEAST_MS, MOST_MS))
def test_what_is_written_is_read_back(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=6))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in parts)
    total = sum(parse_duration(f"{number}{unit}", least_ms=0, most_ms=10 * MOST_MS) for number, unit in parts)
    assert parse_duration(text, least_ms=0, most_ms=10 * MOST_MS) == total


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert LEAST_MS <= parse_duration(text) <= MOST_MS
