"""What the forecaster did, in plain words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analytics.methods.forecasting.fleet import Result
from analytics.methods.forecasting.grid import Floats, Grid


def model_of(methods: Sequence[str], weights: Floats) -> str:
    """The methods that make up most of a mix, the heaviest first: `many days 41 %; last week 23 %; 5 others`."""
    order = np.argsort(-weights, kind="stable")[:3]
    named = [f"{methods[place]} {100 * weights[place]:.0f} %" for place in order if weights[place] >= 0.1]
    others = int((weights >= 0.005).sum()) - len(named)
    if not named:
        return f"{others} methods, none above 10 %"
    rest = [f"{others} {'other' if others == 1 else 'others'}"] if others > 0 else []
    return "; ".join([*named, *rest])


def summary_of(models: pd.DataFrame, grid: Grid, result: Result, horizon: str) -> str:
    """A few sentences on what the forecast rests on."""
    n = len(models)
    whose = "the series" if n == 1 else f"{n:,} series"
    steps = grid.values.shape[1]
    sentences = [f"Forecast of {whose} for {horizon} from {grid.times(steps, 1)[0]:%Y-%m-%d %H:%M} UTC."]
    if n == 1:
        sentences.append(f"Model: a mix of {models['model'].iloc[0]}.")
    sentences.append(_skill(models, len(result.plan.origins), whole_days=steps >= 2 * grid.day))
    sentences.append(_length(steps, grid))
    if not result.tried:
        sentences.append("Too little could be tried out: intervals are a guess from the spread of the values.")
    return " ".join(filter(None, sentences))


def _length(steps: int, grid: Grid) -> str:
    days = steps / grid.day
    if days < 2:
        long = f"{24 * days:.0f} hours" if days >= 1 / 12 else f"{1440 * days:.0f} minutes"
        return (
            f"The history is {long} long: too short to tell a daily pattern from chance. "
            "Two days are the least, two weeks are good."
        )
    if days < 14:
        return f"The history is {days:.1f} days long: a daily pattern is used, a weekly one needs 14 days."
    return ""


def _skill(models: pd.DataFrame, origins: int, *, whole_days: bool) -> str:
    known = models[models["naive_error"].notna()]
    if known.empty:
        return "No forecast could be compared with what came."
    error, naive = known["error"].mean(), known["naive_error"].mean()
    if naive == 0:
        return "In the backtest nothing ever differed from what had been before."
    share = round(100 * error / naive)
    better = "the same" if share == 100 else f"{abs(100 - share)} % {'less' if share < 100 else 'more'}"
    what = "the same time of the day before" if whole_days else "or, without a day before, of the mean so far"
    return (
        f"Tried out from {origins} moments of the past, its mean absolute error was {error:.3g} beside {naive:.3g} "
        f"of the seasonal naive ({what}): {better}."
    )
