"""What is said of several hosts, in which each counts by its samples, by the time it was seen, or by its cores."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.frames.checking import with_samples
from analytics.frames.kernel import Ints
from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.weights import (
    WEIGHTS,
    Weight,
    cores_or_now,
    host_factors,
    known_cores,
    multiplied,
    of_rows,
)
from contract.times import DAY_MS, HOUR_MS, now_ms
from service.http.problems import invalid
from service.stores import core_counts
from service.stores.base import Question, Store

_HOURS: Final = 24
_BUCKETS: Final = 200
"""In so many buckets at most, of an hour at least, it is looked how often a host samples."""


def a_weight(value: Any) -> Weight:
    """A weight by its name; raises ValueError for another."""
    for known in WEIGHTS:
        if known == value:
            return known
    raise ValueError(f"expected one of {', '.join(WEIGHTS)}, got {str(value)[:32]!r}")


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
        if each.empty:
            counted = each
        elif weight == "hosts":
            counted = multiplied(each, of_rows(_factors(store, question, each), each))
        else:
            rows, often = _by_cores(each, _factors(store, question, each), store, question)
            counted = multiplied(rows, often // max(1, int(np.gcd.reduce(often))))
    except ValueError as error:
        raise invalid("weight", str(error)) from None
    together: pd.DataFrame = resample(counted.drop(columns=["user", "cores"], errors="ignore"), RAW_MS)
    return together


def _factors(store: Store, question: Question, each: pd.DataFrame | None = None) -> "pd.Series[int]":
    """How often samples of each user count so that users count by the time that they were seen (`host_factors`).

    That is told by how often a host samples while it is seen, so it is looked at in buckets that are short beside
    the range, and as long as windows may be: in a day's bucket one that was seen for an hour looks as if it sampled 24
    times as seldom. `each` are the windows of the question, which tell it where its buckets are short enough.
    """
    range_ms = question.end_ms - question.start_ms
    hours = max(-(-range_ms // (_BUCKETS * HOUR_MS)), 1)
    # More than half a day at a time is as well a whole number of days, which rollups have.
    width_ms = hours * HOUR_MS if 2 * hours <= _HOURS else -(-hours // _HOURS) * DAY_MS
    width_ms = max(width_ms, store.finest_ms(question.start_ms, now_ms()))
    edges = question.edges
    widest_ms = question.rate_ms if edges is None else int(np.diff([*edges, max(question.end_ms, edges[-1])]).max())
    if width_ms >= widest_ms and each is not None:
        return host_factors(each)
    looked_at = replace(
        question, rate_ms=width_ms, edges=None, by="user", each_user=False, cores="whole", histograms=False, cells=None
    )
    return host_factors(store.answer(looked_at))


def _by_cores(
    each: pd.DataFrame, factors: "pd.Series[int]", store: Store, question: Question
) -> tuple[pd.DataFrame, Ints]:
    """The windows of users, and how often each counts: as `factors` say, times the cores that it had at the time.

    Raises FrameError where cores are not known.
    """
    known = with_samples(core_counts.with_cores(each, store, question, split=True))
    often = of_rows(factors, known) * known_cores(known, _cores_now(store))
    return known, often


class PieceWeights:
    """Weights of an answer that is made piece by piece: the same in each."""

    def __init__(self, store: Store, whole: Question, weight: Weight) -> None:
        """`whole` asks for the whole range by user."""
        self._store, self._weight = store, weight
        self._factors = _factors(store, whole)

    def together(self, question: Question) -> pd.DataFrame:
        """The windows of all together in a piece of the range. Raises ProblemError 422 where cores are not known."""
        each = self._store.answer(replace(question, by="user"))
        if each.empty:
            return each.drop(columns="user")
        # A user that came meanwhile counts as it samples.
        if self._weight == "hosts":
            counted = multiplied(each, of_rows(self._factors, each))
        else:
            try:
                counted = multiplied(*_by_cores(each, self._factors, self._store, question))
            except ValueError as error:
                raise invalid("weight", str(error)) from None
        together: pd.DataFrame = resample(counted.drop(columns=["user", "cores"], errors="ignore"), RAW_MS)
        return together


def with_cores(each: pd.DataFrame, store: Store, question: Question) -> pd.DataFrame:
    """The windows of users with the column `cores`: how many each had at the time, else has now; missing if unknown."""
    known = core_counts.with_cores(each, store, question, split=False)
    users = store.users().rename(columns={"user_id": "user"})
    return known.assign(cores=cores_or_now(known, users))


def _cores_now(store: Store) -> "pd.Series[Any]":
    return store.users().set_index("user_id")["cores"]
