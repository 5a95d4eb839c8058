"""`loadlens-service export`: summaries as Parquet files, by day and by hash of the host, for analyses in bulk.

    FOLDER/METRIC/exported.json             what is there: buckets, parts, and the samples of each day
    FOLDER/METRIC/day=2026-11-01/part-000.parquet

A day is written when it is over, and again when its number of samples is not what was written: reports came late, or a
user was forgotten. Its files and what is said of it appear when all are written, where the file system can do that, as
folders and S3 can. The files are those that `analytics.connect` reads, whole or with Dask.
"""

import posixpath
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from contract import times
from contract.metrics import NAMES
from contract.problems import decode_json, plural
from contract.service_address import ServiceAddress
from contract.settings import load
from contract.times import DAY_MS, parse_duration
from service.commands import failed

if TYPE_CHECKING:
    import pandas as pd

    from analytics.sources.base import Source

_PROGRAM = "loadlens-service export"
_DESCRIPTION = """\
Writes summaries of all hosts as Parquet files, a folder for each day, for
analyses of more than fits into memory or on one host. What was written
before and has not changed is left as it is."""
_EPILOG = """examples:
  loadlens-service export --to /srv/export
  loadlens-service export --to s3://bucket/loadlens --rate 1h --metric cpuUtilization,memoryUtilization
  loadlens-analytics report fleet --data /srv/export"""
_ROWS = 500_000
"""Summaries in memory at once, about: some 200 MB with their histograms."""


class ExportSettings(ServiceAddress, frozen=True, kw_only=True):
    """What to write, and where to."""

    to: Annotated[
        str,
        Meta(
            min_length=1, description="A folder, a bucket of S3, or what else fsspec knows.",
            extra={"metavar": "FOLDER", "examples": ["/srv/export", "s3://bucket/loadlens"]},
        ),
    ]  # fmt: skip
    metric: Annotated[
        tuple[str, ...],
        Meta(description="The metrics to write.", extra={"metavar": "METRIC", "examples": ["cpuUtilization"]}),
    ] = ("cpuUtilization",)
    rate: Annotated[
        str, Meta(description="The width of a summary, which divides a day.", extra={"metavar": "TIME"})
    ] = "5m"
    parts: Annotated[
        int, Meta(ge=1, le=1000, description="Files of a day; each host is in one.", extra={"metavar": "N"})
    ] = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.metric:
            if name not in NAMES or NAMES[name].over_cores is not None:
                raise ValueError(f"--metric: expected a metric of windows, such as cpuUtilization, got {name}")
        try:
            rate_ms = parse_duration(self.rate)
        except ValueError as error:
            raise ValueError(f"--rate: {error}") from None
        if DAY_MS % rate_ms:
            raise ValueError(f"--rate: expected a time that divides a day, such as 5m or 1h, got {self.rate}")


class Exported(Struct):
    """What is there of a metric."""

    rate: str
    parts: int
    days: dict[str, int] = {}
    """The samples of each day that is there."""


class ExportError(Exception):
    """It cannot be written; the message says why."""


class ExportedMetric(NamedTuple):
    """What was done for a metric."""

    metric: str
    days: int
    unchanged: int
    rows: int


