"""`loadlens-analytics report`: a report on the fleet or on one host, as a file."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from analytics.commands.settings import DURATION, MOMENT, PROGRAM, AskSettings, zone
from analytics.reports.model import ReportForm
from contract import times
from contract.selectors import MAX_USER_ID
from contract.settings import load
from contract.times import format_instant, parse_duration

if TYPE_CHECKING:
    from rich.console import Console

    from analytics.reports.data import ReportQuestion
    from analytics.reports.model import ReportDocument


_DESCRIPTION = """\
Writes a report: findings in plain sentences, figures, and tables that sort, in
one file that opens without a network."""
_EPILOG = f"""examples:
  {PROGRAM} report fleet --out fleet.html
  {PROGRAM} report user 6a:d6:96:d3:45:35 --last 7d --out host.pdf
  {PROGRAM} report fleet --data fleet.parquet --format md
  {PROGRAM} report fleet --compare 7d --format json | jq '.findings[].sentence'"""
_SUFFIXES: dict[str, ReportForm] = {
    ".html": "html", ".htm": "html", ".pdf": "pdf", ".png": "png", ".md": "md", ".json": "json",
}  # fmt: skip
_NAME_CHARACTERS = 80


class ReportSettings(AskSettings, frozen=True, kw_only=True):
    """On what, over which time, as what."""

    subject: Annotated[
        Literal["fleet", "user"],
        Meta(description="On all hosts, or on one.", extra={"positional": True, "metavar": "SUBJECT"}),
    ]
    user_id: Annotated[
        Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)] | None,
        Meta(
            description=f"The host, after `user`, as `{PROGRAM} users` lists it.",
            extra={"positional": True, "default": "none"},
        ),
    ] = None
    format: Annotated[
        ReportForm | None,
        Meta(description="What to write; pdf and png need Chromium.",
             extra={"default": "as the suffix of --out says, else html"}),
    ] = None  # type: ignore[assignment]  # fmt: skip
    out: Annotated[
        Path | None,
        Meta(
            description="The file to write.",
            extra={"metavar": "FILE", "default": "a file named after the subject; standard output in a pipe"},
        ),
    ] = None
    last: Annotated[
        str | None,
        Meta(
            description="Report on the time this long before the end, such as 24h or 7d.",
            extra={**DURATION, "default": "35d, or since the first data"},
        ),
    ] = None
    start: Annotated[
        int | None,
        Meta(
            description="Report on windows that end at this moment or later.", extra={**MOMENT, "default": "as --last"}
        ),
    ] = None
    end: Annotated[
        int | None,
        Meta(
            description="Report on windows that end before this moment.", extra={**MOMENT, "default": "the last data"}
        ),
    ] = None
    compare: Annotated[
        str | None,
        Meta(
            description="Compare this long a time at the end with as much before it.",
            extra={**DURATION, "default": "the two halves"},
        ),
    ] = None
    target: Annotated[
        Annotated[float, Meta(gt=0, le=1)],
        Meta(description="The utilization that a host should rarely exceed, a share."),
    ] = 0.8
    tz: Annotated[
        str,
        Meta(
            description="The time zone whose hours, days and weeks are looked at.",
            extra={"examples": ["Europe/Berlin"], "parse": zone},
        ),
    ] = "UTC"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.subject == "user") != (self.user_id is not None):
            if self.subject == "user":
                raise ValueError("expected report user USER_ID, got no host")
            raise ValueError(f"expected report fleet without a host, got {self.user_id}")
        if self.last is not None and self.start is not None:
            raise ValueError("expected --last or --start, got both: each says where the range begins")
        if self.out is not None and self.format is None and self.out.suffix.lower() not in ("", *_SUFFIXES):
            raise ValueError(
                f"expected --format, or --out with a name that ends in {', '.join(_SUFFIXES)}, got --out {self.out}"
            )
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(
                f"expected --end after --start {format_instant(self.start)}, got {format_instant(self.end)}"
            )

    def question(self) -> "ReportQuestion":
        """The range and what else shapes the report."""
        from analytics.reports.data import ReportQuestion

        return ReportQuestion(
            start_ms=self.start, end_ms=self.end, last_ms=None if self.last is None else parse_duration(self.last),
            compare_ms=None if self.compare is None else parse_duration(self.compare), target=self.target, tz=self.tz,
        )  # fmt: skip


def run_report(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(ReportSettings, argv, program=f"{PROGRAM} report", description=_DESCRIPTION, epilog=_EPILOG)
    from rich.console import Console

    from analytics.frames.frame import FrameError
    from analytics.reports.browser import BrowserError
    from analytics.reports.data import NothingThere
    from analytics.reports.export import encoded
    from analytics.sources.service_api import ServiceError

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    form = settings.format or (_SUFFIXES.get(settings.out.suffix.lower(), "html") if settings.out else "html")
    try:
        with console.status("Reading and computing ..."):
            report = _made(settings)
        with console.status("Writing ..."):
            content = encoded(report, form)
            out = _write(content, settings, form)
    except BrokenPipeError:
        raise
    except (ServiceError, NothingThere, BrowserError, FrameError, LookupError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"{PROGRAM}: error: {reason}", file=sys.stderr)
        return 1
    if out is not None and console.is_terminal:
        _tell(console, report, out, len(content))
    return 0


def _made(settings: ReportSettings) -> "ReportDocument":
    from analytics.reports import making
    from analytics.sources.connecting import connect

    now_ms = times.now_ms()
    named = settings.url if settings.data is None else settings.data.name
    with connect(settings.data or settings.url, settings.token, ca_file=settings.ca_file) as source:
        if settings.user_id is None:
            return making.fleet(source, settings.question(), made_ms=now_ms, named=named)
        return making.user(source, settings.user_id, settings.question(), made_ms=now_ms, named=named)


def _write(content: bytes, settings: ReportSettings, form: str) -> Path | None:
    """Put the content where it belongs, whole or not at all; returns the file, if it is one."""
    out = settings.out
    if out is None and not sys.stdout.isatty():
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return None
    out = out or Path(file_name(settings.user_id, form))
    partial = out.with_name(out.name + ".part")
    partial.write_bytes(content)
    partial.replace(out)
    return out


def file_name(user_id: str | None, form: str) -> str:
    """A name for the file of a report: whatever a host is called, of plain characters and in no other folder."""
    subject = "fleet" if user_id is None else "machine-" + re.sub(r"[^A-Za-z0-9_-]+", "-", user_id)[:_NAME_CHARACTERS]
    return f"loadlens-{subject.rstrip('-')}.{form}"


def _tell(console: "Console", report: "ReportDocument", out: Path, size: int) -> None:
    console.print(f"{out} ({size / 1e6:.1f} MB)")
    for finding in report.findings:
        if finding.severity == "act":
            console.print(f"  {finding.sentence}")
