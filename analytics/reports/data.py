"""What a report is made of: the windows of a range of time, fetched once, as fine as can be worked with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from analytics.frames.frame import by_user
from analytics.frames.gaps import step_of
from analytics.frames.resampling import resample
from analytics.frames.weights import cores_at, cores_or_now, equal_weights, weigh
from analytics.reports.context import CpuUse, ReportAnnotation, annotations_of, use_of
from analytics.sources.base import single_cores
from contract.times import DAY_MS, HOUR_MS, format_duration, format_instant, wrong_end

if TYPE_CHECKING:
    from analytics.sources.base import Source

_RATES_MS = [
    1000 * rate for rate in (10, 30, 60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800)
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fineness:
    """Limits of what is asked for."""

    buckets: int
    """Of one host."""
    windows: int
    """Of all hosts together, in buckets of an hour or longer."""
    fine_windows: int
    """The same, in shorter buckets."""

    def rate_ms(self, span_ms: int, hosts_ms: float) -> int:
        """The width of the shortest buckets within the limits, for a range of `span_ms` in which all hosts together
        were there for `hosts_ms`.
        """
        return next((rate for rate in _RATES_MS if self._allows(rate, span_ms, hosts_ms)), _RATES_MS[-1])

    def _allows(self, rate_ms: int, span_ms: int, hosts_ms: float) -> bool:
        windows = self.fine_windows if rate_ms < HOUR_MS else self.windows
        return span_ms / rate_ms <= self.buckets and hosts_ms / rate_ms <= windows


HOSTS = Fineness(buckets=900, windows=1_000_000, fine_windows=200_000)
"""Of each host: an hour is fine enough where there are many."""
TOTAL = Fineness(buckets=10_080, windows=12_000_000, fine_windows=12_000_000)
"""Of all together: five weeks in steps of five minutes; so many windows does the source merge for that."""


def not_finer(step_ms: int) -> int:
    """The shortest width of a bucket that is not below `step_ms`."""
    return next((rate for rate in _RATES_MS if rate >= step_ms), _RATES_MS[-1])


_FEW = 3
_DEFAULT_MS = 35 * DAY_MS
"""Five weeks: every hour of the week comes five times."""


class NothingThere(Exception):
    """There is nothing to report on; the message says what would be."""


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """What a person asks of a report. Moments are epoch milliseconds; what is None follows from the data."""

    start_ms: int | None = None
    end_ms: int | None = None
    last_ms: int | None = None
    compare_ms: int | None = None
    """Compare so much time at the end with as much before it; the two halves where it is None."""
    target: float = 0.8
    """The utilization that a host should rarely exceed, a share."""
    tz: str = "UTC"
    """The time zone whose hours, days and weeks are looked at."""


@dataclass(frozen=True, slots=True)
class Data:
    """Windows in a range of time, as `analytics.frames.frame` describes them, with histograms."""

    windows: pd.DataFrame
    """Of each host, with the column `user`, in buckets of `rate_ms`; in a fleet weighed by cores where those of
    every host are known, otherwise `analytics.equal_weights`. The column `cores` says how many the host had at
    the time, else has now; missing where neither is known."""
    total: pd.DataFrame
    """Of all hosts together, in buckets of `total_rate_ms`; of the host where the report is on one. Of a fleet it
    may lack histograms."""
    samples: pd.DataFrame
    """How many samples of each host there are, and how many of them are `approximated`; index `user`."""
    cores: pd.DataFrame | None
    """Of each core of the one host, with the column `core`; None for a fleet, and where cores were not reported."""
    users: pd.DataFrame
    """What is known of the hosts; index `user`."""
    rate_ms: int
    total_rate_ms: int
    start_ms: int
    """The first moment of the range that is reported on; the data may begin later."""
    end_ms: int
    """The end that was asked for, else that of the last bucket with data, unless that is still to come."""
    before_ms: int
    """Where the first of the periods that are compared begins."""
    split_ms: int
    """Where the second of the periods that are compared begins; the first is as long."""
    target: float
    is_fleet: bool
    tz: str = "UTC"
    """The time zone whose hours, days and weeks are looked at."""
    annotations: tuple[ReportAnnotation, ...] = ()
    """About the host, or any of the fleet, by time; from an hour before the range on."""
    use: CpuUse | None = None
    """Who used the CPU; None where that is not known."""

    @property
    def host_cores(self) -> "pd.Series[float] | None":
        """The cores of each host over its time in the range, index `user`; None where those of one are not known:
        then hosts count alike.
        """
        return mean_cores(self.windows)

    @property
    def rate(self) -> str:
        """The width of a host's bucket."""
        return format_duration(self.rate_ms)


