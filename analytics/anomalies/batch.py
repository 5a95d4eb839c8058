"""The detector over a DataFrame, each user by itself, on all cores."""

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.anomalies.detector import Detector
from analytics.anomalies.tuning import Tuning

__all__ = ["anomalies"]

_NUMBERS: Final = ("value", "expected", "lower", "upper", "score")
_ALONE: Final = 50_000
"""Rows up to which starting other processes takes longer than it saves."""
_CHUNK: Final = 100_000
"""Rows that a process gets at a time."""

Floats = npt.NDArray[np.float64]
Judged = tuple[Floats, npt.NDArray[np.bool_], npt.NDArray[np.str_]]


def anomalies(frame: pd.DataFrame, *, column: str = "mean", tuning: Tuning | None = None) -> pd.DataFrame:
    """Each row's verdict, from its past alone: the same that a `Detector` gives point by point.

    `frame` has an index of times with a time zone, in any order, a numeric `column`, and a column `user` where it is of
    many; rows of one user are one series. Points a few minutes apart are what the defaults of `tuning` are meant for:
    resample shorter windows first. Returns one row for each row of `frame`, sorted by user and time, with the index
    `time` and the columns

    ==========  ======================================================================================
    `user`      where `frame` has it
    `value`     what was judged, in the unit of `column`
    `expected`  the median of the points just before; NaN where there are none
    `lower`     below it, or above `upper`, a value is an anomaly by itself; NaN while the detector learns
    `upper`
    `score`     how unusual, in [0, 1]; 0 where a stronger one was said a little before
    `anomaly`   whether an event begins here: the score is at least `tuning.threshold`, and it is news
    `kind`      what made the score: value, level, spread or season
    ==========  ======================================================================================

    Missing values are given back with the score 0. Raises ValueError for an index or column that is not there or not
    right. Method and sources: `analytics.anomalies.detector` and `docs/anomalies.md`.
    """
    _check(frame, column)
    many = "user" in frame
    order = _order(frame)
    sorted_frame = frame.iloc[order]
    times = pd.DatetimeIndex(sorted_frame.index).tz_convert("UTC").as_unit("ms")
    values = sorted_frame[column].to_numpy(np.float64, na_value=np.nan)
    starts = _starts(sorted_frame["user"]) if many else np.zeros(min(len(values), 1), np.int64)
    numbers, news, kinds = _judge_all(times.asi8, values, starts, tuning or Tuning())
    verdicts = pd.DataFrame(dict(zip(_NUMBERS, numbers, strict=True)), index=times.rename("time"))
    verdicts["anomaly"], verdicts["kind"] = news, kinds.astype(object)
    if many:
        verdicts.insert(0, "user", sorted_frame["user"].to_numpy())
    return verdicts.astype({"kind": "str"})


def _check(frame: pd.DataFrame, column: str) -> None:
    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise ValueError("the index is a DatetimeIndex with a time zone, such as UTC")
    if frame.index.hasnans:
        raise ValueError("the index has a moment that is missing (NaT)")
    if column not in frame:
        raise ValueError(f"no column {column!r}; there are {', '.join(map(str, frame.columns))}")
    if not pd.api.types.is_numeric_dtype(frame[column]):
        raise ValueError(f"the column {column!r} has no numbers")
    if "user" in frame and frame["user"].isna().any():
        raise ValueError("a row has no user")
    if "core" in frame and frame["core"].nunique(dropna=False) > 1:
        raise ValueError("several cores are several series; give one of them at a time, or name each as a user")


def _order(frame: pd.DataFrame) -> npt.NDArray[np.intp]:
    """By user and time; rows of the same user and time stay as they were."""
    times = pd.DatetimeIndex(frame.index).asi8
    if "user" not in frame:
        return np.argsort(times, kind="stable")
    users, _ = pd.factorize(frame["user"], sort=True)
    return np.lexsort((times, users))


def _starts(users: "pd.Series[Any]") -> npt.NDArray[np.int64]:
    """Where each user's rows begin."""
    codes, _ = pd.factorize(users)
    return np.flatnonzero(np.diff(codes, prepend=-1)).astype(np.int64)


def _judge_all(times: npt.NDArray[np.int64], values: Floats, starts: npt.NDArray[np.int64], tuning: Tuning) -> Judged:
    cores = os.cpu_count() or 1
    if len(values) <= _ALONE or len(starts) == 1 or cores == 1:
        return _judge(times, values, starts, tuning)
    from joblib import Parallel, delayed

    parts = list(_chunks(starts, len(values)))
    judged = Parallel(n_jobs=min(cores, len(parts)))(
        delayed(_judge)(times[part], values[part], begins, tuning) for part, begins in parts
    )
    numbers, news, kinds = zip(*judged, strict=True)
    return np.concatenate(numbers, axis=1), np.concatenate(news), np.concatenate(kinds)


def _chunks(starts: npt.NDArray[np.int64], rows: int) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Rows of whole users, and where each of these begins among them."""
    first = 0
    while first < len(starts):
        after = max(int(np.searchsorted(starts, starts[first] + _CHUNK)), first + 1)
        end = int(starts[after]) if after < len(starts) else rows
        yield slice(int(starts[first]), end), starts[first:after] - starts[first]
        first = after


def _judge(times: npt.NDArray[np.int64], values: Floats, starts: npt.NDArray[np.int64], tuning: Tuning) -> Judged:
    """The verdicts on series that lie behind each other, a new one at each of `starts`."""
    numbers = np.empty((len(_NUMBERS), len(values)))
    news = np.empty(len(values), np.bool_)
    kinds = np.empty(len(values), "U6")
    for start, end in pairwise([*starts.tolist(), len(values)]):
        detector = Detector(tuning)
        for row, (time, value) in enumerate(
            zip(times[start:end].tolist(), values[start:end].tolist(), strict=True), start
        ):
            verdict = detector.update(time, value)
            numbers[:, row] = verdict.value, verdict.expected, verdict.lower, verdict.upper, verdict.score
            news[row], kinds[row] = verdict.anomaly, verdict.kind
    return numbers, news, kinds
