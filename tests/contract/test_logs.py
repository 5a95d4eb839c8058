"""What is logged is one line a record, as text or JSON, and a flood of lines is some lines and a number."""

import json
import logging
import sys

import pytest

from contract.logs import REQUEST_ID, JsonFormatter, OneLine, Seldom, fields


def line(message: str, *args: object, **more: object) -> dict[str, object]:
    record = logging.LogRecord("loadlens.service", logging.WARNING, "file.py", 1, message, args, None)
    record.__dict__ |= more
    text = JsonFormatter().format(record)
    assert "\n" not in text
    document: dict[str, object] = json.loads(text)
    return document


def test_a_record_is_an_object_with_the_fields_it_was_given() -> None:
    found = line("%d of %s", 3, "web-1", **fields(user="web-1", status=202))
    assert str(found.pop("time")).endswith("Z")
    assert found == {
        "level": "warning", "logger": "loadlens.service", "message": "3 of web-1", "user": "web-1", "status": 202,
    }  # fmt: skip


def test_a_traceback_is_within_the_line() -> None:
    try:
        raise ValueError("what\nwas")
    except ValueError:
        found = line("failed", exc_info=sys.exc_info())
    assert "ValueError: what\nwas" in str(found["exception"])


@pytest.mark.parametrize("message", ['"\n\x00', "a file \udcff", "ä€"])
def test_whatever_text_comes_is_a_line(message: str) -> None:
    assert line("%s", message)["message"]


def test_within_a_request_its_id_stands_in_each_line() -> None:
    named = REQUEST_ID.set("abc")
    assert line("x")["request_id"] == "abc"
    REQUEST_ID.reset(named)
    assert "request_id" not in line("x")


def test_a_flood_is_some_lines_and_a_number() -> None:
    now = [0.0]
    seldom = Seldom(lines=3, every_s=10.0, clock=lambda: now[0])
    assert [seldom.allows() for _ in range(8)] == [True] * 3 + [False] * 5
    now[0] = 10.0
    assert seldom.allows()
    assert seldom.left_out() == " (and 5 others before)"
    assert seldom.left_out() == ""


def test_what_cannot_be_seen_is_written_out() -> None:
    record = logging.LogRecord("agent", logging.WARNING, __file__, 1, "refused: %s", ("a\nb\r\x00\x1b[2J\u202e",), None)
    line = OneLine("%(levelname)s %(message)s").format(record)
    assert line == "WARNING refused: a\\u000ab\\u000d\\u0000\\u001b[2J\\u202e"


def test_a_traceback_keeps_its_lines() -> None:
    try:
        raise ValueError("x")
    except ValueError as error:
        record = logging.LogRecord(
            "agent", logging.ERROR, __file__, 1, "a fault", None, (ValueError, error, error.__traceback__)
        )
    text = OneLine("%(message)s").format(record)
    assert text.startswith("a fault\nTraceback")
    assert text.endswith("ValueError: x")
