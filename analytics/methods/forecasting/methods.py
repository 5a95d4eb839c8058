"""The ways to forecast that compete in the backtest, each for many series at once.

All are built from a few parts, the components of exponential smoothing in their additive form (Hyndman and
Athanasopoulos, *Forecasting: Principles and Practice*, 3rd edition, chapters 5 and 8):

- a *profile* of the day, or of the week where there are two weeks: for each time of day the mean of past days, whose
  weights fall by a factor a day; the last day alone (seasonal naive) and the mean of all are the ends of that scale.
  A smoothed profile is a dynamic harmonic regression that leaves the fast harmonics out.
- a *level*: how far the last hours, or the last day, lay from that profile.
- how long the level lasts: it fades with a half-life (damped), or is held (local level).
- a *decomposition* into season, level and rest, where the season is that of what lies beside the running mean, so that
  a level that changed does not blur it.
- a *rise* from day to day, in one method only, and damped: over a few days of load, most trends do not go on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from analytics.methods.forecasting.grid import Floats

BASELINE = "seasonal naive"
_MAX_DAYS = 28
_MAX_WEEKS = 8
_RISING_DAYS = 3
_DAMPING = 0.7
_SEASON_MEMORY = 0.9
_SEASON_DAYS = 14
_RECENT_DAYS = 4
_HALF_LIVES_H = (12.0, 1.0)


@dataclass(frozen=True)
class Past:
    """What is known at one moment: the values of n series up to it, shape (n, t), the newest last."""

    values: Floats
    day: int
    """Steps a day."""

    @cached_property
    def days(self) -> Floats:
        """Shape (n, k, day): days back from the moment, the newest first; place j is that of step j to come."""
        return _seasons(self.values, self.day, _MAX_DAYS)

    @cached_property
    def mean(self) -> Floats:
        """Shape (n,): of all that was ever seen, for what was not seen for longer than the days reach."""
        seen = np.isfinite(self.values)
        return _ratio(np.where(seen, self.values, 0.0).sum(axis=1), seen.sum(axis=1), np.nan)

    @cached_property
    def last_seen(self) -> Floats:
        """Shape (n, day): the newest value seen at each time of day, then the mean where none was."""
        return self._filled(_newest(self.days))

    @cached_property
    def long(self) -> Floats:
        """Shape (n, day): the day profile that remembers a week or so."""
        return self._filled(_weighted(self.days, 0.8))

    @cached_property
    def middle(self) -> Floats:
        """Shape (n, day): the median of the last seven days at each time of day."""
        return _patched(_median(self.days[:, :7]), self.long)

    @cached_property
    def weeks(self) -> Floats:
        """Shape (n, 7 day): the profile of the week."""
        weeks = _seasons(self.values, 7 * self.day, _MAX_WEEKS)
        return _patched(_weighted(weeks, 0.7), self.long)

    @cached_property
    def last_week(self) -> Floats:
        """Shape (n, 7 day): the newest value seen at each time of the week."""
        return _patched(_newest(_seasons(self.values, 7 * self.day, _MAX_WEEKS)), self.long)

    @cached_property
    def by_day(self) -> "Decomposition":
        """The last two weeks, taken apart with a season of a day."""
        return decompose(self.days[:, _SEASON_DAYS - 1 :: -1].reshape(len(self.values), -1), self.day, self.day)

    @cached_property
    def by_week(self) -> "Decomposition":
        """The last four weeks, taken apart with a season of a week."""
        weeks = _seasons(self.values, 7 * self.day, _MAX_DAYS // 7)
        return decompose(weeks[:, ::-1].reshape(len(self.values), -1), 7 * self.day, self.day)

    def smooth(self, profile: Floats) -> Floats:
        """A profile of the day without what is faster than some two hours."""
        distance = np.minimum(np.arange(self.day), self.day - np.arange(self.day)) * (24.0 / self.day)
        kernel = np.exp(-0.5 * distance**2)
        spectrum = np.fft.rfft(kernel / kernel.sum())
        smoothed: Floats = np.fft.irfft(np.fft.rfft(profile, axis=1) * spectrum, self.day, axis=1)
        return smoothed

    def level(self, profile: Floats) -> Floats:
        """Shape (n, 1): how far the last day that was seen lay from the profile, on average."""
        level: Floats = (self.last_seen - profile[:, -self.day :]).mean(axis=1, keepdims=True)
        return level

    @cached_property
    def rise(self) -> Floats:
        """Shape (n, 1): how much a day lay above the one before it, on average over the last three; 0 if unseen."""
        total, count = np.zeros(len(self.values)), np.zeros(len(self.values))
        for older in range(1, min(self.days.shape[1], _RISING_DAYS + 1)):
            rise = (self.days[:, 0] - self.days[:, older]) / older
            seen = np.isfinite(rise)
            total += np.where(seen, rise, 0.0).sum(axis=1)
            count += seen.sum(axis=1)
        return _ratio(total, count, 0.0)[:, None]

    def deviation(self, profile: Floats, half_life_h: float) -> Floats:
        """Shape (n, 1): how far the last hours lay from the profile; 0 where they were not seen."""
        newest = self.days[:, 0]
        weight = 0.5 ** (np.arange(self.day)[::-1] * (24.0 / self.day / half_life_h)) * np.isfinite(newest)
        distance = np.where(weight > 0, newest - profile[:, -self.day :], 0.0)
        return _ratio((weight * distance).sum(axis=1), weight.sum(axis=1), 0.0)[:, None]

    def _filled(self, profile: Floats) -> Floats:
        """The profile with its mean where it is NaN, or with the mean of all where it is NaN altogether."""
        seen = np.isfinite(profile)
        if seen.all():
            return profile
        mean = _ratio(np.where(seen, profile, 0.0).sum(axis=1), seen.sum(axis=1), np.nan)
        if np.isnan(mean).any():
            mean = np.where(np.isnan(mean), self.mean, mean)
        return np.where(seen, profile, mean[:, None])


@dataclass(frozen=True, slots=True)
class Decomposition:
    """n series as season + level + rest, at the end of what was seen."""

    season: Floats
    """Shape (n, period), mean 0; place j is that of step j to come."""
    level: Floats
    """Shape (n, 1)."""
    rest: Floats
    """Shape (n, 1): how far the last hours lay from both."""
    memory: Floats
    """Shape (n, 1): the share of the rest that lasts for a step, 0 to 1."""


def decompose(values: Floats, period: int, day: int) -> Decomposition:
    """Take series apart, shape (n, whole periods), as MSTL does (Bandara, Hyndman and Bergmeir 2021), with means.

    The trend is the running mean of a whole period, the season the mean of what lies beside it, which newer periods
    dominate, shrunk by what chance alone would make of it. The level and the rest are means of what is left, with
    half-lives of twelve hours and one; the rest fades as its autocorrelation says (an AR(1)).
    """
    beside = values - _running_mean(values, period)
    seasons = beside.reshape(len(values), -1, period)[:, ::-1]
    season = np.nan_to_num(_weighted(seasons, _SEASON_MEMORY))
    season -= season.mean(axis=1, keepdims=True)
    explained = (season**2).mean(axis=1)
    chance = np.maximum(_mean_square(beside) - explained, 0.0) / max(seasons.shape[1] - 1, 1)
    season *= _ratio(np.maximum(explained - chance, 0.0), explained, 0.0)[:, None]
    recent = values[:, -_RECENT_DAYS * day :]
    left = recent - np.tile(season, (1, seasons.shape[1]))[:, -recent.shape[1] :]
    level, now = (_latest(left, half_life_h * day / 24.0) for half_life_h in _HALF_LIVES_H)
    rough = left - _running_mean(left, day)
    both = np.isfinite(rough[:, 1:] * rough[:, :-1])
    product = np.where(both, rough[:, 1:] * rough[:, :-1], 0.0).sum(axis=1)
    square = np.where(both, rough[:, 1:] ** 2, 0.0).sum(axis=1)
    memory = np.clip(_ratio(product, square, 0.0), 0.0, 1.0)[:, None]
    return Decomposition(season, level, now - level, memory)


Method = Callable[[Past, Floats], Floats]
"""From the past and the hours ahead, shape (H,), to the forecast, shape (n, H)."""


def _constant(profile: Callable[[Past], Floats]) -> Method:
    return lambda past, hours: _tiled(profile(past), len(hours))


def _held(profile: Callable[[Past], Floats]) -> Method:
    def method(past: Past, hours: Floats) -> Floats:
        shape = profile(past)
        return _tiled(shape + past.level(shape), len(hours))

    return method


def _fading(profile: Callable[[Past], Floats], half_life_h: float, seen_h: float) -> Method:
    def method(past: Past, hours: Floats) -> Floats:
        shape = profile(past)
        return _tiled(shape, len(hours)) + past.deviation(shape, seen_h) * 0.5 ** (hours / half_life_h)

    return method


def _rising(profile: Callable[[Past], Floats]) -> Method:
    """The last day's level, and a trend that is damped by a factor a day (Gardner and McKenzie 1985)."""

    def method(past: Past, hours: Floats) -> Floats:
        days = np.ceil(hours / 24.0)
        rises = (1.0 - _DAMPING**days) / (1.0 - _DAMPING)
        shape = profile(past)
        return _tiled(shape + past.level(shape), len(hours)) + past.rise * rises

    return method


