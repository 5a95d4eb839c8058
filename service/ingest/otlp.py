"""A request of OpenTelemetry's metrics as readings: https://opentelemetry.io/docs/specs/otlp/

The host is the resource's `host.name`, else `host.id`, else `service.instance.id`. Gauges and sums are readings that
are gathered (`service.ingest.system_metrics`). An exponential histogram of `system.cpu.utilization` with delta
temporality is a window with all its observations by itself: each bucket's count is in the bin that holds its geometric
middle.

A point is a window that ends at its time and begins at its start time, a minute before where it has none; but of a
cumulative sum it reaches from one point to the next.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    ExponentialHistogramDataPoint,
    Metric,
)

from contract.histogram import LINEAR, flatten
from contract.metrics import MAX_SHARE_VARIANCE, ROUNDING, Cpu
from contract.problems import shortened
from contract.selectors import MAX_USER_ID
from service.ingest.scrapes import START, Range, ScrapedValue, Slot
from service.ingest.system_metrics import GAUGES, TIME, UTILIZATION, gauge_place, time_place

_HOSTS: Final = ("host.name", "host.id", "service.instance.id")
_MINUTE_MS: Final = 60_000
_MS: Final = 1_000_000
"""Nanoseconds."""
_MAX_REASONS: Final = 10
_LONGEST_REASON: Final = 200
_A_POINT: Final = 10
"""So many buckets or attributes, or what holds points, take as long as a point."""
_FINEST: Final = (-10, 20)
"""The scales that OpenTelemetry's data model has."""
_MIN_LOG: Final = -1000.0
"""Of what is smaller nobody can tell it from 0."""
_MAX_VALUE: Final = 1e18


@dataclass
class OtlpRequest:
    """What a request says."""

    readings: list[ScrapedValue] = field(default_factory=list)
    systems: list[tuple[str, str, str]] = field(default_factory=list)
    """Hosts with the system that they run, and its release."""
    histograms: dict[tuple[str, int, int], tuple[int, Cpu]] = field(default_factory=dict)
    """Windows by host, start and end, with how many observations they have."""
    points: int = 0
    """Data points that came,"""
    rejected: int = 0
    """those of them that say nothing that is kept,"""
    forbidden: int = 0
    """and those that are of hosts that the sender is not for."""
    reasons: list[str] = field(default_factory=list)
    """Why, the first of them."""

    def reject(self, points: int, reason: str) -> None:
        """Count points that are not kept."""
        self.rejected += points
        if points:
            self.warn(reason)

    def warn(self, reason: str) -> None:
        """Say what is lost of others."""
        reason = shortened(reason, _LONGEST_REASON)
        if len(self.reasons) < _MAX_REASONS and reason not in self.reasons:
            self.reasons.append(reason)


def is_larger(request: ExportMetricsServiceRequest, most: int) -> bool:
    """Whether a request is more work than so many data points; what holds them, and their parts, are a share of one."""
    work = 0.0
    for resource in request.resource_metrics:
        work += (1 + len(resource.resource.attributes)) / _A_POINT
        for scope in resource.scope_metrics:
            work += 1 / _A_POINT
            for metric in scope.metrics:
                work += 1 / _A_POINT
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind else ():
                    parts = len(point.attributes)
                    if kind == "exponential_histogram":
                        parts += len(point.positive.bucket_counts) + len(point.negative.bucket_counts)
                    work += 1 + parts / _A_POINT
                if work > most:
                    return True
        if work > most:
            return True
    return False


def read(request: ExportMetricsServiceRequest, within: Range, covers: Callable[[str], bool]) -> OtlpRequest:
    """What a request says, of times that are `within` and of the hosts that `covers` lets in."""
    taken = OtlpRequest()
    for resource in request.resource_metrics:
        attributes = _attributes(resource.resource.attributes)
        host = next((str(attributes[key]) for key in _HOSTS if attributes.get(key)), "")
        count = sum(_points(metric) for scope in resource.scope_metrics for metric in scope.metrics)
        taken.points += count
        if not host:
            taken.reject(count, f"expected one of {', '.join(_HOSTS)} in the resource, got none")
        elif len(host) > MAX_USER_ID or not host.isprintable():
            taken.reject(count, f"expected a host of 1 to {MAX_USER_ID} printable characters, got {host[:32]!r}")
        elif not covers(host):
            taken.forbidden += count
            taken.reject(count, "the token is for another user id")
        elif count:
            version = str(attributes.get("os.version", attributes.get("os.description", "")))[:256]
            before = len(taken.readings), len(taken.histograms)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    _take(metric, host, within, taken)
            if before != (len(taken.readings), len(taken.histograms)):
                taken.systems.append((host, str(attributes.get("os.type", "")), version))
    return taken


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


def _points(metric: Metric) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def _take(metric: Metric, host: str, within: Range, taken: OtlpRequest) -> None:
    """Take the points of one metric."""
    kind = metric.WhichOneof("data")
    if metric.name == UTILIZATION and kind == "exponential_histogram":
        _take_histograms(metric, host, within, taken)
    elif metric.name == TIME and kind == "sum":
        cumulative = metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        _take_numbers(metric, lambda point: time_place(cumulative, point), cumulative, host, within, taken)
    elif metric.name in GAUGES and kind == "gauge":
        _take_numbers(metric, lambda point: gauge_place(metric.name, point), False, host, within, taken)
    else:
        taken.reject(_points(metric), f"{metric.name} ({kind}) is not kept")


