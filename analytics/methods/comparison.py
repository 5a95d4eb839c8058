"""Two sets of windows beside each other: by how much they differ, and whether that could be chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from scipy import stats

from analytics.frames.aggregation import AnyFrame, bucket, gather, of_machines
from analytics.frames.columns import Floats, Windows, merge, take
from analytics.frames.frame import FrameError
from contract.times import DAY_MS, HOUR_MS, parse_duration

_FEWEST: Final = 4
"""Blocks on each side."""
_FEWEST_DAYS: Final = 5
_FOREVER_MS: Final = 1 << 60
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
) -> pd.DataFrame:
    """How the second frame differs from the first: two periods of the same users, or two groups of users.

    One row, or with `by="user"` one for each user of both, sorted by the size of its difference:

    - `user`: with `by`
    - `mean_before`, `mean_after`: means weighted by samples (named after `names`), and their `difference`, with `lower`
      and `upper`, its confidence interval, in the unit of the metric
    - `p_value`: how likely at least this difference is between stretches of one and the same behaviour; with `by`
      adjusted for the number of users (Benjamini and Hochberg 1995)
    - `hedges_g`: the difference in standard deviations of the samples (Hedges 1981): 0.2 is small, 0.8 large
    - `cliffs_delta`: how much more often a sample of the second is above one of the first than below it, -1 to 1,
      from histograms (Cliff 1993): 0.15 is small, 0.47 large
    - `blocks_before`, `blocks_after`: how many blocks were compared
    - `verdict`: the same in words

    Neighbouring samples are alike, so as independent values they would make any difference significant. Compared
    are the exact means of blocks, days where both sides have at least five, otherwise hours, or `block` (an InfluxQL
    duration), with Welch's t-test for means of serially correlated values (Zwiers and von Storch 1995, J. Climate 8):
    the number of blocks counts as much less as the correlation from one block to the next says. Weekends weigh as in
    the frames: compare whole weeks with whole weeks. Takes frames of windows of any size, pandas' or Dask's; raises
    FrameError for others, ValueError for a wrong block.
    """
    block_ms = _block_ms(first, second) if block is None else parse_duration(block)
    sides = [_Side.of(frame, by, block_ms) for frame in (first, second)]
    users = [user for user in sides[0].users if user in sides[1].users]
    if not users:
        raise FrameError("the frames have no user in common" if by else "one of the frames has no samples")
    before, after = (side.of_users(users) for side in sides)
    answer = pd.DataFrame({"user": pd.Categorical(users)}) if by else pd.DataFrame(index=range(1))
    for name, side in zip(names, (before, after), strict=True):
        answer[f"mean_{name}"] = side.whole.mean
    answer["difference"] = after.whole.mean - before.whole.mean
    tests = [_tested(*blocks, confidence) for blocks in zip(before.means, after.means, strict=True)]
    half_width, p_value = np.array(tests).T
    answer["lower"], answer["upper"] = answer["difference"] - half_width, answer["difference"] + half_width
    answer["p_value"] = stats.false_discovery_control(p_value)
    answer["hedges_g"] = _hedges_g(before.whole, after.whole)
    answer["cliffs_delta"] = _cliffs_delta(before.whole, after.whole)
    for name, side in zip(names, (before, after), strict=True):
        answer[f"blocks_{name}"] = [len(means) for means in side.means]
    answer["verdict"] = [_in_words(row, names, confidence) for _, row in answer.iterrows()]
    order = answer["difference"].abs().sort_values(ascending=False, kind="stable").index
    return answer.loc[order].reset_index(drop=True)


@dataclass(frozen=True)
class _Side:
    """What is compared with the other side."""

    users: list[str]
    whole: Windows
    """Of each user, all time merged."""
    means: list[Floats]
    """Of each user, the means of its blocks in order of time."""

    @classmethod
    def of(cls, frame: AnyFrame, by: str | None, block_ms: int) -> Self:
        key = partial(bucket, rate_ms=block_ms)
        windows, labels = gather(of_machines(frame), key, labels=("user",) if by else (), what="comparison")
        if by and "user" not in labels:
            raise FrameError("there are no users to compare one by one: leave out by, or give frames with users")
        ends = np.cumsum(np.bincount(windows.series, minlength=len(labels)))[:-1]
        users = labels["user"].astype("str").tolist() if by else ["" for _ in range(min(len(windows), 1))]
        return cls(users, merge(windows, rate_ms=_FOREVER_MS), np.split(windows.mean, ends))

    def of_users(self, users: Sequence[str]) -> "_Side":
        """Those of some users, in their order."""
        place = {user: number for number, user in enumerate(self.users)}
        rows = np.array([place[user] for user in users])
        return _Side([*users], take(self.whole, rows), [self.means[row] for row in rows])


def _block_ms(*frames: AnyFrame) -> int:
    """A day where all frames have enough of them, otherwise an hour."""
    key = partial(bucket, rate_ms=DAY_MS)
    days = [len(gather(of_machines(frame), key, labels=(), histograms=False, what="days")[0]) for frame in frames]
    return DAY_MS if min(days) >= _FEWEST_DAYS else HOUR_MS


def _tested(before: Floats, after: Floats, confidence: float) -> tuple[float, float]:
    """Half the width of the interval of the difference, and the p-value; NaN and 1 for too few blocks."""
    if min(len(before), len(after)) < _FEWEST:
        return np.nan, 1.0
    correlation = _correlation(before, after)
    error, weight = 0.0, 0.0
    for means in (before, after):
        n = len(means)
        effective = max(2.0, n * (1 - correlation) / (1 + correlation))
        # Neighbours that are alike make the spread around the mean too small as well.
        variance = float(means.var()) / (1 - 1 / effective)
        error += variance / effective
        weight += (variance / effective) ** 2 / (effective - 1)
    if error == 0:
        return 0.0, float(before[0] == after[0])
    freedom = error**2 / weight
    t = abs(float(after.mean() - before.mean())) / np.sqrt(error)
    half_width = float(stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(error))
    return half_width, float(2 * stats.t.sf(t, freedom))


def _correlation(*sides: Floats) -> float:
    """From one block to the next, of both sides together, corrected for its bias (Kendall 1954), 0 to 0.95."""
    rests = [means - means.mean() for means in sides]
    total = sum(float(rest @ rest) for rest in rests)
    if total == 0:
        return 0.0
    found = sum(float(rest[1:] @ rest[:-1]) for rest in rests) / total
    n = sum(map(len, sides)) / len(sides)
    return float(np.clip(found + (1 + 4 * found) / n, 0.0, 0.95))


def _hedges_g(before: Windows, after: Windows) -> Floats:
    freedom = np.maximum(before.count + after.count - 2, 1)
    pooled = np.sqrt((before.count * before.variance + after.count * after.variance) / freedom)
    difference = after.mean - before.mean
    d = np.divide(difference, pooled, out=np.copysign(np.inf, difference), where=pooled > 0)
    g: Floats = np.where(difference == 0, 0.0, d) * (1 - 3 / (4 * freedom - 1))
    return g


def _cliffs_delta(before: Windows, after: Windows) -> Floats:
    """From histograms; samples in one bin count as equal."""
    lowest = min(int(side.histograms.bin.min()) for side in (before, after) if side.histograms)
    width = max(int(side.histograms.bin.max()) for side in (before, after) if side.histograms) - lowest + 1
    shares = []
    for side in (before, after):
        assert side.histograms is not None
        counts = np.zeros((len(side), width))
        np.add.at(counts, (side.histograms.row, side.histograms.bin - lowest), side.histograms.count)
        shares.append(counts / counts.sum(axis=1, keepdims=True))
    below = np.cumsum(shares[0], axis=1)
    above = 1 - below
    delta: Floats = (shares[1] * (below - shares[0] - above)).sum(axis=1)
    return delta


def _in_words(row: "pd.Series[Any]", names: tuple[str, str], confidence: float) -> str:
    before, after = (row[f"mean_{name}"] for name in names)
    if np.isnan(row["lower"]):
        return f"too little to compare: at least {_FEWEST} blocks on both sides are needed"
    if row["p_value"] > 1 - confidence:
        return (
            f"no difference between {names[0]} and {names[1]} that could be told from chance (p = {row['p_value']:.2g})"
        )
    direction = "higher" if row["difference"] > 0 else "lower"
    size = abs(row["hedges_g"])
    effect = "large" if size >= _LARGE else "medium" if size >= _MEDIUM else "small" if size >= _SMALL else "tiny"
    return (
        f"{names[1]} is {direction} than {names[0]}: {after:.3g} against {before:.3g} ({confidence:.0%} interval of "
        f"the difference {row['lower']:.2g} to {row['upper']:.2g}, p = {row['p_value']:.2g}), a {effect} effect"
    )
