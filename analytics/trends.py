"""The trend of a fleet: how loaded it is over time, how that spreads over users and samples, where it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analytics.frames import FrameError, bins_of, to_frame
from analytics.gathering import AnyFrame, bucket, example_of, gather, is_dask, of_machines
from analytics.slopes import Slope, slope
from analytics.windows import quantiles as quantiles_of
from contract.times import DAY_MS, parse_duration

__all__ = ["FleetTrend", "fleet_trend"]

_DAYS = 8
"""From so many days on, the slope is that of daily means, which have no daily season."""
_DENSE, _SMALL = 4, 1 << 20
"""Users times buckets are a table while it has at most so many cells a window, or so few altogether."""


@dataclass(frozen=True)
class FleetTrend:
    """A fleet over time; printed, it says where it goes."""

    frame: pd.DataFrame
    slope: Slope
    """Of the mean, a week."""

    def __str__(self) -> str:
        return f"The fleet's mean: {self.slope}."


def fleet_trend(
    frame: AnyFrame, rate: str = "1d", *, quantiles: Sequence[float] = (0.1, 0.5, 0.9), confidence: float = 0.95
) -> FleetTrend:
    """The trend of all users together, in buckets of `rate` (InfluxQL duration, aligned to the epoch).

    The frame of the answer has the index `time` (start of the bucket, UTC) and the columns

    - `users`: how many have samples in the bucket
    - `count`, `mean`, `var`, `min`, `max`, `approximated`: of all samples, merged exactly; the mean is weighted by
      samples
    - `users_10`, `users_50`, `users_90`: quantiles over the users of each one's mean, every user counting once
      (definition 7 of Hyndman and Fan 1996, numpy's default)
    - `samples_10`, `samples_50`, `samples_90`: quantiles over all samples, from merged histograms, within half a bin

    in the unit of the metric. The slope is that of the mean a week (`analytics.slopes`), of daily means where there
    are at least eight days. Takes a frame of windows of any size, pandas' or Dask's; raises FrameError for another,
    ValueError for a wrong rate or quantiles outside [0, 1].
    """
    rate_ms = parse_duration(rate)
    if not all(0 <= q <= 1 for q in quantiles):
        raise ValueError(f"quantiles are shares from 0 to 1, not {', '.join(map(str, quantiles))}")
    frame = of_machines(frame)
    key = partial(bucket, rate_ms=rate_ms)
    windows, _ = gather(frame, key, labels=(), what="trend of the samples")
    answer = to_frame(windows).drop(columns="histogram")
    for q in quantiles:
        answer[f"samples_{100 * q:g}"] = quantiles_of(windows, q, bins_of(example_of(frame)))
    band = _band(frame, rate_ms, quantiles)
    answer = pd.concat([band[["users"]], answer, band.drop(columns="users")], axis=1)
    answer.attrs = dict(example_of(frame).attrs)
    return FleetTrend(answer, slope(_for_slope(answer, rate_ms), confidence=confidence))


def _for_slope(answer: pd.DataFrame, rate_ms: int) -> "pd.Series[float]":
    days = pd.DatetimeIndex(answer.index).floor("D")
    if rate_ms >= DAY_MS or days.nunique() < _DAYS:
        return answer["mean"]
    weight = answer["count"].groupby(days).sum()
    return (answer["mean"] * answer["count"]).groupby(days).sum() / weight


def _band(frame: AnyFrame, rate_ms: int, quantiles: Sequence[float]) -> pd.DataFrame:
    """By bucket the number of users, and quantiles of their means."""
    if "user" not in frame.columns:
        frame = frame.assign(user="")
    frame = frame[["user", "count", "mean"]]
    over_users = partial(_over_users, quantiles=tuple(quantiles))
    if not is_dask(frame):
        band = over_users(_totals(frame, rate_ms=rate_ms))
    else:
        work = partial(_user_totals, rate_ms=rate_ms)
        example = work(example_of(frame))
        met = frame.map_partitions(work, meta=example).shuffle("bucket")
        band = met.map_partitions(over_users, meta=over_users(example)).compute().sort_index()
    band.index = pd.DatetimeIndex(band.index.to_numpy().astype("datetime64[ms]"), name="time").tz_localize("UTC")
    return band


def _totals(part: pd.DataFrame, *, rate_ms: int) -> pd.DataFrame:
    """A row for each window: `bucket` (epoch ms), `user`, `count`, and `total`, the sum of its samples."""
    if not isinstance(part.index, pd.DatetimeIndex) or part.index.tz is None:
        raise FrameError("the index of a frame of windows is a DatetimeIndex with a time zone, such as UTC")
    count = part["count"].fillna(0).to_numpy(np.int64)
    total = part["mean"].fillna(0.0).to_numpy(np.float64) * count
    start = bucket(part.index.as_unit("ms").asi8, rate_ms=rate_ms)
    return pd.DataFrame({"bucket": start, "user": part["user"].array, "count": count, "total": total}, copy=False)


def _user_totals(part: pd.DataFrame, *, rate_ms: int) -> pd.DataFrame:
    """A row for each user and bucket."""
    # Between partitions names are texts: each has categories of its own, which do not fit together.
    totals = _totals(part.assign(user=part["user"].astype("str")), rate_ms=rate_ms)
    return totals.groupby(["bucket", "user"], observed=True, sort=False)[["count", "total"]].sum().reset_index()


def _over_users(totals: pd.DataFrame, *, quantiles: Sequence[float]) -> pd.DataFrame:
    starts, place = np.unique(totals["bucket"].to_numpy(), return_inverse=True)
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
    ends = np.searchsorted(cells, np.arange(1, len(starts) + 1) * users)
    rows = [np.quantile(means, quantiles) for means in np.split(sums / counts, ends[:-1]) if len(means)]
    present = np.diff(ends, prepend=0)
    band = pd.DataFrame(
        np.reshape(rows, (-1, len(quantiles))),
        columns=[f"users_{100 * q:g}" for q in quantiles],
        index=pd.Index(starts[present > 0], name="bucket"),
    )
    band.insert(0, "users", present[present > 0])
    return band
