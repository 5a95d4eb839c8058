"""The trend of a fleet: how loaded it is over time, how that spreads over users and samples, where it goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analytics.frames import FrameError, bins_of, to_frame
from analytics.gathering import AnyFrame, bucket, example_of, gather, is_dask, of_machines, reduced
from analytics.slopes import Slope, slope
from analytics.windows import quantiles as quantiles_of
from contract.durations import parse_duration

__all__ = ["FleetTrend", "fleet_trend"]

_DAY_MS = 86_400_000
_DAYS = 8
"""From so many days on, the slope is that of daily means, which have no daily season."""


@dataclass(frozen=True)
class FleetTrend:
    """A fleet over time; printed, it says where it goes."""

    frame: pd.DataFrame
    slope: Slope
    """Of the mean, a week."""

    def __str__(self) -> str:
        return f"The fleet's mean is {self.slope}."


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
    if rate_ms >= _DAY_MS or days.nunique() < _DAYS:
        return answer["mean"]
    weight = answer["count"].groupby(days).sum()
    return (answer["mean"] * answer["count"]).groupby(days).sum() / weight


def _band(frame: AnyFrame, rate_ms: int, quantiles: Sequence[float]) -> pd.DataFrame:
    """By bucket the number of users, and quantiles of their means."""
    if "user" not in frame.columns:
        frame = frame.assign(user="")
    work = partial(_user_means, rate_ms=rate_ms)
    frame = frame[["user", "count", "mean"]]
    over_users = partial(_over_users, quantiles=tuple(quantiles))
    if not is_dask(frame):
        band = over_users(reduced(frame, work, _added, "trend of the users"))
    else:
        example = work(example_of(frame))
        means = frame.map_partitions(work, meta=example).shuffle("bucket")
        band = means.map_partitions(over_users, meta=over_users(example)).compute()
    band = band.sort_index()
    band.index = pd.DatetimeIndex(band.index.to_numpy().astype("datetime64[ms]"), name="time").tz_localize("UTC")
    return band


def _user_means(part: pd.DataFrame, *, rate_ms: int) -> pd.DataFrame:
    """One row for each user and bucket: `bucket` (epoch ms), `user`, `count`, and `total`, the sum of the samples."""
    if not isinstance(part.index, pd.DatetimeIndex) or part.index.tz is None:
        raise FrameError("the index of a frame of windows is a DatetimeIndex with a time zone, such as UTC")
    bucket = part.index.as_unit("ms").asi8 // rate_ms * rate_ms
    count = part["count"].fillna(0).to_numpy(np.int64)
    total = part["mean"].fillna(0.0).to_numpy(np.float64) * count
    means = pd.DataFrame({"bucket": bucket, "user": part["user"].array, "count": count, "total": total})
    return _summed(means[means["count"] > 0])


def _added(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return _summed(pd.concat(parts, ignore_index=True))


def _summed(means: pd.DataFrame) -> pd.DataFrame:
    return means.groupby(["bucket", "user"], observed=True, sort=False)[["count", "total"]].sum().reset_index()


def _over_users(means: pd.DataFrame, *, quantiles: Sequence[float]) -> pd.DataFrame:
    means = _summed(means)
    values = (means["total"] / means["count"]).groupby(means["bucket"])
    columns = {"users": values.size()} | {f"users_{100 * q:g}": values.quantile(q) for q in quantiles}
    return pd.DataFrame(columns)