def _decomposed(parts: Callable[[Past], Decomposition]) -> Method:
    def method(past: Past, hours: Floats) -> Floats:
        found = parts(past)
        steps = np.arange(1, len(hours) + 1)
        return _tiled(found.season, len(hours)) + found.level + found.rest * found.memory**steps

    return method


def _flat(level: Callable[[Past], Floats]) -> Method:
    return lambda past, hours: np.broadcast_to(level(past), (len(past.values), len(hours)))


def _day_mean(past: Past) -> Floats:
    mean: Floats = past.last_seen.mean(axis=1, keepdims=True)
    return mean


def _now(past: Past) -> Floats:
    flat = np.broadcast_to(_day_mean(past), past.last_seen.shape)
    return flat[:, :1] + past.deviation(flat, 1.0)


_METHODS: dict[str, Method] = {
    BASELINE: _constant(lambda past: past.last_seen),
    "last day, smoothed": _constant(lambda past: past.smooth(past.last_seen)),
    "many days, smoothed": _constant(lambda past: past.smooth(past.long)),
    "median of a week's days": _constant(lambda past: past.middle),
    "many days, fading level": _fading(lambda past: past.long, 3.0, 2.0),
    "many days, slowly fading level": _fading(lambda past: past.long, 12.0, 6.0),
    "many days, smoothed, at the last day's level": _held(lambda past: past.smooth(past.long)),
    "last day and its rise": _rising(lambda past: past.last_seen),
    "season of a day, level and rest": _decomposed(lambda past: past.by_day),
    "mean of the last day": _flat(_day_mean),
    "mean of the last hours": _flat(_now),
}
_WEEKLY: dict[str, Method] = {
    "season of a week, level and rest": _decomposed(lambda past: past.by_week),
    "last week": _constant(lambda past: past.last_week),
    "many weeks": _constant(lambda past: past.weeks),
    "many weeks, fading level": _fading(lambda past: past.weeks, 12.0, 6.0),
    "many weeks at the last day's level": _held(lambda past: past.weeks),
}


