"""Windows in memory as columns: made of reports, sorted by series, found without looking at the others."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from msgspec import UNSET, UnsetType

from analytics.frames.columns import NUMBERS, Windows, merge
from analytics.frames.frame import histograms_of, moments_of, to_frame
from analytics.frames.packing import pack_one
from analytics.frames.reported import frame_of_reported
from contract.metrics import Cpu, Distribution, Metric, whole_window
from contract.report import Report
from service.stores.process_use import UseTables

Numbers = npt.NDArray[Any]

SCHEMA = pa.schema(
    [
        pa.field("series", pa.int32(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("duration", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("variance", pa.float64(), nullable=False),
        pa.field("minimum", pa.float64(), nullable=False),
        pa.field("maximum", pa.float64(), nullable=False),
        pa.field("histogram", pa.binary(), nullable=False),
    ]
)
"""A window of a series, as it came: `time` is its end in epoch ms, `duration` its length in ms. Minimum and maximum
are NaN, and the histogram is empty, where the report did not say them."""


class LoadedRows(NamedTuple):
    """Windows that were loaded, before they are named."""

    series: npt.NDArray[np.integer]
    """The number of each row's series."""
    frame: pd.DataFrame
    """A frame of windows without labels (`analytics.frames.frame`)."""

    @classmethod
    def of(cls, windows: Windows) -> Self:
        """The rows of some windows."""
        return cls(windows.series, to_frame(windows))

    @classmethod
    def empty(cls, *, histograms: bool) -> Self:
        """No rows, with a column of histograms or without."""
        empty = Windows.empty()
        return cls.of(empty if histograms else replace(empty, histograms=None))

    def take(self, kept: npt.NDArray[np.bool_]) -> Self:
        """The rows that a mask keeps."""
        return self if kept.all() else type(self)(self.series[kept], self.frame[kept])

    def windows(self) -> Windows:
        """The rows as plain arrays, with their histograms if they have any."""
        columns = {name: self.frame[column].to_numpy() for column, name in NUMBERS.items()}
        histograms = histograms_of(self.frame) if "histogram" in self.frame else None
        time = moments_of(self.frame).asi8
        return Windows(series=self.series.astype(np.int64), time=time, **columns, histograms=histograms)


def rows_of(batch: pa.RecordBatch | pa.Table, bounded: npt.NDArray[np.bool_], *, histograms: bool) -> LoadedRows:
    """The windows of a batch of `SCHEMA`, what their reports left out filled in (`analytics.frames.reported`).

    `bounded` has by series number whether its quantity is a share.
    """
    series = numbers(batch, "series")
    frame = frame_of_reported(
        numbers(batch, "time"), numbers(batch, "count"), numbers(batch, "mean"), numbers(batch, "variance"),
        numbers(batch, "minimum"), numbers(batch, "maximum"), binary(batch), bounded[series], histograms=histograms,
    )  # fmt: skip
    return LoadedRows(series, frame)


def numbers(batch: pa.RecordBatch | pa.Table, name: str) -> Numbers:
    """A column of numbers as an array."""
    column: Numbers = batch[name].to_numpy()
    return column


def binary(batch: pa.RecordBatch | pa.Table) -> pa.BinaryArray:
    """The packed histograms, in one piece."""
    column = batch["histogram"]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


MEMTABLE_SCHEMA = SCHEMA.append(pa.field("system", pa.int32(), nullable=False))
"""What a memtable has of each window: `system` is the place of the operating system in `SeriesIndex.systems`."""

_LONGEST = 2**31 - 1

Entry = tuple[tuple[int, ...], Report, Metric, int]
"""The series of a metric, the report it came in, the metric, the system of the host."""


