"""`python -m service.reporting.worker`: makes one report, asking the service over HTTP as anybody would."""

import os
import sys
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from contract import times

ReportFormat = Literal["html", "md", "json"]


class ReportRequest(Struct, frozen=True, kw_only=True):
    """A report to make. Moments and durations are milliseconds; None leaves the choice to the report."""

    user_id: str | None
    """None for the fleet."""
    form: ReportFormat
    start_ms: int | None = None
    end_ms: int | None = None
    last_ms: int | None = None
    compare_ms: int | None = None
    target: float = 0.8
    tz: str = "UTC"
    """The time zone whose hours, days and weeks are looked at."""


class ReportRefused(Struct, frozen=True, tag=True):
    """Why there is no such report, and the HTTP status that says so."""

    status: int
    detail: str


class ReportMade(Struct, frozen=True, tag=True):
    """A finished report."""

    content: bytes
    policy: str = ""
    """The Content-Security-Policy of a page."""


_NICE = 10


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A report to make, and the service to ask for its data."""

    request: ReportRequest
    url: str
    token: str | None = None
    certificate: str | None = None
    """The file with the certificate that the service shows, whatever the name in it."""


def main() -> None:
    """Read a task from standard input, and write a ReportMade or ReportRefused to standard output."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.msgpack.encode(_done(task)))
    sys.stdout.buffer.flush()


def _done(task: Task) -> ReportMade | ReportRefused:
    from analytics.reports.data import NothingThere
    from analytics.sources.service_api import CutShortError, ProblemError

    try:
        return _made(task)
    except NothingThere as error:
        return ReportRefused(404, f"{str(error)[:1].upper()}{str(error)[1:]}.")
    except ProblemError as error:
        return ReportRefused(503 if error.status == 503 else 422, str(error))
    except CutShortError:
        return ReportRefused(503, "The store went away while the report was made.")


def _made(task: Task) -> ReportMade:
    from analytics.reports import export, html, making
    from analytics.reports.data import ReportQuestion
    from analytics.sources.connecting import connect

    request = task.request
    question = ReportQuestion(
        start_ms=request.start_ms, end_ms=request.end_ms, last_ms=request.last_ms, compare_ms=request.compare_ms,
        target=request.target, tz=request.tz,
    )  # fmt: skip
    now_ms = times.now_ms()
    ca_file = None if task.certificate is None else Path(task.certificate)
    with connect(task.url, task.token, ca_file=ca_file, check_name=ca_file is None) as source:
        if request.user_id is None:
            report = making.fleet(source, question, made_ms=now_ms, named="this service")
        else:
            report = making.user(source, request.user_id, question, made_ms=now_ms, named="this service")
    content = export.encoded(report, request.form, user_path=f"{urlsplit(task.url).path}/reports/users/")
    return ReportMade(content, html.policy() if request.form == "html" else "")


if __name__ == "__main__":
    main()
