"""The mean of each column of the fleet's picture, in which hosts weigh by the cores that they had then."""

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.resampling import EVERYTHING_MS
from contract.metrics import Cpu
from contract.times import DAY_MS
from service.dashboard.matrix import FleetCache, Floats, MatrixKey
from service.stores import core_counts
from service.stores.base import Question

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_CPU: Final = Cpu.quantities[0]
_FRESH_S: Final = 5.0
_CORES_FRESH_S: Final = 600.0
"""Cores change rarely, and each is looked at."""


def mean_of_columns(
    cache: FleetCache, key: MatrixKey, start_ms: int, cells: Floats, hosts: tuple[Places, Places]
) -> Doubles:
    """The mean of each column of cells, which begin at `start_ms` and are what `key` says.

    Of CPU utilization hosts weigh as many as they had cores then, else have, one where neither is known. `hosts`
    are the rows of `cache` that cells are of, and how many cores each has now. Raises StoreUnavailable.
    """
    finite, (rows, now) = np.isfinite(cells), hosts
    if key.quantity != _CPU:
        return _mean(np.where(finite, cells, 0), np.ones(len(cells)), finite)
    end_ms = start_ms + cells.shape[1] * key.rate_ms
    days_ms = (start_ms // DAY_MS * DAY_MS, -(-end_ms // DAY_MS) * DAY_MS)
    had = cache.kept("cores", days_ms, lambda: _cores_had(cache, days_ms), _CORES_FRESH_S)
    known = had.number.reindex(rows).to_numpy(np.float64)
    weight = np.maximum(np.where(np.isnan(known), now, known), 1)
    places = np.flatnonzero(np.isin(rows, had.changed_rows))
    if not len(places):
        return _mean(np.where(finite, cells, 0), weight, finite)
    parts = cache.kept(
        f"cores every {key.rate_ms}",
        (start_ms, end_ms),
        lambda: _cores_parts(cache, had.changed, (start_ms, end_ms), key.rate_ms),
        _FRESH_S,
    )
    values, each = np.where(finite, cells, 0).astype(np.float64), np.repeat(weight[:, None], cells.shape[1], axis=1)
    for place in places:
        part = parts[parts["row"] == rows[place]]
        column = part["column"].to_numpy()
        each[place, column] = part["cores"]
        if key.statistic == "mean":
            values[place, column] = part["mean"]
    return _mean(np.where(finite, values, 0), each, finite)


def _mean(values: Floats | Doubles, weights: Doubles, finite: npt.NDArray[np.bool_]) -> Doubles:
    """The mean of each column; weights are of rows, or of cells."""
    which = "i,ij->j" if weights.ndim == 1 else "ij,ij->j"
    total = np.einsum(which, weights, finite)
    with np.errstate(invalid="ignore"):
        means: Doubles = np.einsum(which, weights, values) / np.where(total > 0, total, np.nan)
    return means


class _Had(NamedTuple):
    """How many cores hosts had over a range."""

    number: "pd.Series[int]"
    """By row; where it changed, the most."""
    changed: frozenset[str]
    changed_rows: Places


def _cores_had(cache: FleetCache, range_ms: tuple[int, int]) -> _Had:
    single = core_counts.single_cores(cache.store, _question(range_ms), EVERYTHING_MS)
    number = single["core"].groupby(single["user"].astype("str").to_numpy()).nunique()
    changed = core_counts.changed(single)
    number.index = pd.Index(cache.rows.of(number.index.tolist()))
    return _Had(number, changed, cache.rows.of([*changed]))


def _cores_parts(cache: FleetCache, users: frozenset[str], range_ms: tuple[int, int], rate_ms: int) -> pd.DataFrame:
    """Of hosts whose cores changed: `row`, `column`, the mean number of `cores` in it, `mean` of their samples."""
    asked = replace(_question(range_ms), users=users)
    single = core_counts.single_cores(cache.store, asked, rate_ms)
    moments = pd.DatetimeIndex(single.index).as_unit("ms").asi8
    samples = single["count"].to_numpy(np.float64)
    cells = pd.DataFrame(
        {
            "row": cache.rows.of(single["user"].astype("str").tolist()), "column": (moments - range_ms[0]) // rate_ms,
            "count": samples, "used": single["mean"].to_numpy(np.float64) * samples,
        }
    ).groupby(["row", "column"], as_index=False)  # fmt: skip
    found = cells.agg(count=("count", "sum"), most=("count", "max"), used=("used", "sum"))
    # A core that was there all the time has as many samples as the host.
    return found.assign(cores=found["count"] / found["most"], mean=found["used"] / found["count"])


def _question(range_ms: tuple[int, int]) -> Question:
    start_ms, end_ms = range_ms
    return Question(quantity=_CPU, start_ms=max(0, start_ms), end_ms=max(0, end_ms), rate_ms=EVERYTHING_MS, by="user")
