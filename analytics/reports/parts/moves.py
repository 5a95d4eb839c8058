"""What moved, told once: the two periods beside each other, the lasting level, the trend, and each host.

Findings on the course of a fleet and the advice on its hosts both read it, so that they do not contradict each other.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.frames.frame import TooFewData, by_user
from analytics.frames.resampling import resample
from analytics.methods.change_points import change_points
from analytics.methods.comparison import compare
from analytics.methods.thresholds import saturation
from analytics.methods.trends import Slope, fleet_trend
from analytics.reports.data import Data, mean_cores
from analytics.reports.parts.base import check_day, has_day, period, same_hosts
from contract.problems import plural
from contract.times import DAY_MS, WEEK_MS

NOTEWORTHY: Final = 0.02
"""A mean that moved by less is not worth a look, whatever a test says."""
CHANCE: Final = 0.05
"""Below this a p-value counts as more than chance."""
LEAP: Final = 0.2
"""A host that moved by so much, and more than chance would, is named."""
_SLOW: Final = 0.01
"""A trend of less a week does not matter."""
_AS_TOLD: Final = 0.5
"""The periods bear a trend out that differ by so much of what it makes them differ by, or more."""
_MAX_HOSTS: Final = 5000
"""Hosts that are compared; each takes a millisecond."""


@dataclass(frozen=True, slots=True)
class Periods:
    """The two periods, of the same hosts: a mean over whoever happens to report moves with who does."""

    before: pd.DataFrame
    after: pd.DataFrame
    was: float
    now: float
    p_value: float
    hedges_g: float
    who: str = ""
    """Which hosts these are, where not all were seen in both periods."""

    @property
    def change(self) -> float:
        """By how much the mean moved."""
        return self.now - self.was


@dataclass(frozen=True, slots=True)
class Moves:
    """What moved in a range; what is None could not be told, or is not worth it."""

    periods: Periods | None = None
    why_no_periods: str = ""
    levels: pd.DataFrame = field(default_factory=pd.DataFrame)
    """The lasting changes of the level of a host, or of those that were there throughout, index `time`, as
    `analytics.change_points` tells them; those worth a look."""
    levels_of: tuple[pd.DataFrame, int] | None = None
    """What these are of, and how wide its buckets are."""
    slope: Slope | None = None
    """Where a fleet goes; no trend of which the periods say something else."""
    throughout: int = 0
    """So many hosts the slope is of."""
    hosts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["before", "after", "change", "p_value"]))
    """Of each host that was seen in both periods, index `user`, those that moved most first: its means `before` and
    `after`, their difference `change`, and `p_value`."""
    level_caveats: tuple[str, ...] = ()
    trend_caveats: tuple[str, ...] = ()

    @property
    def level(self) -> Mapping[Hashable, Any] | None:
        """The last lasting change of the level, with `time`, `before` and `after`; None without one."""
        if self.levels.empty:
            return None
        [*_, last] = self.levels.reset_index().to_dict("records")
        return last

    def by(self, least: float) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """The hosts that rose by so much or more, more than chance would, and those that fell by it."""
        sure = self.hosts[self.hosts["p_value"] < CHANCE]
        return sure[sure["change"] >= least], sure[sure["change"] <= -least]


def moves(data: Data) -> Moves:
    """What moved in the range of a report."""
    periods, why = _or_why(lambda: _periods(data))
    levels, levels_of, level_caveats = _levels(data) if periods is not None else (pd.DataFrame(), None, [])
    slope, throughout, trend_caveats = _slope(data) if data.is_fleet and has_day(data) else (None, 0, [])
    told = Moves(
        periods, why, levels, levels_of, slope, throughout, _hosts(data, periods),
        tuple(level_caveats), tuple(trend_caveats),
    )  # fmt: skip
    if told.slope is None or _agrees(told, data):
        return told
    caveat = "No trend is told: what the two periods or the level say does not bear it out."
    return Moves(
        periods, why, levels, levels_of, None, throughout, told.hosts, told.level_caveats, (*trend_caveats, caveat)
    )


def _or_why(make: Any) -> tuple[Periods | None, str]:
    try:
        return make(), ""
    except TooFewData as error:
        return None, str(error)


def _periods(data: Data) -> Periods:
    """Raises TooFewData where one period has no data, both together are less than a day, or no host was in both."""
    check_day(data)
    frame = data.windows if data.is_fleet else data.total
    before, after = (
        period(frame, data.before_ms, data.split_ms),
        period(frame, data.split_ms, data.end_ms),
    )
    if before.empty or after.empty:
        raise TooFewData("only one of the two periods has data")
    if not data.is_fleet:
        was, now = (float(np.average(part["mean"], weights=part["count"])) for part in (before, after))
        [compared] = compare(before, after).to_dict("records")
        return Periods(before, after, was, now, float(compared["p_value"]), float(compared["hedges_g"]))
    both = sorted({*before["user"].unique()} & {*after["user"].unique()})
    if not both:
        raise TooFewData("no host was seen in both periods")
    before, after = before[before["user"].isin(both)], after[after["user"].isin(both)]
    was, now = (_mean_of(part, both) for part in (before, after))
    [compared] = compare(before, after, weight="samples").to_dict("records")
    seen = len(data.samples)
    who = f"The mean is that of the {plural(len(both), 'host')} seen in both." if len(both) < seen else ""
    return Periods(before, after, was, now, float(compared["p_value"]), float(compared["hedges_g"]), who)


def _mean_of(part: pd.DataFrame, users: list[str]) -> float:
    """The mean of a period, in which each host counts alike however long it was there: by its cores at that time."""
    cores = mean_cores(part)
    weight = None if cores is None else cores.reindex([str(user) for user in users]).to_numpy()
    return float(np.average(_means(part).reindex(users), weights=weight))


def _means(part: pd.DataFrame) -> "pd.Series[float]":
    """The mean of each host."""
    sums = part.assign(load=part["mean"] * part["count"]).groupby("user", observed=True)[["load", "count"]].sum()
    return sums["load"] / sums["count"]


def _levels(data: Data) -> tuple[pd.DataFrame, tuple[pd.DataFrame, int] | None, list[str]]:
    total, rate_ms = data.total, data.total_rate_ms
    if data.is_fleet:
        try:
            windows, hosts = same_hosts(data)
        except TooFewData as error:
            return pd.DataFrame(), None, [f"No lasting change of level is told: {error}."]
        if hosts < len(data.samples):
            total, rate_ms = resample(windows.drop(columns="user"), data.rate), data.rate_ms
    changes = change_points(total, tz=data.tz)
    changes = changes[changes["kind"] == "level"]
    return changes[(changes["after"] - changes["before"]).abs() >= NOTEWORTHY], (total, rate_ms), []


def _slope(data: Data) -> tuple[Slope | None, int, list[str]]:
    """Where the fleet goes, by the hosts that were there throughout, how many these are, and what limits that.

    None where that cannot be told from chance, or is too slow to matter.
    """
    try:
        windows, hosts = same_hosts(data)
    except TooFewData as error:
        return None, 0, [f"No trend is told: {error}."]
    slope = fleet_trend(windows, data.rate, quantiles=(0.5,)).slope
    clear = slope.p_value <= CHANCE and abs(slope.per_week) >= _SLOW
    return (slope if clear else None), hosts, []


def covers(data: Data) -> bool:
    """Whether both periods together are the range that is reported on; otherwise a trend is of more than they are."""
    # Both are whole buckets.
    return data.before_ms - data.start_ms <= 2 * data.rate_ms


def _agrees(told: Moves, data: Data) -> bool:
    """Whether periods and level go where the trend does: a mean that leaps, or comes back, has none."""
    assert told.slope is not None
    way = np.sign(told.slope.per_week)
    level = told.level
    if level is not None and (float(level["after"]) - float(level["before"])) * way < 0:
        return False
    if told.periods is None or not covers(data):
        return True
    expected = told.slope.per_week * (data.split_ms - data.before_ms) / WEEK_MS
    return bool(told.periods.change * way >= _AS_TOLD * abs(expected))


def _hosts(data: Data, periods: Periods | None) -> pd.DataFrame:
    """Each host beside itself; of a report on one host that one, as its periods say."""
    if periods is None:
        return Moves().hosts
    if not data.is_fleet:
        row = {"before": periods.was, "after": periods.now, "change": periods.change, "p_value": periods.p_value}
        return pd.DataFrame([row], index=pd.Index(data.samples.index.astype(str), name="user"))
    both = sorted(periods.before["user"].unique())[:_MAX_HOSTS]
    before, after = (part[part["user"].isin(both)] for part in (periods.before, periods.after))
    moved = compare(before, after, by="user").rename(
        columns={"mean_before": "before", "mean_after": "after", "difference": "change"}
    )
    moved = moved.assign(user=moved["user"].astype(str)).set_index("user")
    return moved[["before", "after", "change", "p_value"]]


def surely_above_at_last(data: Data, users: "pd.Index[Any]") -> "pd.Series[float]":
    """The share of the last day, or of the second period where it is shorter, for which each of some hosts was above
    the target at least; 0 of one that was not there.
    """
    last = period(data.windows, max(data.split_ms, data.end_ms - DAY_MS), data.end_ms)
    last = last[last["user"].isin(users)]
    if last.empty:
        return pd.Series(0.0, users)
    found: pd.Series[float] = by_user(saturation(last, data.target))["lower"].reindex(users).fillna(0.0)
    return found
