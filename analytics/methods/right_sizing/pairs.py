"""Which hosts fit together: those that are busy at different hours, so that one host would do for both."""

from datetime import tzinfo
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.arguments import number, zone_name
from analytics.frames.frame import FrameError, TooFewData
from analytics.methods.right_sizing.days import Cores, Floats, Ints, cores_of, hosts
from contract.times import DAY_MS, HOUR_MS

WINDOWS: Final = 6
"""Parts of a day, of four hours each."""
LEAST_DAYS: Final = 3
_LATER: Final = 3
"""The last of so many parts of the days is what pairs are tried on."""
_MIN_SAVED: Final = 0.1
"""A pair saves at least this share of what its hosts need apart."""
_MOST: Final = 1000
"""Hosts that are paired at most: those that need most, which can save most."""
_COLUMNS: Final = (
    "user", "other", "peak", "other_peak", "apart", "together", "saved", "saved_share", "held", "held_apart",
    "later_days", "fits",
)  # fmt: skip
Bools = npt.NDArray[np.bool_]


class _Hours(NamedTuple):
    """What hosts used in each hour, in cores: (users, hours), NaN where they were not seen."""

    users: list[str]
    used: Floats
    day: Ints
    """Of each hour, the day in the time zone, since the epoch."""
    window: Ints
    """Of each hour, the part of the day."""


def fit_together(
    frame: pd.DataFrame, cores: Cores = None, target: float = 0.8, quantile: float = 0.95, *, tz: str | tzinfo = "UTC"
) -> pd.DataFrame:
    """Pairs of hosts with complementary days, and whether one host would have done for both on later days.

    What a host needs is told for each part of the day, as in Coach (Reidys et al., arXiv 2501.11179), which packs
    virtual machines so; here there are six of four hours, in the time zone `tz`. It is the `quantile` of its hourly
    means of cores used, over the first two thirds of the days. Apart, each needs its highest part; together, both need
    the highest sum of the same part. Pairs are taken greedily, the one that saves most first, of at most 1,000
    hosts, those that need most; only pairs that save a tenth. The last third of the days is the evidence: what both
    used then, hour by hour, beside what was advised. Peaks within an hour are not seen.

    Takes what `right_size` takes as `frame` and `cores`, of pandas, with `user`; buckets of an hour at most.

    One row a pair, those that save most first: `user` and `other`; `peak` and `other_peak`, the hour at which each
    one's busiest part begins; `apart` and `together`, cores that keep what was used under `target`; `saved` cores and
    `saved_share`; `held`, the share of later hours in which both together stayed under the target on `together`, and
    `held_apart`, the share in which each did on its own; `later_days`, how many those are; `fits`, whether `held` is
    at least `quantile`.

    Raises FrameError for another frame or a wrong argument, and TooFewData where there are fewer than three days.
    """
    number(target, "target", "a share of utilization in (0, 1] such as 0.8", lambda value: 0 < value <= 1)
    number(quantile, "quantile", "a share in (0, 1) such as 0.95", lambda value: 0 < value < 1)
    zone = zone_name(tz)
    whole = hosts(frame)
    if "user" not in whole:
        raise FrameError("there are no users to pair: fleet(by='user') has them")
    had, _ = cores_of(frame, whole, cores)
    hours = _hours(whole, had, zone)
    days = np.unique(hours.day)
    if len(days) < LEAST_DAYS:
        raise TooFewData(f"expected at least {LEAST_DAYS} days, got {len(days)}")
    later_days = len(days) // _LATER
    is_later = hours.day >= days[-later_days]
    needs = _needs(hours, ~is_later, quantile)
    chosen = np.flatnonzero(np.isfinite(needs).all(axis=1) & np.isfinite(hours.used[:, is_later]).any(axis=1))
    chosen = chosen[np.argsort(-needs[chosen].max(axis=1), kind="stable")[:_MOST]]
    rows = [
        _tried(hours, needs, is_later, one, other, target, quantile, later_days)
        for one, other in _pairs(needs[chosen], chosen)
    ]
    found = pd.DataFrame(rows, columns=list(_COLUMNS))
    return found.assign(user=pd.Categorical(found["user"]), other=pd.Categorical(found["other"]))


