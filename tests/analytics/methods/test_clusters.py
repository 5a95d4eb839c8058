"""Users whose weeks look alike are found, whatever their level, and the same ones each time."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

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


@pytest.mark.slow
def test_kinds_of_weeks_are_found_whatever_the_level() -> None:
    found = cluster_profiles(fleet())
    kinds = found.members.groupby("cluster").apply(lambda part: sorted({name.split()[0] for name in part["user"]}))
    assert kinds.tolist() == [["office"], ["night"], ["weekend"]]
    assert found.profiles["users"].tolist() == [12, 8, 5]
    assert found.members["representative"].sum() == 3
    assert [name.split()[0] for name in found.profiles["representative"]] == ["office", "night", "weekend"]
    assert found.silhouettes.set_index("clusters")["silhouette"].idxmax() == 3
    assert found.p_value == pytest.approx(1 / 40)
    assert found.silhouettes.set_index("clusters").loc[3, "stability"] == 1
    assert found.profiles.loc[1, "peak"] % 24 < 4
    assert str(found).startswith("3 kinds of weeks: 12 like office")


def one_kind(kind: str, users: int, seed: int) -> pd.DataFrame:
    """Users that differ by chance only."""
    random = np.random.default_rng(seed)
    shape = (users, len(HOURS))
    load = {
        "noise": lambda: random.normal(0.3, 0.05, shape),
        "skewed noise": lambda: 0.1 + 0.05 * random.exponential(1, shape),
        "noise that lasts": lambda: 0.3 + 0.05 * lfilter([1], [1, -0.9], random.normal(0, 0.4, shape), axis=1),
        "bursts": lambda: np.where(random.random(shape) < 0.03, 0.9, 0.05) + random.normal(0, 0.01, shape),
        "office hours": lambda: 0.1 + random.uniform(0.2, 0.5, (users, 1)) * OFFICE + random.normal(0, 0.03, shape),
        "noise that wanders": lambda: 0.3 + 0.01 * random.normal(0, 1, shape).cumsum(axis=1),
        "spikes": lambda: np.where(np.arange(shape[1]) == random.integers(0, shape[1], (users, 1)), 1.0, 0.3),
        "standing still, or noise": lambda: np.where(
            np.arange(users)[:, None] % 2, 0.2, random.normal(0.3, 0.05, shape)
        ),
        "a day, more or less": lambda: (
            0.3 + random.uniform(0.05, 0.15, (users, 1)) * np.sin(HOURS * np.pi / 12) + random.normal(0, 0.05, shape)
        ),
    }[kind]()
    return pd.concat([loads(each.clip(0, 1), user=f"{n:02}") for n, each in enumerate(load)])


@pytest.mark.slow
@pytest.mark.parametrize("users", [4, 12, 40])
@pytest.mark.parametrize(
    "kind",
    ["noise", "skewed noise", "noise that lasts", "noise that wanders", "bursts", "spikes", "standing still, or noise",
     "office hours", "a day, more or less"],
)  # fmt: skip
def test_users_that_differ_by_chance_are_one_kind(kind: str, users: int) -> None:
    found = [cluster_profiles(one_kind(kind, users, seed)) for seed in range(4)]
    assert [len(each.profiles) for each in found].count(1) >= 3
    one = next(each for each in found if len(each.profiles) == 1)
    assert str(one).startswith(f"1 kind of week: {users} like ")
    assert one.members["cluster"].unique().tolist() == [0]
    assert one.members["representative"].sum() == 1


@pytest.mark.slow
def test_kinds_of_a_single_week_are_found_without_another_to_compare_with() -> None:
    frame = fleet()
    found = cluster_profiles(frame[frame.index < frame.index[0] + pd.Timedelta(7, "D")])
    assert found.profiles["users"].tolist() == [12, 8, 5]
    assert found.silhouettes["stability"].isna().all()


@pytest.mark.parametrize("tz", ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Asia/Kathmandu"])
def test_every_other_week_is_that_of_the_zone(tz: str) -> None:
    """What changes from week to week of the zone is never stable, what stays is."""
    monday = str(pd.Timestamp("2024-01-01", tz=tz).tz_convert("UTC").tz_localize(None))
    parts = []
    for user in range(12):
        other = (np.arange(len(HOURS)) // 168 + user) % 2 == 0
        values = 0.2 + 0.5 * np.where(other, NIGHT, OFFICE)
        values += np.random.default_rng(user).normal(0, 0.01, len(HOURS))
        parts.append(loads(values.clip(0, 1), monday, user=f"user {user}"))
    found = cluster_profiles(pd.concat(parts), tz, clusters=2)
    assert found.members["distance"].max() < 0.3
    assert found.silhouettes.set_index("clusters").loc[2, "stability"] == 1


def test_how_many_kinds_are_wanted_may_be_said() -> None:
    found = cluster_profiles(one_kind("noise", 12, 1), clusters=2)
    assert len(found.profiles) == 2
    assert np.isnan(found.p_value)


@pytest.mark.slow
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
    assert "flat" in found.members["user"].tolist()
    assert found.members["distance"].notna().all()


def test_what_cannot_be_clustered_is_refused() -> None:
    with pytest.raises(FrameError, match="no users"):
        cluster_profiles(fleet().drop(columns="user"))
    with pytest.raises(FrameError, match="at least three"):
        cluster_profiles(loads(np.full(len(HOURS), 0.2), user="one"))
    with pytest.raises(ValueError, match="1 to 25"):
        cluster_profiles(fleet(), clusters=26)
