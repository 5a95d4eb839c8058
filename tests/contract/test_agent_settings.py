"""Settings of agents: bounds that name every wrong member, layers that merge, versions that name what is asked."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.agent_protocol import (
    METRIC_NAMES,
    DesiredSettings,
    InvalidSettings,
    SettingsInForce,
    merged,
    overlaid,
    parse_settings,
    version_of,
)

OWN = SettingsInForce(interval=0.05, samples=100, metrics=["cpu"])

layers = st.fixed_dictionaries(
    {},
    optional={
        "interval": st.floats(0.1, 3.0),
        "samples": st.integers(1, 1000),
        "metrics": st.lists(st.sampled_from(["cpu", "memory", "load"]), min_size=1, unique=True),
        "paused": st.booleans(),
        "log_level": st.sampled_from(["debug", "info", "warning", "error"]),
    },
)


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({"interval": 0.009}, "/interval", "0.01 to 60"),
        ({"interval": 60.1}, "/interval", "0.01 to 60"),
        ({"interval": float("inf")}, "/interval", "0.01 to 60"),
        ({"interval": "50ms"}, "/interval", "seconds"),
        ({"interval": None}, "/interval", "seconds"),
        ({"samples": 0}, "/samples", "1 to 10000"),
        ({"samples": 1.5}, "/samples", "whole number"),
        ({"metrics": []}, "/metrics", "list of cpu"),
        ({"metrics": ["cpu", "gpu"]}, "/metrics/1", "gpu"),
        ({"metrics": ["cpu", "cpu"]}, "/metrics", "twice"),
        ({"paused": 1}, "/paused", "true or false"),
        ({"log_level": "loud"}, "/log_level", "warning"),
        ({"intervall": 1}, "/intervall", "interval?"),
        ({"a/b~": 1}, "/a~1b~0", "got 'a/b~'"),
        ({"interval": 60, "samples": 61}, "/samples", "0.1 s to 3600 s"),
        ({"interval": 0.01, "samples": 9}, "/samples", "0.1 s to 3600 s"),
        ([], "", "object"),
        (None, "", "object"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_expected(document: object, pointer: str, words: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        parse_settings(document)
    [problem] = raised.value.problems
    assert problem.pointer == pointer
    assert words in problem.detail


def test_every_wrong_member_is_named() -> None:
    with pytest.raises(InvalidSettings) as raised:
        parse_settings({"interval": 0, "samples": 0, "paused": "no", "colour": "red"})
    assert {problem.pointer for problem in raised.value.problems} == {"/interval", "/samples", "/paused", "/colour"}


@given(st.lists(layers))
def test_of_each_member_the_last_layer_that_sets_it_counts(documents: list[dict[str, Any]]) -> None:
    together: dict[str, Any] = {}
    for document in documents:
        together |= document
    assert merged(map(parse_settings, documents)) == DesiredSettings(**together)


@given(layers, layers)
def test_versions_are_equal_exactly_where_the_settings_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = parse_settings(one) == parse_settings(other)
    assert (version_of(parse_settings(one)) == version_of(parse_settings(other))) is same
    assert bool(version_of(parse_settings(one))) is bool(one)


def test_what_is_not_asked_stays_as_the_agent_has_it() -> None:
    assert overlaid(OWN, DesiredSettings()) == OWN
    assert overlaid(OWN, DesiredSettings(interval=1.0, paused=True)) == SettingsInForce(
        interval=1.0, samples=100, metrics=["cpu"], paused=True
    )


def test_what_does_not_go_with_the_agents_own_settings_is_refused() -> None:
    with pytest.raises(
        InvalidSettings,
        match=r"samples: expected a report each .* got one each 6000 s",
    ):
        overlaid(OWN, DesiredSettings(interval=60.0))


def test_an_agents_own_unusual_window_does_not_stand_in_the_way_of_other_settings() -> None:
    own = SettingsInForce(interval=0.01, samples=1, metrics=["cpu"])
    assert overlaid(own, DesiredSettings(log_level="debug")).log_level == "debug"


@pytest.mark.parametrize(
    "told", ["service/http/pages/static/views/settings.js", "service/commands/agents/changing.py", "docs/api.md"]
)
def test_what_can_be_sampled_is_listed_where_people_choose(told: str) -> None:
    text = (Path(__file__).parents[2] / told).read_text(encoding="utf-8")
    assert [name for name in METRIC_NAMES if name not in text] == []
