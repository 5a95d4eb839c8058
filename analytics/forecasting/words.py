"""What the forecaster did, in plain words."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analytics.forecasting.fleet import Result
from analytics.forecasting.grid import Floats, Grid

__all__ = ["model_of", "summary_of"]


def model_of(methods: Sequence[str], weights: Floats) -> str:
    """The methods that make up most of a mix, the heaviest first: `many days 41 %, last week 23 %, 5 others`."""
    order = np.argsort(-weights, kind="stable")[:3]
    named = [f"{methods[place]} {100 * weights[place]:.0f} %" for place in order if weights[place] >= 0.1]
    others = int((weights >= 0.005).sum()) - len(named)
    rest = [f"{others} {'other' if others == 1 else 'others'}"] if others > 0 else []
    return ", ".join([*named, *rest])


def summary_of(models: pd.DataFrame, grid: Grid, result: Result, horizon: str) -> str:
    """A few sentences on what the forecast rests on."""
    n = len(models)
    whose = "the series" if n == 1 else f"{n:,} series"
    sentences = [f"Forecast of {whose} for {horizon} from {grid.times(grid.values.shape[1], 1)[0]:%Y-%m-%d %H:%M} UTC."]
    if n == 1:
        sentences.append(f"Model, chosen by backtest: a mix of {models['model'].iloc[0]}.")
    sentences.append(_skill(models, len(result.plan.origins)))
    days = grid.values.shape[1] / grid.day
    if days < 2:
        sentences.append(
            f"The history is {days:.1f} days long: too short for a daily pattern to be told from chance. "
            "Two days are the least, two weeks are good."
        )
    elif days < 14:
        sentences.append(f"The history is {days:.1f} days long: a daily pattern is used, a weekly one needs 14 days.")
    if not result.tried:
        sentences.append("Nothing could be tried out: intervals are a guess from the spread of the values.")
    return " ".join(sentences)


def _skill(models: pd.DataFrame, origins: int) -> str:
    known = models[models["naive_error"].notna()]
    if known.empty:
        return "No forecast could be compared with what came."
    error, naive = known["error"].sum(), known["naive_error"].sum()
    if naive == 0:
        return "In the backtest nothing ever differed from the day before."
    share = error / naive
    better = f"{abs(1 - share):.0%} {'less' if share <= 1 else 'more'}"
    shown = f"{error / len(known):.3g} beside {naive / len(known):.3g}"
    return (
        f"Tried out from {origins} moments of the past, its mean absolute error was {shown} of the seasonal naive "
        f"(the same time of the day before): {better}."
    )
