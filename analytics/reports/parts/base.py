"""What every part of a report gives, and words that several use."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from analytics.frames.frame import TooFewData
from analytics.frames.resampling import resample
from analytics.reports.context import about_all, shortly_after
from analytics.reports.data import Data
from analytics.reports.model import Finding, Section
from contract.times import DAY_MS

SHOWN: Final = 25
"""Rows of a table that shows the first of many."""


@dataclass(frozen=True, slots=True)
class Part:
    """A section, unless there is nothing to show, with what was found and what limits it."""

    section: Section | None = None
    findings: Sequence[Finding] = ()
    caveats: Sequence[str] = ()


def one_or_nothing(what: str, make: Callable[[], Part]) -> Part:
    """The part that `make` makes; where the data are too few for it (TooFewData), a caveat that says so."""
    try:
        return make()
    except TooFewData as error:
        return Part(caveats=[f"There is nothing on {what}: {error}."])


def attended_total(data: Data) -> pd.DataFrame:
    """All hosts together, without the buckets that are not of the fleet: those in which fewer than half of the
    hosts reported that usually (in the median of all buckets) do. A host's total as it is.
    """
    if not data.is_fleet:
        return data.total
    hosts = data.windows["user"].groupby(level=0, observed=True).nunique()
    there = hosts.reindex(pd.DatetimeIndex(data.total.index).floor(pd.Timedelta(data.rate_ms, "ms")))
    return data.total[(there >= hosts.median() / 2).to_numpy()]


def has_day(data: Data) -> bool:
    """Whether the data, from the first to the last, take a day or longer."""
    index = pd.DatetimeIndex(data.total.index).as_unit("ms").asi8
    return int(index.max() - index.min()) + data.total_rate_ms >= DAY_MS


def check_day(data: Data) -> None:
    """Raise TooFewData where the data take less than a day: what a day does is not known then."""
    if not has_day(data):
        raise TooFewData("there is less than a day of data")


_THROUGHOUT = 0.9
"""A host was there throughout where it has so many of the buckets that any has."""


def same_hosts(data: Data) -> tuple[pd.DataFrame, int]:
    """The windows of the hosts that were seen throughout, and how many these are.

    A mean over whoever happens to report moves with who does. Raises TooFewData where fewer than two were there
    throughout, while others came and went.
    """
    buckets = data.windows.groupby("user", observed=True).size()
    throughout = buckets.index[buckets >= _THROUGHOUT * data.windows.index.nunique()]
    if len(throughout) == len(buckets):
        return data.windows, len(buckets)
    if len(throughout) < 2:
        raise TooFewData(f"{len(throughout)} of {len(buckets):,} hosts were seen throughout")
    return data.windows[data.windows["user"].isin(throughout)], len(throughout)


def attended_by_the_same(data: Data) -> tuple[pd.DataFrame, int, str]:
    """As `attended_total`, of the hosts that were seen throughout where others came and went.

    Their windows, the width of these in ms, and what they are in a sentence. A host that comes is no event of the
    others. Raises TooFewData where fewer than two were seen throughout.
    """
    what = "the fleet's mean" if data.is_fleet else "the host"
    windows, hosts = same_hosts(data) if data.is_fleet else (data.windows, len(data.samples))
    if hosts == len(data.samples):
        return attended_total(data), data.total_rate_ms, what
    there = windows["user"].groupby(level=0, observed=True).nunique()
    total = resample(windows.drop(columns="user"), data.rate)
    attended = (there.reindex(total.index) >= there.median() / 2).to_numpy()
    return total[attended], data.rate_ms, f"the mean of the {hosts:,} hosts seen throughout"


def steady_total(data: Data) -> tuple[pd.DataFrame, int, str, list[str]]:
    """All hosts together, or those that were there throughout where others came and went.

    Their windows, the width of these in ms, what they are in a sentence, and what limits them.
    """
    if not data.is_fleet:
        return data.total, data.total_rate_ms, "the host", []
    try:
        windows, hosts = same_hosts(data)
    except TooFewData as error:
        return (
            data.total,
            data.total_rate_ms,
            "the fleet's mean",
            [f"The forecast is of the mean of whoever reports, which moves with who does: {error}."],
        )
    if hosts == len(data.samples):
        return data.total, data.total_rate_ms, "the fleet's mean", []
    total = resample(windows.drop(columns="user"), data.rate)
    return total, data.rate_ms, f"the mean of the {hosts:,} hosts seen throughout", []


_SILENT_BUCKETS: Final = 3
_SILENT_MS: Final = 300_000


def silent_before_ms(data: Data, end_ms: int) -> int:
    """A host whose last bucket begins before this moment is silent at `end_ms`: for three buckets, and five minutes at
    least. Of such a host nothing is said but that it is.
    """
    return end_ms - max(_SILENT_BUCKETS * data.rate_ms, _SILENT_MS) - data.rate_ms


def subject(data: Data) -> str:
    """What the report is on, at the beginning of a sentence."""
    return "The fleet" if data.is_fleet else "The host"


def after_annotation(data: Data, moment_ms: int, width_ms: int, user: str | None = None) -> str:
    """What a moment of a host, or of the whole report, came shortly after (`shortly_after`); nothing otherwise.

    What concerns only some hosts of a fleet does not explain its mean.
    """
    users = [user] if user is not None else [*map(str, data.samples.index)]
    return shortly_after(about_all(data.annotations, users), moment_ms, width_ms)


def in_ms(moment: object) -> int:
    """Epoch milliseconds of a moment of an index."""
    return pd.Timestamp(moment).value // 1_000_000  # type: ignore[arg-type]


def period(frame: pd.DataFrame, start_ms: int, end_ms: int) -> pd.DataFrame:
    """The windows of a range, half-open."""
    index = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    return frame[(index >= start_ms) & (index < end_ms)]
