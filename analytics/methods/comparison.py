"""Two sets of windows beside each other: by how much they differ, and whether that could be chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from scipy import stats

from analytics.frames.aggregation import AnyFrame, bucket, example_of, gather, of_machines
from analytics.frames.arguments import check_by, duration_ms, number, one_of, shown
from analytics.frames.columns import Windows, merge, take
from analytics.frames.frame import FrameError, bins_of, metric_of
from analytics.frames.kernel import Floats, Ints
from analytics.frames.weights import about_alike
from contract.histogram import LINEAR
from contract.metrics import NAMES
from contract.times import DAY_MS, HOUR_MS

_FEWEST: Final = 4
"""Hosts or blocks on each side."""
_MIN: Final = 1e-9
_FEWEST_DAYS: Final = 5
_ROUNDING: Final = 1e-12
"""Of the larger of two means: what differs by less does so because sums of floats are rounded."""


_SMALL, _MEDIUM, _LARGE = 0.2, 0.5, 0.8
"""Effects as Cohen (1988) calls them."""


def compare(
    first: AnyFrame,
    second: AnyFrame,
    *,
    names: tuple[str, str] = ("before", "after"),
    by: Literal["user"] | None = None,
    block: str | None = None,
    confidence: float = 0.95,
    weight: Literal["hosts", "samples"] = "hosts",
) -> pd.DataFrame:
    """How the second frame differs from the first: two periods of the same users, or two groups of users.

    One row, or with `by="user"` one for each user of both, sorted by the size of its difference:

    - `user`: with `by`
    - `mean_before`, `mean_after`: means (named after `names`), and their `difference`, with `lower` and `upper`, its
      confidence interval, in the unit of the metric, within [-1, 1] for shares
    - `p_value`: how likely at least this difference is where there is none; with `by` adjusted for the number of users
      (Benjamini and Hochberg 1995)
    - `hedges_g`: the difference in standard deviations of the samples (Hedges 1981): 0.2 is small, 0.8 large; infinite
      where neither side varied
    - `cliffs_delta`: how much more often a sample of the second is above one of the first than below it, -1 to 1,
      from histograms (Cliff 1993): 0.15 is small, 0.47 large
    - `unit`: what was compared: `hosts`, `blocks` of time, or `hosts and blocks`
    - `hosts_before`, `hosts_after` (without `by`, where users are named) and `blocks_before`, `blocks_after`: how many
    - `verdict`: the same in words

    Samples of one machine are alike, and so are neighbours in time: as independent values they would make any
    difference significant. So the unit is the host where both frames have at least four, with its difference where it
    is in both; what is said is then about machines like these. Where the frames are of different times, what all
    machines did together at a time counts as well, and the unit is hosts and blocks: days where both sides have at
    least five, otherwise hours, or `block` (an InfluxQL duration). Blocks alone are the unit for one machine, or up to
    three that are the same on both sides, and where no users are named; it is said of these machines then. The error is
    that of a difference of two ratios, by hosts, by blocks, and by both (Cochran, *Sampling Techniques*, 1977, section
    6; Cameron, Gelbach and Miller, J. Business and Economic Statistics 29, 2011), with a t distribution (Satterthwaite
    1946). Blocks count as much less as the correlation from one to the next says (Zwiers and von Storch 1995,
    J. Climate 8). Weekends weigh as in the frames: compare whole weeks with whole weeks.

    Without `by` each host counts by the time that it was seen, as in reports (`analytics.equal_weights`): one that
    samples every 50 ms does not drown those that sample every five minutes. `weight="samples"` counts each sample
    alike, also for frames that are weighed already (`analytics.weigh`).

    Takes frames of windows of any size, pandas' or Dask's; raises FrameError for others, for two different metrics, and
    for a wrong block or confidence.
    """
    confidence = number(confidence, "confidence", "a share in (0, 1) such as 0.95", lambda share: 0 < share < 1)
    check_by(by)
    one_of(weight, "weight", ("hosts", "samples"))
    check_names(names)
    bounded = _same_metric(first, second)
    block_ms = _block_ms(first, second) if block is None else duration_ms(block, "block")
    numbers: dict[str, int] = {}
    sides = [_Side.of(frame, by, block_ms, numbers, alike=weight == "hosts") for frame in (first, second)]
    for name, side in zip(names, sides, strict=True):
        if not side.users:
            raise FrameError(f"expected samples on both sides, got no samples of {name}")
    common = set(sides[1].users)
    users = [user for user in sides[0].users if user in common]
    if not users:
        raise FrameError("expected frames with a user in common, got no user in common")
    before, after = (side.of_users(users) for side in sides)
    answer = pd.DataFrame({"user": pd.Categorical(users)}) if by else pd.DataFrame(index=range(1))
    for name, side in zip(names, (before, after), strict=True):
        answer[f"mean_{name}"] = side.whole.mean
    answer["difference"] = _difference(before.whole, after.whole)
    errors = [_error(*cells) for cells in zip(before.cells, after.cells, strict=True)]
    half_width = np.array([error.half_width(confidence) for error in errors])
    answer["lower"], answer["upper"] = answer["difference"] - half_width, answer["difference"] + half_width
    if bounded:
        answer["lower"], answer["upper"] = answer["lower"].clip(-1, 1), answer["upper"].clip(-1, 1)
    p_value = [error.p_value(each) for error, each in zip(errors, answer["difference"], strict=True)]
    answer["p_value"] = stats.false_discovery_control(p_value)
    answer["hedges_g"] = _hedges_g(before.whole, after.whole)
    answer["cliffs_delta"] = _cliffs_delta(before.whole, after.whole)
    answer["unit"] = [error.unit for error in errors]
    for name, side in zip(names, (before, after), strict=True):
        if not by and all(cells.named for cells in (*before.cells, *after.cells)):
            answer[f"hosts_{name}"] = [len(cells.hosts) for cells in side.cells]
        answer[f"blocks_{name}"] = [len(cells.times) for cells in side.cells]
    answer["verdict"] = [_in_words(row, names, confidence) for _, row in answer.iterrows()]
    order = answer["difference"].abs().sort_values(ascending=False, kind="stable").index
    return answer.loc[order].reset_index(drop=True)


def check_names(names: object) -> None:
    """Raise FrameError for what are no two different names of sides."""
    two = isinstance(names, list | tuple) and len(names) == 2 and all(isinstance(name, str) and name for name in names)
    if not two or len({*names}) < 2:  # type: ignore[misc]  # two names are a list or a tuple
        raise FrameError(f"names: expected two different names such as ('before', 'after'), got {shown(names)}")


@dataclass(frozen=True)
class _Cells:
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
        return frozenset(np.unique(self.host).tolist())

    @cached_property
    def times(self) -> frozenset[int]:
        return frozenset(np.unique(self.time).tolist())

    @cached_property
    def influence(self) -> Floats:
        """By how much each cell moves the mean of this side; 0 altogether."""
        moved: Floats = self.share * (self.mean - self.share @ self.mean)
        return moved


@dataclass(frozen=True)
class _Side:
    """What is compared with the other side, of each user by itself or of all together."""

    users: list[str]
    whole: Windows
    """All time merged."""
    cells: list[_Cells]

    @classmethod
    def of(cls, frame: AnyFrame, by: str | None, block_ms: int, numbers: dict[str, int], *, alike: bool) -> Self:
        """The side of a frame; its hosts are added to `numbers`. With `alike` they count by the time they were seen."""
        machines = of_machines(frame)
        key = partial(bucket, rate_ms=block_ms)
        windows, labels = gather(machines, key, histograms=False, what="comparison")
        if by and "user" not in labels:
            raise FrameError("there are no users to compare one by one: leave out by, or give frames with users")
        whole, _ = gather(machines, None, labels=("user",) if by else (), what="comparison")
        if alike and not by and "user" in labels and len(labels) > 1:
            factors = _by_time(machines)
            if (factors > 1).any():
                each, _ = gather(machines, None, what="comparison")
                windows, each = _often(windows, factors), _often(each, factors)
                whole = merge(replace(each, series=np.zeros_like(each.series)))
        users = labels["user"].astype("str").tolist() if "user" in labels else []
        hosts = np.array([numbers.setdefault(user, len(numbers)) for user in users]) if users else None
        if not by:
            return cls([""] * len(whole), whole, [_Cells.of(windows, hosts)] if len(whole) else [])
        ends = np.searchsorted(windows.series, np.arange(len(users) + 1))
        return cls(users, whole, [_Cells.of(take(windows, np.arange(*pair)), hosts) for pair in pairwise(ends)])

    def of_users(self, users: Sequence[str]) -> "_Side":
        """Those of some users, in their order."""
        place = {user: number for number, user in enumerate(self.users)}
        rows = np.array([place[user] for user in users])
        return _Side([*users], take(self.whole, rows), [self.cells[row] for row in rows])


def _by_time(machines: AnyFrame) -> Ints:
    """How often the samples of each user, in their order, count so that users count by the time they were seen."""
    hours, labels = gather(machines, partial(bucket, rate_ms=HOUR_MS), histograms=False, what="comparison")
    users = labels["user"].astype("str").to_numpy()
    frame = pd.DataFrame({"user": users[hours.series], "count": hours.count}, index=hours.time)
    factors: Ints = about_alike(frame).reindex(users).fillna(1).to_numpy().astype(np.int64)
    return factors


def _often(windows: Windows, factors: Ints) -> Windows:
    """The windows with the samples of each series so often."""
    times = factors[windows.series]
    histograms = windows.histograms
    if histograms is not None:
        histograms = replace(histograms, count=histograms.count * times[histograms.row])
    return replace(
        windows, count=windows.count * times, approximated=windows.approximated * times, histograms=histograms
    )


def _same_metric(*frames: AnyFrame) -> bool:
    """Whether the metric of two frames is a share; raises FrameError where they are of two metrics."""
    names = [metric_of(example_of(frame)) for frame in frames]
    known = [NAMES[str(name)].quantity if str(name) in NAMES else name for name in names]
    first, second = (bins_of(example_of(frame)) for frame in frames)
    if first is not second or (None not in names and known[0] != known[1]):
        one, other = (name or "one that names none" for name in names)
        raise FrameError(f"expected two frames of one metric, got {one} and {other}")
    return first is LINEAR


def _block_ms(*frames: AnyFrame) -> int:
    """A day where all frames have enough of them, otherwise an hour."""
    key = partial(bucket, rate_ms=DAY_MS)
    days = [len(gather(of_machines(frame), key, labels=(), histograms=False, what="days")[0]) for frame in frames]
    return DAY_MS if min(days) >= _FEWEST_DAYS else HOUR_MS


@dataclass(frozen=True)
class _StandardError:
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


def _error(before: _Cells, after: _Cells) -> _StandardError:
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
            else _StandardError(np.nan, 1, "blocks")
        )
    if before.named and after.named and hosts[0] != hosts[1] and max(map(len, hosts)) > 1:
        return _StandardError(np.nan, 1, "hosts")
    if not enough_blocks:
        return _StandardError(np.nan, 1, "blocks")
    return _by_blocks_together(before, after) if together else _by_blocks(before, after)


def _by_hosts(before: _Cells, after: _Cells) -> _StandardError:
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
    return _StandardError(variance, max(float(weight.sum() ** 2 / (weight**2).sum()) - means, 1.0), "hosts")


def _by_blocks(before: _Cells, after: _Cells) -> _StandardError:
    """The error by blocks of different times."""
    sides = [_blocks(cells) for cells in (before, after)]
    correlation = _correlation(*(means for _, means, _ in sides))
    variances, freedoms = np.array([_of_blocks(moved, share, correlation) for moved, _, share in sides]).T
    return _StandardError(float(variances.sum()), _satterthwaite(variances, freedoms), "blocks")


def _by_blocks_together(before: _Cells, after: _Cells) -> _StandardError:
    """The error by blocks of the same times, each of which moves both means."""
    times = np.array(sorted(before.times | after.times))
    moved, share = np.zeros(len(times)), np.zeros(len(times))
    for sign, cells in ((-1, before), (1, after)):
        place = np.searchsorted(times, cells.time)
        np.add.at(moved, place, sign * cells.influence)
        np.add.at(share, place, cells.share / 2)
    variance, freedom = _of_blocks(moved, share, _correlation(moved / share))
    return _StandardError(variance, freedom, "blocks")


def _both(by_hosts: _StandardError, by_blocks: _StandardError, before: _Cells, after: _Cells) -> _StandardError:
    """The error by hosts and by blocks, in which what is in a single cell is counted once."""
    parts = np.array([by_hosts.variance, by_blocks.variance])
    cells = float((before.influence**2).sum() + (after.influence**2).sum())
    variance = max(float(parts.sum()) - cells, float(parts.max()))
    freedom = _satterthwaite(parts, np.array([by_hosts.freedom, by_blocks.freedom]))
    return _StandardError(variance, freedom, "hosts and blocks")


def _blocks(cells: _Cells) -> tuple[Floats, Floats, Floats]:
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


def _rounding(before: Windows, after: Windows) -> Floats:
    """How far apart two means of the same numbers can be."""
    size: Floats = _ROUNDING * np.maximum(np.abs(before.mean), np.abs(after.mean))
    return size


def _difference(before: Windows, after: Windows) -> Floats:
    difference = after.mean - before.mean
    return np.where(np.abs(difference) <= _rounding(before, after), 0.0, difference)


def _hedges_g(before: Windows, after: Windows) -> Floats:
    """Infinite where numbers that never varied differ."""
    freedom = np.maximum(before.count + after.count - 2, 1)
    pooled = np.sqrt((before.count * before.variance + after.count * after.variance) / freedom)
    difference = _difference(before, after)
    varied = pooled > _rounding(before, after)
    d = np.divide(difference, pooled, out=np.copysign(np.inf, difference), where=varied)
    g: Floats = np.where(difference == 0, 0.0, d) * (1 - 3 / (4 * freedom - 1))
    return g


def _cliffs_delta(before: Windows, after: Windows) -> Floats:
    """From histograms; samples in one bin count as equal."""
    lowest = min(int(side.histograms.bin.min()) for side in (before, after) if side.histograms)
    width = max(int(side.histograms.bin.max()) for side in (before, after) if side.histograms) - lowest + 1
    samples = []
    for side in (before, after):
        assert side.histograms is not None
        counts = np.zeros((len(side), width))
        np.add.at(counts, (side.histograms.row, side.histograms.bin - lowest), side.histograms.count)
        samples.append(counts)
    first, second = samples
    total = first.sum(axis=1, keepdims=True)
    below = np.cumsum(first, axis=1)
    # Of whole numbers, so that equal sides differ by exactly 0.
    delta: Floats = (second * (below - first - (total - below))).sum(axis=1) / (total[:, 0] * second.sum(axis=1))
    return delta


def _in_words(row: "pd.Series[Any]", names: tuple[str, str], confidence: float) -> str:
    before, after = (row[f"mean_{name}"] for name in names)
    if np.isnan(row["lower"]):
        return f"too little to compare: at least {_FEWEST} {row['unit']} on both sides are needed"
    chance = f"p = {row['p_value']:.2g}"
    if row["p_value"] > 1 - confidence:
        return f"no difference between {names[0]} and {names[1]} that could be told from chance ({chance})"
    direction = "higher" if row["difference"] > 0 else "lower"
    size = abs(row["hedges_g"])
    effect = "large" if size >= _LARGE else "medium" if size >= _MEDIUM else "small" if size >= _SMALL else "tiny"
    return (
        f"{names[1]} is {direction} than {names[0]}: {_number(after, 3)} against {_number(before, 3)} "
        f"({confidence:.0%} interval of the difference {_number(row['lower'])} to {_number(row['upper'])}, {chance}), "
        f"a {effect} effect"
    )


def _number(value: float, digits: int = 2) -> str:
    """With a few digits that count, and never as a power of ten where it is large: `1,200,000`."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