class Export:
    """Writes what a source has to a file system."""

    def __init__(self, source: "Source", settings: ExportSettings) -> None:
        """Raises ExportError where there is no such file system."""
        self._source = source
        self._rate, self._parts = settings.rate, settings.parts
        from analytics.sources.parquet_files import files_at

        try:
            self._files, self._root = files_at(settings.to)
        except ValueError as error:
            raise ExportError(f"--to {error}") from None

    def metric(self, name: str) -> Iterator[tuple[str, int]]:
        """Write the days of a metric that are over and not there as they are; each with its rows, 0 where unchanged.

        Raises ExportError where what is there was written otherwise, and what the source and the file system raise.
        """
        folder = posixpath.join(self._root, name)
        exported = self._exported(folder)
        for day_ms, samples in self._days(name):
            day = datetime.fromtimestamp(day_ms / 1000, UTC).date().isoformat()
            rows = 0
            if exported.days.get(day) != samples:
                exported.days[day] = samples
                with self._files.transaction:
                    rows = self._write_day(name, posixpath.join(folder, f"day={day}"), day_ms)
                    self._files.makedirs(folder, exist_ok=True)
                    with self._files.open(posixpath.join(folder, "exported.json"), "wb") as file:
                        file.write(msgspec.json.format(msgspec.json.encode(exported)))
            yield day, rows

    def _exported(self, folder: str) -> Exported:
        try:
            with self._files.open(posixpath.join(folder, "exported.json"), "rb") as file:
                found = decode_json(file.read(), Exported)
        except FileNotFoundError:
            return Exported(self._rate, self._parts)
        except msgspec.MsgspecError as error:
            raise ExportError(f"{folder}/exported.json is damaged: {error}; remove {folder} to write it anew") from None
        if (found.rate, found.parts) != (self._rate, self._parts):
            raise ExportError(
                f"{folder} was written with --rate {found.rate} --parts {found.parts}, not with --rate {self._rate} "
                f"--parts {self._parts}: go on with these, or choose another --to"
            )
        return found

    def _days(self, metric: str) -> list[tuple[int, int]]:
        """The days that are over and have samples, with their number."""
        today = times.now_ms() // DAY_MS * DAY_MS
        seen = self._source.users()["first_seen"].min()
        if seen is None or seen != seen:
            return []
        start = int(seen.timestamp() * 1000) // DAY_MS * DAY_MS
        if start >= today:
            return []
        counts = self._source.fleet(metric, start=start, end=today, rate="1d", stat="count")
        days = counts.index.as_unit("ms").asi8.tolist()  # type: ignore[attr-defined]
        return [(day, int(samples)) for day, samples in zip(days, counts["value"], strict=True) if samples > 0]

    def _write_day(self, metric: str, folder: str, day_ms: int) -> int:
        """Write the files of a day; how many summaries they have."""
        import pyarrow.parquet as pq

        from analytics.frames.exchange import schema_of, table_of

        schema = schema_of(users=True, cores=False, histograms=True)
        named = schema.with_metadata({b"metric": metric.encode()})
        before = self._names(folder)
        self._files.makedirs(folder, exist_ok=True)
        writers: dict[str, pq.ParquetWriter] = {}
        rows = 0
        with ExitStack() as stack:
            for frame in self._slices(metric, day_ms):
                for part, some in self._by_host(frame):
                    name = f"part-{part:03}.parquet"
                    if name not in writers:
                        file = stack.enter_context(self._files.open(posixpath.join(folder, name), "wb"))
                        writers[name] = stack.enter_context(pq.ParquetWriter(file, named, compression="zstd"))
                    writers[name].write_table(table_of(some, schema).replace_schema_metadata(named.metadata))
                    rows += len(some)
        for name in before - writers.keys():
            self._files.rm(posixpath.join(folder, name))
        return rows

    def _names(self, folder: str) -> set[str]:
        """The names of the files of a folder; none where there is no such folder."""
        try:
            return {posixpath.basename(path) for path in self._files.ls(folder, detail=False)}
        except FileNotFoundError:
            return set()

    def _slices(self, metric: str, day_ms: int) -> Iterator["pd.DataFrame"]:
        """The summaries of each host, a few hours at a time."""
        rate_ms = parse_duration(self._rate)
        span_ms = max(_ROWS // max(len(self._source.users()), 1), 1) * rate_ms
        for start in range(day_ms, day_ms + DAY_MS, span_ms):
            end = min(start + span_ms, day_ms + DAY_MS)
            yield self._source.fleet(metric, start=start, end=end, rate=self._rate, by="user")

    def _by_host(self, frame: "pd.DataFrame") -> Iterator[tuple[int, "pd.DataFrame"]]:
        """The rows of each part, by the CRC-32 of the host's name."""
        import numpy as np

        users = frame["user"].cat
        of_user = np.array([zlib.crc32(str(user).encode()) % self._parts for user in users.categories], np.int64)
        of_row = of_user[users.codes.to_numpy()] if len(of_user) else np.empty(0, np.int64)
        for part in np.unique(of_row):
            yield int(part), frame[of_row == part]


def written(export: Export, metric: str, say: Any = lambda day, rows: None) -> ExportedMetric:
    """Write a metric, and tell `say` of each day that is written."""
    days = unchanged = rows = 0
    for day, some in export.metric(metric):
        days, unchanged, rows = days + bool(some), unchanged + (not some), rows + some
        if some:
            say(day, some)
    return ExportedMetric(metric, days, unchanged, rows)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    settings = load(ExportSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    from analytics.sources.service import Client
    from analytics.sources.service_api import ServiceError

    try:
        with Client(settings.url, settings.token, ca_file=settings.ca_file) as source:
            export = Export(source, settings)
            for metric in settings.metric:
                done = written(export, metric, lambda day, rows: print(f"{day}: {_summaries(rows)}", file=sys.stderr))
                days = f"{plural(done.days, 'day')} written, {done.unchanged} unchanged"
                print(f"{metric}: {days}; {_summaries(done.rows)}")
    except (ExportError, ServiceError, LookupError, OSError) as error:
        return failed(_PROGRAM, error)
    return 0


def _summaries(number: int) -> str:
    return plural(number, "summary", "summaries")
