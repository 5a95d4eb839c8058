"""Patterns for user ids: the language of fnmatch, and never slow."""

import fnmatch
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.selectors import EVERYBODY, MAX_PATTERN, checked_pattern, exact_names, matcher

TEXTS = st.text(st.sampled_from("ab-[]!*?^\\&|~.\nB"), max_size=12)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("web-1", ["web-1"], ["web-12", "WEB-1", "aweb-1"]),
        ("web-*", ["web-", "web-1", "web-a\nb"], ["web", "Web-1"]),
        ("web-?", ["web-1", "web-*"], ["web-", "web-12"]),
        ("web-[ab]*", ["web-a", "web-b12"], ["web-c", "web-[ab]", "web-"]),
        ("web-[a-c]", ["web-a", "web-b"], ["web-d", "web--"]),
        ("web-[!ab]", ["web-c", "web-A"], ["web-a", "web-"]),
        ("web-[[]1]", ["web-[1]"], ["web-1"]),
        ("web-[", ["web-["], ["web-"]),
        ("*", ["", "a", "a\nb"], []),
    ],
)
def test_a_pattern_means_what_it_means_to_fnmatch(pattern: str, matching: list[str], others: list[str]) -> None:
    takes = matcher([pattern])
    assert [name for name in matching + others if takes(name)] == matching


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=3), TEXTS)
def test_one_of_several_patterns_is_enough(patterns: list[str], name: str) -> None:
    assert matcher(patterns)(name) == any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=3), TEXTS)
def test_exact_names_are_all_that_match(patterns: list[str], name: str) -> None:
    names = exact_names(patterns)
    assert names is None or (name in names) == matcher(patterns)(name)
    assert (names is None) == any(set(pattern) & set("*?[") for pattern in patterns)


def test_everybody_is_everybody() -> None:
    assert matcher(EVERYBODY)("anybody")
    assert not matcher([])("anybody")


@pytest.mark.parametrize("pattern", ["", "a" * (MAX_PATTERN + 1)])
def test_patterns_are_bounded(pattern: str) -> None:
    for refuse in (checked_pattern, lambda text: matcher([text])):
        with pytest.raises(ValueError, match=f"expected a pattern of 1 to {MAX_PATTERN} characters"):
            refuse(pattern)
    assert checked_pattern("a" * MAX_PATTERN)


def test_many_stars_are_not_slow() -> None:
    # A matcher that backtracks would never come to an end.
    for letters in itertools.product("ab", repeat=3):
        pattern = ("*" + "".join(letters)) * (MAX_PATTERN // 4)
        assert not matcher([pattern])("ab" * (MAX_PATTERN // 2) + "c" * MAX_PATTERN + "!")
