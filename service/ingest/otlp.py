"""OpenTelemetry's metrics as reports: https://opentelemetry.io/docs/specs/otlp/, and its conventions for systems.

The host is the resource's `host.name`, else `host.id`, else `service.instance.id`. What is taken:

=========================================  =========================================================================
metric                                     becomes
=========================================  =========================================================================
`system.cpu.utilization`, gauge            CPU utilization: 1 - (idle + iowait) by `cpu.mode` (or `state`), else the
                                           sum of the busy modes, else the number itself; each `cpu.logical_number`
                                           (or `cpu`) is a core, and the machine their mean
`system.cpu.time`, sum                     the same by its growth; of a cumulative sum the first says nothing
`system.cpu.utilization`, exponential      CPU utilization of the machine with all its observations: each bucket's
histogram with delta temporality           count in the bin that holds the bucket's geometric middle
`system.memory.utilization`, gauge         memory in use: mode `used`
`system.cpu.load_average.1m`, `5m`, `15m`  load averages, all three of one moment
=========================================  =========================================================================

A point is a window that ends at its time and begins at its start time, a minute before where it has none.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, ExponentialHistogramDataPoint, Metric

from contract.histogram import LINEAR, flatten
from contract.metrics import LAST_CORE, MAX_SHARE_VARIANCE, Cpu, Distribution, Load, Memory
from contract.metrics import Metric as ReportedMetric
from contract.problems import shortened
from contract.report import OsType, Report
from service.ingest.scrapes import Range

_CPU, _TIME, _MEMORY = "system.cpu.utilization", "system.cpu.time", "system.memory.utilization"
_LOADS: Final = {f"system.cpu.load_average.{minutes}m": f"load{minutes}" for minutes in (1, 5, 15)}
_IDLE: Final = ("idle", "iowait", "wait")
_BUSY: Final = ("user", "nice", "system", "interrupt", "irq", "softirq", "steal", "kernel")
_CORES: Final = ("cpu.logical_number", "system.cpu.logical_number", "cpu")
_ALL_CORES: Final = ("", "cpu", "all", "total", "cpu-total", "_total", "_Total")
_LONG: Final = 32
_HOSTS: Final = ("host.name", "host.id", "service.instance.id")
_SYSTEMS: Final[Mapping[str, OsType]] = {"linux": "Linux", "darwin": "MacOS", "windows": "Windows"}
_MINUTE_MS: Final = 60_000
_MS: Final = 1_000_000
"""Nanoseconds."""
_MAX_STREAMS: Final = 100_000
_MOST_NAMES: Final = 10
_LONGEST_REASON: Final = 200
_A_POINT: Final = 10
"""So many buckets or attributes, or what holds points, take as long as a point."""
_WHOLE: Final = -1
_FINEST: Final = (-10, 20)
"""The scales that OpenTelemetry's data model has."""
_LEAST_LOG: Final = -1000.0
"""Of what is smaller nobody can tell it from 0."""
States = dict[str, float]


@dataclass
class Counters:
    """The last cumulative reading of each core of each host: its moment and its times by mode; bounded."""

    last: "OrderedDict[tuple[str, int], tuple[int, States]]" = field(default_factory=OrderedDict)

    def keep(self, read: Mapping[tuple[str, int], tuple[int, States]]) -> None:
        """Note readings; the longest unheard are forgotten."""
        for key, reading in read.items():
            self.last[key] = reading
            self.last.move_to_end(key)
        while len(self.last) > _MAX_STREAMS:
            self.last.popitem(last=False)


@dataclass
class Converted:
    """What a request says."""

    reports: list[Report] = field(default_factory=list)
    points: int = 0
    """Data points that came,"""
    rejected: int = 0
    """those of them that say nothing that is kept,"""
    forbidden: int = 0
    """and those that are of hosts that the sender is not for."""
    reasons: list[str] = field(default_factory=list)
    """Why, the first of them."""
    read: dict[tuple[str, int], tuple[int, States]] = field(default_factory=dict)
    """Cumulative readings, for `Counters.keep` once the reports are on disk."""

    def reject(self, points: int, reason: str) -> None:
        """Count points that are not kept."""
        self.rejected += points
        reason = shortened(reason, _LONGEST_REASON)
        if points and len(self.reasons) < _MOST_NAMES and reason not in self.reasons:
            self.reasons.append(reason)


@dataclass
class _Host:
    """What a request says of one host, by the start and end of windows in ms."""

    os_type: OsType
    os_version: str
    states: dict[tuple[int, int], dict[int, States]] = field(default_factory=lambda: defaultdict(dict))
    """Shares of time by core and mode."""
    times: dict[tuple[int, int], dict[int, States]] = field(default_factory=lambda: defaultdict(dict))
    """Times of a window by core and mode, which make up its whole."""
    plain: dict[tuple[int, int], dict[int, float]] = field(default_factory=lambda: defaultdict(dict))
    memory: dict[tuple[int, int], float] = field(default_factory=dict)
    loads: dict[tuple[int, int], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    histograms: dict[tuple[int, int], tuple[int, Cpu]] = field(default_factory=dict)
    cumulative: dict[int, dict[int, States]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(dict)))
    """Times since boot by moment, core and mode."""


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