def _hours(whole: pd.DataFrame, had: Floats, tz: str) -> _Hours:
    time = pd.DatetimeIndex(whole.index).as_unit("ms").asi8
    known = ~np.isnan(had)
    weight = whole["count"].to_numpy(np.float64) if "count" in whole else np.ones(len(whole))
    codes, names = pd.factorize(whole["user"].astype("str"), sort=True)
    moments, place = np.unique(time // HOUR_MS, return_inverse=True)
    cell = (codes * len(moments) + place)[known]
    total = np.bincount(cell, weight[known], minlength=len(names) * len(moments))
    sums = np.bincount(
        cell, (weight * whole["mean"].to_numpy(np.float64) * had)[known], minlength=len(names) * len(moments)
    )
    used = np.divide(sums, total, out=np.full(len(sums), np.nan), where=total > 0).reshape(len(names), len(moments))
    here = pd.DatetimeIndex((moments * HOUR_MS).astype("datetime64[ms]")).tz_localize("UTC").tz_convert(tz)
    day = here.tz_localize(None).as_unit("ms").asi8 // DAY_MS
    return _Hours([str(name) for name in names], used, day, here.hour.to_numpy(np.int64) * WINDOWS // 24)


def _needs(hours: _Hours, is_learned: Bools, quantile: float) -> Floats:
    """What each host needs in each part of the day, in cores: (users, WINDOWS); NaN where it was not seen."""
    needs = np.full((len(hours.users), WINDOWS), np.nan)
    for window in range(WINDOWS):
        used = hours.used[:, is_learned & (hours.window == window)]
        seen = np.isfinite(used).any(axis=1) if used.shape[1] else np.zeros(len(used), bool)
        # Of few hours the quantile is the highest of them.
        needs[seen, window] = np.nanquantile(used[seen], quantile, axis=1, method="higher")
    return needs


def _pairs(needs: Floats, places: Ints) -> list[tuple[int, int]]:
    """Pairs of places, the one that saves most first, no host in two; `needs` are those of `places`."""
    peak = needs.max(axis=1)
    together = np.full((len(needs), len(needs)), 0.0)
    for part in needs.T:
        np.maximum(together, part[:, None] + part, out=together)
    saved = peak[:, None] + peak - together
    first, second = np.triu_indices(len(needs), 1)
    worth = saved[first, second] >= np.maximum(_MIN_SAVED * (peak[first] + peak[second]), 1e-9)
    first, second = first[worth], second[worth]
    free = np.ones(len(needs), bool)
    found = []
    for place in np.argsort(-saved[first, second], kind="stable").tolist():
        one, other = int(first[place]), int(second[place])
        if free[one] and free[other]:
            free[[one, other]] = False
            found.append((int(places[one]), int(places[other])))
    return found


def _tried(
    hours: _Hours, needs: Floats, is_later: Bools, one: int, other: int, target: float, quantile: float, days: int
) -> tuple[Any, ...]:
    """A row of the answer."""
    apart = needs[one].max(), needs[other].max()
    together = float((needs[one] + needs[other]).max())
    first, second = hours.used[one, is_later], hours.used[other, is_later]
    both = np.isfinite(first) & np.isfinite(second)
    tolerance = 1 + 1e-9
    held = np.mean(first[both] + second[both] <= together * tolerance) if both.any() else np.nan
    own = (first[both] <= apart[0] * tolerance) & (second[both] <= apart[1] * tolerance)
    saved = float(sum(apart)) - together
    begins = [int(needs[place].argmax()) * 24 // WINDOWS for place in (one, other)]
    return (
        hours.users[one], hours.users[other], *begins, float(sum(apart)) / target, together / target, saved / target,
        saved / float(sum(apart)), float(held), float(np.mean(own)) if both.any() else np.nan, days,
        bool(held >= quantile),
    )  # fmt: skip
