"""From a query to its values: which windows to merge, and what to take of them."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from analytics.values import approximation_of
from analytics.windows import Windows, merge, statistic, take
from contract.metrics import NamedMetric
from service.answers import Series
from service.queries import Query
from service.stores.base import Grouping, Question, Store

__all__ = ["fleet", "history"]

_FROM_HISTOGRAM = ("p50", "p95", "p99")
_FOREVER_MS = 1 << 60


def history(store: Store, metric: NamedMetric, user_id: str, query: Query) -> Series:
    """One user's values."""
    cores: int | Literal["whole", "each"] = "whole"
    if metric.over_cores:
        cores = "each"
    elif query.core is not None:
        cores = query.core
    answer = store.answer(_question(metric, query, user_id=user_id, cores=cores))
    values = statistic(answer.windows, query.statistic, metric.quantity.bins)
    time = answer.windows.time
    if metric.over_cores:
        time, values = _over_groups(time, values, metric.over_cores)
    return Series(time, values, approximation=approximation_of(answer.windows, query.statistic))


def fleet(store: Store, metric: NamedMetric, query: Query) -> Series:
    """The values of all users together, or of each group of them; with `top`, of the highest groups only."""
    answer = store.answer(_question(metric, query, by=query.by))
    windows = answer.windows
    if query.top is not None:
        windows = take(windows, np.isin(windows.series, _highest(windows, metric, query)))
    values = statistic(windows, query.statistic, metric.quantity.bins)
    group = None if query.by is None else [answer.groups[place] for place in windows.series.tolist()]
    return Series(windows.time, values, group, approximation_of(windows, query.statistic))


def _question(
    metric: NamedMetric,
    query: Query,
    user_id: str | None = None,
    cores: int | Literal["whole", "each"] = "whole",
    by: Grouping | None = None,
) -> Question:
    return Question(
        quantity=metric.quantity,
        start_ms=query.start_ms,
        end_ms=query.end_ms,
        rate_ms=query.rate_ms,
        user_id=user_id,
        cores=cores,
        by=by,
        histograms=query.statistic in _FROM_HISTOGRAM,
    )


def _over_groups(
    time: npt.NDArray[np.int64], values: npt.NDArray[np.float64], over: Literal["max", "min"]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The highest or lowest value of each bucket."""
    order = np.argsort(time, kind="stable")
    buckets, first = np.unique(time[order], return_index=True)
    if not len(buckets):
        return time, values
    reduce = np.maximum if over == "max" else np.minimum
    return buckets, reduce.reduceat(values[order], first)


def _highest(windows: Windows, metric: NamedMetric, query: Query) -> npt.NDArray[np.int64]:
    """The groups whose statistic over the whole range is highest."""
    whole = merge(windows, rate_ms=_FOREVER_MS)
    values = statistic(whole, query.statistic, metric.quantity.bins)
    return whole.series[np.argsort(-values, kind="stable")[: query.top]]
