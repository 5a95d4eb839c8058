"""`python -m service.reporting.worker`: makes one report, asking the service over HTTP as anybody would."""

import os
import sys
from typing import Literal

import msgspec
from msgspec import Struct

from contract import times

Form = Literal["html", "md", "json"]


class Order(Struct, frozen=True, kw_only=True):
    """A report to make. Moments and durations are milliseconds; None leaves the choice to the report."""

    user_id: str | None
    """None for the fleet."""
    form: Form
    start_ms: int | None = None
    end_ms: int | None = None
    last_ms: int | None = None
    compare_ms: int | None = None
    target: float = 0.8


class Refused(Struct, frozen=True, tag=True):
    """There is no such report."""

    status: int
    detail: str


class Made(Struct, frozen=True, tag=True):
    """A finished report."""

    content: bytes
    policy: str = ""
    """The Content-Security-Policy of a page."""


_NICE = 10


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and whom to ask."""

    order: Order
    url: str
    token: str | None = None


def main() -> None:
    """Read a task, write what came of it."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.msgpack.encode(_done(task)))
    sys.stdout.buffer.flush()


def _done(task: Task) -> Made | Refused:
    from analytics.reports.data import NothingThere
    from analytics.sources.service_api import CutShortError, ProblemError

    try:
        return _made(task)
    except NothingThere as error:
        return Refused(404, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    except ProblemError as error:
        return Refused(503 if error.status == 503 else 422, str(error))
    except CutShortError:
        return Refused(503, "The store went away while the report was made.")


def _made(task: Task) -> Made:
    from analytics.reports import export, html, making
    from analytics.reports.data import Question
    from analytics.sources.connecting import connect

    order = task.order
    question = Question(
        start_ms=order.start_ms, end_ms=order.end_ms, last_ms=order.last_ms, compare_ms=order.compare_ms,
        target=order.target,
    )  # fmt: skip
    now_ms = times.now_ms()
    with connect(task.url, task.token) as source:
        if order.user_id is None:
            report = making.fleet(source, question, made_ms=now_ms, named="this service")
        else:
            report = making.user(source, order.user_id, question, made_ms=now_ms, named="this service")
    content = export.encoded(report, order.form, user_path="/reports/users/")
    return Made(content, html.policy() if order.form == "html" else "")


if __name__ == "__main__":
    main()