def of_fleet(source: "Source", question: ReportQuestion, made_ms: int) -> Data:
    """The data of a fleet's report that is made at `made_ms`. Raises NothingThere, and what the source raises."""
    users = by_user(source.users())
    start_ms, end_ms = _range(
        users, question, partial(source.fleet, histograms=False),
        "the source holds no hosts yet; start an agent, or load the demo",
    )  # fmt: skip
    seen = users[(_ms(users["last_seen"]) > start_ms) & (_ms(users["first_seen"]) < end_ms)]
    spans = (_ms(seen["last_seen"]).clip(upper=end_ms) - _ms(seen["first_seen"]).clip(lower=start_ms)).clip(lower=1)
    rate_ms = HOSTS.rate_ms(end_ms - start_ms, float(spans.sum()))
    windows = source.fleet(by="user", start=start_ms, end=end_ms, rate=format_duration(rate_ms), weight="cores")
    if windows.empty:
        raise NothingThere("no host reported in this time; ask for another --start and --end, or a longer --last")
    samples = _samples(windows)
    windows = _with_cores(windows, users)
    weighted = weigh(windows, "cores") if _all_known(windows) else equal_weights(windows)
    total_ms = min(rate_ms, HOUR_MS, TOTAL.rate_ms(end_ms - start_ms, float(spans.sum())))
    if weighted is not windows:
        # What the source puts together weighs each sample alike.
        windows, total_ms = _sized_as(weighted, windows), rate_ms
    if total_ms == rate_ms:
        total = resample(windows.drop(columns="user"), format_duration(rate_ms))
    else:
        total = source.fleet(start=start_ms, end=end_ms, rate=format_duration(total_ms), histograms=False)
    total, total_ms = _as_reported(total, total_ms)
    if rate_ms < total_ms:
        windows, rate_ms = _coarser(windows, total_ms), total_ms
    present = windows["user"].cat.remove_unused_categories()
    known = users.loc[users.index.intersection(present.cat.categories)]
    return _data(
        windows.assign(user=present),
        total,
        samples,
        None,
        known,
        (rate_ms, total_ms),
        (start_ms, end_ms, made_ms),
        question,
        annotations_of(source, start_ms, end_ms),
        use_of(source, start_ms, end_ms, format_duration(max(rate_ms, HOUR_MS))),
        is_fleet=True,
    )


def _with_cores(windows: pd.DataFrame, users: pd.DataFrame) -> pd.DataFrame:
    """The windows with `cores`, at the time or else as they are now; missing where that is not known."""
    if "cores" not in users:
        return windows.drop(columns="cores", errors="ignore")
    return windows.assign(cores=cores_or_now(windows, users.rename_axis("user").reset_index()))


def _all_known(windows: pd.DataFrame) -> bool:
    """Whether it is known of every window how many cores its host had."""
    return "cores" in windows and bool(windows["cores"].notna().all())


