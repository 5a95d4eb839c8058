"""What every source of windows answers alike, and what those share that read windows themselves."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

import pandas as pd

from analytics.frames.arguments import instance
from analytics.frames.frame import FrameError, of_metric
from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.statistics import highest, values_of
from analytics.frames.weights import Weight, cores_at, cores_or_now, weigh
from contract.metrics import BY_DEVICE, NAMES, TYPES, Quantity, Statistic, type_name
from contract.selectors import column_of_grouping, read_labels
from contract.times import HOUR_MS, parse_duration, parse_timestamp

Moment = str | int | date | pd.Timestamp
"""ISO 8601 text, epoch milliseconds, or a datetime; UTC where there is no offset."""

Grouping = str
"""`user`, `os_type`, `os_version`, or `label:` and the name of a label, such as `label:role`."""


class Source(Protocol):
    """Answers frames; made by `analytics.connect`. Close it, or use it in a `with`."""

    def history(
        self,
        user: str,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        stat: Statistic | None = None,
        core: int | Literal["each"] | None = None,
        device: str | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user as a frame (`analytics.frames.frame`), or with `stat` single values.

        One row for each bucket of `rate` (InfluxQL duration, 1s to 52w) in [`start`, `end`) that has data, in order
        of time; `raw` gives the windows as they were reported. `core` takes one core instead of the machine, `each`
        the machine and each of its cores, in a column `core`. Of metrics that name disks or interfaces `device` takes
        one by its name, or `each`, in a column `device`. Without `histograms` the answer is smaller, but no
        quantile can be taken of it. A column `metric` names the metric, so that what pandas puts together is known.

        With `stat` the frame has the index `time` and the column `value` (float64) of that statistic instead.
        `attrs` hold `metric` and `unit`, with `stat` also that, and `approximation`, a sentence, where values are
        approximate. Raises ValueError for what cannot be asked, LookupError or ServiceError for what is not there.
        """

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        by: Grouping | None = None,
        top: int | None = None,
        stat: Statistic | None = None,
        histograms: bool = True,
        weight: Weight = "samples",
    ) -> pd.DataFrame:
        """The windows of all users together; with `by="user"` of each, named by the column `user`.

        With `stat` single values, as of `history`; the column that `by` names says whose they are, and `top` keeps
        those that are highest over the whole range. With `by="label:role"` the column is `label`, and groups are by
        what hosts said last of themselves, whatever they said before. `weight` says how users count in what is said of
        several (`analytics.weigh`): `cores` makes the mean the share of all CPU time that was used, and raises
        ValueError (ProblemError, where a service answers) where the cores of a user are not known. With `by="user"` and
        no `stat` it adds the column `cores`: how many the machine had at the time, else has now, missing where neither
        is known.
        """

    def users(self) -> pd.DataFrame:
        """The users, in order of their names: `user`; `os_type`, `os_version` and `cores`, missing where that is not
        known, and when the first window began and the last one ended, `first_seen` and `last_seen` (UTC). Where several
        hosts report under one id, `shared_windows` says how many windows overlapped others, and `shared_at` when last:
        their numbers are mixed. `labels` has the labels of each, such as `role=web,zone=a`, a text that is empty
        where there are none. Only a service knows these; elsewhere they are missing.
        """

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for: `metric`, its name; `title`, `unit`, the default `statistic`, `by_core`
        and `by_device` (whether single cores, or disks and interfaces by name, can be asked for), `type` and the name
        of the `stored` quantity.
        """

    def close(self) -> None:
        """Close the connections and files that the source has opened."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def weighed_together(
    each: pd.DataFrame, weight: Weight, users: Callable[[], pd.DataFrame], single: Callable[[], pd.DataFrame | None]
) -> pd.DataFrame:
    """The windows of users as those of all together, in the same buckets, weighed as `analytics.weigh` does.

    `single` answers the windows of single cores in the same buckets, where there are any: they say how many cores a
    machine had at a time, and `users` how many it has now.
    """
    cores = None
    if weight == "cores" and "user" in each:
        cores, rows = users(), single()
        each = each if rows is None or rows.empty else each.assign(cores=cores_at(each, rows).to_numpy())
    weighed = weigh(each, weight, cores=cores).drop(columns=["user", "cores"], errors="ignore")
    together: pd.DataFrame = resample(weighed, RAW_MS)
    return together