def names(steps: int, day: int) -> list[str]:
    """The methods that compete where the longest history has `steps` steps: those of the week need two weeks."""
    return [*_METHODS, *(_WEEKLY if knows_weeks(steps, day) else ())]


def knows_weeks(steps: int, day: int) -> bool:
    """Whether histories of so many steps have the two weeks that a season of the week needs."""
    return steps >= 14 * day


def forecasts(past: Past, methods: Sequence[str], horizon: int) -> Floats:
    """What each method says of the next `horizon` steps; shape (methods, n, horizon).

    Every series that was seen at all gets numbers, whatever the gaps: a time of day that was never seen counts as
    the mean of those that were.
    """
    hours: Floats = np.arange(1, horizon + 1, dtype=np.float64) * (24.0 / past.day)
    both = _METHODS | _WEEKLY
    return np.stack([both[name](past, hours) for name in methods])


def _seasons(values: Floats, season: int, most: int) -> Floats:
    """The last seasons, shape (n, k, season), the newest first; NaN before the beginning."""
    count = min(max(-(-values.shape[1] // season), 1), most)
    newest = values[:, -count * season :]
    padded = np.full((len(values), count * season), np.nan)
    padded[:, count * season - newest.shape[1] :] = newest
    return padded.reshape(len(values), count, season)[:, ::-1]


def _weighted(seasons: Floats, memory: float) -> Floats:
    """The mean of the seasons at each place, weights falling by `memory` a season; NaN where none was seen."""
    weight = memory ** np.arange(seasons.shape[1])
    seen = np.isfinite(seasons)
    total = np.einsum("k,nkj->nj", weight, np.where(seen, seasons, 0.0))
    return _ratio(total, np.einsum("k,nkj->nj", weight, seen), np.nan)


def _running_mean(values: Floats, width: int) -> Floats:
    """Of so many steps around each, at the ends of the first and last so many; NaN where none was seen."""
    seen = np.isfinite(values)
    n, steps = values.shape
    width = min(width, steps)
    total, count = np.zeros((n, steps + 1)), np.zeros((n, steps + 1))
    np.cumsum(np.where(seen, values, 0.0), axis=1, out=total[:, 1:])
    np.cumsum(seen, axis=1, out=count[:, 1:])
    mean = _ratio(total[:, width:] - total[:, :-width], count[:, width:] - count[:, :-width], np.nan)
    before = width // 2
    return np.pad(mean, ((0, 0), (before, steps - mean.shape[1] - before)), mode="edge")


def _latest(values: Floats, half_life: float) -> Floats:
    """The mean, shape (n, 1), whose weights halve so many steps back; 0 where none was seen."""
    weight = 0.5 ** (np.arange(values.shape[1])[::-1] / half_life) * np.isfinite(values)
    total = np.where(weight > 0, np.nan_to_num(values) * weight, 0.0).sum(axis=1)
    return _ratio(total, weight.sum(axis=1), 0.0)[:, None]


def _mean_square(values: Floats) -> Floats:
    seen = np.isfinite(values)
    return _ratio((np.where(seen, values, 0.0) ** 2).sum(axis=1), seen.sum(axis=1), 0.0)


def _newest(seasons: Floats) -> Floats:
    newest = seasons[:, 0].copy()
    for older in range(1, seasons.shape[1]):
        missing = np.isnan(newest)
        if not missing.any():
            break
        newest[missing] = seasons[:, older][missing]
    return newest


def _median(seasons: Floats) -> Floats:
    ordered = np.sort(seasons, axis=1)
    seen = np.isfinite(seasons).sum(axis=1, keepdims=True)
    low, high = (np.take_along_axis(ordered, np.maximum(seen + shift, 0) // 2, axis=1) for shift in (-1, 0))
    middle: Floats = 0.5 * (low + high)[:, 0]
    return middle


def _patched(profile: Floats, day: Floats) -> Floats:
    """The profile of a week with that of the day where it is NaN."""
    return np.where(np.isfinite(profile), profile, np.tile(day, (1, profile.shape[1] // day.shape[1])))


def _tiled(profile: Floats, steps: int) -> Floats:
    repeats = -(-steps // profile.shape[1])
    return np.tile(profile, (1, repeats))[:, :steps] if repeats > 1 else profile[:, :steps]


def _ratio(above: Floats, below: Floats | npt.NDArray[np.int64], otherwise: float) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)
    return ratio
