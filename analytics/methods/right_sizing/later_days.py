"""What a later day will use, and how sure that is: bounds that may lie beyond the worst day that was seen.

A day's quantile of utilization, a share x, is looked at as asin(sqrt(x)), in which shares vary about alike at any
height (Bartlett, Biometrics 3, 1947). There each host is a level that drifts from day to day, and noise around it:
the local level model, followed by the Kalman filter, which takes days that are missing (Harvey, *Forecasting,
Structural Time Series Models and the Kalman Filter*, 1989, chapters 3 and 4). Two days that lie h days apart then
differ by 2 noise + h drift in the mean of squares, the linear variogram, to which both are fitted over all hosts
(Matheron, Economic Geology 58, 1963; weights as Cressie, Mathematical Geology 17, 1985).

How much more or less a host varies than the others is shrunk towards them (Smyth, Statistical Applications in
Genetics and Molecular Biology 3, 2004). The quantiles of the errors are those that were made on the days that were
seen, each foretold from the days before it (conformal prediction; Lei et al., J. American Statistical Association 113,
2018), together with those of a normal distribution: the errors of a day resemble each other in a fleet, so that days
count, and not hosts.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm

from analytics.methods.right_sizing.days import Floats, Ints

WITHIN_DAYS: Final = 14
"""A later day is any of the so many after the last one of the fleet."""
_NOISE: Final = 0.0025
_DRIFT: Final = 0.0008
"""As of every second host of the PlanetLab fleet (bench/right_size.py shows the others)."""
_PAIRS: Final = 5
"""The two figures count as much as so many pairs of days."""
_LONGEST_LAG: Final = 28
_FREEDOM: Final = 10.0
"""The spread of the fleet counts as much as so many days of a host."""
_NORMAL_DAYS: Final = 42
"""The normal distribution counts as much as so many days of errors."""
_NORMAL: Final = norm.ppf((np.arange(2001) + 0.5) / 2001)
_MIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Outlook:
    """The distribution of the quantile of a later day, of each of n hosts; NaN for those without a day."""

    level: Floats
    """In asin(sqrt(share)), as is the `spread`."""
    spread: Floats
    errors: Floats
    """In spreads, ascending."""
    reached: Floats
    """The chance that an error is at most that, in [0, 1]."""

    def at(self, chance: float) -> Floats:
        """The share that is not exceeded with this chance, in [0, 1]."""
        place = min(int(np.searchsorted(self.reached, chance)), len(self.errors) - 1)
        angle = np.clip(self.level + self.errors[place] * self.spread, 0.0, np.pi / 2)
        share: Floats = np.sin(angle) ** 2
        return share

    def chance(self, share: Floats) -> Floats:
        """The chance that each host does not exceed a share of its own."""
        error = (_angle(np.minimum(share, 1.0)) - self.level) / self.spread
        place = np.searchsorted(self.errors, error + 1e-9, side="right")
        chance: Floats = np.concatenate([[0.0], self.reached])[place]
        return np.where(share >= 1.0, 1.0, chance)


def outlook(user: Ints, day: Ints, share: Floats, users: int) -> Outlook:
    """What a day within the next WITHIN_DAYS may bring: each row is the share in [0, 1] of a `user` on a `day`."""
    days, column = np.unique(day, return_inverse=True)
    seen = np.full((len(days), users), np.nan)
    seen[column, user] = _angle(share)
    noise, drift = _fitted(seen, days)
    level, variance = np.full(users, np.nan), np.full(users, np.nan)
    last, squares, number = np.zeros(users), np.zeros(users), np.zeros(users)
    errors = []
    for now, found in zip(days, seen, strict=True):
        known, first = ~np.isnan(found), number == 0
        ahead = variance + drift * (now - last)
        error = found - level
        again = known & ~first
        errors.append((error / np.sqrt((ahead + noise) * _own(squares, number)))[again])
        squares = np.where(again, squares + error**2 / (ahead + noise), squares)
        gain = ahead / (ahead + noise)
        level = np.where(again, level + gain * error, np.where(known & first, found, level))
        variance = np.where(again, ahead * (1 - gain), np.where(known & first, noise, variance))
        last, number = np.where(known, now, last), number + known
    gap = (days[-1] if len(days) else 0) - last + (1 + WITHIN_DAYS) / 2
    spread = np.sqrt((variance + drift * gap + noise) * _own(squares, number))
    return Outlook(level, spread, *_distribution(errors))


def _angle(share: Floats) -> Floats:
    angle: Floats = np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0)))
    return angle


def _own(squares: Floats, number: Floats) -> Floats:
    """How much larger the variance of each host is than that of the fleet."""
    own: Floats = (_FREEDOM + squares) / (_FREEDOM + np.maximum(number - 1, 0))
    return own


def _fitted(seen: Floats, days: Ints) -> tuple[float, float]:
    """Noise, and drift a day: `seen` has the shape (days, users)."""
    sums: dict[int, tuple[float, int]] = {
        lag: (_PAIRS * (2 * _NOISE + lag * _DRIFT), _PAIRS) for lag in (1, WITHIN_DAYS)
    }
    for place, day in enumerate(days):
        for earlier in range(int(np.searchsorted(days, day - _LONGEST_LAG)), place):
            rise = seen[place] - seen[earlier]
            rise = rise[~np.isnan(rise)]
            total, pairs = sums.get(lag := int(day - days[earlier]), (0.0, 0))
            sums[lag] = total + float(rise @ rise), pairs + len(rise)
    lags = np.array([lag for lag, (_, pairs) in sums.items() if pairs], float)
    squares, pairs = np.array([each for each in sums.values() if each[1]]).T
    weight = np.sqrt(pairs) / (2 * _NOISE + lags * _DRIFT)
    (noise, drift), _ = nnls(
        np.column_stack([np.full(len(lags), 2.0), lags]) * weight[:, None], squares / pairs * weight
    )
    return max(float(noise), _MIN), float(drift)


def _distribution(errors: list[Floats]) -> tuple[Floats, Floats]:
    """Errors ascending, and the chance of being at most as large."""
    steps = [step for step in errors if len(step)]
    made = np.concatenate(steps) if steps else np.empty(0)
    values = np.concatenate([made, _NORMAL])
    each = np.full(len(made), len(steps) / max(len(made), 1))
    weight = np.concatenate([each, np.full(len(_NORMAL), _NORMAL_DAYS / len(_NORMAL))])
    order = np.argsort(values)
    # Sums of many shares end a little off 1.
    return values[order], np.minimum(np.cumsum(weight[order]) / weight.sum(), 1.0)
