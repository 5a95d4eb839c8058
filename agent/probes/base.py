"""What the sampler asks of a probe, and the samples a probe gives for a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from contract.histogram import flatten
from contract.metrics import Distribution, Metric
from contract.summary import Summary


class NotMeasured(Exception):
    """The host does not tell what a probe asks for; the message says why. The metric is left out of the report."""


class Samples(Protocol):
    """The raw samples of one metric type over one window."""

    def metric(self, observations: int) -> Metric:
        """Their summaries. `observations` is how many intervals of the plan the window covers.

        Costs far more than a sample, so it is not asked for in the sampling thread.
        """


class Probe(Protocol):
    """Samples one metric type. May raise anything: its metric is then missing from the report."""

    due: float
    """When the next sample is to be taken; in the past for a probe that samples at every tick."""

    def restart(self, now: float) -> None:
        """Read the counters anew, so that no sample covers any time before `now`."""

    def sample(self, now: float) -> bool:
        """Take a sample; False where what is measured changed its make-up.

        After False the samples so far must be collected, and `restart` called, before the next sample.
        """

    def collect(self) -> Samples | None:
        """The samples since `collect` was called last, None where there are none."""


class WeightedSamples(NamedTuple):
    """The samples of one quantity, each with the time that it covers."""

    values: list[float]
    weights: list[float]
    """How much of the window each sample stands for: seconds, or the time that the counters counted; above 0."""

    @classmethod
    def empty(cls) -> "WeightedSamples":
        """A series to add samples to."""
        return cls([], [])


@dataclass(frozen=True, slots=True)
class QuantitySamples:
    """Samples of a metric type that is a `Distribution` for each of its quantities."""

    kind: type[Metric]
    period_s: float
    """The time that an observation stands for."""
    series: Sequence[WeightedSamples]
    """For each of the kind's quantities its samples, weighed by the seconds since the sample before."""

    def metric(self, observations: int) -> Metric:
        """The summary of each quantity, with its own count: it is sampled less often than the CPU."""
        return self.kind(**self.members())

    def members(self) -> dict[str, Distribution]:
        """The same, by the names of the metric's members."""
        members = {}
        for quantity, series in zip(self.kind.quantities, self.series, strict=True):
            count = max(1, round(sum(series.weights) / self.period_s))
            summary = Summary.weighted(series.values, series.weights, count, quantity.bins)
            members[quantity.attribute] = Distribution(
                mean=summary.mean,
                variance=summary.variance,
                minimum=summary.minimum,
                maximum=summary.maximum,
                histogram=flatten(summary.histogram),
                observations=summary.count,
            )
        return members
