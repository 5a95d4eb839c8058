"""A frame as series, one for each user, worked on by all cores or by a Dask cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, example_of, is_dask, of_hosts
from analytics.frames.checking import check_shares, number_column
from analytics.frames.frame import FrameError
from analytics.frames.kernel import Floats, Ints
from analytics.frames.labels import GROUPS
from analytics.frames.progress import progress

T = TypeVar("T")

_ALONE: Final = 50_000
"""Points up to which starting other processes takes longer than it saves."""
_CHUNK: Final = 20_000
"""Points that a process gets at a time, at least."""


_IN_THE_UNIT: Final = ("mean", "min", "max")
"""Columns of windows that are in the unit of their metric."""


class TimeSeries(NamedTuple):
    """One series: epoch milliseconds in order, and what was measured (NaN where it is missing)."""

    time: Ints
    value: Floats


class SeriesOfUsers(NamedTuple):
    """Series in the order of their users, of which there are none where the frame names none."""

    users: "pd.Index[str] | None"
    series: list[TimeSeries]


def series_of(frame: pd.DataFrame, column: str) -> SeriesOfUsers:
    """The series of `column` of each user, of the whole host where cores are told apart.

    Raises FrameError for an index without a time zone, a column that is not there or has no numbers, or rows without a
    user.
    """
    check_column(frame, column)
    frame = of_hosts(frame)
    times = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ms").asi8
    values = frame[column].to_numpy(np.float64, na_value=np.nan)
    if "user" not in frame:
        order = np.argsort(times, kind="stable")
        return SeriesOfUsers(None, [TimeSeries(times[order], values[order])])
    if frame["user"].isna().any():
        raise FrameError("expected a user in each row, got rows that have no user")
    codes, users = pd.factorize(frame["user"].astype("str"), sort=True)
    order = np.lexsort((times, codes))
    ends = np.searchsorted(codes[order], np.arange(len(users)), side="right")
    return SeriesOfUsers(
        pd.Index(users), [TimeSeries(times[rows], values[rows]) for rows in np.split(order, ends)[:-1]]
    )


def check_column(frame: AnyFrame, column: str) -> None:
    """Raise FrameError for what is no frame of one series, or of one for each `user`, with a `column` of numbers."""
    example = example_of(frame)
    values = number_column(example, column)
    if column in _IN_THE_UNIT:
        check_shares(example, column, values.to_numpy(np.float64, na_value=np.nan))
    for name in () if "user" in example.columns else GROUPS[1:]:
        if name in example.columns and (is_dask(frame) or example[name].nunique(dropna=False) > 1):
            raise FrameError(
                f"expected one series, or the column user, got several in {name}: "
                f"frame.rename(columns={{{name!r}: 'user'}}) tells them apart"
            )


def on_all_cores(work: Callable[[Sequence[TimeSeries]], T], series: Sequence[TimeSeries], what: str) -> list[T]:
    """What `work` makes of parts of `series`, in their order; a progress bar says `what` it does.

    `work` runs in other processes where that is worth it, so it is importable, or a partial of what is.
    """
    from joblib import Parallel, cpu_count, delayed

    cores = cpu_count()
    if sum(len(one.time) for one in series) <= _ALONE or len(series) < 2 or cores == 1:
        return [work(series)]
    parts = list(_parts(series))
    done = []
    with progress(what, len(parts)) as step:
        for result in Parallel(n_jobs=min(cores, len(parts)), return_as="generator")(
            delayed(work)(part) for part in parts
        ):
            done.append(result)
            step()
    return done


def by_user_on_dask(frame: AnyFrame, work: Callable[[pd.DataFrame], pd.DataFrame]) -> AnyFrame:
    """`work` on each partition of a Dask DataFrame, lazily, after all rows of a user have come into one."""
    together = frame.shuffle(on="user") if "user" in frame.columns else frame.repartition(npartitions=1)
    return together.map_partitions(work, meta=work(example_of(frame)))


def _parts(series: Sequence[TimeSeries]) -> Iterator[Sequence[TimeSeries]]:
    first, points = 0, 0
    for place, one in enumerate(series):
        points += len(one.time)
        if points >= _CHUNK:
            yield series[first : place + 1]
            first, points = place + 1, 0
    if first < len(series):
        yield series[first:]
