"""Hostile names stay names: in InfluxQL, and in line protocol."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.influx import identifier, literal, string_field, tag, tag_literal, tag_value

HOSTILE = [
    "plain", "6a:d6:96:d3:45:35", "a b", "a,b", "a=b", "'", '"', "\\", "a\\", "a\\\\", "\\'", '\\"', "a\\ b", "a\\,b",
    "a\\=", "' OR 1=1 --", "'; DROP DATABASE METRICS; --", '"; DROP SERIES', "zebra-\u00fc-\u4e2d-\U0001f980", "#",
    "$1", "/.*/", "-1", ",userId=other", " value=1 0", "measurements", "a\\\\,b", "time",
]  # fmt: skip


def unquoted(text: str, quote: str) -> str:
    """What InfluxQL's scanner makes of a quoted text; fails where it does not end with the text."""
    assert text[0] == text[-1] == quote
    found, rest = "", text[1:-1]
    while rest:
        assert rest[0] not in (quote, "\n"), "the text ends too early"
        if rest[0] == "\\":
            found += {"n": "\n", "\\": "\\", "'": "'", '"': '"'}[rest[1]]
            rest = rest[2:]
        else:
            found += rest[0]
            rest = rest[1:]
    return found


@pytest.mark.parametrize("name", [*HOSTILE, "line\nbreak"])
def test_a_text_in_a_query_is_that_text_and_ends_where_it_ends(name: str) -> None:
    assert unquoted(literal(name), "'") == name
    assert unquoted(identifier(name), '"') == name


@given(st.text(min_size=1))
def test_so_is_any_text(name: str) -> None:
    assert unquoted(literal(name), "'") == name
    assert unquoted(identifier(name), '"') == name


@given(st.text(min_size=1).filter(str.isprintable), st.text(min_size=1).filter(str.isprintable))
def test_two_names_are_two_tags_and_come_back_as_they_were(one: str, other: str) -> None:
    stored = unquoted(tag_literal(one), "'")
    assert tag_value(stored) == one
    assert not stored.endswith("\\")
    assert (tag("userId", one) == tag("userId", other)) == (one == other)


def test_what_would_end_a_tag_is_escaped() -> None:
    assert tag("userId", "a b,c=d") == r",userId=a\ b\,c\=d"
    assert tag("userId", "a\\") == ",userId=a\\\u200b"
    assert tag("osVersion", "") == ""
    with pytest.raises(ValueError, match="line breaks"):
        tag("userId", "a\nb")


def test_a_string_field_is_quoted() -> None:
    assert string_field('a"b\\') == '"a\\"b\\\\"'
