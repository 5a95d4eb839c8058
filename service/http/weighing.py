"""What is said of several machines, in which each counts by its samples, by the time it was seen, or by its cores."""

from dataclasses import replace
from typing import Any, Final

import pandas as pd

from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.weights import (
    WEIGHTS,
    Weight,
    cores_at,
    cores_or_now,
    host_factors,
    known_cores,
    multiplied,
    of_rows,
    weigh,
)
from contract.metrics import Cpu
from contract.times import DAY_MS
from service.http.problems import invalid
from service.stores.base import Question, Store

_CORE_ROWS: Final = 500_000
"""Rows of single cores that are read at most to see how many a machine had when."""
_RATES_MS: Final = (60_000, 300_000, 3_600_000, DAY_MS, 7 * DAY_MS)
_BUCKETS: Final = 200
"""In so many buckets at most it is looked how often a machine samples."""


def a_weight(value: Any) -> Weight:
    """A weight by its name; raises ValueError for another."""
    for known in WEIGHTS:
        if known == value:
            return known
    raise ValueError(f"{value!r} is not a weight; one of {', '.join(WEIGHTS)} is right")


def weighed(store: Store, question: Question, weight: Weight) -> pd.DataFrame:
    """The windows of groups, or of all together, in which users count as `weight` says.

    Raises ProblemError 422 where that cannot be told.
    """
    if weight == "samples" or question.by == "user":
        return store.answer(question)
    each = store.answer(replace(question, by=question.by or "user", each_user=True))
    return _together(each, weight, store, question)


def _together(each: pd.DataFrame, weight: Weight, store: Store, question: Question) -> pd.DataFrame:
    try:
        known = _with_cores(each, weight, store, question)
        counted = weigh(known, weight, cores=_cores_now(store) if weight == "cores" else None)
    except ValueError as error:
        raise invalid("weight", str(error)) from None
    together: pd.DataFrame = resample(counted.drop(columns=["user", "cores"], errors="ignore"), RAW_MS)
    return together


class PieceWeights:
    """Weights of an answer that is made piece by piece: the same in each."""

    def __init__(self, store: Store, whole: Question, weight: Weight) -> None:
        """`whole` asks for the whole range by user."""
        self._store, self._weight = store, weight
        width_ms = max(whole.rate_ms, -(-(whole.end_ms - whole.start_ms) // _BUCKETS), 1)
        coarse = replace(whole, rate_ms=_fitting(width_ms), histograms=False)
        self._factors = host_factors(store.answer(coarse))

    def together(self, question: Question) -> pd.DataFrame:
        """The windows of all together in a piece of the range. Raises ProblemError 422 where cores are not known."""
        each = self._store.answer(replace(question, by="user"))
        if each.empty:
            return each.drop(columns="user")
        # A user that came meanwhile counts as it samples.
        factors = of_rows(self._factors, each)
        if self._weight == "cores":
            try:
                known = _with_cores(each, self._weight, self._store, question)
                factors = factors * known_cores(known, _cores_now(self._store))
            except ValueError as error:
                raise invalid("weight", str(error)) from None
        together: pd.DataFrame = resample(multiplied(each, factors).drop(columns="user"), RAW_MS)
        return together


def with_cores(each: pd.DataFrame, store: Store, question: Question) -> pd.DataFrame:
    """The windows of users with the column `cores`: how many each had at the time, else has now; missing if unknown."""
    known = _with_cores(each, "cores", store, question)
    users = store.users().rename(columns={"user_id": "user"})
    return known.assign(cores=cores_or_now(known, users))


def _cores_now(store: Store) -> "pd.Series[Any]":
    return store.users().set_index("user_id")["cores"]


def _with_cores(each: pd.DataFrame, weight: Weight, store: Store, question: Question) -> pd.DataFrame:
    """The windows, with how many cores each machine had at the time where single cores tell it."""
    if weight != "cores" or each.empty:
        return each
    cores = int(store.users()["cores"].clip(lower=1).sum())
    range_ms = question.end_ms - question.start_ms
    rate_ms = _fitting(max(question.rate_ms, -(-range_ms * cores // _CORE_ROWS)))
    if rate_ms >= range_ms > question.rate_ms:
        # So many that only one bucket could be read, which would not tell when they changed.
        return each
    single = store.answer(
        replace(question, quantity=Cpu.quantities[0], cores="each", by="user", each_user=False, rate_ms=rate_ms,
                edges=None, histograms=False)
    )  # fmt: skip
    return each.assign(cores=cores_at(each, single).to_numpy())


def _fitting(least_ms: int) -> int:
    """A width of buckets of at least so long that rollups have."""
    return next((rate for rate in _RATES_MS if rate >= least_ms), least_ms)
