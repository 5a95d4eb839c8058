"""What the sampler asks of a probe, and the samples a probe gives for a window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contract.histogram import flatten
from contract.metrics import Distribution, Metric
from contract.summary import Summary


class Samples(Protocol):
    """The raw samples of one metric type over one window."""

    def metric(self) -> Metric:
        """Their summaries. Costs far more than a sample, so it is not asked for in the sampling thread."""


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


@dataclass(frozen=True, slots=True)
class QuantitySamples:
    """Samples of a metric type that is a `Distribution` for each of its quantities."""

    kind: type[Metric]
    series: Sequence[Sequence[float]]
    """For each of the kind's quantities, its samples."""

    def metric(self) -> Metric:
        """The summary of each quantity, with its own count: it is sampled less often than the CPU."""
        members: dict[str, Any] = {}
        for quantity, samples in zip(self.kind.quantities, self.series, strict=True):
            summary = Summary.of(samples, quantity.bins)
            members[quantity.attribute] = Distribution(
                mean=summary.mean,
                variance=summary.variance,
                minimum=summary.minimum,
                maximum=summary.maximum,
                histogram=flatten(summary.histogram),
                observations=summary.count,
            )
        return self.kind(**members)
