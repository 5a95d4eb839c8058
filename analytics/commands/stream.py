"""`loadlens-analytics stream`: the reports of a service as they come, or the windows of a file as they came."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from analytics.commands.answering import failed, terminal
from analytics.commands.settings import PROGRAM, AskSettings
from contract.metrics import NAMES, Statistic
from contract.settings import fail, load
from contract.times import format_instant

if TYPE_CHECKING:
    import pandas as pd

_DESCRIPTION = """\
Follows the reports of hosts as the service acknowledges them, until Ctrl-C:
a line each on a terminal, CSV or JSON lines elsewhere. When the connection ends
it comes back, and goes on where it ended."""
_EXAMPLES = f"""examples:
  {PROGRAM} stream                                  every report
  {PROGRAM} stream --user 'web-*' --above 0.9       reports of some hosts that are hot
  {PROGRAM} stream --stat p95 --above 0.9 --format json | jq -r .user
  {PROGRAM} stream --data fleet.parquet --most 100  the windows of a file, in order of time"""
_STATISTICS = ("mean", "p95", "min", "max", "count")
_WIDTH = 22
"""Characters of a name on a line; of a longer one the last are shown."""


class StreamSettings(AskSettings, frozen=True, kw_only=True):
    """Which events of the stream are shown: of which hosts and kinds."""

    user: Annotated[
        tuple[str, ...],
        Meta(description="Of these hosts: names or patterns.", extra={"metavar": "PATTERN", "default": "all",
                                                                          "examples": ["web-*"]}),
    ] = ()  # fmt: skip
    metric: Annotated[
        str, Meta(description=f"What to show; `{PROGRAM} metrics` lists the names.", extra={"metavar": "NAME"})
    ] = "cpuLoadAvg"
    stat: Annotated[
        Statistic, Meta(description="The statistic that --above and --below mean.", extra={"metavar": "STAT"})
    ] = "mean"
    above: Annotated[
        float | None, Meta(description="Only reports above this number.", extra={"metavar": "NUMBER", "default": "all"})
    ] = None
    below: Annotated[
        float | None, Meta(description="Only reports below this number.", extra={"metavar": "NUMBER", "default": "all"})
    ] = None
    most: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="End after so many reports.", extra={"metavar": "N", "default": "go on"}),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == "parquet" or self.out is not None:
            raise ValueError("expected --format table, csv or json on standard output: a stream has no end to a file")
        if self.metric not in NAMES:
            raise ValueError(f"--metric: expected a name that `{PROGRAM} metrics` lists, got {self.metric}")


def run_stream(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code, which is 130 after Ctrl-C."""
    settings = load(StreamSettings, argv, program=f"{PROGRAM} stream", description=_DESCRIPTION, epilog=_EXAMPLES)
    from analytics.frames.frame import FrameError
    from analytics.sources.service_api import ServiceError

    if settings.data is not None and settings.stat not in _STATISTICS:
        fail(PROGRAM, f"--stat: expected one of {', '.join(_STATISTICS)} with --data, got {settings.stat}")
    write = _writer(settings)
    rows = _of_service(settings) if settings.data is None else _of_file(settings)
    try:
        for row in islice(rows, settings.most):
            write(row)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (ServiceError, FrameError, OSError, ValueError) as error:
        return failed(error)
    return 0


def _of_service(settings: StreamSettings) -> Iterator[dict[str, Any]]:
    """Rows of reports as they come; what was lost is said on standard error."""
    from analytics.sources.live import LostEvent, ValuesEvent, stream

    # The service names a metric's own statistic by the metric alone.
    own = NAMES[settings.metric].statistic
    named = {stat: settings.metric if stat == own else f"{settings.metric}.{stat}" for stat in _STATISTICS}
    events = stream(
        settings.url, token=settings.token, ca_file=settings.ca_file, user=settings.user or None,
        metric=settings.metric, stat=settings.stat, above=settings.above, below=settings.below,
        fields=["user_id", "end_timestamp", *named.values()],
    )  # fmt: skip
    for event in events:
        if isinstance(event, LostEvent):
            print(f"{PROGRAM}: reports {event.first} to {event.last} will not come", file=sys.stderr)
        elif isinstance(event, ValuesEvent):
            values = event.values
            yield {"time": format_instant(values["end_timestamp"]), "user": values["user_id"]} | {
                stat: values.get(name) for stat, name in named.items()
            }


def _of_file(settings: StreamSettings) -> Iterator[dict[str, Any]]:
    """Rows of the windows of a file, in order of time."""
    from analytics.frames.statistics import quantile
    from analytics.sources.connecting import connect
    from contract.selectors import matcher

    assert settings.data is not None
    with connect(settings.data) as source:
        frame = source.fleet(settings.metric, rate="raw", by="user")
    frame = frame[frame["count"] > 0]
    frame = frame.assign(p95=quantile(frame, 0.95)["value"].to_numpy()).sort_index(kind="stable")
    if settings.user:
        frame = frame[frame["user"].astype(str).map(matcher(settings.user))]
    if settings.above is not None:
        frame = frame[frame[settings.stat] > settings.above]
    if settings.below is not None:
        frame = frame[frame[settings.stat] < settings.below]
    yield from _rows(frame)


def _rows(frame: "pd.DataFrame") -> Iterable[dict[str, Any]]:
    import pandas as pd

    times = pd.DatetimeIndex(frame.index).as_unit("ms").asi8.tolist()
    columns = [frame[stat].tolist() for stat in _STATISTICS]
    for time, user, *values in zip(times, frame["user"].astype(str), *columns, strict=True):
        yield {"time": format_instant(time), "user": user} | dict(zip(_STATISTICS, values, strict=True))


def _writer(settings: StreamSettings) -> Callable[[dict[str, Any]], object]:
    """Writes one row, in the form that is wanted."""
    form = settings.format or ("table" if sys.stdout.isatty() else "csv")
    if form == "json":
        return lambda row: print(msgspec.json.encode(row).decode())
    if form == "csv":
        import csv

        table = csv.DictWriter(sys.stdout, ("time", "user", *_STATISTICS), lineterminator="\n")
        table.writeheader()
        return table.writerow
    from analytics.commands.output import formatter
    from analytics.commands.tables import plain

    console = terminal()
    unit = NAMES[settings.metric].quantity.unit
    written = {stat: formatter(unit, stat) for stat in _STATISTICS}
    headings = "".join(f"{stat:>9}" for stat in _STATISTICS[:-1])
    console.print(f"{'time (UTC)':<19}  {'user':<{_WIDTH}}{headings}".rstrip(), style="bold", soft_wrap=True)

    def show(row: dict[str, Any]) -> None:
        values = (row[stat] for stat in _STATISTICS[:-1])
        cells = ["-" if value is None else written[stat](value) for stat, value in zip(written, values, strict=False)]
        user = row["user"] if len(row["user"]) <= _WIDTH else "…" + row["user"][1 - _WIDTH :]
        line = f"{row['time'][:19].replace('T', ' '):<19}  {user:<{_WIDTH}}" + "".join(f"{cell:>9}" for cell in cells)
        console.print(plain(line), soft_wrap=True)

    return show
