"""A server's words take one line of the agent's log, whatever they are."""

import logging

from agent.log import OneLine


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
