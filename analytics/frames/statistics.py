"""What is answered of windows: any statistic of the catalogue, of each or of the highest groups."""

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.arguments import number
from analytics.frames.checking import numbers_of, with_samples
from analytics.frames.columns import NUMBERS, Windows
from analytics.frames.frame import FrameError, bins_of, frame_of_columns, moments_of, unpacked, with_histograms
from analytics.frames.kernel import Floats, Histograms, merge_histograms
from analytics.frames.labels import GROUPS, LABELS
from analytics.frames.resampling import over_all_time
from contract.histogram import Bins
from contract.metrics import IDLEST_CORE, Statistic

SHARES: Final[dict[str, float]] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
"""The statistics that are taken of histograms, and the share that each stands for."""


_MADE_OF: Final[dict[Statistic, tuple[str, ...]]] = {
    "count": ("count",),
    "mean": ("count", "mean"),
    "var": ("count", "mean", "var"),
    "std": ("count", "mean", "var"),
    "min": ("count", "min", "approximated"),
    "max": ("count", "max", "approximated"),
}


def columns_of(name: Statistic | None) -> tuple[str, ...]:
    """The columns of numbers that windows need for a statistic to be taken of them, merged or not; all for None."""
    return tuple(NUMBERS) if name is None else _MADE_OF.get(name, tuple(NUMBERS))


def statistic(frame: pd.DataFrame, name: Statistic) -> Floats:
    """One statistic of each row of a frame of windows, all of which have samples (`analytics.resample` gives such).

    Means, extremes, standard deviations and quantiles are in the unit of the samples, `var` in its square.
    Raises ValueError for an unknown name, FrameError for a quantile of what is no frame of windows. A quantile of a
    row without histogram is that of its stand-in.
    """
    if name in SHARES:
        histograms, _ = unpacked(frame)
        return _quantiles(histograms, frame["min"].to_numpy(), frame["max"].to_numpy(), SHARES[name], bins_of(frame))
    if name == "std":
        variance: Floats = frame["var"].to_numpy(np.float64)
        return np.sqrt(variance)
    if name not in ("count", "mean", "var", "min", "max"):
        raise ValueError(f"there is no statistic {name!r}")
    return frame[name].to_numpy(np.float64)


