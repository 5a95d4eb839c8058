"""Forecasts hold their promises whatever the history looks like."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from analytics import forecast

START = pd.Timestamp("2024-03-04", tz="UTC")
VALUES = st.one_of(st.floats(0, 1, width=32), st.just(0.0), st.just(1.0), st.just(float("nan")))
HISTORIES = st.integers(1, 4).flatmap(
    lambda users: st.integers(3, 400).flatmap(
        lambda steps: arrays.arrays(np.float64, (users, steps), elements=VALUES, fill=st.nothing())
    )
)


def frame_of(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", rate: str) -> pd.DataFrame:
    """A frame of some users, without the steps that have no value."""
    index = pd.date_range(START, periods=values.shape[1], freq=rate, unit="ms", name="time")
    return pd.concat(
        [pd.DataFrame({"user": f"u{n}", "mean": row}, index=index) for n, row in enumerate(values)]
    ).dropna()


@settings(max_examples=40, deadline=None)
@given(HISTORIES, st.sampled_from([("1h", "30h"), ("5m", "2h"), ("6h", "4d")]))
def test_any_history_gives_finite_ordered_intervals_within_shares(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", step: tuple[str, str]
) -> None:
    rate, horizon = step
    kept = np.isfinite(values).sum(axis=1) >= 3
    if not kept.any():
        return
    made = forecast(frame_of(values, rate.replace("m", "min")), horizon, levels=(0.5, 0.8, 0.99), rate=rate)
    names = ["lower_99", "lower_80", "lower_50", "mean", "upper_50", "upper_80", "upper_99"]
    numbers = made.frame[names].to_numpy()
    assert np.isfinite(numbers).all()
    assert (np.diff(numbers, axis=1) >= 0).all()
    assert numbers.min() >= 0 and numbers.max() <= 1
    assert made.frame["user"].nunique() == kept.sum() == len(made.models)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1_000_000), st.floats(1, 1000))
def test_the_unit_does_not_matter(seed: int, factor: float) -> None:
    # Above 1 in either unit: what never is could be shares, whose bands end at 1.
    values = 1.5 + np.random.default_rng(seed).random((2, 120))
    one, other = (forecast(frame_of(each, "1h"), "24h") for each in (values, factor * values))
    numbers = [name for name in one.frame if name != "user"]
    np.testing.assert_allclose(factor * one.frame[numbers], other.frame[numbers], rtol=1e-6)
    np.testing.assert_allclose(one.models["skill"], other.models["skill"], rtol=1e-6)