def convert(
    request: ExportMetricsServiceRequest, counters: Counters, within: Range, covers: Callable[[str], bool]
) -> Converted:
    """The reports of a request, at the cumulative readings that `counters` knows; nothing is noted there yet.

    Points of times that are not `within`, and of hosts that `covers` does not let in, are not taken.
    """
    made = Converted()
    hosts: dict[str, _Host] = {}
    for resource in request.resource_metrics:
        attributes = _attributes(resource.resource.attributes)
        name = next((str(attributes[key]) for key in _HOSTS if attributes.get(key)), "")
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                made.points += _points(metric)
                if not name:
                    made.reject(_points(metric), f"expected one of {', '.join(_HOSTS)} in the resource, got none")
                    continue
                if not covers(name):
                    made.forbidden += _points(metric)
                    made.reject(_points(metric), "the token is for another user id")
                    continue
                system = _SYSTEMS.get(str(attributes.get("os.type", "")).lower(), "Linux")
                version = str(attributes.get("os.version", attributes.get("os.description", "OpenTelemetry")))[:256]
                _take(metric, hosts.setdefault(name, _Host(system, version)), within, made)
    for name, host in hosts.items():
        _grow(name, host, counters, within, made)
        made.reports += _reports(name, host, made)
    return made


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}


def _points(metric: Metric) -> int:
    kind = metric.WhichOneof("data")
    return len(getattr(metric, kind).data_points) if kind else 0


def _timely(points: Iterable[Any], within: Range, made: Converted) -> Iterator[Any]:
    """The points whose time can be; the others are rejected."""
    for point in points:
        at_ms = point.time_unix_nano // _MS
        if within.oldest_ms <= at_ms <= within.newest_ms:
            yield point
        else:
            made.reject(1, f"expected a time from {within.oldest_ms} to {within.newest_ms} ms, got {at_ms}")


def _take(metric: Metric, host: _Host, within: Range, made: Converted) -> None:
    """Sort the points of one metric into what is known of a host."""
    kind = metric.WhichOneof("data")
    if metric.name == _CPU and kind == "exponential_histogram":
        _take_histograms(metric, host, within, made)
    elif metric.name == _TIME and kind == "sum":
        _take_times(metric, host, within, made)
    elif kind == "gauge" and metric.name in (_CPU, _MEMORY, *_LOADS):
        for point in _timely(metric.gauge.data_points, within, made):
            value = point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)
            try:
                _take_gauge(metric.name, value, _span(point), _attributes(point.attributes), host)
            except ValueError as error:
                made.reject(1, f"{metric.name}: {error}")
    else:
        made.reject(_points(metric), f"{metric.name} ({kind}) is not kept")


def _span(point: Any) -> tuple[int, int]:
    end_ms = point.time_unix_nano // _MS
    start_ms = point.start_time_unix_nano // _MS
    return (start_ms if 0 < start_ms < end_ms else max(0, end_ms - _MINUTE_MS)), end_ms


def _mode(attributes: Mapping[str, Any]) -> str | None:
    found = next(
        (attributes[key] for key in ("cpu.mode", "system.cpu.state", "state", "mode") if key in attributes), None
    )
    return None if found is None else str(found)


def _core(attributes: Mapping[str, Any]) -> int:
    """The number of the core that a point is of; -1 for the whole machine.

    Raises ValueError where it is no number that a core has.
    """
    key = next((key for key in _CORES if key in attributes), None)
    if key is None or (told := str(attributes[key])) in _ALL_CORES:
        return _WHOLE
    digits = told.removeprefix("cpu")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _LONG or int(digits) > LAST_CORE:
        raise ValueError(f"expected in {key} the number of a core, got {told[:_LONG]!r}")
    return int(digits)


def _take_gauge(name: str, value: float, span: tuple[int, int], attributes: Mapping[str, Any], host: _Host) -> None:
    mode = _mode(attributes)
    if name in _LOADS:
        host.loads[span][_LOADS[name]] = value
    elif name == _MEMORY:
        mode = mode or str(attributes.get("system.memory.state", attributes.get("memory.state", "used")))
        if mode == "used":
            host.memory[span] = value
    elif mode is None:
        host.plain[span][_core(attributes)] = value
    else:
        host.states[span].setdefault(_core(attributes), {})[mode] = value


