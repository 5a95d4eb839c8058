"""Profiles of the week: how loaded hosts are at each of its 168 hours, in a time zone of choice."""

from datetime import tzinfo
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, Merged, check_frame, example_of, gather, is_dask, of_hosts
from analytics.frames.arguments import check_by, zone_name
from analytics.frames.columns import Windows
from analytics.frames.frame import FrameError, bins_of
from analytics.frames.kernel import Floats, Ints
from analytics.frames.statistics import quantiles
from contract.times import DAY_MS, HOUR_MS, WEEK_MS

HOURS: Final = 168
_A_MONDAY_MS: Final = 4 * DAY_MS
"""1970-01-05 00:00 UTC."""


def hour_of_week_profile(
    frame: AnyFrame, tz: str | tzinfo = "UTC", *, by: Literal["user"] | None = None
) -> pd.DataFrame:
    """The load at each hour of the week, of all together or, with `by="user"`, of each.

    168 rows (for each user), from Monday 00:00 in the time zone `tz` (such as `Europe/Berlin`): `user` if asked for,
    `hour_of_week` (0 to 167), `weekday` (0 is Monday), `hour`, `count`, `mean` (weighted by samples), `var`, `min`,
    `max`, `p50`, `p95` (from histograms), in the unit of the metric; NaN, and a count of 0, for hours without samples.
    `attrs["tz"]` names the zone. An hour is that of the clock on the wall: in the night when it is set back one hour of
    the week gets two hours of samples, when it is set forward one gets none, and each sample weighs the same. A bucket
    counts where it begins.

    Takes a frame of windows of an hour at most, of any size, pandas' or Dask's; raises FrameError for another, and
    for an unknown time zone.
    """
    windows, labels = merged_weeks(frame, tz, by=by, histograms=True)
    users = max(len(labels), 1)
    place = windows.series * HOURS + windows.time
    hour = np.tile(np.arange(HOURS), users)
    columns: dict[str, Any] = {"user": pd.Categorical(labels["user"]).repeat(HOURS)} if "user" in labels else {}
    columns |= {"hour_of_week": hour, "weekday": hour // 24, "hour": hour % 24}
    columns["count"] = np.bincount(place, windows.count, minlength=users * HOURS).astype(np.int64)
    for name, values in _statistics(windows, frame).items():
        columns[name] = np.full(users * HOURS, np.nan)
        columns[name][place] = values
    profile = pd.DataFrame(columns)
    profile.attrs = {"tz": zone_name(tz)}
    return profile


def merged_weeks(
    frame: AnyFrame, tz: str | tzinfo, *, by: Literal["user"] | None, histograms: bool, halves: bool = False
) -> Merged:
    """The windows of a frame merged by hour of the week, their `time` being 0 to 167; errors as above.

    With `halves` every other week is merged by itself, its hours being 168 to 335.
    """
    check_frame(frame)
    tz = zone_name(tz)
    check_by(by)
    frame = of_hosts(frame)
    _fine_enough(frame)
    key = partial(_hour_of_two_weeks if halves else _hour_of_week, tz=tz)
    return gather(frame, key, labels=("user",) if by else (), histograms=histograms, what="profile of the week")


def _statistics(windows: Windows, frame: AnyFrame) -> dict[str, Floats]:
    bins = bins_of(example_of(frame))
    return {
        "mean": windows.mean, "var": windows.variance, "min": windows.minimum, "max": windows.maximum,
        "p50": quantiles(windows, 0.5, bins), "p95": quantiles(windows, 0.95, bins),
    }  # fmt: skip


def _hour_of_week(time: Ints, *, tz: str) -> Ints:
    # Offsets change on the quarter hour at the finest, so one look-up serves all windows in it.
    quarter, place = np.unique(time // (HOUR_MS // 4), return_inverse=True)
    moments = pd.DatetimeIndex((quarter * (HOUR_MS // 4)).astype("datetime64[ms]")).tz_localize("UTC").tz_convert(tz)
    hours: Ints = (moments.day_of_week * 24 + moments.hour).to_numpy(np.int64)[place]
    return hours


def _hour_of_two_weeks(time: Ints, *, tz: str) -> Ints:
    """0 to 335: the hour of the week, and 168 more in every other week."""
    hours = _hour_of_week(time, tz=tz)
    # A week of the zone began within a day of the Monday in UTC that is nearest to it.
    week = np.round((time - hours * HOUR_MS - _A_MONDAY_MS) / WEEK_MS).astype(np.int64)
    return hours + HOURS * (week % 2)


def _fine_enough(frame: AnyFrame) -> None:
    """Raise FrameError where the buckets are coarser than an hour, which would leave most hours empty."""
    if is_dask(frame) or len(frame) < 3:
        return
    first = frame[frame["user"] == frame["user"].iloc[0]] if "user" in frame.columns else frame
    apart = np.diff(np.unique(pd.DatetimeIndex(first.index[: 1 << 12]).as_unit("ms").asi8))
    if len(apart) and np.median(apart) > HOUR_MS:
        raise FrameError("expected windows of an hour at most, got longer ones: ask for rate='1h' or finer")
