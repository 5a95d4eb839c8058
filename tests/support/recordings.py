"""Raw samples, the reports that an agent makes of them, and what numpy makes of them."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from msgspec import UNSET

from analytics.frames.frame import unpacked
from analytics.frames.labels import LABELS
from analytics.frames.statistics import statistic
from contract.histogram import LINEAR, Bins, flatten
from contract.metrics import Cpu, Distribution, Metric, Quantity, Statistic
from contract.report import OsType, Report
from contract.summary import Summary

__all__ = [
    "CPU",
    "Buckets",
    "Host",
    "Recording",
    "Samples",
    "Window",
    "assert_quantiles",
    "assert_same_moments",
    "times_of",
]

Samples = npt.NDArray[np.float64]
CPU = Cpu.quantities[0]


@dataclass(frozen=True, slots=True)
class Host:
    """Who reports."""

    user_id: str
    os_type: OsType = "Linux"
    os_version: str = "12"


@dataclass(frozen=True, slots=True)
class Window:
    """The raw samples of one quantity, of the whole host (core None) or of one core."""

    host: Host
    quantity: Quantity
    core: int | None
    end_ms: int
    samples: Samples


@dataclass(eq=False)
class Recording:
    """All that was sampled, and the reports of it in the order they were made."""

    windows: list[Window] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def cpu(
        self,
        host: Host,
        end_ms: int,
        whole: Samples,
        cores: Mapping[int, Samples] | Sequence[Samples] = (),
        *,
        detailed: bool = True,
    ) -> Report:
        """A report of CPU samples; without `detailed` it says what the original's client says and no more."""
        numbered = dict(cores) if isinstance(cores, Mapping) else dict(enumerate(cores))
        assert {len(samples) for samples in numbered.values()} <= {len(whole)}
        self.windows.append(Window(host, CPU, None, end_ms, whole))
        self.windows += [Window(host, CPU, core, end_ms, samples) for core, samples in numbered.items()]
        total = Summary.of(whole.tolist(), LINEAR)
        parts = [Summary.of(samples.tolist(), LINEAR) for samples in numbered.values()]
        cpu = Cpu(
            avg_utilization=total.mean,
            var_utilization=total.variance,
            avg_utilization_by_core=[part.mean for part in parts],
            var_utilization_by_core=[part.variance for part in parts],
            min_utilization=total.minimum if detailed else UNSET,
            max_utilization=total.maximum if detailed else UNSET,
            histogram=flatten(total.histogram) if detailed else UNSET,
            min_utilization_by_core=[part.minimum for part in parts if detailed],
            max_utilization_by_core=[part.maximum for part in parts if detailed],
            histogram_by_core=[flatten(part.histogram) for part in parts if detailed],
            cores=list(cores) if isinstance(cores, Mapping) else [],
        )
        return self._add(host, end_ms, len(whole), [cpu])

    def other(
        self,
        host: Host,
        end_ms: int,
        kind: type[Metric],
        samples: Mapping[str, Samples],
        *,
        detailed: bool = True,
    ) -> Report:
        """A report of another metric type, with samples for each of its members."""
        members = {}
        for quantity in kind.quantities:
            part = samples[quantity.attribute]
            self.windows.append(Window(host, quantity, None, end_ms, part))
            summary = Summary.of(part.tolist(), quantity.bins)
            members[quantity.attribute] = Distribution(
                mean=summary.mean,
                variance=summary.variance,
                minimum=summary.minimum if detailed else UNSET,
                maximum=summary.maximum if detailed else UNSET,
                histogram=flatten(summary.histogram) if detailed else UNSET,
                observations=summary.count,
            )
        return self._add(host, end_ms, max(map(len, samples.values())), [kind(**members)])

    def _add(self, host: Host, end_ms: int, observations: int, metrics: list[Metric]) -> Report:
        report = Report(
            user_id=host.user_id,
            start_timestamp=end_ms - 50 * observations,
            end_timestamp=end_ms,
            observations_per_metric=observations,
            os_type=host.os_type,
            os_version=host.os_version,
            metrics=metrics,
        )
        self.reports.append(report)
        return report

    def buckets(
        self,
        quantity: Quantity,
        start_ms: int,
        end_ms: int,
        rate_ms: int,
        group_of: Callable[[Window], str | None],
    ) -> "Buckets":
        """All samples of each group and bucket in [start, end), by group and time; None leaves a window out."""
        found: dict[tuple[str, int], list[Samples]] = defaultdict(list)
        for window in self._between(quantity, start_ms, end_ms):
            group = group_of(window)
            if group is not None:
                found[group, window.end_ms // rate_ms * rate_ms].append(window.samples)
        return Buckets({key: np.concatenate(found[key]) for key in sorted(found)})

    def _between(self, quantity: Quantity, start_ms: int, end_ms: int) -> Iterator[Window]:
        return (one for one in self.windows if one.quantity == quantity and start_ms <= one.end_ms < end_ms)


class Buckets(dict[tuple[str, int], Samples]):
    """All samples of each group and bucket, and what numpy and our summary make of them, worked out once.

    One suite asks many stores, in many states, the same questions.
    """

    @cached_property
    def counts(self) -> list[int]:
        """How many samples each has."""
        return [len(part) for part in self.values()]

    @cached_property
    def moments(self) -> tuple[list[float], list[float]]:
        """The mean and the variance of each."""
        return [part.mean() for part in self.values()], [part.var() for part in self.values()]

    @cached_property
    def extremes(self) -> tuple[list[float], list[float]]:
        """The lowest and the highest sample of each."""
        return [part.min() for part in self.values()], [part.max() for part in self.values()]

    @cached_property
    def quantiles(self) -> list[list[float]]:
        """The quantiles of `SHARES`, each of all buckets."""
        shares = [*SHARES.values()]
        each = [np.quantile(part, shares, method="inverted_cdf").tolist() for part in self.values()]
        return [[one[place] for one in each] for place in range(len(shares))]

    def histograms(self, bins: Bins) -> list[tuple[int, int, int]]:
        """Row, bin and count of each bin that has samples."""
        if bins not in self._histograms:
            counted = [Summary.of(part.tolist(), bins).histogram for part in self.values()]
            self._histograms[bins] = [
                (row, *entry) for row, part in enumerate(counted) for entry in sorted(part.items())
            ]
        return self._histograms[bins]

    @cached_property
    def _histograms(self) -> dict[Bins, list[tuple[int, int, int]]]:
        return {}


SHARES: dict[Statistic, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def assert_same_moments(windows: pd.DataFrame, expected: Mapping[tuple[str, int], Samples]) -> None:
    """Groups, buckets and counts are equal; means and variances equal numpy's to 1e-12."""
    exact = expected if isinstance(expected, Buckets) else Buckets(expected)
    assert keys_of(windows) == list(exact)
    assert windows["count"].tolist() == exact.counts
    means, variances = exact.moments
    np.testing.assert_allclose(windows["mean"], means, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(windows["var"], variances, rtol=1e-12, atol=1e-15)


def assert_quantiles(windows: pd.DataFrame, quantity: Quantity, expected: Mapping[tuple[str, int], Samples]) -> None:
    """Extremes and histograms are exact, quantiles within half a bin of numpy's."""
    exact = expected if isinstance(expected, Buckets) else Buckets(expected)
    assert (windows["min"].tolist(), windows["max"].tolist()) == exact.extremes
    assert not windows["approximated"].any()
    histograms, _ = unpacked(windows)
    found = [histograms.row.tolist(), histograms.bin.tolist(), histograms.count.tolist()]
    assert [*zip(*found, strict=True)] == exact.histograms(quantity.bins)
    relative, absolute = (1e-9, 1 / 128) if quantity.bounded else (0.01 + 1e-9, 0.0)
    for name, values in zip(SHARES, exact.quantiles, strict=True):
        np.testing.assert_allclose(statistic(windows, name), values, rtol=relative, atol=absolute, err_msg=name)


def keys_of(windows: pd.DataFrame) -> list[tuple[str, int]]:
    """The group, or core, and the bucket of each window."""
    named = next((windows[name].astype("str") for name in LABELS if name in windows), None)
    groups = [""] * len(windows) if named is None else named.tolist()
    return [*zip(groups, times_of(windows), strict=True)]


def times_of(windows: pd.DataFrame) -> list[int]:
    """The start of each bucket, epoch ms."""
    times: list[int] = pd.DatetimeIndex(windows.index).asi8.tolist()
    return times
