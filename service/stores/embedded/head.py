"""The head: the newest windows, in memory, until a flush puts them on disk."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, UnsetType

from contract.metrics import Metric
from contract.metrics.cpu import Cpu
from contract.report import Report
from service.stores.embedded.histograms import pack_one
from service.stores.embedded.series import SeriesIndex

__all__ = ["SCHEMA", "Head", "marked"]

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

_CHUNK = 2048
"""Reports that are turned into columns together: some 3 ms of work."""
_LONGEST = 2**31 - 1

T = TypeVar("T")

_Entry = tuple[tuple[int, ...], Report, Metric]
"""The series of a metric, the report it came in, the metric."""


class Head:
    """Windows in the order they came: Arrow record batches that do not change, and a tail that grows.

    `add` runs on one thread; `batches` may be called from any, and has every window whose `add` returned.
    """

    def __init__(self, series: SeriesIndex, after: int) -> None:
        self._series = series
        self.last = after
        """The journal offset of its last report."""
        self.rows = 0
        # Replaced as one, so that a reader never sees a chunk twice or not at all.
        self._content: tuple[list[pa.RecordBatch], list[_Entry]] = ([], [])

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports, the last of them at journal offset `last`."""
        chunks, tail = self._content
        index = self._series
        rows = 0
        for report in reports:
            user = index.hear(report)
            for metric in report.typed_metrics():
                if type(metric) is Cpu:
                    ids = index.of_cpu(user, metric)
                    if report.end_timestamp == user.last_seen:
                        user.cores = len(ids) - 1
                else:
                    ids = index.of_metric(user.user_id, metric)
                tail.append((ids, report, metric))
                rows += len(ids)
        self.last = last
        self.rows += rows
        if len(tail) >= _CHUNK:
            self._content = ([*chunks, columns(tail)], [])

    def batches(self) -> list[pa.RecordBatch]:
        """All windows, oldest first."""
        chunks, tail = self._content
        return [*chunks, columns(tail[:])] if tail else chunks

    def ends(self, streams: npt.NDArray[np.bool_]) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """The series and ends of all windows of the series that `streams` marks, a part at a time."""
        for batch in self.batches():
            series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
            chosen = marked(series, streams)
            yield series[chosen], time[chosen]


def marked(series: npt.NDArray[np.integer], flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which of `series` are marked in `flags`, by number; series that are newer than `flags` are not."""
    return flags.take(series, mode="clip") & (series < len(flags))


def columns(entries: Sequence[_Entry]) -> pa.RecordBatch:
    """The windows of `entries` as columns of `SCHEMA`."""
    cpus = [entry for entry in entries if type(entry[2]) is Cpu]
    batches = [_cpu_columns(cpus)] if cpus else []
    if len(cpus) < len(entries):
        batches.append(_other_columns([entry for entry in entries if type(entry[2]) is not Cpu]))
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _cpu_columns(entries: Sequence[_Entry]) -> pa.RecordBatch:
    """A row for the whole machine and one for each core. This is the path of nearly every report."""
    cpus = cast("list[Cpu]", [metric for _, _, metric in entries])
    cores = [len(cpu.avg_utilization_by_core) for cpu in cpus]
    widths = np.array(cores) + 1
    counts = np.array([report.observations_per_metric for _, report, _ in entries], np.int64)
    zeros = [(0.0,) * number for number in range(max(cores) + 1)]
    return _batch(
        entries,
        widths,
        np.repeat(counts, widths),
        [(cpu.avg_utilization, *cpu.avg_utilization_by_core) for cpu in cpus],
        [
            (cpu.var_utilization, *(cpu.var_utilization_by_core or zeros[number]))
            for cpu, number in zip(cpus, cores, strict=True)
        ],
        _where_said([(cpu.min_utilization, cpu.min_utilization_by_core) for cpu in cpus], cores, math.nan),
        _where_said([(cpu.max_utilization, cpu.max_utilization_by_core) for cpu in cpus], cores, math.nan),
        _where_said([_packed(cpu) for cpu in cpus], cores, b""),
    )


def _packed(cpu: Cpu) -> tuple[bytes | UnsetType, list[bytes]]:
    whole = UNSET if cpu.histogram is UNSET else pack_one(cpu.histogram)
    return whole, [*map(pack_one, cpu.histogram_by_core)]


def _where_said(
    values: Sequence[tuple[T | UnsetType, Sequence[T]]], cores: Sequence[int], missing: T
) -> Sequence[Sequence[T]]:
    """For each report the value of the whole machine and those of its cores, `missing` where it did not say them."""
    if all(whole is UNSET and not by_core for whole, by_core in values):
        return [(missing,) * (sum(cores) + len(cores))]
    return [
        (missing if whole is UNSET else whole, *(by_core or (missing,) * number))
        for (whole, by_core), number in zip(values, cores, strict=True)
    ]


def _other_columns(entries: Sequence[_Entry]) -> pa.RecordBatch:
    """A row for each quantity."""
    distributions = [[one for _, one in metric.distributions()] for _, _, metric in entries]
    return _batch(
        entries,
        np.array([len(some) for some in distributions]),
        np.array(
            [
                report.observations_per_metric if one.observations is UNSET else one.observations
                for (_, report, _), some in zip(entries, distributions, strict=True)
                for one in some
            ],
            np.int64,
        ),
        [[one.mean for one in some] for some in distributions],
        [[one.variance for one in some] for some in distributions],
        [[math.nan if one.minimum is UNSET else one.minimum for one in some] for some in distributions],
        [[math.nan if one.maximum is UNSET else one.maximum for one in some] for some in distributions],
        [[b"" if one.histogram is UNSET else pack_one(one.histogram) for one in some] for some in distributions],
    )


def _batch(
    entries: Sequence[_Entry],
    widths: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    *rest: Sequence[Sequence[float]] | Sequence[Sequence[bytes]],
) -> pa.RecordBatch:
    """The rows of `entries`, `widths` of them each; `rest` are their values from `mean` on."""
    end = np.array([report.end_timestamp for _, report, _ in entries], np.int64)
    start = np.array([report.start_timestamp for _, report, _ in entries], np.int64)
    series = np.fromiter(chain.from_iterable(ids for ids, _, _ in entries), np.int32)
    *numbers, histograms = rest
    return pa.RecordBatch.from_arrays(
        [
            pa.array(series),
            pa.array(np.repeat(end, widths)),
            pa.array(np.repeat(np.minimum(end - start, _LONGEST).astype(np.int32), widths)),
            pa.array(count),
            *(pa.array(np.fromiter(chain.from_iterable(column), np.float64, len(series))) for column in numbers),
            pa.array(list(chain.from_iterable(histograms)), pa.binary()),
        ],
        schema=SCHEMA,
    )
