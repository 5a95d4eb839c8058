"""A core at its limit is seen though the host is not."""

import numpy as np
import pandas as pd
import pytest

from analytics import core_imbalance
from analytics.frames.frame import FrameError
from tests.support.sampled_fleets import loads


def cores(*means: list[float], user: str | None = None) -> pd.DataFrame:
    """Cores 0, 1, ... with these means at each moment, and their host."""
    parts = [loads(np.array(one), user=user).assign(core=number) for number, one in enumerate(means)]
    host = loads(np.mean(means, axis=0), user=user).assign(core=pd.NA)
    return pd.concat([host, *parts]).astype({"core": "Int64"})


def test_the_spread_between_cores_is_that_of_numpy() -> None:
    means = [[0.1, 0.4, 0.0], [0.3, 0.4, 0.0], [0.95, 0.4, 0.0]]
    balance = core_imbalance(cores(*means))
    columns = np.array(means)
    assert balance["cores"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(balance["mean"], columns.mean(axis=0))
    np.testing.assert_allclose(balance["spread"], np.ptp(columns, axis=0), atol=1e-12)
    np.testing.assert_allclose(balance["deviation"], columns.std(axis=0), atol=1e-12)
    np.testing.assert_allclose(
        balance["variation"], [columns[:, 0].std() / columns[:, 0].mean(), 0, np.nan], atol=1e-12
    )
    assert balance["busiest"].tolist() == [2, 0, 0]
    assert balance["one_saturated"].tolist() == [True, False, False]
    assert balance.index.tolist() == loads(np.zeros(3)).index.tolist()


def test_a_host_that_is_saturated_as_a_whole_is_no_imbalance() -> None:
    assert core_imbalance(cores([0.95], [0.97]))["one_saturated"].tolist() == [False]
    assert core_imbalance(cores([0.5], [0.7]), saturated=0.65)["one_saturated"].tolist() == [True]


def test_users_are_told_apart_and_no_host_is_needed() -> None:
    fleet = pd.concat([cores([0.1, 0.2], [0.3, 0.2], user="a"), cores([0.9, 0.9], user="b")])
    balance = core_imbalance(fleet[fleet["core"].notna()])
    assert balance["user"].tolist() == ["a", "a", "b", "b"]
    assert balance["busiest"].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(balance["mean"], [0.2, 0.2, 0.9, 0.9])


def test_without_cores_it_says_where_they_are() -> None:
    with pytest.raises(FrameError, match="core='each'"):
        core_imbalance(loads(np.zeros(3)))
