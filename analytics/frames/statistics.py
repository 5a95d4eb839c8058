"""What is answered of windows: any statistic of the catalogue, of each or of the highest groups."""

from functools import cache
from typing import Final

import numpy as np
import pandas as pd

from analytics.frames.columns import Floats, Histograms, Windows, merge, merge_histograms
from analytics.frames.frame import bins_of, from_frame
from contract.histogram import Bins
from contract.metrics import Statistic

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


APPROXIMATION: Final = (
    "{share:.3g} % of the observations came without minimum, maximum and histogram; each such window stands for "
    "samples with its mean and variance."
)
_FROM_HISTOGRAM: Final = ("p50", "p95", "p99")
_FROM_STANDINS: Final = (*_FROM_HISTOGRAM, "min", "max")
_FOREVER_MS: Final = 1 << 60


def values_of(frame: pd.DataFrame, stat: Statistic) -> pd.DataFrame:
    """The column `value` with a statistic of each window of a frame, and `group` with its user where it names one.

    Rows are in order of user, core and time. `attrs["approximation"]` is there where values are approximate.
    Raises FrameError for what is no frame of windows, ValueError for an unknown statistic.
    """
    windows, labels = from_frame(frame, histograms=stat in _FROM_HISTOGRAM)
    windows = merge(windows)
    index = pd.DatetimeIndex(windows.time.astype("datetime64[ms]"), name="time").tz_localize("UTC")
    values = pd.DataFrame({"value": statistic(windows, stat, bins_of(frame))}, index=index)
    if "user" in labels:
        values["group"] = labels["user"].astype("str").to_numpy()[windows.series]
    values.attrs = dict(frame.attrs) | {"stat": stat}
    approximation = approximation_of(windows, stat)
    if approximation:
        values.attrs["approximation"] = approximation
    return values


def highest(frame: pd.DataFrame, top: int, stat: Statistic) -> pd.DataFrame:
    """The rows of a frame of windows of the `top` users whose statistic over the whole range is highest."""
    windows, labels = from_frame(frame, histograms=stat in _FROM_HISTOGRAM)
    whole = merge(windows, rate_ms=_FOREVER_MS)
    values = statistic(whole, stat, bins_of(frame))
    chosen = whole.series[np.argsort(-values, kind="stable")[:top]]
    return frame[frame["user"].isin(labels["user"].iloc[chosen])]


def approximation_of(windows: Windows, stat: Statistic) -> str | None:
    """How a statistic of windows is approximate, None where it is not."""
    approximated = int(windows.approximated.sum())
    if stat not in _FROM_STANDINS or not approximated:
        return None
    return APPROXIMATION.format(share=100 * approximated / int(windows.count.sum()))
