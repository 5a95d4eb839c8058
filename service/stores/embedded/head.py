"""The head: the newest windows, in memory, until a flush puts them on disk."""

import math
from array import array
from collections.abc import Sequence
from itertools import repeat

import numpy as np
import pyarrow as pa
from msgspec import UNSET

from contract.metrics import Metric
from contract.metrics.cpu import Cpu
from contract.report import Report
from service.stores.embedded.histograms import pack_one
from service.stores.embedded.series import SeriesIndex

__all__ = ["SCHEMA", "Head"]

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

_CHUNK_ROWS = 16384
_LONGEST = 2**31 - 1


class Head:
    """Windows in the order they came, as Arrow record batches that do not change, and a tail that grows.

    `add` runs on one thread; `batches` may be called from any, and has every window whose `add` returned.
    """

    def __init__(self, series: SeriesIndex, after: int) -> None:
        self._series = series
        self.after = after
        """The journal offset in front of its first report."""
        self.last = after
        """The journal offset of its last report."""
        self.rows = 0
        self.keys: set[tuple[int, int]] = set()
        """Stream and end of every window held."""
        self._content: tuple[list[pa.RecordBatch], _Tail] = ([], _Tail())

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports, the last of them at journal offset `last`."""
        chunks, tail = self._content
        before = len(tail.series)
        for report in reports:
            user = self._series.hear(report)
            for metric in report.typed_metrics():
                if type(metric) is Cpu:
                    ids = self._series.of_cpu(report.user_id, metric)
                    tail.add_cpu(ids, report, metric)
                    # A late report must not undo what a newer one said.
                    if report.end_timestamp >= user.last_seen or not user.cores:
                        user.cores = len(ids) - 1
                else:
                    ids = tuple(self._series.of_whole(report.user_id, quantity) for quantity in metric.quantities)
                    tail.add_other(ids, report, metric)
                self.keys.add((ids[0], report.end_timestamp))
        tail.rows = len(tail.series)
        self.last = last
        self.rows += tail.rows - before
        if tail.rows >= _CHUNK_ROWS:
            self._content = ([*chunks, tail.batch()], _Tail())

    def batches(self) -> list[pa.RecordBatch]:
        """All windows, oldest first."""
        chunks, tail = self._content
        return [*chunks, tail.batch()] if tail.rows else chunks


class _Tail:
    """The columns of `SCHEMA` while they grow; the first `rows` of each are whole."""

    def __init__(self) -> None:
        self.rows = 0
        self.series = array("i")
        self.time = array("q")
        self.duration = array("i")
        self.count = array("q")
        self.mean = array("d")
        self.variance = array("d")
        self.minimum = array("d")
        self.maximum = array("d")
        self.histogram: list[bytes] = []

    def add_cpu(self, ids: tuple[int, ...], report: Report, cpu: Cpu) -> None:
        """A row for the whole machine and one for each core. This is the path of nearly every report."""
        width = len(ids)
        cores = width - 1
        self._add_window(ids, report)
        self.count.extend(repeat(report.observations_per_metric, width))
        self.mean.append(cpu.avg_utilization)
        self.mean.extend(cpu.avg_utilization_by_core)
        self.variance.append(cpu.var_utilization)
        self.variance.extend(cpu.var_utilization_by_core or repeat(0.0, cores))
        self.minimum.append(math.nan if cpu.min_utilization is UNSET else cpu.min_utilization)
        self.minimum.extend(cpu.min_utilization_by_core or repeat(math.nan, cores))
        self.maximum.append(math.nan if cpu.max_utilization is UNSET else cpu.max_utilization)
        self.maximum.extend(cpu.max_utilization_by_core or repeat(math.nan, cores))
        self.histogram.append(b"" if cpu.histogram is UNSET else pack_one(cpu.histogram))
        self.histogram.extend(map(pack_one, cpu.histogram_by_core) if cpu.histogram_by_core else repeat(b"", cores))

    def add_other(self, ids: tuple[int, ...], report: Report, metric: Metric) -> None:
        """A row for each quantity."""
        self._add_window(ids, report)
        for _, distribution in metric.distributions():
            self.count.append(
                report.observations_per_metric if distribution.observations is UNSET else distribution.observations
            )
            self.mean.append(distribution.mean)
            self.variance.append(distribution.variance)
            self.minimum.append(math.nan if distribution.minimum is UNSET else distribution.minimum)
            self.maximum.append(math.nan if distribution.maximum is UNSET else distribution.maximum)
            self.histogram.append(b"" if distribution.histogram is UNSET else pack_one(distribution.histogram))

    def _add_window(self, ids: tuple[int, ...], report: Report) -> None:
        width = len(ids)
        end = report.end_timestamp
        self.series.extend(ids)
        self.time.extend(repeat(end, width))
        self.duration.extend(repeat(min(end - report.start_timestamp, _LONGEST), width))

    def batch(self) -> pa.RecordBatch:
        """The whole rows, copied."""
        rows = self.rows
        # A slice of an array copies it in one step; a view of it would forbid the other thread to append.
        numbers = [
            np.frombuffer(column[:rows], column.typecode)
            for column in (
                self.series, self.time, self.duration, self.count,
                self.mean, self.variance, self.minimum, self.maximum,
            )
        ]  # fmt: skip
        return pa.RecordBatch.from_arrays(
            [*map(pa.array, numbers), pa.array(self.histogram[:rows], pa.binary())], schema=SCHEMA
        )
