"""Users whose weeks look alike are found, whatever their level, and the same ones each time."""

import numpy as np
import pandas as pd
import pytest

from analytics import cluster_profiles
from analytics.frames.frame import FrameError
from tests.support.sampled_fleets import loads

HOURS = np.arange(14 * 24)
OFFICE = np.where((HOURS % 24 >= 8) & (HOURS % 24 < 18) & (HOURS // 24 % 7 < 5), 1.0, 0.0)
NIGHT = np.where(HOURS % 24 < 4, 1.0, 0.0)
WEEKEND = np.where(HOURS // 24 % 7 >= 5, 1.0, 0.0)


def fleet() -> pd.DataFrame:
    """Twelve users of office hours, eight that work at night, five on weekends, and one that never changes."""
    random = np.random.default_rng(8)
    parts = []
    for name, shape, users in (("office", OFFICE, 12), ("night", NIGHT, 8), ("weekend", WEEKEND, 5)):
        for user in range(users):
            level, height = random.uniform(0.05, 0.3), random.uniform(0.1, 0.5)
            load = level + height * shape + random.normal(0, 0.02, len(HOURS))
            parts.append(loads(load.clip(0, 1), user=f"{name} {user}"))
    return pd.concat(parts)


def test_kinds_of_weeks_are_found_whatever_the_level() -> None:
    found = cluster_profiles(fleet())
    kinds = found.members.groupby("cluster").apply(lambda part: sorted({name.split()[0] for name in part.index}))
    assert kinds.tolist() == [["office"], ["night"], ["weekend"]]
    assert found.profiles["users"].tolist() == [12, 8, 5]
    assert found.members["representative"].sum() == 3
    assert [name.split()[0] for name in found.profiles["representative"]] == ["office", "night", "weekend"]
    assert found.silhouettes["silhouette"].idxmax() == 3
    assert found.profiles.loc[1, "peak"] % 24 < 4
    assert str(found).startswith("3 kinds of weeks: 12 like office")


def test_the_same_users_are_in_the_same_clusters_each_time_in_any_order() -> None:
    first, second = cluster_profiles(fleet()), cluster_profiles(fleet().sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(first.members, second.members)


def test_the_time_zone_moves_the_peak() -> None:
    there = cluster_profiles(fleet(), "Asia/Tokyo", clusters=3)
    assert 9 <= there.profiles.loc[1, "peak"] % 24 < 13


def test_users_with_little_are_left_out_and_flat_ones_are_not() -> None:
    some = pd.concat([fleet(), loads(np.full(5, 0.2), user="new"), loads(np.full(len(HOURS), 0.2), user="flat")])
    found = cluster_profiles(some, clusters=4)
    assert found.left_out == ["new"]
    assert "flat" in found.members.index
    assert found.members["distance"].notna().all()


def test_what_cannot_be_clustered_is_refused() -> None:
    with pytest.raises(FrameError, match="no users"):
        cluster_profiles(fleet().drop(columns="user"))
    with pytest.raises(FrameError, match="at least three"):
        cluster_profiles(loads(np.full(len(HOURS), 0.2), user="one"))
    with pytest.raises(ValueError, match="1 to 25"):
        cluster_profiles(fleet(), clusters=26)
