"""What came shortly after an annotation is told in words, and nothing else is."""

import pytest

from analytics.reports.context import ReportAnnotation, about_all, shortly_after
from contract.times import HOUR_MS, MINUTE_MS

NOON = 1_772_452_800_000
DEPLOY = ReportAnnotation(NOON, NOON, "deploy 1.4", "*")


@pytest.mark.parametrize(
    ("later_ms", "words"),
    [
        (-1, ""),
        (0, "less than a minute after “deploy 1.4”"),
        (MINUTE_MS, "1 minute after “deploy 1.4”"),
        (2 * MINUTE_MS + 59_999, "2 minutes after “deploy 1.4”"),
        (HOUR_MS, "1 hour after “deploy 1.4”"),
        (HOUR_MS + 1, ""),
    ],
)
def test_what_came_within_an_hour_says_how_long_after(later_ms: int, words: str) -> None:
    assert shortly_after([DEPLOY], NOON + later_ms) == words


@pytest.mark.parametrize(
    ("width_ms", "words"),
    [
        (MINUTE_MS, ""),
        (5 * MINUTE_MS, "in the same 5 minutes as “deploy 1.4”"),
        (HOUR_MS, "in the same hour as “deploy 1.4”"),
        (2 * HOUR_MS, ""),
    ],
)
def test_what_is_known_to_a_bucket_is_not_told_to_the_minute(width_ms: int, words: str) -> None:
    assert shortly_after([DEPLOY], NOON - MINUTE_MS, width_ms) == words


def test_a_stretch_of_time_is_told_while_it_lasts_and_for_an_hour_more() -> None:
    incident = ReportAnnotation(NOON, NOON + 3 * HOUR_MS, "disk full", "*")
    assert shortly_after([incident], NOON + 2 * HOUR_MS) == "during “disk full”"
    assert shortly_after([incident], NOON + 3 * HOUR_MS + 5 * MINUTE_MS) == "5 minutes after “disk full”"
    assert shortly_after([incident], NOON + 5 * HOUR_MS) == ""


def test_the_last_of_several_is_told() -> None:
    later = ReportAnnotation(NOON + 10 * MINUTE_MS, NOON + 10 * MINUTE_MS, "deploy 1.5", "*")
    assert shortly_after([DEPLOY, later], NOON + 12 * MINUTE_MS) == "2 minutes after “deploy 1.5”"
    assert shortly_after([DEPLOY, later], NOON + 8 * MINUTE_MS) == "8 minutes after “deploy 1.4”"


def test_it_concerns_all_of_some_hosts_or_is_not_told_of_them() -> None:
    web, one = (ReportAnnotation(NOON, NOON, "deploy", pattern) for pattern in ("web-*", "web-1"))
    assert about_all([DEPLOY, web, one], ["web-1"]) == [DEPLOY, web, one]
    assert about_all([DEPLOY, web, one], ["web-1", "web-2"]) == [DEPLOY, web]
    assert about_all([DEPLOY, web, one], ["web-1", "db-1"]) == [DEPLOY]


def test_hidden_characters_of_a_text_are_written_out_and_a_long_one_is_cut() -> None:
    assert shortly_after([DEPLOY._replace(text="a\u202eb")], NOON) == "less than a minute after “a\\u202eb”"
    assert len(shortly_after([DEPLOY._replace(text="x" * 500)], NOON)) < 100
