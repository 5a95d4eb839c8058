"""How many cores hosts had when: told by the windows of their single cores, as finely as can be read."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from analytics.frames.weights import cores_at
from contract import times
from contract.metrics import IDLEST_CORE, Cpu
from contract.times import DAY_MS
from service.stores.base import Question, Store

_ROWS: Final = 500_000
"""Rows of single cores that are read at most."""
_RATES_MS: Final = (60_000, 300_000, 3_600_000, DAY_MS, 7 * DAY_MS)


def fitting_ms(least_ms: int) -> int:
    """A width of buckets of at least so long that rollups have."""
    return next((rate for rate in _RATES_MS if rate >= least_ms), least_ms)


def single_cores(store: Store, question: Question, rate_ms: int) -> pd.DataFrame:
    """The windows of the single cores of the hosts that a question is about, in buckets of `rate_ms`."""
    single = store.answer(
        replace(question, quantity=Cpu.quantities[0], cores="each", by="user", each_user=False, rate_ms=rate_ms,
                edges=None, histograms=False, cells=None)
    )  # fmt: skip
    return single[single["core"] < IDLEST_CORE]


def changed(single: pd.DataFrame) -> frozenset[str]:
    """The hosts of which some cores have more samples than others, or that have more cores at one time than another.

    Buckets of any width tell it, one for everything too.
    """
    if single.empty:
        return frozenset()
    users = single["user"].astype("str").to_numpy()
    samples = single["count"].groupby([users, single["core"].to_numpy()]).sum()
    of_user = samples.groupby(level=0)
    uneven = of_user.min() != of_user.max()
    return frozenset(uneven.index[uneven])


def with_cores(each: pd.DataFrame, store: Store, question: Question, *, split: bool) -> pd.DataFrame:
    """The windows of users with the column `cores`: how many each host had at the time, NaN where none were told.

    With `split` windows of hosts whose cores changed come in parts, as fine as can be read, each in the bucket that
    it belongs to: so each part has the cores of its time, however wide buckets are.
    """
    if each.empty:
        return each.assign(cores=np.nan)
    known = store.users().set_index("user_id")["cores"].clip(lower=1)
    wide_ms = fitting_ms(max(question.rate_ms, _least_ms(question, int(known.sum()))))
    single = single_cores(store, question, wide_ms)
    some = changed(single)
    theirs = each["user"].astype("str").isin(some).to_numpy()
    least_ms = _least_ms(question, int(known.reindex([*some]).fillna(1).sum()))
    fine_ms = _fine_ms(store, question, least_ms) if some else wide_ms
    if fine_ms >= wide_ms or (fine_ms < question.rate_ms and not split):
        return _told(each, single)
    their = replace(question, users=some)
    parts = each[theirs]
    if fine_ms < question.rate_ms:
        parts = store.answer(replace(their, rate_ms=fine_ms, edges=None, each_user=True))
    parts = _told(parts, single_cores(store, their, fine_ms))
    parts.index = _buckets_of(pd.DatetimeIndex(parts.index), question)
    return pd.concat([_told(each[~theirs], single), parts]).astype({"user": "category"})


def _told(windows: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    return windows.assign(cores=cores_at(windows, single).to_numpy())


def _buckets_of(moments: pd.DatetimeIndex, question: Question) -> pd.DatetimeIndex:
    """The starts of the buckets that moments are in."""
    ends = moments.as_unit("ms").asi8
    if question.edges is None:
        starts = ends // question.rate_ms * question.rate_ms
    else:
        # The first part may begin before the range does.
        starts = np.array(question.edges)[np.maximum(np.searchsorted(question.edges, ends, side="right") - 1, 0)]
    return pd.DatetimeIndex(pd.to_datetime(starts, unit="ms", utc=True), name=moments.name).as_unit(moments.unit)


def _fine_ms(store: Store, question: Question, least_ms: int) -> int:
    """The finest rollup of at least a width, or what divides it and the buckets; the buckets' width where none fits."""
    kept_ms = store.finest_ms(question.start_ms, times.now_ms())
    fitting = (math.gcd(tier_ms, question.step_ms) for tier_ms in store.tiers)
    return next((ms for ms in fitting if ms >= least_ms and ms % kept_ms == 0), question.rate_ms)


def _least_ms(question: Question, cores: int) -> int:
    """The width of buckets in which so many cores have as many rows as are read at most."""
    return -(-(question.end_ms - question.start_ms) * max(cores, 1) // _ROWS)
