"""Labels of hosts: how they are written, and which hosts a selector means."""

import pytest

from contract.report import Report, decode_report, encode
from contract.selectors import (
    MAX_LABEL_VALUE,
    MAX_LABELS,
    column_of_grouping,
    host_matcher,
    label_of,
    labels_text,
    names_labels,
    parse_labels,
    read_labels,
)
from contract.validation import InvalidReport, parse
from tests.support.reports import END_MS, as_json, small

LABELS = {"role": "web", "zone": "eu-1"}


def test_labels_are_written_as_name_and_value() -> None:
    assert parse_labels(["zone=eu-1", "role=web", "url=a=b"]) == LABELS | {"url": "a=b"}
    assert labels_text(LABELS) == "role=web,zone=eu-1"
    assert read_labels(labels_text(LABELS)) == LABELS
    assert read_labels("") == read_labels(None) == {}


@pytest.mark.parametrize(
    "text", ["role", "=web", "role=", "1st=a", "ro le=web", "role=a,b", "role=a\nb", "role=\u202eweb", "a" * 33 + "=b",
             "role=" + "x" * (MAX_LABEL_VALUE + 1), "role\n=web"],
)  # fmt: skip
def test_what_is_no_label_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected NAME=VALUE such as role=web"):
        parse_labels([text])


def test_labels_are_few_and_each_is_there_once() -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_LABELS} labels, got {MAX_LABELS + 1}"):
        parse_labels(f"l{number}=x" for number in range(MAX_LABELS + 1))
    with pytest.raises(ValueError, match="role twice"):
        parse_labels(["role=web", "role=db"])


def test_a_report_carries_the_labels_of_its_host() -> None:
    report = parse(as_json(small("u", END_MS, labels=LABELS)), END_MS)
    assert report.labels == LABELS
    assert decode_report(encode(report)).labels == LABELS
    assert isinstance(decode_report(as_json(small("u", END_MS))), Report)


@pytest.mark.parametrize(
    "labels",
    [
        {"role": ""}, {"role": "x" * (MAX_LABEL_VALUE + 1)}, {"role": "a,b"}, {"role": "a\x1b[31m"}, {"1": "x"},
        {"role\n": "x"}, {"role": 1}, ["role"], {f"l{number}": "x" for number in range(MAX_LABELS + 1)},
        {"a" * 33: "x"},
    ],
)  # fmt: skip
def test_a_report_with_other_labels_is_refused(labels: object) -> None:
    with pytest.raises(InvalidReport, match="/labels"):
        parse(as_json(small("u", END_MS, labels=labels)), END_MS)


@pytest.mark.parametrize(
    ("patterns", "is_meant"),
    [
        (["role=web"], True), (["role=w*"], True), (["role=db"], False), (["role=web,zone=eu-*"], True),
        (["role=web,zone=us-*"], False), (["role=db", "zone=eu-1"], True), (["rack=*"], False), (["web-*"], True),
        (["db-*"], False), (["db-*", "role=web"], True), (["*"], True), (["role=WEB"], False),
    ],
)  # fmt: skip
def test_hosts_are_selected_by_label_and_by_name(patterns: list[str], is_meant: bool) -> None:
    assert host_matcher(patterns)("web-1", LABELS) == is_meant


def test_a_host_that_is_called_like_a_selector_is_meant_by_it() -> None:
    assert host_matcher(["role=web"])("role=web", {})
    assert names_labels(["x", "role=web"])
    assert not names_labels(["web-*", "a,b", "=x", "role="])


def test_a_grouping_names_its_label() -> None:
    assert (label_of("label:role"), column_of_grouping("label:role")) == ("role", "label")
    assert (label_of("user"), column_of_grouping("user")) == (None, "user")
    assert label_of("label:") is label_of("label:a b") is label_of(None) is None