def users_of(known: pd.DataFrame) -> pd.DataFrame:
    """The frame of `users` of what a source knows of them, index `user`, the rest missing."""
    missing = {
        "os_type": None,
        "os_version": None,
        "cores": pd.array([pd.NA] * len(known), "Int64"),
        "shared_windows": pd.array([pd.NA] * len(known), "Int64"),
        "shared_at": pd.DatetimeIndex([pd.NaT] * len(known), tz="UTC").as_unit("ms"),
        "labels": None,
    }
    columns = ("os_type", "os_version", "cores", "first_seen", "last_seen", "shared_windows", "shared_at", "labels")
    told = pd.DataFrame({name: known[name] if name in known else missing[name] for name in columns}, index=known.index)
    told.insert(0, "user", pd.Series(pd.Categorical(known.index.astype("str")), told.index))
    return told.reset_index(drop=True)


def labels(users: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """What users, as `source.users()` answers them, have as the value of a label: a category by `user`, missing where
    they have none. `frame["user"].map(labels(source.users(), "role"))` groups a frame by it. Raises FrameError where
    `users` is no such frame.
    """
    instance(users, "users", pd.DataFrame, "a frame of users such as source.users()")
    instance(name, "name", str, "the name of a label")
    if not {"user", "labels"} <= {*users}:
        raise FrameError(
            f"expected a frame of users such as source.users(), with labels, got {', '.join(map(str, users))}"
        )
    values = [read_labels(text).get(name) for text in users["labels"]]
    return pd.Series(pd.Categorical(values), pd.Index(users["user"].astype("str"), name="user", dtype="str"), name=name)


def epoch_ms(moment: Moment) -> int:
    """Epoch milliseconds; less than a millisecond is rounded up, as the service does. Raises ValueError."""
    if isinstance(moment, str | int | float):
        return parse_timestamp(moment)
    stamp = pd.Timestamp(moment)
    if pd.isna(stamp):
        raise ValueError("NaT is not a moment")
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return parse_timestamp(stamp.isoformat())


def check_windows_by(by: str | None, top: int | None) -> None:
    """Raise ValueError for groups that windows do not come in."""
    if top is not None:
        raise ValueError("top goes with stat: it keeps the groups whose value is highest")
    if by not in (None, "user"):
        raise ValueError(f"windows come by='user', not by={by!r}; with stat there are values of each {by}")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which windows are wanted."""

    quantity: Quantity
    start_ms: int | None
    end_ms: int | None
    user: str | None
    """None for all of them."""
    core: int | Literal["each"] | None
    """None for the machine; `each` for the machine and its cores."""
    device: str | None
    """As `core`: a disk or an interface by its name."""
    rate_ms: int | None
    """How finely they must come at least; None as they were reported."""
    histograms: bool
    users: bool = True
    """Whether it matters whose they are."""


class Found(NamedTuple):
    """Windows that a source found."""

    frame: pd.DataFrame
    """In any order, with the columns `user`, `core` and `device` where the source names them; `user` may be left out
    where it does not matter."""
    merged: bool = False
    """Whether they are in buckets of the rate that was asked for, as `analytics.resample` gives them."""


class WindowedSource(ABC):
    """A source as `analytics.sources.base` describes it, made of one that gives windows.

    Without `start` and `end` everything is answered.
    """

    @abstractmethod
    def _windows(self, asked: Asked) -> Found:
        """What is asked for. Raises LookupError where nothing is known of the metric, the core or the device."""

    @abstractmethod
    def users(self) -> pd.DataFrame:
        """The users, by name (`analytics.sources.base`)."""

    def history(
        self,
        user: str,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        stat: Statistic | None = None,
        core: int | Literal["each"] | None = None,
        device: str | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user, or with `stat` its values (`analytics.sources.base`)."""
        asked = _asked(
            metric, start, end, rate, user=user, core=core, device=device, histograms=histograms or stat is not None
        )
        frame, merged = self._windows(asked)
        if "user" in frame:
            if frame.empty and user not in {*self.users()["user"]}:
                raise LookupError(f"{user!r} is not known here; users() lists those that are")
            frame = frame.drop(columns="user")
        return _answer(Found(frame, merged), metric, rate, stat)

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        by: Grouping | None = None,
        top: int | None = None,
        stat: Statistic | None = None,
        histograms: bool = True,
        weight: Weight = "samples",
    ) -> pd.DataFrame:
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources.base`)."""
        check_windows_by(by, top if stat is None else None)
        if weight != "samples" and by is None:
            # Weighed in parts: in a wide bucket a machine that was seen for an hour would look as if it sampled seldom,
            # and each part has the cores of its time.
            parts = _parts_of(rate)
            each = self.fleet(metric, start=start, end=end, rate=parts, by="user", histograms=histograms or bool(stat))
            together = weighed_together(each, weight, self.users, lambda: self._cores(start, end, parts))
            if parts != rate:
                together = resample(together, rate)
            return together if stat is None else values_of(together, stat)
        if top is not None and by is None:
            raise ValueError("top goes with by: it keeps the groups with the highest values")
        found = self._windows(
            _asked(metric, start, end, rate, histograms=histograms or stat is not None, users=by is not None)
        )
        frame, merged = found
        if weight == "cores" and by == "user" and stat is None and "user" in frame:
            frame = _answer(found, metric, rate, None)
            single = self._cores(start, end, rate)
            known = frame if single is None else frame.assign(cores=cores_at(frame, single).to_numpy())
            frame.insert(list(frame.columns).index("count"), "cores", cores_or_now(known, self.users()))
            return frame
        if by is None and "user" in frame:
            frame, merged = frame.drop(columns="user"), False
        elif by is not None and "user" not in frame:
            raise FrameError("no users are named here; a column user or user_id would be right")
        if top is not None and stat is not None:
            frame = highest(frame, top, stat)
        return _answer(Found(frame, merged), metric, rate, stat, by)

    def _cores(self, start: Moment | None, end: Moment | None, rate: str) -> pd.DataFrame | None:
        """The windows of single cores of all users; None where there are none."""
        try:
            found = self._windows(_asked("cpuLoadAvg", start, end, rate, core="each", histograms=False))
        except LookupError:
            return None
        frame = found.frame
        single = frame[frame["core"].notna()] if {"user", "core"} <= {*frame.columns} else frame.iloc[:0]
        return None if single.empty else _answer(Found(single, found.merged), "cpuLoadAvg", rate, None)

    @abstractmethod
    def close(self) -> None:
        """Close the connections and files that the source has opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts_of(rate: str) -> str:
    """An hour where it divides the buckets, else the buckets themselves."""
    rate_ms = RAW_MS if rate == "raw" else parse_duration(rate)
    return "1h" if rate_ms > HOUR_MS and rate_ms % HOUR_MS == 0 else rate


def metrics_of(quantities: Iterable[Quantity]) -> pd.DataFrame:
    """The metrics of windows that can be asked of some quantities, as `Source.metrics` answers them."""
    held = set(quantities)
    rows = [
        {
            "metric": one.name, "title": one.title, "unit": one.quantity.unit, "statistic": one.statistic,
            "by_core": one.by_core, "by_device": one.by_device, "type": type_name(kind), "stored": one.quantity.name,
        }
        for one in NAMES.values() for kind in TYPES
        if one.quantity in kind.quantities and one.quantity in held and one.over_cores is None
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _asked(
    metric: str,
    start: Moment | None,
    end: Moment | None,
    rate: str,
    *,
    user: str | None = None,
    core: int | Literal["each"] | None = None,
    device: str | None = None,
    histograms: bool,
    users: bool = True,
) -> Asked:
    named = NAMES.get(metric)
    if named is None or named.over_cores is not None:
        raise ValueError(f"{metric!r} is not a metric of windows; metrics() lists those there are")
    if device is not None and not named.by_device:
        raise ValueError(f"device does not go with {metric}; it goes with {', '.join(BY_DEVICE)}")
    return Asked(
        quantity=named.quantity,
        start_ms=None if start is None else epoch_ms(start),
        end_ms=None if end is None else epoch_ms(end),
        user=user,
        core=core,
        device=device,
        rate_ms=None if rate == "raw" else parse_duration(rate),
        histograms=histograms,
        users=users,
    )


def _answer(found: Found, metric: str, rate: str, stat: Statistic | None, by: Grouping | None = None) -> pd.DataFrame:
    frame = of_metric(found.frame, metric)
    if rate == "raw" and stat is None:
        return frame
    if not found.merged:
        frame = resample(frame, RAW_MS if rate == "raw" else rate)
    return frame if stat is None else of_groups(values_of(frame, stat), by)


def of_groups(values: pd.DataFrame, by: Grouping | None) -> pd.DataFrame:
    """Values whose column `group` is called what the groups are, such as `user`, and is a category."""
    if by is None or "group" not in values:
        return values
    return values.assign(group=pd.Categorical(values["group"])).rename(columns={"group": column_of_grouping(by)})
