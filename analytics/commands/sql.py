"""`loadlens-analytics sql`: one question in SQL to windows, by DuckDB in memory, which reads and writes no file."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from analytics.commands.answering import failed, terminal
from analytics.commands.settings import PROGRAM, SpanSettings, duration
from contract import times
from contract.settings import load
from contract.times import WEEK_MS

if TYPE_CHECKING:
    import pandas as pd

    from analytics.sources.base import Source

_DESCRIPTION = """\
Answers one question in SQL (DuckDB's) about windows, of Parquet files (--data) or
of a service. The windows are read first; the question itself reaches no file and
no network, and changes nothing. There are two tables, their times in UTC:

  windows  metric, time, user, count, mean, var, std, min, max, approximated
  bins     metric, time, user, value, count: the samples' histograms"""
_EXAMPLES = f"""examples:
  {PROGRAM} sql --data fleet.parquet "SELECT user, max(mean) FROM windows GROUP BY user ORDER BY 2 DESC LIMIT 5"
  {PROGRAM} sql "SELECT time_bucket(INTERVAL 1 HOUR, time) AS hour, sum(mean * count) / sum(count) AS mean
      FROM windows GROUP BY 1 ORDER BY 1"
  {PROGRAM} sql "SELECT user, sum(count) FILTER (value > 0.9) / sum(count) AS hot FROM bins GROUP BY user"
  {PROGRAM} sql --data fleet/ --out hours.parquet "SELECT ..."
  {PROGRAM} sql "SUMMARIZE windows" """


class SqlSettings(SpanSettings, frozen=True, kw_only=True):
    """The question, and of which windows it is."""

    query: Annotated[str, Meta(description="The question: one SELECT.", min_length=1, extra={"positional": True})]
    rate: Annotated[
        str,
        Meta(
            description="The width of a service's windows, 1s to 52w; files are taken as they are.",
            extra={"metavar": "DURATION", "parse": duration(52 * WEEK_MS)},
        ),
    ] = "15m"


def run_sql(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(SqlSettings, argv, program=f"{PROGRAM} sql", description=_DESCRIPTION, epilog=_EXAMPLES)
    from analytics.commands.output import form_of, write
    from analytics.commands.tables import show_rows
    from analytics.frames.frame import FrameError
    from analytics.sources.connecting import connect
    from analytics.sources.service_api import ServiceError
    from analytics.sources.sql import SqlError, ask

    form = form_of(settings.format, settings.out, terminal=sys.stdout.isatty())
    try:
        with connect(settings.data or settings.url, settings.token, ca_file=settings.ca_file) as source:
            frames = _frames(source, settings)
        found = ask(settings.query, frames)
        if form == "table":
            show_rows(terminal(), found, "No rows.")
        else:
            write(found, form, settings.out)
    except BrokenPipeError:
        raise
    except (ServiceError, SqlError, FrameError, LookupError, OSError, ValueError) as error:
        return failed(error)
    return 0


def _frames(source: "Source", settings: SqlSettings) -> "list[pd.DataFrame]":
    """The windows of each host: of files all metrics, of a service the one that is named."""
    start_ms, end_ms = settings.bounds_ms(times.now_ms(), "1d")
    names = [settings.metric]
    if settings.data is not None:
        # Names of one quantity mean the same windows.
        held = source.metrics()
        names = held[~held["stored"].duplicated(keep="last")]["metric"].tolist()
    rate = "raw" if settings.data is not None else settings.rate
    by: Literal["user"] | None = None if settings.data is not None and source.users().empty else "user"
    return [source.fleet(name, start=start_ms, end=end_ms, rate=rate, by=by) for name in names]
