"""CPU: the utilization of the whole machine and of each logical core, as the original system reports it."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from contract.metrics.base import Metric, Quantity, Share, SquaredShare

__all__ = ["Cpu"]

MAX_CORES = 4096
Cores = Meta(max_length=MAX_CORES)
Histogram = Annotated[list[int], Meta(max_length=128)]


class Cpu(Metric, tag="CPU", gc=False, frozen=True, omit_defaults=True):
    """Utilization in [0, 1]. Members `..._by_core` have one entry for each logical core.

    Mean and variance are the original's, minimum, maximum, histograms and `cores` are additions;
    a variance or a list `var_utilization_by_core` left out (or empty) says the samples were not aggregated.
    """

    avg_utilization: Share
    var_utilization: SquaredShare = 0.0
    avg_utilization_by_core: Annotated[list[Share], Cores] = []
    var_utilization_by_core: Annotated[list[SquaredShare], Cores] = []
    min_utilization: Share | UnsetType = UNSET
    max_utilization: Share | UnsetType = UNSET
    histogram: Histogram | UnsetType = UNSET
    min_utilization_by_core: Annotated[list[Share], Cores] = []
    max_utilization_by_core: Annotated[list[Share], Cores] = []
    histogram_by_core: Annotated[list[Histogram], Cores] = []
    cores: Annotated[list[Annotated[int, Meta(ge=0, le=65535)]], Cores] = []
    """The number of each core in the lists; 0, 1, 2, ... where it is left out, as while all are online."""

    quantities = (Quantity("cpu.utilization", "avg_utilization", "CPU utilization", "1", bounded=True),)
