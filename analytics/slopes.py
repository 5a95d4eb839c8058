"""The slope of a series, robust against outliers and honest about autocorrelation."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from contract.times import WEEK_MS

__all__ = ["Slope", "slope"]

_MOST = 1000
"""Values whose pairs are compared; more are averaged in stretches first."""
_FEWEST = 5


@dataclass(frozen=True, slots=True)
class Slope:
    """How fast something rises, in its unit a week."""

    per_week: float
    """The median of the slopes of all pairs of values; NaN for fewer than five values."""
    lower: float
    upper: float
    """The bounds of a confidence interval."""
    p_value: float
    """How likely at least so strong a trend is where there is none; 1 for too few values."""
    confidence: float

    def __str__(self) -> str:
        if np.isnan(self.per_week):
            return "too few values to tell a trend"
        if self.p_value > 1 - self.confidence:
            return f"no trend that could be told from chance (p = {self.p_value:.2g})"
        direction = "rising" if self.per_week > 0 else "falling"
        return (
            f"{direction} by {abs(self.per_week):.3g} a week ({self.confidence:.0%} interval {self.lower:.3g} to "
            f"{self.upper:.3g}, p = {self.p_value:.2g})"
        )


def slope(values: "pd.Series[float]", *, confidence: float = 0.95) -> Slope:
    """The trend of a series with a DatetimeIndex, in its unit a week.

    The slope is that of Theil and Sen (Sen 1968, JASA 63): the median over all pairs, which up to 29 % of outliers
    cannot spoil. Whether it is there at all says the test of Mann and Kendall with the variance corrected for
    autocorrelation (Hamed and Rao 1998, J. Hydrology 204), from the ranks of what the slope leaves. Their estimate of
    each lag's correlation calls one in four stretches of noise with a correlation of 0.6 a trend; with that of
    the first lag, corrected for its bias, and its powers for the others, it is one in ten for 15 values, and one in
    twenty for many. The correction only ever widens. The interval uses the same variance. A daily or weekly season
    should be averaged out before: take daily or weekly values.
    """
    values = values.dropna().sort_index()
    time = (values.index.to_numpy("datetime64[ms]").astype(np.int64) / WEEK_MS).astype(np.float64)
    y = values.to_numpy(np.float64)
    if len(y) > _MOST:
        time, y = (np.array([part.mean() for part in np.array_split(one, _MOST)]) for one in (time, y))
    n = len(y)
    if n < _FEWEST:
        return Slope(np.nan, np.nan, np.nan, 1.0, confidence)
    first, second = np.triu_indices(n, 1)
    apart = time[second] - time[first]
    rise = y[second] - y[first]
    slopes = np.sort(rise[apart > 0] / apart[apart > 0])
    middle = float(np.median(slopes))
    deviation = np.sqrt(_variance(y) * _correction(y - middle * time))
    score = float(np.sign(rise).sum())
    normal = NormalDist()
    z = (score - np.sign(score)) / deviation if deviation > 0 else 0.0
    reach = normal.inv_cdf((1 + confidence) / 2) * deviation
    low = int(np.clip(np.floor((len(slopes) - reach) / 2), 0, len(slopes) - 1))
    high = int(np.clip(np.ceil((len(slopes) + reach) / 2), 0, len(slopes) - 1))
    return Slope(middle, float(slopes[low]), float(slopes[high]), 2 * (1 - normal.cdf(abs(z))), confidence)


def _variance(y: npt.NDArray[np.floating[Any]]) -> float:
    """Of Kendall's score for independent values, ties considered."""
    n = len(y)
    _, ties = np.unique(y, return_counts=True)
    return float((n * (n - 1) * (2 * n + 5) - np.sum(ties * (ties - 1) * (2 * ties + 5))) / 18)


def _correction(rest: npt.NDArray[np.floating[Any]]) -> float:
    """By how much autocorrelation widens the variance: n / n* of Hamed and Rao, at least 1."""
    n = len(rest)
    rank = pd.Series(rest).rank().to_numpy()
    rank = rank - rank.mean()
    total = float(rank @ rank)
    if total == 0:
        return 1.0
    found = float(rank[:-1] @ rank[1:]) / total
    # Fitting a level and a slope takes correlation away; this gives it back (Kendall 1954, for two parameters).
    first = float(np.clip(found + (2 + 4 * found) / n, 0.0, 0.95))
    lags = np.arange(1, n - 2)
    weight = (n - lags) * (n - lags - 1) * (n - lags - 2)
    return max(1.0, 1 + 2 / (n * (n - 1) * (n - 2)) * float(weight @ first**lags))
