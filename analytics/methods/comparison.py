"""Two sets of windows beside each other: by how much they differ, and whether that could be chance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from scipy import stats

from analytics.frames.aggregation import AnyFrame, bucket, example_of, gather, of_hosts
from analytics.frames.arguments import check_by, duration_ms, number, one_of, shown
from analytics.frames.columns import Windows, merge, take
from analytics.frames.frame import FrameError, bins_of, metric_of
from analytics.frames.kernel import Floats, Ints
from analytics.frames.weights import about_alike
from analytics.methods.standard_errors import (
    _FEWEST,
    Cells,
    error_of,
)
from contract.histogram import LINEAR
from contract.metrics import NAMES
from contract.times import DAY_MS, HOUR_MS

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

    Samples of one host are alike, and so are neighbours in time: as independent values they would make any
    difference significant. So the unit is the host where both frames have at least four, with its difference where it
    is in both; what is said is then about hosts like these. Where the frames are of different times, what all
    hosts did together at a time counts as well, and the unit is hosts and blocks: days where both sides have at
    least five, otherwise hours, or `block` (an InfluxQL duration). Blocks alone are the unit for one host, or up to
    three that are the same on both sides, and where no users are named; it is said of these hosts then. The error is
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
    errors = [error_of(*cells) for cells in zip(before.cells, after.cells, strict=True)]
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
class _Side:
    """What is compared with the other side, of each user by itself or of all together."""

    users: list[str]
    whole: Windows
    """All time merged."""
    cells: list[Cells]

    @classmethod
    def of(cls, frame: AnyFrame, by: str | None, block_ms: int, numbers: dict[str, int], *, alike: bool) -> Self:
        """The side of a frame; its hosts are added to `numbers`. With `alike` they count by the time they were seen."""
        frame = of_hosts(frame)
        key = partial(bucket, rate_ms=block_ms)
        windows, labels = gather(frame, key, histograms=False, what="comparison")
        if by and "user" not in labels:
            raise FrameError("there are no users to compare one by one: leave out by, or give frames with users")
        whole, _ = gather(frame, None, labels=("user",) if by else (), what="comparison")
        if alike and not by and "user" in labels and len(labels) > 1:
            factors = _by_time(frame)
            if (factors > 1).any():
                each, _ = gather(frame, None, what="comparison")
                windows, each = _often(windows, factors), _often(each, factors)
                whole = merge(replace(each, series=np.zeros_like(each.series)))
        users = labels["user"].astype("str").tolist() if "user" in labels else []
        hosts = np.array([numbers.setdefault(user, len(numbers)) for user in users]) if users else None
        if not by:
            return cls([""] * len(whole), whole, [Cells.of(windows, hosts)] if len(whole) else [])
        ends = np.searchsorted(windows.series, np.arange(len(users) + 1))
        return cls(users, whole, [Cells.of(take(windows, np.arange(*pair)), hosts) for pair in pairwise(ends)])

    def of_users(self, users: Sequence[str]) -> "_Side":
        """Those of some users, in their order."""
        place = {user: number for number, user in enumerate(self.users)}
        rows = np.array([place[user] for user in users])
        return _Side([*users], take(self.whole, rows), [self.cells[row] for row in rows])


def _by_time(hosts: AnyFrame) -> Ints:
    """How often the samples of each user, in their order, count so that users count by the time they were seen."""
    hours, labels = gather(hosts, partial(bucket, rate_ms=HOUR_MS), histograms=False, what="comparison")
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
    days = [len(gather(of_hosts(frame), key, labels=(), histograms=False, what="days")[0]) for frame in frames]
    return DAY_MS if min(days) >= _FEWEST_DAYS else HOUR_MS


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
