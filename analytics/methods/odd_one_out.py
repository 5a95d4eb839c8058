"""Hosts that differ from their peers: those that should do the same by their labels, or by the shape of their weeks."""

from collections.abc import Mapping
from datetime import tzinfo
from functools import partial
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import AnyFrame, gather, of_hosts
from analytics.frames.arguments import shown, zone_name
from analytics.frames.frame import FrameError
from analytics.frames.kernel import Floats, Ints
from analytics.methods.clusters import cluster_profiles
from analytics.methods.load_distribution import shares_only
from contract.times import DAY_MS, HOUR_MS

FEWEST: Final = 8
"""Hosts of a group that are compared at least: among fewer, three neighbours are half of them."""
TIMES: Final = 2.5
"""An odd host is so many times as far from its neighbours as hosts of its group are from theirs (bench/odd_ones.py)."""
_NEIGHBOUR: Final = 3
_LEAST: Final = 0.03
"""Hosts of a group count as apart by this, in asin(sqrt(share)), at least: 3 points at 50 %, less near 0 and 100 %."""
_HOURS: Final = 24
_SEEN_HOURS: Final = 12
"""Hours of the day that a host must have samples of."""
_MOST: Final = 2000
"""Hosts of a group that others are measured against; drawn with a fixed seed where there are more."""
_SEED: Final = 0
_PEERS: Final[Any] = (Mapping, pd.Series)
_STEADIER: Final = 0.5
Bools = npt.NDArray[np.bool_]


class _Days(NamedTuple):
    """What users do at each hour of the day, in every other day and in the others: shapes (users, 24)."""

    users: list[str]
    halves: tuple[Floats, Floats]
    """In asin(sqrt(share)), which has about the same spread everywhere; NaN of users without enough hours."""
    mean: Floats
    """The mean of all samples, a share."""


def odd_ones_out(
    frame: AnyFrame,
    peers: "Mapping[str, str] | pd.Series[Any] | Literal['clusters'] | None" = None,
    tz: str | tzinfo = "UTC",
) -> pd.DataFrame:
    """Hosts that differ from their peers day after day: how far each is from them, and in what.

    `peers` says which group each user is in, `analytics.labels(source.users(), "role")` for those with the same role;
    users without a group are alone. `clusters` takes those of `cluster_profiles` instead. By default all are peers.

    Each host's day is its mean at each of 24 hours in the time zone `tz`, one of the days with an even number and one
    of the others. A host is odd where in both its distance (root mean square) to its third nearest neighbour is over
    2.5 times the median of such distances in its group: the nearest-neighbour outlier of Ramaswamy, Rastogi and Shim
    (SIGMOD 2000), which takes groups of any form, with a threshold that follows the group. That it is so in both halves
    leaves out what happened once. Several hosts that differ alike are each other's neighbours, and not odd where they
    are more than three.

    One row a user, odd ones and the farthest first: `user`, `group`, `peers` (others in it that were compared), `times`
    (the distance as a multiple of that median, the lower of both halves; NaN where it was not compared: fewer than 8 in
    the group, fewer than 12 hours of the day in either half), `odd`, `mean` and `peers_mean` (the median of the peers'
    means, both shares) and `differs`: in what it does, text, empty where it is not odd.

    Takes a frame of windows of an hour at most with the column `user`, pandas' or Dask's; raises FrameError for
    another, and for a metric that is no share.
    """
    if not (peers is None or (isinstance(peers, str) and peers == "clusters") or isinstance(peers, _PEERS)):
        raise FrameError(f"expected groups by user, 'clusters' or None as the peers, got {shown(peers)}")
    shares_only(frame)
    days = _days(frame, tz)
    groups = _groups(frame, peers, tz, days.users)
    rows = [row for group, places in groups for row in _judged(days, group, places)]
    found = pd.DataFrame(rows, columns=["user", "group", "peers", "times", "odd", "mean", "peers_mean", "differs"])
    found = found.sort_values(["odd", "times"], ascending=False, kind="stable", na_position="last").reset_index(
        drop=True
    )
    return found.assign(user=pd.Categorical(found["user"]), group=pd.Categorical(found["group"]))


def _days(frame: AnyFrame, tz: str | tzinfo) -> _Days:
    frame = of_hosts(frame)
    if "user" not in frame.columns:
        raise FrameError("there are no users to compare with each other: fleet(by='user') has them")
    key = partial(_hour_of_two_days, tz=zone_name(tz))
    windows, labels = gather(frame, key, labels=("user",), histograms=False, what="days of users")
    users = labels["user"].astype("str").tolist()
    count, mean = np.zeros((2, len(users), _HOURS)), np.zeros((2, len(users), _HOURS))
    place = windows.time // _HOURS, windows.series, windows.time % _HOURS
    count[place], mean[place] = windows.count, windows.mean
    total = count.sum(axis=(0, 2))
    level = np.divide((count * mean).sum(axis=(0, 2)), total, out=np.full(len(users), np.nan), where=total > 0)
    first, second = (_filled(np.arcsin(np.sqrt(each)), seen > 0) for each, seen in zip(mean, count, strict=True))
    return _Days(users, (first, second), level)


