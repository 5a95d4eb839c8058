"""The trend of a fleet: how loaded it is over time, how that spreads over users and samples, where it goes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analytics.frames.aggregation import AnyFrame, bucket, example_of, gather, is_dask, of_hosts
from analytics.frames.arguments import Duration, duration_ms, number, numbers
from analytics.frames.frame import FrameError, bins_of, to_frame
from analytics.frames.statistics import quantiles as quantiles_of
from contract.times import DAY_MS, WEEK_MS

_MAX = 1000
"""Values whose pairs are compared; more are averaged in stretches first."""
_FEWEST = 5
_DAYS = 8
"""From so many days on, the slope is that of daily means, which have no daily season."""
_THROUGHOUT = 0.9
"""A user was there throughout who has so many of the buckets that any has."""
_DENSE, _SMALL = 4, 1 << 20
"""Users times buckets are a table while it has at most so many cells a window, or so few altogether."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast something rises, in its unit a week."""

    per_week: float
    """The median of the slopes of all pairs of values; NaN for fewer than five values."""
    lower: float
    upper: float
    """The bounds of a confidence interval."""
    p_value: float
    """How likely at least so strong a trend is where there is none; 1 for too few values."""
    confidence: float

    def __str__(self) -> str:
        if np.isnan(self.per_week):
            return "too few values to tell a trend"
        if self.p_value > 1 - self.confidence:
            return f"no trend that could be told from chance (p = {self.p_value:.2g})"
        direction = "rising" if self.per_week > 0 else "falling"
        return (
            f"{direction} by {abs(self.per_week):.3g} a week ({self.confidence:.0%} interval {self.lower:.3g} to "
            f"{self.upper:.3g}, p = {self.p_value:.2g})"
        )


def slope(values: "pd.Series[float]", *, confidence: float = 0.95) -> Slope:
    """The trend of a series with a DatetimeIndex, in its unit a week.

    The slope is that of Theil and Sen (Sen 1968, JASA 63): the median over all pairs, which up to 29 % of outliers
    cannot spoil. Whether it is there at all says the test of Mann and Kendall with the variance corrected for
    autocorrelation (Hamed and Rao 1998, J. Hydrology 204), from the ranks of what the slope leaves. Their estimate of
    each lag's correlation calls one in four stretches of noise with a correlation of 0.6 a trend; with that of
    the first lag, corrected for its bias, and its powers for the others, it is one in ten for 15 values, and one in
    twenty for many. The correction only ever widens. The interval uses the same variance. A daily or weekly season
    should be averaged out before: take daily or weekly values.

    `scipy.stats.theilslopes` finds slope and interval; the test and the correction are ours, because SciPy takes the
    values as independent. Raises FrameError for a `confidence` outside [0.5, 1).
    """
    confidence = _confidence(confidence)
    values = values.dropna().sort_index()
    time = (values.index.to_numpy("datetime64[ms]").astype(np.int64) / WEEK_MS).astype(np.float64)
    y = values.to_numpy(np.float64)
    if len(y) > _MAX:
        time, y = (np.array([part.mean() for part in np.array_split(one, _MAX)]) for one in (time, y))
    n = len(y)
    if n < _FEWEST:
        return Slope(np.nan, np.nan, np.nan, 1.0, confidence)
    wider = math.sqrt(_correction(y - float(stats.theilslopes(y, time).slope) * time))
    deviation = wider * math.sqrt(_variance(y))
    score = float(np.sign(y[None, :] - y[:, None])[np.triu_indices(n, 1)].sum())
    z = (score - np.sign(score)) / deviation if deviation > 0 else 0.0
    # SciPy's interval is that of independent values: asked for more confidence, it is as wide as ours has to be.
    alpha = 2 * stats.norm.sf(wider * stats.norm.isf((1 - confidence) / 2))
    found = stats.theilslopes(y, time, alpha)
    return Slope(
        float(found.slope),
        float(found.low_slope),
        float(found.high_slope),
        float(2 * stats.norm.sf(abs(z))),
        confidence,
    )


def _confidence(value: float) -> float:
    return number(value, "confidence", "a share from 0.5 to below 1", lambda share: 0.5 <= share < 1)