class WindowsInMemory(Protocol):
    """Windows in memory."""

    def batches(self) -> list[pa.RecordBatch]:
        """All of them, with the columns of `SCHEMA` at least."""

    def pieces(self) -> list["SortedWindows"]:
        """The same, sorted by series piece by piece."""

    def process_uses(self) -> list[UseTables]:
        """Who used the CPU, of the windows that said so."""

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """Those of some series: numbers, ascending. Its cost grows with what it finds."""

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a series and an end, whether that window is here."""


class SortedWindows:
    """Windows that do not change, sorted by series, so that those of one are found without looking at the others."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        """Take windows that are sorted by series."""
        self.batch = batch
        self._series = numbers(batch, "series")
        self._time = numbers(batch, "time")
        self.first_ms, self.last_ms = (int(self._time.min()), int(self._time.max())) if len(batch) else (0, -1)
        """When the oldest and the newest of them end."""
        self._together: dict[tuple[int, bool, int], tuple[tuple[SortedWindows, ...], Windows]] = {}

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """Sort windows of any order; those of a series stay in theirs."""
        series = numbers(batch, "series")
        if np.all(series[1:] >= series[:-1]):
            return cls(batch)
        return cls(batch.take(pa.array(np.argsort(series, kind="stable"))))

    @classmethod
    def joined(cls, pieces: Sequence["SortedWindows"]) -> Self:
        """Several pieces as one; those of a series stay in the order of the pieces."""
        return cls.of(pa.concat_batches([piece.batch for piece in pieces]))

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """The windows of some series, a piece for each that has some."""
        first, last = self._places(series)
        found = np.flatnonzero(last > first)
        return [self.batch.slice(first[place], last[place] - first[place]) for place in found.tolist()]

    def between(self, first: int, behind: int) -> pa.RecordBatch:
        """The windows of the series from one number to before another."""
        start, end = np.searchsorted(self._series, np.array([first, behind], np.int32)).tolist()
        return self.batch.slice(start, end - start)

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a series and an end, whether that window is here."""
        held = np.zeros(len(series), np.bool_)
        near = np.flatnonzero((time >= self.first_ms) & (time <= self.last_ms))
        if len(near):
            first, last = self._places(series[near])
            asked = np.repeat(np.arange(len(near)), last - first)
            rows = np.arange(len(asked)) - np.repeat(np.cumsum(last - first) - last, last - first)
            held[near[asked[self._time[rows] == time[near][asked]]]] = True
        return held

    def newest(self, streams: npt.NDArray[np.bool_]) -> dict[int, int]:
        """The end of the newest window of each series that `streams` marks by number."""
        chosen = np.flatnonzero(marked(self._series, streams))
        series, time = self._series[chosen], self._time[chosen]
        order = np.lexsort((time, series))
        last = order[np.flatnonzero(np.diff(series[order], append=-1))]
        return dict(zip(series[last].tolist(), time[last].tolist(), strict=True))

    def together(
        self,
        rate_ms: int,
        series: npt.NDArray[np.int64],
        bounded: npt.NDArray[np.bool_],
        *,
        histograms: bool,
        behind: Sequence["SortedWindows"] = (),
    ) -> Windows:
        """The windows of some series merged into buckets, all of one series: the first of `series`.

        With `behind` those of these pieces too. They are kept: whoever asks for the same series again, or the same and
        newer ones, gets what was made once.
        """
        key = int(series[0]), histograms, len(behind)
        pieces = (self, *behind)
        kept = self._together.get(key)
        if kept is None or any(one is not other for one, other in zip(kept[0], pieces, strict=True)):
            wanted = np.zeros(max(len(bounded), int(series[-1]) + 1), np.bool_)
            wanted[series] = True
            batches = [piece.batch.take(pa.array(np.flatnonzero(marked(piece._series, wanted)))) for piece in pieces]
            windows = rows_of(pa.concat_batches(batches), bounded, histograms=histograms).windows()
            kept = pieces, merge(windows, np.full(len(windows), series[0]), rate_ms)
            self._together[key] = kept
        return kept[1]

    def between_times(self, start_ms: int, end_ms: int) -> pa.RecordBatch | None:
        """The windows that end in a range, None where there are none: at little cost where these are few."""
        if start_ms > self.last_ms or end_ms <= self.first_ms:
            return None
        places = np.flatnonzero((self._time >= start_ms) & (self._time < end_ms))
        return self.batch.take(pa.array(places)) if len(places) else None

    def _places(self, series: npt.NDArray[np.integer]) -> tuple[Numbers, Numbers]:
        # Of the same type, so that the column is not converted.
        wanted = series.astype(np.int32)
        return np.searchsorted(self._series, wanted), np.searchsorted(self._series, wanted, side="right")