def _hour_of_two_days(time: Ints, *, tz: str) -> Ints:
    """0 to 47: the hour of the day, and 24 more on days with an odd number."""
    quarter, place = np.unique(time // (HOUR_MS // 4), return_inverse=True)
    here = pd.DatetimeIndex((quarter * (HOUR_MS // 4)).astype("datetime64[ms]")).tz_localize("UTC").tz_convert(tz)
    day = here.tz_localize(None).as_unit("ms").asi8 // DAY_MS
    hours: Ints = (here.hour.to_numpy(np.int64) + _HOURS * (day % 2))[place]
    return hours


def _filled(days: Floats, known: Bools) -> Floats:
    """Days whose missing hours lie between their neighbours, midnight beside 23:00; NaN for those with few hours."""
    filled = np.full(days.shape, np.nan)
    hours = np.arange(_HOURS)
    for place, seen in enumerate(known):
        if seen.sum() >= _SEEN_HOURS:
            filled[place] = np.interp(hours, hours[seen], days[place][seen], period=_HOURS)
    return filled


def _groups(frame: AnyFrame, peers: Any, tz: str | tzinfo, users: list[str]) -> list[tuple[str, Ints]]:
    """The groups by name, with the places of their users; those without a group are each one of their own."""
    if peers is None:
        return [("all", np.arange(len(users)))]
    if isinstance(peers, str):
        members = cluster_profiles(frame, tz).members
        of_user: dict[str, Any] = dict(zip(members["user"].astype(str), members["cluster"].astype(str), strict=True))
    else:
        given: dict[Any, Any] = dict(peers)
        of_user = {str(user): group for user, group in given.items() if pd.notna(group)}
    places: dict[str, list[int]] = {}
    alone: list[tuple[str, Ints]] = []
    for place, user in enumerate(users):
        if user in of_user:
            places.setdefault(str(of_user[user]), []).append(place)
        else:
            alone.append(("", np.array([place])))
    return [*((name, np.array(places[name])) for name in sorted(places)), *alone]


def _judged(days: _Days, group: str, places: Ints) -> list[tuple[Any, ...]]:
    known = np.all([np.isfinite(half[places, 0]) for half in days.halves], axis=0)
    compared = places[known]
    times = np.full(len(places), np.nan)
    if len(compared) >= FEWEST:
        times[known] = np.min([_times(half[compared]) for half in days.halves], axis=0)
    peers = len(compared) - 1 if len(compared) >= FEWEST else 0
    typical = float(np.median(days.mean[compared])) if peers else np.nan
    centre = np.median(sum(half[compared] for half in days.halves) / 2, axis=0) if peers else np.empty(0)
    rows = []
    for place, far in zip(places.tolist(), times.tolist(), strict=True):
        odd = far > TIMES
        own = sum(half[place] for half in days.halves) / 2
        differs = _differs(own, centre, float(days.mean[place]) - typical) if odd else ""
        rows.append(
            (
                days.users[place],
                group,
                peers if np.isfinite(far) else 0,
                far,
                odd,
                float(days.mean[place]),
                typical,
                differs,
            )
        )
    return rows


def _times(days: Floats) -> Floats:
    """How far each is from its third nearest neighbour, beside the median of all; days (n, 24)."""
    others = np.arange(len(days))
    if len(days) > _MOST:
        others = np.random.default_rng(_SEED).permutation(len(days))[:_MOST]
    # As a product of matrices: of 10,000 hosts that is a fraction of a second.
    squares = (days**2).sum(axis=1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[others] - 2 * days @ days[others].T, 0.0) / _HOURS)
    apart[others, np.arange(len(others))] = np.inf
    nearest = np.partition(apart, _NEIGHBOUR - 1, axis=1)[:, _NEIGHBOUR - 1]
    times: Floats = nearest / max(float(np.median(nearest)), _LEAST)
    return times


def _differs(own: Floats, centre: Floats, higher: float) -> str:
    """In what a day differs from that of the middle of its peers: its level, how much it swings, or when."""
    apart = own - centre
    level, rest = abs(float(apart.mean())), float(apart.std())
    if level >= rest:
        return f"{'higher' if apart.mean() > 0 else 'lower'} by {abs(100 * higher):.0f} points"
    if own.std() < _STEADIER * centre.std():
        return "steadier through the day"
    if own.std() * _STEADIER > centre.std():
        return f"less steady: highest at {int(own.argmax()):02}:00, lowest at {int(own.argmin()):02}:00"
    return f"other hours: highest at {int(own.argmax()):02}:00, its peers at {int(centre.argmax()):02}:00"