def _take_times(metric: Metric, host: _Host, within: Range, made: Converted) -> None:
    cumulative = metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    for point in _timely(metric.sum.data_points, within, made):
        attributes = _attributes(point.attributes)
        mode = _mode(attributes)
        if mode is None:
            made.reject(1, f"{_TIME} without cpu.mode or state")
            continue
        value = point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)
        try:
            core = _core(attributes)
        except ValueError as error:
            made.reject(1, f"{_TIME}: {error}")
            continue
        if cumulative:
            host.cumulative[point.time_unix_nano // _MS][core][mode] = value
        else:
            host.times[_span(point)].setdefault(core, {})[mode] = value


def _grow(name: str, host: _Host, counters: Counters, within: Range, made: Converted) -> None:
    """What cumulative times say by their growth since the reading before.

    One that was read at a time that has not come is forgotten: a clock ran ahead, the sender's or ours.
    """
    for end_ms in sorted(host.cumulative):
        for core, states in host.cumulative[end_ms].items():
            before = made.read.get((name, core)) or counters.last.get((name, core))
            if before is not None and before[0] > within.now_ms >= end_ms:
                before = None
            if before is not None and before[0] < end_ms:
                grown = {mode: seconds - before[1].get(mode, seconds) for mode, seconds in states.items()}
                if min(grown.values()) >= 0 and sum(grown.values()) > 0:
                    host.times[before[0], end_ms][core] = grown
            if before is None or before[0] < end_ms:
                made.read[name, core] = (end_ms, states)


def _busy(states: States, whole: float) -> float | None:
    """The share of time that was busy, of times in modes that make up `whole`; None where they do not say it."""
    if "idle" in states:
        return 1.0 - sum(states.get(mode, 0.0) for mode in _IDLE) / whole
    if not any(mode in states for mode in _BUSY):
        return None
    return sum(states.get(mode, 0.0) for mode in _BUSY) / whole


def _take_histograms(metric: Metric, host: _Host, within: Range, made: Converted) -> None:
    delta = metric.exponential_histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    if not delta:
        made.reject(
            _points(metric), f"{_CPU}: expected an exponential histogram with delta temporality, got cumulative"
        )
        return
    for point in _timely(metric.exponential_histogram.data_points, within, made):
        if not point.count:
            continue
        if not _FINEST[0] <= point.scale <= _FINEST[1]:
            made.reject(1, f"{_CPU}: expected a scale from {_FINEST[0]} to {_FINEST[1]}, got {point.scale}")
            continue
        if point.negative.bucket_counts and any(point.negative.bucket_counts):
            made.reject(1, f"{_CPU}: expected shares from 0 to 1, got an observation below 0")
            continue
        host.histograms[_span(point)] = (point.count, _summary(point))


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
            values.append((2.0 ** min(0.0, max(_LEAST_LOG, (point.positive.offset + place + 0.5) * width)), count))
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


def _reports(name: str, host: _Host, made: Converted) -> Iterable[Report]:
    """A report for each window and number of observations."""
    windows: dict[tuple[int, int, int], list[ReportedMetric]] = defaultdict(list)
    for span in {**host.plain, **host.states, **host.times}:
        cpu = _cpu(_utilizations(host, span, made))
        if cpu is not None:
            windows[*span, 1].append(cpu)
    for span, used in host.memory.items():
        windows[*span, 1].append(Memory(utilization=Distribution(mean=used)))
    for span, loads in host.loads.items():
        if len(loads) == len(_LOADS):
            windows[*span, 1].append(Load(**{name: Distribution(mean=value) for name, value in loads.items()}))
        else:
            made.reject(len(loads), "load averages: expected those of 1, 5 and 15 minutes at one moment")
    for span, (count, cpu) in host.histograms.items():
        windows[*span, count].append(cpu)
    for (start_ms, end_ms, count), metrics in sorted(windows.items(), key=lambda one: one[0][1]):
        yield Report(
            user_id=name, start_timestamp=start_ms, end_timestamp=end_ms, observations_per_metric=count,
            os_type=host.os_type, os_version=host.os_version, metrics=metrics,
        )  # fmt: skip


def _utilizations(host: _Host, span: tuple[int, int], made: Converted) -> dict[int, float]:
    """The utilization of each core in a window."""
    found = dict(host.plain.get(span, {}))
    for cores, are_times in ((host.states.get(span, {}), False), (host.times.get(span, {}), True)):
        for core, states in cores.items():
            total = sum(states.get(mode, 0.0) for mode in (*_IDLE, *_BUSY)) if are_times else 1.0
            busy = _busy(states, total) if total > 0 else None
            if busy is None:
                made.reject(len(states), f"{_CPU}: expected the modes idle or user, system and their like")
            else:
                found[core] = busy
    return found


def _cpu(shares: Mapping[int, float]) -> Cpu | None:
    """The CPU metric of utilizations by core; the machine is their mean where it is not among them."""
    if not shares:
        return None
    cores = sorted(core for core in shares if core != _WHOLE)
    whole = shares[_WHOLE] if _WHOLE in shares else sum(shares[core] for core in cores) / len(cores)
    by_core = [shares[core] for core in cores]
    numbers = [] if cores == list(range(len(cores))) else cores
    return Cpu(avg_utilization=whole, avg_utilization_by_core=by_core, cores=numbers)
