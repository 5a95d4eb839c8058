"""What every source of windows answers alike, and what is answered from any of them."""

from collections.abc import Callable
from datetime import date
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import pandas as pd

from analytics.frames.arguments import instance
from analytics.frames.frame import FrameError
from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.weights import Weight, cores_at, cores_or_now, weigh
from contract.metrics import Statistic
from contract.selectors import column_of_grouping, read_labels
from contract.times import parse_timestamp

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
        of time; `raw` gives the windows as they were reported. `core` takes one core instead of the host, `each`
        the host and each of its cores, in a column `core`. Of metrics that name disks or interfaces `device` takes
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
        no `stat` it adds the column `cores`: how many the host had at the time, else has now, missing where neither
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
    host had at a time, and `users` how many it has now.
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


def of_groups(values: pd.DataFrame, by: Grouping | None) -> pd.DataFrame:
    """Values whose column `group` is called what the groups are, such as `user`, and is a category."""
    if by is None or "group" not in values:
        return values
    return values.assign(group=pd.Categorical(values["group"])).rename(columns={"group": column_of_grouping(by)})


def windows_with_cores(
    source: Source,
    user: str | None = None,
    metric: str = "cpuLoadAvg",
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    rate: str = "1h",
    histograms: bool = True,
) -> pd.DataFrame:
    """The windows of one host, or of each: as `source.fleet(by="user", weight="cores")` answers them.

    The columns `user` and `cores` say whose they are and how many cores it had at the time, else has now; missing where
    neither is known. Raises what the source raises.
    """
    if user is None:
        return source.fleet(metric, start=start, end=end, rate=rate, by="user", histograms=histograms, weight="cores")
    frame = source.history(user, metric, start=start, end=end, rate=rate, histograms=histograms)
    frame = frame.assign(user=pd.Categorical([user] * len(frame)))
    single = single_cores(source, user, start=start, end=end, rate=rate, histograms=False)
    known = frame if single is None else frame.assign(cores=cores_at(frame, single.assign(user=user)).to_numpy())
    return frame.assign(cores=cores_or_now(known, source.users()))


def single_cores(
    source: Source, user: str, *, start: Moment | None, end: Moment | None, rate: str, histograms: bool = True
) -> pd.DataFrame | None:
    """The windows of the single cores of a host; None where it reported none."""
    try:
        frame = source.history(user, start=start, end=end, rate=rate, core="each", histograms=histograms)
    except LookupError:
        return None
    frame = frame[frame["core"].notna()] if "core" in frame else frame.iloc[:0]
    return None if frame.empty else frame
