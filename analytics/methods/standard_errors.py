"""How sure a difference of two means is: standard errors by hosts and by blocks of time, whichever is larger."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from scipy import stats

from analytics.frames.columns import Windows
from analytics.frames.kernel import Floats, Ints

_FEWEST: Final = 4
"""Hosts or blocks on each side."""
_MIN: Final = 1e-9


@dataclass(frozen=True)
class Cells:
    """What one side is compared by: the means of some hosts in blocks of time, a cell each, in order of time."""

    named: bool
    """Whether hosts are told apart."""
    host: Ints
    """Numbers that are those of the other side too."""
    time: Ints
    mean: Floats
    share: Floats
    """The share of this side's samples; 1 altogether."""

    @classmethod
    def of(cls, windows: Windows, numbers: Ints | None) -> Self:
        """The cells of windows, `numbers` those of the hosts of their series; None for one that is not named."""
        order = np.argsort(windows.time, kind="stable")
        host = np.zeros(len(windows), np.int64) if numbers is None else numbers[windows.series]
        share = windows.count / windows.count.sum()
        return cls(numbers is not None, host[order], windows.time[order], windows.mean[order], share[order])

    @cached_property
    def hosts(self) -> frozenset[int]:
        """The numbers of its hosts."""
        return frozenset(np.unique(self.host).tolist())

    @cached_property
    def times(self) -> frozenset[int]:
        """The blocks of time that it has."""
        return frozenset(np.unique(self.time).tolist())

    @cached_property
    def influence(self) -> Floats:
        """By how much each cell moves the mean of this side; 0 altogether."""
        moved: Floats = self.share * (self.mean - self.share @ self.mean)
        return moved


@dataclass(frozen=True)
class StandardError:
    """How far the difference of two means may be off by chance."""

    variance: float
    """NaN where there is too little."""
    freedom: float
    unit: str

    def half_width(self, confidence: float) -> float:
        """Half the width of the confidence interval of the difference."""
        return float(stats.t.ppf((1 + confidence) / 2, self.freedom) * np.sqrt(self.variance))

    def p_value(self, difference: float) -> float:
        """Of a difference; 1 where there is too little."""
        if np.isnan(self.variance):
            return 1.0
        if self.variance == 0:
            return float(difference == 0)
        return float(2 * stats.t.sf(abs(difference) / np.sqrt(self.variance), self.freedom))


def error_of(before: Cells, after: Cells) -> StandardError:
    """The standard error of the difference of two sides' means."""
    hosts = before.hosts, after.hosts
    together = 2 * len(before.times & after.times) >= min(len(before.times), len(after.times))
    enough_blocks = min(len(before.times), len(after.times)) >= _FEWEST
    if before.named and after.named and min(map(len, hosts)) >= _FEWEST:
        by_hosts = _by_hosts(before, after)
        if together:
            return by_hosts
        return (
            _both(by_hosts, _by_blocks(before, after), before, after)
            if enough_blocks
            else StandardError(np.nan, 1, "blocks")
        )
    if before.named and after.named and hosts[0] != hosts[1] and max(map(len, hosts)) > 1:
        return StandardError(np.nan, 1, "hosts")
    if not enough_blocks:
        return StandardError(np.nan, 1, "blocks")
    return _by_blocks_together(before, after) if together else _by_blocks(before, after)


def _by_hosts(before: Cells, after: Cells) -> StandardError:
    """The error by hosts, each of which moves the difference by what it does on both sides."""
    names = np.array(sorted(before.hosts | after.hosts))
    moved, share = np.zeros((2, len(names))), np.zeros((2, len(names)))
    for side, cells in enumerate((before, after)):
        place = np.searchsorted(names, cells.host)
        np.add.at(moved[side], place, cells.influence)
        np.add.at(share[side], place, cells.share)
    # A host draws the mean towards itself, by its share; the more, the less it seems to differ from it.
    leverage = share.sum(axis=0) / np.maximum((share > 0).sum(axis=0), 1)
    variance = float(((moved[1] - moved[0]) ** 2 / np.maximum(1 - leverage, _MIN)).sum())
    weight = (share**2).sum(axis=0)
    means = 1 if before.hosts & after.hosts else 2
    return StandardError(variance, max(float(weight.sum() ** 2 / (weight**2).sum()) - means, 1.0), "hosts")


def _by_blocks(before: Cells, after: Cells) -> StandardError:
    """The error by blocks of different times."""
    sides = [_blocks(cells) for cells in (before, after)]
    correlation = _correlation(*(means for _, means, _ in sides))
    variances, freedoms = np.array([_of_blocks(moved, share, correlation) for moved, _, share in sides]).T
    return StandardError(float(variances.sum()), _satterthwaite(variances, freedoms), "blocks")


def _by_blocks_together(before: Cells, after: Cells) -> StandardError:
    """The error by blocks of the same times, each of which moves both means."""
    times = np.array(sorted(before.times | after.times))
    moved, share = np.zeros(len(times)), np.zeros(len(times))
    for sign, cells in ((-1, before), (1, after)):
        place = np.searchsorted(times, cells.time)
        np.add.at(moved, place, sign * cells.influence)
        np.add.at(share, place, cells.share / 2)
    variance, freedom = _of_blocks(moved, share, _correlation(moved / share))
    return StandardError(variance, freedom, "blocks")


def _both(by_hosts: StandardError, by_blocks: StandardError, before: Cells, after: Cells) -> StandardError:
    """The error by hosts and by blocks, in which what is in a single cell is counted once."""
    parts = np.array([by_hosts.variance, by_blocks.variance])
    cells = float((before.influence**2).sum() + (after.influence**2).sum())
    variance = max(float(parts.sum()) - cells, float(parts.max()))
    freedom = _satterthwaite(parts, np.array([by_hosts.freedom, by_blocks.freedom]))
    return StandardError(variance, freedom, "hosts and blocks")


def _blocks(cells: Cells) -> tuple[Floats, Floats, Floats]:
    """Of each block in order: by how much it moves the mean, its own mean, and its share of the samples."""
    _, place = np.unique(cells.time, return_inverse=True)
    share = np.bincount(place, cells.share)
    mean: Floats = np.bincount(place, cells.share * cells.mean) / share
    return np.bincount(place, cells.influence).astype(np.float64), mean, share.astype(np.float64)


def _of_blocks(moved: Floats, share: Floats, correlation: float) -> tuple[float, float]:
    """The variance of a mean, and its degrees of freedom, of blocks that each are like the one before."""
    number = 1 / float((share**2).sum())
    effective = max(2.0, number * (1 - correlation) / (1 + correlation))
    # Neighbours that are alike make the spread around the mean too small as well.
    return float((moved**2).sum()) * number / effective / (1 - 1 / effective), effective - 1


def _satterthwaite(variances: Floats, freedoms: Floats) -> float:
    """The degrees of freedom of a sum of variances."""
    weight = float((variances**2 / freedoms).sum())
    return float(variances.sum() ** 2) / weight if weight > 0 else 1.0


def _correlation(*sides: Floats) -> float:
    """From one block to the next, of all sides together, corrected for its bias (Kendall 1954), 0 to 0.95."""
    rests = [means - means.mean() for means in sides]
    total = sum(float(rest @ rest) for rest in rests)
    if total == 0:
        return 0.0
    found = sum(float(rest[1:] @ rest[:-1]) for rest in rests) / total
    n = sum(map(len, sides)) / len(sides)
    return float(np.clip(found + (1 + 4 * found) / n, 0.0, 0.95))
