"""What programs log: one line a record, as text for people or as JSON (RFC 8259) for programs that collect it."""

import logging
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal

import msgspec

from contract.problems import display
from contract.times import format_instant

LogFormat = Literal["text", "json"]
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; empty outside of one."""


def configure(level: str, form: LogFormat) -> None:
    """Log to standard error what is at least as serious as `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def fields(**members: Any) -> dict[str, Any]:
    """What `extra` of a call of a logger is to be, so that a line of JSON has these members beside the message."""
    return {"fields": members}


class OneLine(logging.Formatter):
    """Records for people: what cannot be seen in a message, such as line breaks or escapes, is written out."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a record; a traceback comes behind it as it is."""
        record.message = display(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Records as JSON: `time`, `level`, `logger`, `message`, `request_id` within a request, and the record's fields.

    A traceback is the text `exception`. What is logged for people is the same for programs: nothing is left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record on one line."""
        document: dict[str, Any] = {
            "time": format_instant(round(record.created * 1000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            document["request_id"] = request_id
        document |= getattr(record, "fields", {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(document, enc_hook=str).decode()
        except UnicodeEncodeError:
            # A file's name may hold bytes that are no text.
            shown = {name: ascii(value) if isinstance(value, str) else value for name, value in document.items()}
            return msgspec.json.encode(shown, enc_hook=str).decode()


class Seldom:
    """Lets some things be logged and counts the others, so that a flood of them is some lines and a number."""

    def __init__(self, lines: int = 10, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `lines` are let through in each stretch of `every_s`."""
        self._lines = lines
        self._every_s = every_s
        self._clock = clock
        self._began = -every_s
        self._let = 0
        self._left_out = 0

    def allows(self) -> bool:
        """Whether one more may be logged now; where not, it is counted."""
        now = self._clock()
        if now - self._began >= self._every_s:
            self._began, self._let = now, 0
        if self._let < self._lines:
            self._let += 1
            return True
        self._left_out += 1
        return False

    def left_out(self) -> str:
        """` (and 7 others before)` of what was counted since this was asked last; nothing where all was logged."""
        number, self._left_out = self._left_out, 0
        return f" (and {number} others before)" if number else ""
