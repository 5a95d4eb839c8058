"""Single values of windows: one statistic of each, or of the groups that are highest."""

from typing import Final

import numpy as np
import pandas as pd

from analytics.frames import bins_of, from_frame
from analytics.windows import Windows, merge, statistic
from contract.metrics import Statistic

__all__ = ["APPROXIMATION", "approximation_of", "highest", "values_of"]

APPROXIMATION: Final = (
    "{share:.3g} % of the observations came without minimum, maximum and histogram; each such window stands for two "
    "equal halves, at its mean plus and minus its standard deviation."
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
