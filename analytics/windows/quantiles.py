"""What is answered of windows: any statistic of the catalogue, quantiles from histograms among them."""

from functools import cache

import numpy as np

from analytics.windows.columns import Floats, Histograms, Windows
from analytics.windows.merging import merge_histograms
from contract.histogram import Bins
from contract.metrics import Statistic

__all__ = ["quantiles", "statistic"]

_SHARES: dict[Statistic, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def statistic(windows: Windows, name: Statistic, bins: Bins) -> Floats:
    """One statistic of each window, NaN for a window of no samples (its count is 0).

    Means, extremes, standard deviations and quantiles are in the unit of the samples, `var` in its square.
    Raises ValueError for an unknown name, or a quantile of windows without histograms.
    """
    match name:
        case "count":
            return windows.count.astype(np.float64)
        case "mean":
            values = windows.mean
        case "var":
            values = windows.variance
        case "std":
            values = np.sqrt(windows.variance)
        case "min":
            values = windows.minimum
        case "max":
            values = windows.maximum
        case _:
            if name not in _SHARES:
                raise ValueError(f"there is no statistic {name!r}")
            return quantiles(windows, _SHARES[name], bins)
    return np.where(windows.count > 0, values, np.nan)


def quantiles(windows: Windows, q: float, bins: Bins) -> Floats:
    """The `q`-quantile (0 to 1) of each window, NaN where its histogram is empty.

    As `contract.histogram.quantile` defines it (definition 1 of Hyndman and Fan 1996): the value of the
    lowest bin up to which at least a share `q` of the samples lies, never outside the extremes.
    Raises ValueError for windows without histograms or a `q` outside [0, 1].
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"a quantile is asked for as a share from 0 to 1, not {q}")
    if windows.histograms is None:
        raise ValueError("windows without histograms have no quantiles")
    values = np.full(len(windows), np.nan)
    histograms = _in_order(windows.histograms, len(windows))
    if not len(histograms):
        return values
    first = np.flatnonzero(np.diff(histograms.row, prepend=-1))
    rows = histograms.row[first]
    reached = np.cumsum(histograms.count)
    # Counted over all rows, so that one search in one ascending column answers for every row.
    before = reached[first] - histograms.count[first]
    total = np.diff(before, append=reached[-1])
    rank = np.maximum(np.ceil(q * total), 1).astype(np.int64)
    found = histograms.bin[np.searchsorted(reached, before + rank, side="left")]
    value = _values(bins)  # type: ignore[arg-type]  # bins do hash; a protocol cannot say so
    values[rows] = np.clip(value[found - bins.first], windows.minimum[rows], windows.maximum[rows])
    return values


def _in_order(histograms: Histograms, rows: int) -> Histograms:
    """The histograms sorted by row and bin, as `merge` leaves them."""
    row, bin_ = histograms.row, histograms.bin
    if np.all((row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & (bin_[1:] >= bin_[:-1]))):
        return histograms
    return merge_histograms(histograms, np.arange(rows), rows)


@cache
def _values(bins: Bins) -> Floats:
    """The value of each bin, from the first to the last."""
    return np.array([bins.value(index) for index in range(bins.first, bins.last + 1)])
