"""Rules against history: the windows that a service has, fed to the same evaluation as when they arrived."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from msgspec import UNSET, UnsetType

from analytics.frames.packing import unpack
from analytics.sources.base import Source
from contract.metrics import NAMES, TYPES, Cpu, Distribution, Metric, NamedMetric
from contract.report import Report
from contract.selectors import read_labels
from contract.times import DAY_MS, parse_duration
from service.alerts.alarms import Transition
from service.alerts.engine import Engine
from service.alerts.rules import MeasuredRule, Rule

_KINDS: dict[str, type[Metric]] = {quantity.name: kind for kind in TYPES for quantity in kind.quantities}
_CPU = Cpu.quantities[0]
_AT_ONCE_MS = DAY_MS
"""Windows are asked for in stretches of this length."""


@dataclass(frozen=True, slots=True)
class FiringPeriod:
    """When a rule would have fired."""

    rule: str
    user: str
    """Empty for the fleet."""
    fired_ms: int
    resolved_ms: int | None
    """None where it still fires at the end."""
    value: float
    """The number that made it fire."""


def slices(start_ms: int, end_ms: int, width_ms: int = _AT_ONCE_MS) -> list[tuple[int, int]]:
    """The stretches of a range that are asked for one after the other."""
    return [(begin, min(begin + width_ms, end_ms)) for begin in range(start_ms, end_ms, width_ms)]


def backtest(
    rules: Sequence[Rule],
    source: Source,
    start_ms: int,
    end_ms: int,
    rate: str,
    each: Callable[[], object],
    most: int | None = None,
) -> list[FiringPeriod]:
    """When each rule would have fired in [`start_ms`, `end_ms`), had it begun there.

    There are at most `most` stretches; None lets each be a day. `rate` is `raw` for windows as they came, or a
    duration to merge them first. `each` is called after each stretch of each quantity (`steps` says how many days).
    Raises analytics' ServiceError.
    """
    users = source.users()
    systems = dict(zip(users["user"].astype(str), users["os_type"].astype(str), strict=True))
    labels = {user: read_labels(text) for user, text in zip(systems, users["labels"], strict=True)}
    periods: list[FiringPeriod] = []
    width_ms = _AT_ONCE_MS if most is None else max(_AT_ONCE_MS, -(-(end_ms - start_ms) // most))
    for (metric, by_core), some in _by_metric(rules).items():
        asked = _WindowSource(
            source, metric, by_core, any(_needs_histograms(rule) for rule in some), rate, systems, labels
        )
        engine = Engine()
        engine.use(some)
        for begin, end in slices(start_ms, end_ms, width_ms):
            for report in asked.reports(begin, end):
                _note(periods, engine.tick(report.end_timestamp))
                _note(periods, engine.observe([report], report.end_timestamp))
            _note(periods, engine.tick(end))
            each()
    return sorted(periods, key=lambda period: (period.rule, period.fired_ms, period.user))


def steps(rules: Sequence[Rule], start_ms: int, end_ms: int) -> int:
    """How often `backtest` calls `each`."""
    return len(_by_metric(rules)) * len(slices(start_ms, end_ms))


def _by_metric(rules: Sequence[Rule]) -> dict[tuple[NamedMetric, bool], list[Rule]]:
    """The rules by the metric whose windows they need, and whether they need those of cores."""
    groups: dict[tuple[NamedMetric, bool], list[Rule]] = {}
    for rule in rules:
        metric = rule.extractor.metric if isinstance(rule, MeasuredRule) else NAMES["cpuUtilization"]
        whole = next(one for one in NAMES.values() if one.quantity == metric.quantity and not one.over_cores)
        groups.setdefault((whole, metric.over_cores is not None), []).append(rule)
    return groups


def _needs_histograms(rule: Rule) -> bool:
    return isinstance(rule, MeasuredRule) and rule.extractor.needs_histogram


def _note(periods: list[FiringPeriod], transitions: Iterable[Transition]) -> None:
    for one in transitions:
        if one.state == "firing":
            periods.append(FiringPeriod(one.rule, one.user, one.at_ms, None, one.value))
            continue
        for place in range(len(periods) - 1, -1, -1):
            period = periods[place]
            if (period.rule, period.user, period.resolved_ms) == (one.rule, one.user, None):
                periods[place] = replace(period, resolved_ms=one.at_ms)
                break


@dataclass(frozen=True, slots=True)
class _WindowSource:
    """A source of windows, and what is asked of it."""

    source: Source
    metric: NamedMetric
    by_core: bool
    histograms: bool
    rate: str
    systems: dict[str, str]
    labels: dict[str, dict[str, str]]

    def reports(self, start_ms: int, end_ms: int) -> Iterator[Report]:
        """The windows of a stretch as reports, in order of time."""
        width_ms = 0 if self.rate == "raw" else parse_duration(self.rate)
        shared = {
            "metric": self.metric.name, "start": start_ms, "end": end_ms, "rate": self.rate,
            "histograms": self.histograms,
        }  # fmt: skip
        if self.by_core:
            found = [
                report
                for user in self.systems
                for report in self._of(self.source.history(user, core="each", **shared), width_ms, user)  # type: ignore[arg-type]
            ]
        else:
            found = [*self._of(self.source.fleet(by="user", **shared), width_ms)]  # type: ignore[arg-type]
        found.sort(key=lambda report: report.end_timestamp)
        yield from found

    def _of(self, frame: pd.DataFrame, width_ms: int, user: str = "") -> Iterator[Report]:
        """The windows of a frame, those of all cores at once together."""
        ends = (pd.DatetimeIndex(frame.index).as_unit("ms").astype("int64") + width_ms).tolist()
        users = frame["user"].tolist() if "user" in frame else [user] * len(frame)
        numbers = zip(*(frame[name].tolist() for name in ("count", "mean", "var", "min", "max")), strict=True)
        windows = zip(users, ends, numbers, _histograms(frame), strict=True)
        if not self.by_core:
            for name, end_ms, window, histogram in windows:
                yield self._report(name, end_ms, window[0], self._metric(window, histogram))
            return
        whole = frame["core"].isna().tolist()
        rows: dict[int, list[tuple[_Numbers, list[int] | UnsetType]]] = {}
        for (_, end_ms, window, histogram), is_whole in zip(windows, whole, strict=True):
            if not is_whole:
                rows.setdefault(end_ms, []).append((window, histogram))
        for end_ms, cores in rows.items():
            yield self._report(user, end_ms, cores[0][0][0], _of_cores(cores))

    def _report(self, user: str, end_ms: int, count: int, metric: Metric) -> Report:
        system: Any = self.systems.get(user, "Linux")
        return Report(user, end_ms, end_ms, count, system, "", [metric], labels=self.labels.get(user, {}))

    def _metric(self, window: "_Numbers", histogram: list[int] | UnsetType) -> Metric:
        count, mean, variance, minimum, maximum = window
        quantity = self.metric.quantity
        if quantity.name == _CPU.name:
            return Cpu(mean, variance, [], [], minimum, maximum, histogram)
        kind = _KINDS[quantity.name]
        one = Distribution(mean, variance, minimum, maximum, histogram, count)
        others = {other.attribute: Distribution(0.0) for other in kind.quantities}
        return kind(**others | {quantity.attribute: one})


_Numbers = tuple[int, float, float, float, float]


def _of_cores(cores: Sequence[tuple[_Numbers, list[int] | UnsetType]]) -> Cpu:
    _, means, variances, minima, maxima = map(list, zip(*(window for window, _ in cores), strict=True))
    counted = [histogram for _, histogram in cores if histogram is not UNSET]
    return Cpu(
        means[0],
        avg_utilization_by_core=means,
        var_utilization_by_core=variances,
        min_utilization_by_core=minima,
        max_utilization_by_core=maxima,
        histogram_by_core=counted if len(counted) == len(cores) else [],
    )


def _histograms(frame: pd.DataFrame) -> Iterator[list[int] | UnsetType]:
    """The histogram of each row, in its wire form."""
    if frame.empty or "histogram" not in frame:
        yield from [UNSET] * len(frame)
        return
    column = pa.array(frame["histogram"], pa.large_binary())
    found = unpack(pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column)
    pairs = np.column_stack([found.bin, found.count]).ravel().tolist()
    ends = (2 * np.searchsorted(found.row, np.arange(1, len(frame) + 1))).tolist()
    for begin, end in pairwise([0, *ends]):
        yield pairs[begin:end] if end > begin else UNSET
