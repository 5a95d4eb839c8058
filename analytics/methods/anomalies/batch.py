"""The detector over a DataFrame, each user by itself, on all cores."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import AnyFrame, is_dask
from analytics.frames.arguments import instance
from analytics.frames.kernel import Floats, Ints
from analytics.methods.anomalies.detector import Detector
from analytics.methods.anomalies.quantities import Kind
from analytics.methods.anomalies.tuning import Tuning
from analytics.methods.series import TimeSeries, by_user_on_dask, check_column, on_all_cores, series_of

_NUMBERS: Final = ("value", "expected", "lower", "upper", "score")
_KINDS: Final[tuple[Kind, ...]] = ("", "value", "level", "spread", "season")
_PLACES: Final = {kind: place for place, kind in enumerate(_KINDS)}


class _Verdicts(NamedTuple):
    """The verdicts on points that lie behind each other."""

    time: Ints
    numbers: Floats
    anomaly: npt.NDArray[np.bool_]
    kind: npt.NDArray[np.int8]
    """The place in `_KINDS`."""


def anomalies(frame: AnyFrame, *, column: str = "mean", tuning: Tuning | None = None) -> AnyFrame:
    """Each row's verdict, from its past alone: the same that a `Detector` gives point by point.

    `frame` has an index of times with a time zone, in any order, a numeric `column`, and a column `user` where it is of
    many; rows of one user are one series, that of the whole host where cores are told apart. The defaults of
    `tuning` are meant for points some five minutes apart; `Tuning.for_step` has those for others. Returns one row for
    each row, sorted by user and time, with the index `time` and the columns

    ==========  ======================================================================================
    `user`      where `frame` has it
    `value`     what was judged, in the unit of `column`
    `expected`  the median of the points just before; NaN where there are none
    `lower`     between it and `upper` a value is no anomaly by itself; outside it is one, unless such values
    `upper`     have come before. Both are NaN while the detector learns
    `score`     how unusual, in [0, 1]; 0 where a stronger one was said a little before
    `anomaly`   whether an event begins here: the score is at least `tuning.threshold`, and it is news
    `kind`      what made the score: value, level, spread or season
    ==========  ======================================================================================

    Missing values are given back with the score 0. Of a Dask DataFrame the result is one too, computed later, sorted
    within its partitions. Raises FrameError for an index or column that is not there or not right. Method and sources:
    `analytics.methods.anomalies.detector` and `docs/anomalies.md`.
    """
    tuning = Tuning() if tuning is None else instance(tuning, "tuning", Tuning, "a Tuning or None")
    check_column(frame, column)
    if is_dask(frame):
        return by_user_on_dask(frame, partial(_judged, column=column, tuning=tuning, alone=True))
    return _judged(frame, column=column, tuning=tuning, alone=False)


def _judged(frame: pd.DataFrame, *, column: str, tuning: Tuning, alone: bool) -> pd.DataFrame:
    users, series = series_of(frame, column)
    work = partial(_judge, tuning=tuning)
    parts = [work(series)] if alone else on_all_cores(work, series, "looking for anomalies")
    times, numbers, anomaly, kind = zip(*parts, strict=True)
    index = pd.DatetimeIndex(np.concatenate(times).astype("datetime64[ms]"), name="time").tz_localize("UTC")
    verdicts = pd.DataFrame(dict(zip(_NUMBERS, np.concatenate(numbers, axis=1), strict=True)), index=index)
    verdicts["anomaly"] = np.concatenate(anomaly)
    verdicts["kind"] = pd.Categorical.from_codes(np.concatenate(kind), pd.Index(_KINDS))
    if users is not None:
        codes = np.repeat(np.arange(len(users)), [len(one.time) for one in series])
        verdicts.insert(0, "user", pd.Series(pd.Categorical.from_codes(codes, users), index))
    return verdicts


def _judge(series: Sequence[TimeSeries], tuning: Tuning) -> _Verdicts:
    times = np.concatenate([np.empty(0, np.int64), *(one.time for one in series)])
    numbers = np.empty((len(_NUMBERS), len(times)))
    anomaly = np.empty(len(times), np.bool_)
    kind = np.empty(len(times), np.int8)
    end = 0
    for one in series:
        start, end = end, end + len(one.time)
        update = Detector(tuning).update
        verdicts = [update(time, value) for time, value in zip(one.time.tolist(), one.value.tolist(), strict=True)]
        if verdicts:
            _, *columns, anomaly[start:end], kinds = zip(*verdicts, strict=True)
            numbers[:, start:end] = columns
            kind[start:end] = [_PLACES[one] for one in kinds]
    return _Verdicts(times, numbers, anomaly, kind)
