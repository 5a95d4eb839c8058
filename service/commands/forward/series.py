"""Reports as series of Prometheus: numbers of each window, and all of its samples as a native histogram.

A quantity such as `cpu.utilization` becomes `loadlens_cpu_utilization_ratio_mean` (and `_min`, `_max` where the window
says them), and where it has a histogram the native histogram `loadlens_cpu_utilization_ratio`: a gauge histogram, each
with the samples of one window. https://prometheus.io/docs/specs/native_histograms/
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec import UNSET, UnsetType

from analytics.sources.prometheus_messages import V2, new
from contract.histogram import LINEAR, Bins, unflatten
from contract.metrics import Cpu, Distribution, Quantity, whole_window
from contract.report import Report

SCHEMA: Final = 8
"""The finest: neighbouring bounds differ by 0.27 %, less than the 1 % (or 1/128) that our bins are exact to."""
_ZERO_THRESHOLD: Final = 2.0**-128
_GAUGE_HISTOGRAM_RESET: Final = 3
_GAUGE, _GAUGE_HISTOGRAM = 2, 4
_UNITS: Final = {
    "1": "_ratio", "By/s": "_per_second", "s": "_seconds", "s/s": "_seconds_per_second", "Hz": "_hertz",
    "Cel": "_celsius",
}  # fmt: skip

Labels = tuple[tuple[str, str], ...]


class Native(NamedTuple):
    """A native histogram."""

    observations: int
    sum: float
    zero: int
    buckets: tuple[tuple[int, int], ...]
    """Bucket i holds (2^((i-1)/2^schema), 2^(i/2^schema)]; each with its count, ascending."""


class Point(NamedTuple):
    """One value of a series."""

    labels: Labels
    """In the order of their names."""
    at_ms: int
    value: float | Native


def metric_name(quantity: Quantity) -> str:
    """What a quantity is called, without the statistic: `loadlens_disk_read_bytes_per_second`."""
    unit = quantity.unit
    if unit == "By" and "bytes" not in quantity.name:
        return f"loadlens_{quantity.name.replace('.', '_')}_bytes"
    suffix = _UNITS.get(unit, "_per_second" if unit.endswith("/s") else "_per_minute" if unit.endswith("/min") else "")
    return f"loadlens_{quantity.name.replace('.', '_')}{suffix}"


def points_of(report: Report, *, cores: bool = False) -> Iterator[Point]:
    """The values of a report, of its disks and interfaces by name, and of single cores where `cores` asks for them."""
    shared = {"instance": report.user_id, "job": "loadlens"}
    for metric in report.metrics:
        if isinstance(metric, Cpu):
            (quantity,) = metric.quantities
            yield from _points(quantity, _whole(metric), shared, report)
            for core, distribution in _cores(metric) if cores else ():
                yield from _points(quantity, distribution, shared | {"core": str(core)}, report)
        else:
            for quantity, distribution in metric.distributions():
                yield from _points(quantity, distribution, shared, report)
            for quantity, values in zip(metric.of_cores, metric.core_values(), strict=True) if cores else ():
                for core, value in zip(metric.core_numbers(), values, strict=True):
                    told = whole_window(quantity, value, report.observations_per_metric)
                    yield from _points(quantity, told, shared | {"core": str(core)}, report)
            # Devices are few, and named because somebody asked for them.
            for quantity, values in zip(metric.of_devices, metric.device_values(), strict=True):
                for name, value in zip(metric.device_names(), values, strict=True):
                    told = whole_window(quantity, value, report.observations_per_metric)
                    yield from _points(quantity, told, shared | {"device": name}, report)


def number(name: str, value: float, at_ms: int, **labels: str) -> Point:
    """A value of a series of numbers."""
    return Point(_labels(name, labels), at_ms, value)


def _labels(name: str, labels: Mapping[str, str]) -> Labels:
    return tuple(sorted({"__name__": name, **labels}.items()))


def _whole(cpu: Cpu) -> Distribution:
    return Distribution(
        cpu.avg_utilization, cpu.var_utilization, cpu.min_utilization, cpu.max_utilization, cpu.histogram
    )


def _cores(cpu: Cpu) -> Iterator[tuple[int, Distribution]]:
    """Each core's number and samples."""
    for place, mean in enumerate(cpu.avg_utilization_by_core):
        histogram: list[int] | UnsetType = cpu.histogram_by_core[place] if cpu.histogram_by_core else UNSET
        yield cpu.cores[place] if cpu.cores else place, Distribution(mean, histogram=histogram)


def _points(
    quantity: Quantity, distribution: Distribution, labels: Mapping[str, str], report: Report
) -> Iterator[Point]:
    name, at_ms = metric_name(quantity), report.end_timestamp
    for statistic, value in (
        ("mean", distribution.mean), ("min", distribution.minimum), ("max", distribution.maximum),
    ):  # fmt: skip
        if value is not UNSET:
            yield Point(_labels(f"{name}_{statistic}", labels), at_ms, value)
    if distribution.histogram is not UNSET:
        bins = unflatten(distribution.histogram)
        yield Point(_labels(name, labels), at_ms, native(bins, quantity.bins, distribution.mean))


def native(counts: Mapping[int, int], bins: Bins, mean: float) -> Native:
    """A histogram as a native one: each bin is counted in the bucket that holds the value that stands for it."""
    buckets: dict[int, int] = {}
    zero = 0
    for bin_, count in counts.items():
        value = bins.value(bin_)
        if value <= _ZERO_THRESHOLD:
            zero += count
        else:
            # 1 is a bound, and belongs to the bucket below it.
            bucket = 0 if bins is LINEAR and value >= 1.0 else math.ceil(math.log2(value) * 2**SCHEMA)
            buckets[bucket] = buckets.get(bucket, 0) + count
    total = sum(counts.values())
    return Native(total, mean * total, zero, tuple(sorted(buckets.items())))


def encode(points: Iterable[Point], message: str) -> bytes:
    """The message (`V1`, `V2`) of some points: those of one series stand together, the oldest first."""
    request = new(message)
    gathered: dict[Labels, list[Point]] = {}
    for point in points:
        gathered.setdefault(point.labels, []).append(point)
    symbols = {"": 0}
    for labels, values in gathered.items():
        series = request.timeseries.add()
        if message == V2:
            series.labels_refs.extend(symbols.setdefault(text, len(symbols)) for pair in labels for text in pair)
            series.metadata.type = _GAUGE_HISTOGRAM if isinstance(values[0].value, Native) else _GAUGE
        else:
            for name, value in labels:
                series.labels.add(name=name, value=value)
        _fill(series, sorted(values, key=lambda point: point.at_ms))
    if message == V2:
        request.symbols.extend(symbols)
    body: bytes = request.SerializeToString()
    return body


def _fill(series: Any, points: Sequence[Point]) -> None:
    for _, at_ms, value in points:
        if not isinstance(value, Native):
            series.samples.add(value=value, timestamp=at_ms)
            continue
        histogram = series.histograms.add(
            count_int=value.observations, sum=value.sum, schema=SCHEMA, zero_threshold=_ZERO_THRESHOLD,
            zero_count_int=value.zero, reset_hint=_GAUGE_HISTOGRAM_RESET, timestamp=at_ms,
        )  # fmt: skip
        after, before = 0, 0
        for place, (bucket, count) in enumerate(value.buckets):
            if place and bucket == after:
                histogram.positive_spans[-1].length += 1
            else:
                # The first says where it begins, the others how far they are from the one before.
                histogram.positive_spans.add(offset=bucket - after, length=1)
            histogram.positive_deltas.append(count - before)
            after, before = bucket + 1, count