def quantiles(windows: Windows, q: float, bins: Bins) -> Floats:
    """The `q`-quantile (0 to 1) of each window, NaN where its histogram is empty.

    As `contract.histogram.quantile` defines it (definition 1 of Hyndman and Fan 1996): the value of the
    lowest bin up to which at least a share `q` of the samples lies, never outside the extremes.
    Raises ValueError for windows without histograms or a `q` outside [0, 1].
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"expected a share from 0 to 1, got {q}")
    if windows.histograms is None:
        raise ValueError("windows without histograms have no quantiles")
    return _quantiles(windows.histograms, windows.minimum, windows.maximum, q, bins)


def _quantiles(histograms: Histograms, minimum: Floats, maximum: Floats, q: float, bins: Bins) -> Floats:
    values = np.full(len(minimum), np.nan)
    histograms = _in_order(histograms, len(minimum))
    if not len(histograms):
        return values
    first = np.flatnonzero(np.diff(histograms.row, prepend=-1))
    rows = histograms.row[first]
    reached = np.cumsum(histograms.count)
    # Counted over all rows, so that one search in one ascending column answers for every row.
    before = reached[first] - histograms.count[first]
    total = np.diff(before, append=reached[-1])
    rank = np.maximum(np.ceil(q * total), 1).astype(np.int64)
    if histograms.bin.min() < bins.first or histograms.bin.max() > bins.last:
        raise FrameError(
            f"histogram: expected bins from {bins.first} to {bins.last}, as the metric has them, got "
            f"{histograms.bin.min()} to {histograms.bin.max()}"
        )
    found = histograms.bin[np.searchsorted(reached, before + rank, side="left")]
    value = _values(bins)  # type: ignore[arg-type]  # bins do hash; a protocol cannot say so
    values[rows] = np.clip(value[found - bins.first], minimum[rows], maximum[rows])
    return values


def quantiles_of_counts(
    counts: npt.NDArray[np.integer], minimum: Floats, maximum: Floats, q: float, bins: Bins
) -> Floats:
    """The same of histograms as a table: a row for each window, a column for each bin from the first to the last."""
    reached = np.cumsum(counts, axis=1, dtype=np.int64)
    total = reached[:, -1]
    rank = np.maximum(np.ceil(q * total), 1)
    found = np.argmax(reached >= rank[:, None], axis=1)
    value = _values(bins)  # type: ignore[arg-type]  # as above
    return np.where(total > 0, np.clip(value[found], minimum, maximum), np.nan)


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
CORES_APPROXIMATION: Final = (
    "Points of the original system name no cores: the mean of what they say of the busiest and the idlest core, "
    "whichever they were, stands for these."
)
_FROM_STANDINS: Final = (*SHARES, "min", "max")


def values_of(frame: pd.DataFrame, stat: Statistic) -> pd.DataFrame:
    """The column `value` with a statistic of each window of a frame, and `group` with whose it is where it says so.

    Rows without samples are left out. `attrs["approximation"]` is there where values are approximate. The frame needs
    `columns_of` the statistic. Raises FrameError for what is no frame of windows, ValueError for an unknown statistic.
    """
    frame = with_samples(frame, columns_of(stat))
    if stat in SHARES:
        frame = with_histograms(frame)
    columns: dict[str, Any] = {"value": statistic(frame, stat)}
    group = group_of(frame)
    if group is not None:
        columns["group"] = frame[group].astype("str").array
    values = frame_of_columns(columns, moments_of(frame).asi8)
    values.attrs = dict(frame.attrs) | {"stat": stat}
    approximation = approximation_of(frame, stat)
    if approximation:
        values.attrs["approximation"] = approximation
    return values


def quantile(frame: pd.DataFrame, q: float) -> pd.DataFrame:
    """The `q`-quantile, a share in [0, 1], of the samples of each window of a frame: 0.999 for the worst one in 1,000.

    As `stat="p95"` of a source gives it for 0.95: a row for each window that has samples, index `time` (UTC), the
    columns `user` and `core` where the frame has them, and `value` in the unit of the metric, within half a bin of a
    histogram (1/128 for shares, 1 % for others) and never outside the window's extremes. For one of many windows take
    it of `resample(frame, rate)`: quantiles do not average. Raises FrameError for what is no frame of windows, and for
    another `q`.
    """
    q = number(q, "q", "a share in [0, 1] such as 0.95", lambda share: 0 <= share <= 1)
    frame = with_samples(frame)
    numbers_of(frame)
    frame = with_histograms(frame)
    bins = bins_of(frame)
    histograms, _ = unpacked(frame)
    minimum, maximum = frame["min"].to_numpy(np.float64), frame["max"].to_numpy(np.float64)
    columns = {name: frame[name] for name in LABELS if name in frame and name != "metric"}
    values = pd.DataFrame(columns, index=frame.index)
    values["value"] = _quantiles(histograms, minimum, maximum, q, bins)
    values.attrs = dict(frame.attrs) | {"stat": f"p{100 * q:g}"}
    return values


def highest(frame: pd.DataFrame, top: int, stat: Statistic) -> pd.DataFrame:
    """The rows of a frame of windows of the `top` users, or groups, whose statistic over the whole range is highest, in
    the order of these.
    """
    group = group_of(frame)
    if group is None:
        return frame
    whole = over_all_time(with_histograms(with_samples(frame)) if stat in SHARES else frame)
    order = np.argsort(-statistic(whole, stat), kind="stable")
    rank = pd.Index(whole[group].iloc[order[:top]].astype("str")).get_indexer(pd.Index(frame[group].astype("str")))
    kept = np.flatnonzero(rank >= 0)
    return frame.iloc[kept[np.argsort(rank[kept], kind="stable")]]


def group_of(frame: pd.DataFrame) -> str | None:
    """The column that says whose windows a frame has; None where it has none."""
    return next((name for name in GROUPS if name in frame), None)


def _is_of_the_original(core: "pd.Series[Any]") -> bool:
    numbers = core.to_numpy(np.int64, na_value=-1) if core.dtype == pd.Int64Dtype() else core
    return bool((numbers >= IDLEST_CORE).any())


def approximation_of(frame: pd.DataFrame, stat: Statistic) -> str | None:
    """How a statistic of windows is approximate, None where it is not."""
    if "core" in frame and _is_of_the_original(frame["core"]):
        return CORES_APPROXIMATION
    approximated = int(frame["approximated"].sum()) if stat in _FROM_STANDINS else 0
    if not approximated:
        return None
    return APPROXIMATION.format(share=100 * approximated / int(frame["count"].sum()))
