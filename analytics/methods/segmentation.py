"""Where the mean of a series changes, in noise whose neighbours are alike.

The series is freed of the daily or weekly season, and cut where that lowers the squared error by more than a penalty:
PELT (Killick, Fearnhead and Eckley, JASA 107, 2012; `ruptures`, Truong, Oudre and Vayatis, Signal Processing 167,
2020). The penalty of a cut is `3 * V * log(n)`, the leading term of the modified BIC (Zhang and Siegmund, Biometrics
63, 2007), with the long-run variance V in the place of the variance (Lavielle and Moulines, J. Time Series Analysis 21,
2000). V comes from medians of differences over 1, 2, 3 and more places, which a few changes or spikes do not move (as
Chakar et al., Bernoulli 23, 2017, estimate an AR(1)).

What rises or falls steadily has no place where its mean changes, but is cut too: a cut stays only where two means fit
what lies on both its sides better than one straight line does, by part of the same penalty; those that fit worst go
first.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from contract.times import DAY_MS, WEEK_MS

SHORTEST: Final = 12
"""Places between two cuts."""
_PENALTY: Final = 3.0
ROUNDING: Final = 1e-6
"""Of the largest value: what varies by less is taken not to vary. Single precision rounds to some 1e-7."""
_STEP: Final = 1.0
"""How much better than a line two means must fit, in log(n) long-run variances."""
_CLIP: Final = 3.0
"""Standard deviations around the running median beyond which a value counts no further, so that spikes make no cuts."""
_LONGEST_LAG: Final = 48
_NORMAL: Final = 0.6745
"""The median of the absolute value of a standard normal variable."""
_MOST: Final = 0.7
_MOST_NORMAL: Final = 0.3097
"""The mean of the lowest 70 % of squares of a standard normal variable."""
_DAYS_FOR_A_DAY, _DAYS_FOR_A_WEEK = 4, 21
_WEEK_LEAVES: Final = 0.5
"""The share of the variance that the week may leave. Few weeks fit by chance; this is far more."""
_WHOLE_PERIOD: Final = 0.9

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Freed(NamedTuple):
    """Values without their season."""

    values: Floats
    lost: float
    """How much larger the variance is than what is left of it."""
    least: float
    """The standard deviation that rounding alone may make."""


def without_season(starts: Ints, values: Floats, exact: float, clock: Ints) -> Freed:
    """Without what the time of the day adds, and that of the week where it explains half of what is left.

    `starts` are epoch milliseconds, and `clock` is what a clock of the place showed then, as if it were UTC. Needs four
    days for the day and three weeks for the week. `exact` is the size of the numbers that the values were made of,
    where that is larger than they are.
    """
    least = ROUNDING * max(float(np.abs(values).max()), exact)
    span = int(starts[-1] - starts[0])
    lost = 1.0
    for period_ms, days, may_leave in ((DAY_MS, _DAYS_FOR_A_DAY, 1.0), (WEEK_MS, _DAYS_FOR_A_WEEK, _WEEK_LEAVES)):
        if span < days * DAY_MS:
            break
        freed, left = _without_period(starts, values, clock % period_ms, period_ms)
        if left <= may_leave:
            # The mean of k periods takes 1/k of the variance with it.
            values, lost = freed, lost / (1 - period_ms / span)
    return Freed(values, lost, least)


def cuts(freed: Freed, even: Sequence[int] = ()) -> list[int]:
    """The places from which the mean is another one, in order.

    Between the places `even` (in order) the spread of the values is the same; the widest counts, so that a stretch that
    scatters more is not cut for it.
    """
    from ruptures import KernelCPD

    values = freed.values
    parts = [values[start:end] for start, end in pairwise([0, *even, len(values)])]
    long = [part for part in parts if len(part) >= 4 * SHORTEST] or [values]
    variance, long_run = np.max([_variances(part) for part in long], axis=0) * freed.lost
    variance, long_run = max(variance, freed.least**2), max(long_run, freed.least**2)
    if long_run <= 0:
        return []
    middle = pd.Series(values).rolling(2 * SHORTEST + 1, center=True, min_periods=SHORTEST + 1).median().to_numpy()
    clipped = np.clip(values, middle - _CLIP * variance**0.5, middle + _CLIP * variance**0.5)
    standardised = (clipped - np.median(clipped)) / long_run**0.5
    search = KernelCPD(kernel="linear", min_size=SHORTEST).fit(standardised[:, np.newaxis])
    ends: list[int] = search.predict(pen=_PENALTY * np.log(len(values)))
    return _without_slopes(standardised, ends[:-1])


def _without_slopes(values: Floats, places: list[int]) -> list[int]:
    """The places at which values, in long-run standard deviations, step rather than go on rising or falling."""
    margin = _STEP * np.log(len(values))
    while places:
        edges = [0, *places, len(values)]
        better = [
            _around_line(values[start:end]) - _around_mean(values[start:middle]) - _around_mean(values[middle:end])
            for start, middle, end in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        worst = int(np.argmin(better))
        if better[worst] > margin:
            break
        places = places[:worst] + places[worst + 1 :]
    return places


def _around_mean(values: Floats) -> float:
    """The sum of squares around the mean."""
    return float(((values - values.mean()) ** 2).sum())


def _around_line(values: Floats) -> float:
    """The sum of squares around the straight line that fits best."""
    place = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(place @ values / (place @ place))
    return _around_mean(values - slope * place)


def standard_deviation(values: Floats) -> float:
    """Of a value about its level, whatever that does; 0 for a constant."""
    return float(_variances(values)[0] ** 0.5)


def _without_period(starts: Ints, values: Floats, phase: Ints, period_ms: int) -> tuple[Floats, float]:
    """Without what the time in the period, its `phase`, adds, and the share of the variance in periods that is left.

    The season is the median of what lies beside the running mean of a whole period, which a change moves for one
    period only. At the edges, where no whole period is around, that mean would have a season itself.
    """
    series = pd.Series(values, index=pd.to_datetime(starts, unit="ms"))
    whole = int(_WHOLE_PERIOD * period_ms / np.median(np.diff(starts)))
    window = pd.Timedelta(period_ms, "ms")
    rest = series - series.rolling(window, center=True, closed="left", min_periods=whole).mean()
    usual = rest.groupby(phase).transform("median").fillna(0.0)
    usual -= usual.mean()
    before = float(rest.var())
    return values - usual.to_numpy(), float((rest - usual).var()) / before if before > 0 else 1.0


def _variances(values: Floats) -> tuple[float, float]:
    """The variance of a value about its level, and the long-run variance (that of a mean of n values, times n).

    Half the squared median difference over a lag is the variance less the autocovariance at that lag; over long lags
    the autocovariance is gone. Summed until the autocorrelation is first 0.
    """
    lags = np.arange(1, max(6, min(_LONGEST_LAG, len(values) // 8)) + 1)
    squares = [np.sort((values[lag:] - values[:-lag]) ** 2) for lag in lags]
    halves = np.array([np.median(each) for each in squares]) / _NORMAL**2 / 2
    if 2 * len(np.unique(values)) < len(values):
        # The median of values that are rounded coarsely is one of a few numbers, often 0; the mean of most is not.
        halves = np.maximum(halves, [each[: int(_MOST * len(each))].mean() / _MOST_NORMAL / 2 for each in squares])
    variance = float(halves[len(lags) // 2 :].mean())
    if variance <= 0:
        return 0.0, 0.0
    correlations = 1 - halves / variance
    gone = np.flatnonzero(correlations <= 0)
    positive = correlations[: gone[0]] if len(gone) else correlations
    return variance, variance * float(1 + 2 * positive.sum())
