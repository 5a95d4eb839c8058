"""What the commands of `loadlens-analytics` share: where to ask, what range, and where the answer goes."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta

from contract.metrics import NAMES, STATISTICS, Statistic
from contract.service_address import ServiceAddress
from contract.times import DAY_MS, WEEK_MS, format_duration, format_instant, parse_duration, parse_timestamp

PROGRAM = "loadlens-analytics"

OutputForm = Literal["table", "csv", "json", "parquet"]
_MIN_MS = 1000
_MAX_MS = 3650 * DAY_MS
_RATES = (
    "1s", "5s", "10s", "30s", "1m", "5m", "10m", "15m", "30m", "1h", "2h", "6h", "12h", "1d", "1w", "4w", "52w",
)  # fmt: skip


def duration(most_ms: int) -> Callable[[str], str]:
    """How a setting that is a length of time is read, of a second to `most_ms`."""

    def parse(text: str) -> str:
        return format_duration(parse_duration(text, _MIN_MS, most_ms))

    return parse


def zone(text: str) -> str:
    """How a setting that is a time zone is read."""
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"expected the name of a time zone such as Europe/Berlin or UTC, got {text!r}") from None


DURATION = {"metavar": "DURATION", "parse": duration(_MAX_MS)}
"""A setting that is a length of time of any kind."""
MOMENT = {
    "metavar": "TIME",
    "parse": parse_timestamp,
    "format": format_instant,
    "expected": "ISO 8601 or epoch milliseconds",
}
"""How a setting that is a moment is read."""


def fitting_rate(length_ms: int, most: int = 100) -> str:
    """The finest round width of buckets of which at most so many fit into a length of time."""
    return next((rate for rate in _RATES if parse_duration(rate) * most >= length_ms), _RATES[-1])


class AskSettings(ServiceAddress, frozen=True, kw_only=True):
    """Where to ask, and where the answer goes."""

    data: Annotated[
        Path | None,
        Meta(
            description="Parquet file, or a folder of such files, to read instead of asking the service.",
            extra={"metavar": "PATH", "default": "the service is asked"},
        ),
    ] = None
    format: Annotated[
        OutputForm | None,
        Meta(
            description="How to print the answer.",
            extra={"default": "as the suffix of --out says, else table on a terminal and csv elsewhere"},
        ),
    ] = None
    out: Annotated[
        Path | None, Meta(description="The file to write.", extra={"metavar": "FILE", "default": "standard output"})
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == "table" and self.out is not None:
            raise ValueError("--format table is for terminals; csv, json or parquet go into a file")
        # Now, and not after minutes of work.
        if self.out is not None and not self.out.absolute().parent.is_dir():
            raise ValueError(f"expected --out in a folder that is there, got {self.out}")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"expected a file as --out, got the folder {self.out}")


class SpanSettings(AskSettings, frozen=True, kw_only=True):
    """What to look at, and of which time."""

    metric: Annotated[
        str, Meta(description=f"What to show; `{PROGRAM} metrics` lists the names.", extra={"metavar": "NAME"})
    ] = "cpuLoadAvg"
    last: Annotated[
        str | None,
        Meta(
            description="Show the time this long before the end, such as 6h or 30d.",
            extra={**DURATION, "default": "1d; of files all there is"},
        ),
    ] = None
    start: Annotated[
        int | None,
        Meta(
            description="Show windows that end at this moment or later.",
            extra={**MOMENT, "default": "as --last"},
        ),
    ] = None
    end: Annotated[
        int | None, Meta(description="Show windows that end before this moment.", extra={**MOMENT, "default": "now"})
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last is not None and self.start is not None:
            raise ValueError("expected --last or --start, got both: each says where the range begins")
        if self.start is not None and self.end is not None and self.end < self.start:
            raise ValueError(
                f"expected --end not before --start {format_instant(self.start)}, got {format_instant(self.end)}"
            )

    def bounds_ms(self, now_ms: int, last: str) -> tuple[int | None, int | None]:
        """The half-open range asked for, epoch milliseconds, at the time `now_ms`; `last` is its usual length.

        Files are read from end to end where nothing is said: None means that there is no bound.
        """
        if self.data is not None and self.start is None and self.last is None:
            return None, self.end
        return self.range_ms(now_ms, last)

    def range_ms(self, now_ms: int, last: str = "1d") -> tuple[int, int]:
        """The same, always with bounds."""
        end_ms = now_ms if self.end is None else self.end
        if self.start is not None:
            return self.start, end_ms
        return max(0, end_ms - parse_duration(self.last or last, _MIN_MS, _MAX_MS)), end_ms


class RangeSettings(SpanSettings, frozen=True, kw_only=True):
    """Also how finely, and which statistic."""

    stat: Annotated[
        Statistic | None,
        Meta(
            description="The statistic of each bucket's samples.",
            extra={"default": "the metric's own, the mean for most", "expected": ", ".join(STATISTICS)},
        ),
    ] = None
    windows: Annotated[
        bool,
        Meta(description="Write every column of the windows instead of one value; Parquet has their histograms too."),
    ] = False
    rate: Annotated[
        str | None,
        Meta(
            description="The width of a bucket, 1s to 52w.",
            extra={"metavar": "DURATION", "parse": duration(52 * WEEK_MS),
                   "default": "as fits the range, 15m for a day"},
        ),
    ] = None  # fmt: skip

    def rate_of(self, start_ms: int | None, end_ms: int | None) -> str:
        """The width of a bucket for a range: the one that is set, else what fits.

        Of files that are read from end to end, 15 minutes.
        """
        if self.rate is not None or start_ms is None or end_ms is None:
            return self.rate or "15m"
        return fitting_rate(end_ms - start_ms)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows and self.stat is not None:
            raise ValueError("expected --windows or --stat, got both: the one writes all statistics, the other one")

    @property
    def statistic(self) -> Statistic | None:
        """What to ask for: None for windows, else the metric's own statistic where none is chosen."""
        if self.windows:
            return None
        named = NAMES.get(self.metric)
        return self.stat or (named.statistic if named else "mean")
