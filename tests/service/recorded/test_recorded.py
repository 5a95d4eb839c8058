"""The HTTP interface answers what it answered when its answers were recorded, byte for byte.

Where an answer is meant to change: `python -m tests.service.recorded.record`, and look at the difference.
"""

import json
import re
from pathlib import Path

import pytest

from tests.service.recorded.differences import shown_differences
from tests.service.recorded.replay import read_exchanges, replay
from tests.service.recorded.requests import REQUESTS
from tests.support.running import ROOT

pytestmark = pytest.mark.server

_ROW = re.compile(r"^\| `[A-Z].*$", re.MULTILINE)


def test_every_answer_is_the_recorded_one(tmp_path: Path) -> None:
    exchanges = read_exchanges()
    answers = list(replay([one["request"] for one in exchanges], tmp_path))
    differences = shown_differences(exchanges, answers)
    assert not differences, differences


def test_what_is_recorded_is_what_the_modules_ask() -> None:
    assert [one["request"] for one in read_exchanges()] == json.loads(json.dumps(REQUESTS))


def test_every_endpoint_of_the_documentation_is_asked() -> None:
    table = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Send reports")[0]
    asked = [request["ask"].partition("?")[0] for request in REQUESTS]
    endpoints = [found for row in _ROW.findall(table) for found in _endpoints(row)]
    assert len(endpoints) > 30
    for method, path in endpoints:
        pattern = re.compile(f"{method} " + re.sub(r"\\{[a-z_]+\\}", "[^/]+", re.escape(path)))
        assert any(map(pattern.fullmatch, asked)), f"nothing asks {method} {path}"


def _endpoints(row: str) -> list[tuple[str, str]]:
    """Methods and paths of a row such as "| `GET`, `PUT /a` | reads or writes it; `POST /b` makes one |"."""
    first, _, rest = row.removeprefix("| ").partition(" |")
    *methods, last = re.findall("`([^`]+)`", first)
    method, _, path = last.partition(" ")
    others = re.findall("`([A-Z]+) (/[^`]*)`", rest)
    return [*((one, path) for one in (*methods, method)), *others]