def _take_numbers(
    metric: Metric, place_of: Callable[[dict[str, Any]], Slot | None], cumulative: bool,
    host: str, within: Range, taken: OtlpRequest,
) -> None:  # fmt: skip
    """Take the points of a gauge or a sum."""
    starts: dict[tuple[str, int], int] = {}
    for point in _timely(getattr(metric, metric.WhichOneof("data") or "gauge").data_points, within, taken):
        value = _value(point)
        start_ms, end_ms = _span(point)
        try:
            place = place_of(_attributes(point.attributes))
            if value is not None and not -ROUNDING <= value <= _MAX_VALUE:
                raise ValueError(f"expected a number from 0 to {_MAX_VALUE:g}, got {value:g}")
        except ValueError as error:
            taken.reject(1, f"{metric.name}: {error}")
            continue
        if place is not None:
            taken.readings.append(ScrapedValue(host, place, end_ms, value))
            if not cumulative:
                starts[place.group, end_ms] = start_ms
    taken.readings += [ScrapedValue(host, Slot(group, START), at_ms, float(start_ms))
                       for (group, at_ms), start_ms in starts.items()]  # fmt: skip


def _value(point: Any) -> float | None:
    """The number of a point; None where the series has ended, NaN where a point has none."""
    if point.flags & DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK:
        return None
    kind = point.WhichOneof("value")
    return float(getattr(point, kind)) if kind else math.nan


def _timely(points: Iterable[Any], within: Range, taken: OtlpRequest) -> Iterator[Any]:
    """The points whose time can be; the others are rejected."""
    for point in points:
        at_ms = point.time_unix_nano // _MS
        if within.oldest_ms <= at_ms <= within.newest_ms:
            yield point
        else:
            taken.reject(1, f"expected a time from {within.oldest_ms} to {within.newest_ms} ms, got {at_ms}")


def _span(point: Any) -> tuple[int, int]:
    end_ms = point.time_unix_nano // _MS
    start_ms = point.start_time_unix_nano // _MS
    return (start_ms if 0 < start_ms < end_ms else max(0, end_ms - _MINUTE_MS)), end_ms


def _take_histograms(metric: Metric, host: str, within: Range, taken: OtlpRequest) -> None:
    delta = metric.exponential_histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    if not delta:
        taken.reject(
            _points(metric), f"{UTILIZATION}: expected an exponential histogram with delta temporality, got cumulative"
        )
        return
    for point in _timely(metric.exponential_histogram.data_points, within, taken):
        if not point.count:
            continue
        window = (host, *_span(point))
        if not _FINEST[0] <= point.scale <= _FINEST[1]:
            taken.reject(1, f"{UTILIZATION}: expected a scale from {_FINEST[0]} to {_FINEST[1]}, got {point.scale}")
        elif point.negative.bucket_counts and any(point.negative.bucket_counts):
            taken.reject(1, f"{UTILIZATION}: expected shares from 0 to 1, got an observation below 0")
        elif _is_above_1(point):
            taken.reject(1, f"{UTILIZATION}: expected shares from 0 to 1, got an observation above 1")
        elif window in taken.histograms:
            taken.reject(1, f"{UTILIZATION}: expected one histogram of a host for each window, got another")
        else:
            taken.histograms[window] = (point.count, _summary(point))


def _is_above_1(point: ExponentialHistogramDataPoint) -> bool:
    """Whether an observation is above 1 by more than rounding: by what is told of them, else by the buckets.

    Of a bucket that begins at 1 or above all observations are; whether they are by more than rounding, only the
    maximum tells.
    """
    if point.sum > point.count * (1.0 + ROUNDING) or point.max > 1.0 + ROUNDING:
        return True
    counts = enumerate(point.positive.bucket_counts, point.positive.offset)
    return not point.HasField("max") and any(count and place >= 0 for place, count in counts)


def _summary(point: ExponentialHistogramDataPoint) -> Cpu:
    """An exponential histogram as ours: https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram

    A bucket i holds values in (base^i, base^(i+1)], base = 2^(2^-scale); its observations are counted at its geometric
    middle, which is off by half a bucket at most. The mean is that of the sum, exactly where the sender tells it.
    """
    width = 2.0**-point.scale
    values = [(0.0, point.zero_count)] if point.zero_count else []
    for place, count in enumerate(point.positive.bucket_counts):
        if count:
            # A share is at most 1, whose logarithm is 0.
            values.append((2.0 ** min(0.0, max(_MIN_LOG, (point.positive.offset + place + 0.5) * width)), count))
    bins: dict[int, int] = defaultdict(int)
    for value, count in values:
        bins[LINEAR.index(value)] += count
    counted = sum(count for _, count in values)
    middle = sum(value * count for value, count in values) / max(1, counted)
    mean = point.sum / point.count if point.HasField("sum") else middle
    variance = sum(count * (value - middle) ** 2 for value, count in values) / max(1, counted)
    return Cpu(
        avg_utilization=mean,
        var_utilization=min(variance, MAX_SHARE_VARIANCE, max(0.0, mean * (1.0 - mean))),
        min_utilization=point.min if point.HasField("min") else UNSET,
        max_utilization=point.max if point.HasField("max") else UNSET,
        histogram=flatten(bins) if counted == point.count else UNSET,
    )
