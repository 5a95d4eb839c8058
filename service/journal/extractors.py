"""Extractors: what a name such as `cpuLoadAvg` with `p95` takes of a report, its number and its summaries."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from contract.histogram import unflatten
from contract.metrics import NAMES, STATISTICS, TYPE_OF, Cpu, Distribution, NamedMetric, Statistic
from contract.problems import did_you_mean
from contract.report import Report
from contract.summary import Summary

_QUANTILES: dict[Statistic, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_SIMPLE: dict[Statistic, Callable[[Summary], float]] = {
    "mean": lambda summary: summary.mean,
    "var": lambda summary: summary.variance,
    "std": lambda summary: math.sqrt(summary.variance),
    "min": lambda summary: summary.minimum,
    "max": lambda summary: summary.maximum,
    "count": lambda summary: summary.count,
}


@dataclass(frozen=True, slots=True)
class Extractor:
    """Takes a statistic of a quantity, of the whole host or over its cores, from reports; made by `extractor`."""

    metric: NamedMetric
    statistic: Statistic

    @property
    def label(self) -> str:
        """How it is named in answers: `cpuLoadAvg`, or `cpuLoadAvg.p95` where the statistic is not its own."""
        own = self.statistic == self.metric.statistic
        return self.metric.name if own else f"{self.metric.name}.{self.statistic}"

    @property
    def needs_histogram(self) -> bool:
        """Whether its summaries must have histograms."""
        return self.statistic in _QUANTILES

    def direct(self) -> Callable[[Report], float | None]:
        """The fastest way from a report to its number; None for a report without this metric."""
        name = self.metric.quantity.attribute
        kind = TYPE_OF[self.metric.quantity.name]
        if self.metric.over_cores or self.statistic not in ("mean", "var"):
            return self._of_report
        if kind is Cpu:
            if self.statistic == "var":
                name = "var_utilization"

            def of_cpu(report: Report) -> float | None:
                for metric in report.metrics:
                    if type(metric) is Cpu:
                        value: float = getattr(metric, name)
                        return value
                return None

            return of_cpu
        member = "mean" if self.statistic == "mean" else "variance"

        def of_other(report: Report) -> float | None:
            for metric in report.metrics:
                if type(metric) is kind:
                    value: float = getattr(getattr(metric, name), member)
                    return value
            return None

        return of_other

    def _of_report(self, report: Report) -> float | None:
        found = self.summaries(report)
        return None if found is None else self.value(found)

    def summaries(self, report: Report) -> tuple[Summary, ...] | None:
        """The window's summary, or one for each core where it compares cores; None without this metric."""
        kind = TYPE_OF[self.metric.quantity.name]
        for metric in report.metrics:
            if type(metric) is kind:
                break
        else:
            return None
        quantity = self.metric.quantity
        if not isinstance(metric, Cpu):
            one: Distribution = getattr(metric, quantity.attribute)
            count = report.observations_per_metric if one.observations is UNSET else one.observations
            return (self._summary(count, one.mean, one.variance, one.minimum, one.maximum, one.histogram),)
        if self.metric.over_cores:
            return self._of_cores(metric, report.observations_per_metric) or None
        return (
            self._summary(
                report.observations_per_metric, metric.avg_utilization, metric.var_utilization,
                metric.min_utilization, metric.max_utilization, metric.histogram,
            ),
        )  # fmt: skip

    def _of_cores(self, cpu: Cpu, count: int) -> tuple[Summary, ...]:
        variances, least, most, counted = (
            cpu.var_utilization_by_core, cpu.min_utilization_by_core,
            cpu.max_utilization_by_core, cpu.histogram_by_core,
        )  # fmt: skip
        return tuple(
            self._summary(
                count,
                mean,
                variances[core] if variances else 0.0,
                least[core] if least else UNSET,
                most[core] if most else UNSET,
                counted[core] if counted else UNSET,
            )
            for core, mean in enumerate(cpu.avg_utilization_by_core)
        )

    def _summary(
        self,
        count: int,
        mean: float,
        variance: float,
        minimum: float | UnsetType,
        maximum: float | UnsetType,
        histogram: list[int] | UnsetType,
    ) -> Summary:
        """A window's summary, right in what the statistic takes; what is not told is what answers have for it."""
        least = most = mean
        counts: dict[int, int] = {}
        if self.needs_histogram or (self.statistic in ("min", "max") and (minimum is UNSET or maximum is UNSET)):
            if histogram is UNSET:
                least, most, counts = _standin(mean, variance, count, minimum, maximum, self.metric.quantity.bounded)
            else:
                counts = unflatten(histogram)
                bins = self.metric.quantity.bins
                least, most = bins.value(min(counts)), bins.value(max(counts))
        return Summary(
            count,
            mean,
            variance,
            least if minimum is UNSET else minimum,
            most if maximum is UNSET else maximum,
            counts if self.needs_histogram else {},
        )

    def value(self, summaries: tuple[Summary, ...]) -> float:
        """The number of merged summaries: of the whole, or the highest or lowest of the cores'."""
        if self.metric.over_cores:
            pick = max if self.metric.over_cores == "max" else min
            return pick(map(self._statistic, summaries))
        return self._statistic(summaries[0])

    def _statistic(self, summary: Summary) -> float:
        share = _QUANTILES.get(self.statistic)
        if share is not None:
            return summary.quantile(share, self.metric.quantity.bins)
        return _SIMPLE[self.statistic](summary)


def _standin(
    mean: float,
    variance: float,
    count: int,
    minimum: float | UnsetType,
    maximum: float | UnsetType,
    bounded: bool,
) -> tuple[float, float, dict[int, int]]:
    """Minimum, maximum and histogram of a window that came without histogram."""
    # Rules are read at every start, and few evaluate such windows.
    import numpy as np

    from analytics.frames.standins import standins

    told = tuple(np.array([math.nan if extreme is UNSET else extreme]) for extreme in (minimum, maximum))
    low, high, made = standins(np.array([mean]), np.array([variance]), np.array([count]), bounded, (told[0], told[1]))
    return float(low[0]), float(high[0]), dict(zip(made.bin.tolist(), made.count.tolist(), strict=True))


def extractor(name: str, statistic: str | None = None) -> Extractor:
    """The extractor of a metric's name, with its own statistic unless another is named.

    Raises ValueError, which says what is expected.
    """
    metric = NAMES.get(name)
    if metric is None:
        raise ValueError(f"expected a metric of GET /api/v1/metrics, got {name!r}{did_you_mean(name, NAMES)}")
    if statistic is None:
        return Extractor(metric, metric.statistic)
    if statistic not in STATISTICS:
        raise ValueError(f"expected a statistic, one of {', '.join(STATISTICS)}, got {statistic!r}")
    return Extractor(metric, statistic)
