"""`python -m service.reporting.worker`: makes one report, asking the service over HTTP as anybody would.

An order comes in on standard input, as JSON with the service's address and token; what was made goes out on standard
output. It gives way to the service: it runs at a lower priority, and holds none of its locks.
"""

import os
import sys

import msgspec

from contract import times
from service.reporting.order import Made, Order, Refused

__all__ = ["Task", "main"]

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
    from analytics.answers import CutShortError, ProblemError
    from analytics.reports.data import NothingThere

    try:
        return _made(task)
    except NothingThere as error:
        return Refused(404, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    except ProblemError as error:
        return Refused(503 if error.status == 503 else 422, str(error))
    except CutShortError:
        return Refused(503, "The store went away while the report was made.")


def _made(task: Task) -> Made:
    from analytics.connecting import connect
    from analytics.reports import html, making
    from analytics.reports.data import Question

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
    content = making.encoded(report, order.form, user_path="/reports/users/")
    return Made(content, html.policy() if order.form == "html" else "")


if __name__ == "__main__":
    main()