def ends_of(
    memory: WindowsInMemory, streams: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The series and ends of all windows in memory of the series that `streams` marks, a part at a time."""
    for batch in memory.batches():
        series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
        chosen = marked(series, streams)
        yield series[chosen], time[chosen]


def marked(series: npt.NDArray[np.integer], flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of `series` are marked in `flags`, by number; series that are newer than `flags` are not."""
    return flags.take(series, mode="clip") & (series < len(flags))


def columns(entries: Sequence[Entry]) -> pa.RecordBatch:
    """The windows of `entries` as columns of `MEMTABLE_SCHEMA`."""
    cpus = [entry for entry in entries if type(entry[2]) is Cpu]
    batches = [_cpu_columns(cpus)] if cpus else []
    if len(cpus) < len(entries):
        batches.append(_other_columns([entry for entry in entries if type(entry[2]) is not Cpu]))
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _cpu_columns(entries: Sequence[Entry]) -> pa.RecordBatch:
    """A row for the whole host and one for each core. This is the path of nearly every report."""
    cpus = cast("list[Cpu]", [metric for _, _, metric, _ in entries])
    cores = [len(cpu.avg_utilization_by_core) for cpu in cpus]
    places = _Places(cores)
    counts = np.array([report.observations_per_metric for _, report, _, _ in entries], np.int64)
    return _batch(
        entries,
        places.widths,
        np.repeat(counts, places.widths),
        places.numbers([cpu.avg_utilization for cpu in cpus], [cpu.avg_utilization_by_core for cpu in cpus], math.nan),
        places.numbers([cpu.var_utilization for cpu in cpus], [cpu.var_utilization_by_core for cpu in cpus], 0.0),
        places.numbers([cpu.min_utilization for cpu in cpus], [cpu.min_utilization_by_core for cpu in cpus], math.nan),
        places.numbers([cpu.max_utilization for cpu in cpus], [cpu.max_utilization_by_core for cpu in cpus], math.nan),
        places.histograms([cpu.histogram for cpu in cpus], [cpu.histogram_by_core for cpu in cpus]),
    )


class _Places:
    """Where the values of reports go that have one for the whole host and one for each of `cores` cores."""

    def __init__(self, cores: Sequence[int]) -> None:
        self._cores = cores
        self.widths = np.array(cores, np.int64) + 1
        self._rows = int(self.widths.sum())
        self._whole = np.cumsum(self.widths) - self.widths
        self._is_core = np.ones(self._rows, np.bool_)
        self._is_core[self._whole] = False

    def numbers(
        self, whole: Sequence[float | UnsetType], by_core: Sequence[Sequence[float]], missing: float
    ) -> npt.NDArray[np.float64]:
        """A column of numbers, `missing` where a report did not say them."""
        values = np.full(self._rows, missing)
        unsaid = whole.count(UNSET)
        if unsaid < len(whole):
            values[self._whole] = [missing if value is UNSET else value for value in whole] if unsaid else whole
        if any(by_core):
            if not all(by_core):
                by_core = [said or (missing,) * cores for said, cores in zip(by_core, self._cores, strict=True)]
            values[self._is_core] = np.fromiter(chain.from_iterable(by_core), np.float64)
        return values

    def histograms(
        self, whole: Sequence[list[int] | UnsetType], by_core: Sequence[Sequence[list[int]]]
    ) -> Sequence[bytes]:
        """A column of packed histograms, empty where a report did not say them."""
        if whole.count(UNSET) == len(whole) and not any(by_core):
            return [b""] * self._rows
        packed: list[bytes] = []
        for one, some, cores in zip(whole, by_core, self._cores, strict=True):
            packed.append(b"" if one is UNSET else pack_one(one))
            packed.extend(map(pack_one, some) if some else repeat(b"", cores))
        return packed


def _other_columns(entries: Sequence[Entry]) -> pa.RecordBatch:
    """A row for each quantity."""
    found = [_distributions(report, metric) for _, report, metric, _ in entries]
    ones = [*chain.from_iterable(found)]
    widths = np.array([len(some) for some in found])
    common = np.array([report.observations_per_metric for _, report, _, _ in entries], np.int64)
    own = [-1 if one.observations is UNSET else one.observations for one in ones]
    return _batch(
        entries,
        widths,
        np.where(np.array(own) < 0, np.repeat(common, widths), own),
        np.array([one.mean for one in ones]),
        np.array([one.variance for one in ones]),
        np.array([math.nan if one.minimum is UNSET else one.minimum for one in ones]),
        np.array([math.nan if one.maximum is UNSET else one.maximum for one in ones]),
        [b"" if one.histogram is UNSET else pack_one(one.histogram) for one in ones],
    )


def _distributions(report: Report, metric: Metric) -> list[Distribution]:
    """What a metric tells of each of its series, in their order."""
    found = [one for _, one in metric.distributions()]
    for quantity, values in metric.parts():
        # Most cores say the same: none of it.
        made = {value: whole_window(quantity, value, report.observations_per_metric) for value in {*values}}
        found += [made[value] for value in values]
    return found


def _batch(
    entries: Sequence[Entry],
    widths: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    mean: npt.NDArray[np.float64],
    variance: npt.NDArray[np.float64],
    minimum: npt.NDArray[np.float64],
    maximum: npt.NDArray[np.float64],
    histograms: Sequence[bytes],
) -> pa.RecordBatch:
    """The rows of `entries`, `widths` of them each."""
    end = np.array([report.end_timestamp for _, report, _, _ in entries], np.int64)
    start = np.array([report.start_timestamp for _, report, _, _ in entries], np.int64)
    series = np.fromiter(chain.from_iterable([ids for ids, _, _, _ in entries]), np.int32)
    duration = np.minimum(end - start, _LONGEST).astype(np.int32)
    system = np.array([system for _, _, _, system in entries], np.int32)
    numbers = (series, np.repeat(end, widths), np.repeat(duration, widths), count, mean, variance, minimum, maximum)
    return pa.RecordBatch.from_arrays(
        [*map(pa.array, numbers), pa.array(histograms, pa.binary()), pa.array(np.repeat(system, widths))],
        schema=MEMTABLE_SCHEMA,
    )