def _variance(y: npt.NDArray[np.floating[Any]]) -> float:
    """Of Kendall's score for independent values, ties considered."""
    n = len(y)
    _, ties = np.unique(y, return_counts=True)
    return float((n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18)


def _correction(rest: npt.NDArray[np.floating[Any]]) -> float:
    """By how much autocorrelation widens the variance: n / n* of Hamed and Rao, at least 1."""
    n = len(rest)
    rank = pd.Series(rest).rank().to_numpy()
    rank = rank - rank.mean()
    total = float(rank @ rank)
    if total == 0:
        return 1.0
    found = float(rank[:-1] @ rank[1:]) / total
    # Fitting a level and a slope takes correlation away; this gives it back (Kendall 1954, for two parameters).
    first = float(np.clip(found + (2 + 4 * found) / n, 0.0, 0.95))
    lags = np.arange(1, n - 2)
    weight = (n - lags) * (n - lags - 1) * (n - lags - 2)
    return max(1.0, 1 + 2 / (n * (n - 1) * (n - 2)) * float(weight @ first**lags))


@dataclass(frozen=True)
class FleetTrend:
    """A fleet over time; printed, it says where it goes."""

    frame: pd.DataFrame
    slope: Slope
    """The slope of the mean, a week; where users come and go, of the mean of those that were there throughout."""
    users: int
    """So many users the slope is of; the frame is of all."""

    def __str__(self) -> str:
        if not self.users:
            return "The fleet's mean: no trend is told, because fewer than two users were seen throughout."
        seen = int(self.frame["users"].max()) if len(self.frame) else 0
        whose = "The fleet's mean" if self.users >= seen else f"The mean of the {self.users:,} users seen throughout"
        return f"{whose}: {self.slope}."


def fleet_trend(
    frame: AnyFrame, rate: Duration = "1d", *, quantiles: Sequence[float] = (0.1, 0.5, 0.9), confidence: float = 0.95
) -> FleetTrend:
    """The trend of all users together, in buckets of `rate` (InfluxQL duration, aligned to the epoch).

    The frame of the answer has the index `time` (start of the bucket, UTC) and the columns

    - `users`: how many have samples in the bucket
    - `count`, `mean`, `var`, `min`, `max`, `approximated`: of all samples, merged exactly; the mean is weighted by
      samples
    - `users_10`, `users_50`, `users_90`: quantiles over the users of each one's mean, every user counting once
      (definition 7 of Hyndman and Fan 1996, numpy's default)
    - `samples_10`, `samples_50`, `samples_90`: quantiles over all samples, from merged histograms, within half a bin

    in the unit of the metric. The slope is that of the mean a week, of daily means where there are at least eight
    days. A mean over whoever happens to report moves with who does: where users come and go, the slope is that of the
    users seen in nine tenths of the buckets, and there is none (NaN) where these are fewer than two. Users count by
    their samples; `analytics.weigh` makes them count by cores, or alike.

    Takes a frame of windows of any size, pandas' or Dask's; raises FrameError for another,
    for a wrong rate and for quantiles outside [0, 1].
    """
    rate_ms = duration_ms(rate, "rate")
    quantiles = numbers(quantiles, "quantiles", "shares from 0 to 1 such as (0.1, 0.9)", lambda q: 0 <= q <= 1)
    confidence = _confidence(confidence)
    frame = of_hosts(frame)
    key = partial(bucket, rate_ms=rate_ms)
    windows, _ = gather(frame, key, labels=(), what="trend of the samples")
    answer = to_frame(windows).drop(columns="histogram")
    for q in quantiles:
        answer[f"samples_{100 * q:g}"] = quantiles_of(windows, q, bins_of(example_of(frame)))
    band, seen = _users(frame, rate_ms, quantiles)
    answer = pd.concat([band[["users"]], answer, band.drop(columns="users")], axis=1)
    answer.attrs = dict(example_of(frame).attrs)
    lasting, users = _throughout(frame, seen, len(answer))
    told = answer
    if lasting is not None:
        windows, _ = gather(lasting, key, labels=(), what="trend of the users seen throughout")
        told = to_frame(windows).drop(columns="histogram")
    return FleetTrend(
        answer, slope(_for_slope(told, rate_ms) if users else told["mean"].iloc[:0], confidence=confidence), users
    )


def _throughout(frame: AnyFrame, seen: "pd.Series[int] | None", buckets: int) -> tuple[AnyFrame | None, int]:
    """The windows of the users that were there throughout, None for those of all; and how many users these are.

    `seen` says in how many buckets each was.
    """
    if seen is None:
        return None, 1
    lasting = seen.index[seen >= _THROUGHOUT * buckets]
    if len(lasting) == len(seen):
        return None, len(seen)
    if len(lasting) < 2:
        return None, 0
    return frame[frame["user"].isin(list(lasting))], len(lasting)


def _for_slope(answer: pd.DataFrame, rate_ms: int) -> "pd.Series[float]":
    days = pd.DatetimeIndex(answer.index).floor("D")
    if rate_ms >= DAY_MS or days.nunique() < _DAYS:
        return answer["mean"]
    weight = answer["count"].groupby(days).sum()
    return (answer["mean"] * answer["count"]).groupby(days).sum() / weight


def _users(frame: AnyFrame, rate_ms: int, quantiles: Sequence[float]) -> tuple[pd.DataFrame, "pd.Series[int] | None"]:
    """By bucket the number of users, and quantiles of their means; in how many buckets each was, None without users."""
    has_users = "user" in frame.columns
    if not has_users:
        frame = frame.assign(user="")
    frame = frame[["user", "count", "mean"]]
    if not is_dask(frame):
        cells = _cells(_totals(frame, rate_ms=rate_ms))
        band, seen = _over_users(cells, quantiles), cells.seen() if has_users else None
    else:
        work = partial(_user_totals, rate_ms=rate_ms)
        over_users = partial(_over_user_totals, quantiles=tuple(quantiles))
        example = work(example_of(frame))
        totals = frame.map_partitions(work, meta=example)
        met = totals.shuffle("bucket")
        band = met.map_partitions(over_users, meta=over_users(example)).compute().sort_index()
        once = totals[totals["count"] > 0].drop_duplicates(["user", "bucket"])
        seen = once.groupby("user").size().compute() if has_users else None
    band.index = pd.DatetimeIndex(band.index.to_numpy().astype("datetime64[ms]"), name="time").tz_localize("UTC")
    return band, seen


def _totals(part: pd.DataFrame, *, rate_ms: int) -> pd.DataFrame:
    """A row for each window: `bucket` (epoch ms), `user`, `count`, and `total`, the sum of its samples."""
    if not isinstance(part.index, pd.DatetimeIndex) or part.index.tz is None:
        raise FrameError(f"expected as index a DatetimeIndex with a time zone, such as UTC, got {part.index.dtype}")
    count = part["count"].fillna(0).to_numpy(np.int64)
    total = part["mean"].fillna(0.0).to_numpy(np.float64) * count
    start = bucket(part.index.as_unit("ms").asi8, rate_ms=rate_ms)
    return pd.DataFrame({"bucket": start, "user": part["user"].array, "count": count, "total": total}, copy=False)


def _user_totals(part: pd.DataFrame, *, rate_ms: int) -> pd.DataFrame:
    """A row for each user and bucket."""
    # Between partitions names are texts: each has categories of its own, which do not fit together.
    totals = _totals(part.assign(user=part["user"].astype("str")), rate_ms=rate_ms)
    return totals.groupby(["bucket", "user"], observed=True, sort=False)[["count", "total"]].sum().reset_index()


def _over_user_totals(totals: pd.DataFrame, *, quantiles: Sequence[float]) -> pd.DataFrame:
    return _over_users(_cells(totals), quantiles)


class _Cells(NamedTuple):
    """The users in each bucket, those with samples alone, by bucket and user."""

    starts: npt.NDArray[np.int64]
    """The buckets, epoch ms."""
    names: pd.Index
    cells: npt.NDArray[np.int64]
    """The place of the bucket, times one more than there are users, and that of the user; the last one has no name."""
    counts: npt.NDArray[Any]
    """How many samples each has,"""
    sums: npt.NDArray[Any]
    """and their sum."""

    def seen(self) -> "pd.Series[int]":
        """In how many buckets each user was."""
        times = np.bincount(self.cells % (len(self.names) + 1), minlength=len(self.names) + 1)[:-1]
        return pd.Series(times, self.names)[times > 0]


def _cells(totals: pd.DataFrame) -> _Cells:
    place, starts = pd.factorize(totals["bucket"].to_numpy(), sort=True)
    codes = pd.Categorical(totals["user"])
    users = len(codes.categories) + 1
    cell = place * users + codes.codes.astype(np.int64) % users
    if len(starts) * users <= _DENSE * len(totals) + _SMALL:
        counts = np.bincount(cell, totals["count"], len(starts) * users)
        sums = np.bincount(cell, totals["total"], len(starts) * users)
        cells = np.flatnonzero(counts)
        counts, sums = counts[cells], sums[cells]
    else:
        cells, place = np.unique(cell, return_inverse=True)
        counts, sums = np.bincount(place, totals["count"]), np.bincount(place, totals["total"])
        cells, counts, sums = cells[counts > 0], counts[counts > 0], sums[counts > 0]
    return _Cells(np.asarray(starts), codes.categories, cells, counts, sums)


def _over_users(found: _Cells, quantiles: Sequence[float]) -> pd.DataFrame:
    starts = found.starts
    ends = np.searchsorted(found.cells, np.arange(1, len(starts) + 1) * (len(found.names) + 1))
    means = found.sums / found.counts
    rows = [np.quantile(some, quantiles) for some in np.split(means, ends[:-1]) if len(some)]
    present = np.diff(ends, prepend=0)
    band = pd.DataFrame(
        np.reshape(rows, (-1, len(quantiles))),
        columns=[f"users_{100 * q:g}" for q in quantiles],
        index=pd.Index(starts[present > 0], name="bucket"),
    )
    band.insert(0, "users", present[present > 0])
    return band