def _sized_as(weighted: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """The weighted windows with the column `cores` of those that they are made of, row by row."""
    return weighted.assign(cores=windows["cores"].array) if "cores" in windows else weighted


def _coarser(windows: pd.DataFrame, rate_ms: int) -> pd.DataFrame:
    """The windows in longer buckets, each with the cores that its host had at the end of it."""
    longer: pd.DataFrame = resample(windows, format_duration(rate_ms))
    return longer.assign(cores=cores_in(windows, longer, rate_ms)) if "cores" in windows else longer


def cores_in(windows: pd.DataFrame, longer: pd.DataFrame, rate_ms: int) -> "pd.Series[Any]":
    """The last number of cores in each of the longer buckets, of those that windows say."""
    start = pd.DatetimeIndex(windows.index).floor(pd.Timedelta(rate_ms, "ms"))
    last = windows["cores"].groupby([windows["user"].astype("str").to_numpy(), start]).last()
    wanted = pd.MultiIndex.from_arrays([longer["user"].astype("str").to_numpy(), longer.index])
    return pd.Series(last.reindex(wanted).array, longer.index)


def mean_cores(windows: pd.DataFrame) -> "pd.Series[float] | None":
    """The mean number of cores of each user over some windows, index `user`; None where a window names none."""
    if not _all_known(windows):
        return None
    return windows["cores"].astype("float64").groupby(windows["user"].astype("str")).mean()


def of_user(source: "Source", user: str, question: ReportQuestion, made_ms: int) -> Data:
    """The data of one host's report that is made at `made_ms`. Raises NothingThere, and what the source raises."""
    users = by_user(source.users())
    if user not in users.index:
        raise NothingThere(f"no host is named {user!r}; `loadlens-analytics users` lists those there are")
    users = users.loc[[user]]
    seen = partial(source.history, user, histograms=False)
    start_ms, end_ms = _range(users, question, seen, "this host has not reported yet")
    rate_ms = min(HOUR_MS, HOSTS.rate_ms(end_ms - start_ms, end_ms - start_ms))
    total_ms = min(rate_ms, TOTAL.rate_ms(end_ms - start_ms, end_ms - start_ms))
    total = source.history(user, start=start_ms, end=end_ms, rate=format_duration(total_ms))
    if total.empty:
        raise NothingThere("the host reported nothing in this time; ask for another --start and --end")
    total, total_ms = _as_reported(total.drop(columns=["user", "core"], errors="ignore"), total_ms)
    rate_ms = max(rate_ms, total_ms)
    cores = single_cores(source, user, start=start_ms, end=end_ms, rate=format_duration(rate_ms))
    windows = resample(total, format_duration(rate_ms))
    windows = windows.assign(user=pd.Categorical([user] * len(windows)))
    if cores is not None:
        windows = windows.assign(cores=cores_at(windows, cores.assign(user=user)).to_numpy())
    windows = _with_cores(windows, users)
    return _data(
        windows,
        total,
        _samples(windows),
        cores,
        users,
        (rate_ms, total_ms),
        (start_ms, end_ms, made_ms),
        question,
        annotations_of(source, start_ms, end_ms, user),
        use_of(source, start_ms, end_ms, format_duration(rate_ms), user),
        is_fleet=False,
    )


def _data(
    windows: pd.DataFrame, total: pd.DataFrame, samples: pd.DataFrame, cores: pd.DataFrame | None, users: pd.DataFrame,
    rates_ms: tuple[int, int], moments_ms: tuple[int, int, int], question: ReportQuestion,
    annotations: tuple[ReportAnnotation, ...], use: CpuUse | None, *, is_fleet: bool,
) -> Data:  # fmt: skip
    start_ms, end_ms, made_ms = moments_ms
    # Whole buckets, so that none is counted in both periods; the last one of the data may not be over.
    over_ms = -(-end_ms // rates_ms[0]) * rates_ms[0] if question.end_ms is None else end_ms
    end_ms = max(end_ms, min(over_ms, made_ms))
    half_ms = (over_ms - start_ms) // 2 if question.compare_ms is None else question.compare_ms
    split_ms = -(-(over_ms - half_ms) // rates_ms[0]) * rates_ms[0]
    return Data(
        windows=windows, total=total, samples=samples, cores=cores, users=users, rate_ms=rates_ms[0],
        total_rate_ms=rates_ms[1], start_ms=start_ms, end_ms=end_ms, before_ms=2 * split_ms - over_ms,
        split_ms=split_ms, target=question.target, is_fleet=is_fleet, tz=question.tz, annotations=annotations, use=use,
    )  # fmt: skip


def _samples(windows: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = windows.groupby("user", observed=True)[["count", "approximated"]].sum().rename(index=str)
    return found


def _as_reported(total: pd.DataFrame, rate_ms: int) -> tuple[pd.DataFrame, int]:
    """The frame in buckets that are not shorter than what was reported: between them would be nothing but gaps."""
    step_ms = int(step_of(pd.DatetimeIndex(total.index)).total_seconds() * 1000)
    wanted_ms = not_finer(step_ms)
    if wanted_ms <= rate_ms or len(total) < _FEW:
        return total, rate_ms
    return resample(total, format_duration(wanted_ms)), wanted_ms


def _range(
    users: pd.DataFrame, question: ReportQuestion, windows: Callable[..., pd.DataFrame], nothing: str
) -> tuple[int, int]:
    """The range in epoch milliseconds, half-open: what was asked for, else the last five weeks, or since the first
    data in them. `windows` answers those between a `start` and an `end` at a `rate`.
    """
    if users.empty:
        raise NothingThere(nothing)
    # The last window ends at `last_seen`, and belongs to the range.
    end_ms = int(_ms(users["last_seen"]).max()) + 1 if question.end_ms is None else question.end_ms
    if question.start_ms is not None:
        start_ms = question.start_ms
    else:
        start_ms = max(end_ms - (question.last_ms or _DEFAULT_MS), 0)
        if question.last_ms is None:
            first_ms = int(_ms(users["first_seen"]).min())
            # What is older says nothing of where the data within the range begin.
            start_ms = first_ms if first_ms >= start_ms else _first_ms(windows, start_ms, end_ms)
    if start_ms >= end_ms:
        if question.start_ms is None and question.last_ms is None:
            first, end = format_instant(start_ms), format_instant(end_ms)
            raise NothingThere(f"expected an end after the first data, which are of {first}, got {end}")
        raise NothingThere(f"the range is empty: {wrong_end(start_ms, end_ms)}")
    return start_ms, end_ms


def _first_ms(windows: Callable[..., pd.DataFrame], start_ms: int, end_ms: int) -> int:
    """Where data begin in a range, to a bucket of five minutes; its start where there are none."""
    for width_ms in (DAY_MS, 300_000):
        found = windows(start=start_ms, end=end_ms, rate=format_duration(width_ms))
        if found.empty:
            break
        first_ms = int(pd.DatetimeIndex(found.index).as_unit("ms").asi8.min())
        start_ms, end_ms = max(start_ms, first_ms), min(end_ms, first_ms + width_ms)
    return start_ms


def _ms(moments: "pd.Series[pd.Timestamp]") -> "pd.Series[int]":
    return moments.astype("datetime64[ms, UTC]").astype("int64")
