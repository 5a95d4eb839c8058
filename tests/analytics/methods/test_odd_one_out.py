"""Hosts that differ from their peers are found, and those that do not are left alone."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from analytics import odd_ones_out
from analytics.frames.frame import FrameError, frame_of_values
from analytics.methods.odd_one_out import FEWEST, TIMES

Floats = npt.NDArray[np.float64]
START = pd.Timestamp("2024-03-04", tz="UTC")
HOURS = np.arange(6 * 24)
DAY = 0.3 + 0.15 * np.sin(2 * np.pi * (HOURS - 9) / 24)


def host(name: str, load: Floats, seed: int = 0) -> pd.DataFrame:
    """Its load at each hour, with a point of noise."""
    noisy = np.clip(load + np.random.default_rng([seed, len(name), *name.encode()]).normal(0, 0.01, len(load)), 0, 1)
    return pd.DataFrame({"user": name, "value": noisy}, pd.date_range(START, periods=len(load), freq="1h", name="time"))


def peers(count: int = 12, prefix: str = "web", load: Floats = DAY) -> list[pd.DataFrame]:
    """Hosts that share a load, each a share of its own between 0.9 and 1.1 of it."""
    return [host(f"{prefix}-{place:02}", load * (0.9 + 0.2 * place / count)) for place in range(count)]


def judged(hosts: list[pd.DataFrame], *arguments: object, **more: object) -> pd.DataFrame:
    return odd_ones_out(frame_of_values(pd.concat(hosts)), *arguments, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda load: load + 0.2, "higher by 2"),
        (lambda load: load / 3, "lower by "),
        (np.zeros_like, "lower by "),
        (lambda load: np.full_like(load, load.mean()), "steadier through the day"),
        (lambda load: np.roll(load, 12), "other hours: highest at 0"),
        (lambda load: np.where(HOURS % 24 < 12, 0.02, 0.65), "less steady: highest at "),
    ],
)
def test_a_host_unlike_its_peers_is_odd_and_it_is_said_in_what(change: Callable[[Floats], Floats], words: str) -> None:
    found = judged([*peers(), host("web-odd", change(DAY))])
    assert found["odd"].tolist() == [True, *[False] * 12]
    first = found.iloc[0]
    assert first["user"] == "web-odd"
    assert first["times"] > TIMES
    assert first["differs"].startswith(words)
    assert first["peers"] == 12
    assert (found["differs"].iloc[1:] == "").all()


def test_hosts_that_share_a_load_are_not_odd() -> None:
    found = judged(peers(30))
    assert not found["odd"].any()
    assert found["times"].between(0, TIMES).all()


def test_what_happened_on_one_day_alone_is_not_odd() -> None:
    once = np.where(HOURS // 24 == 2, 0.95, DAY)
    assert not judged([*peers(), host("web-once", once)])["odd"].any()


def test_peers_are_those_of_the_same_group() -> None:
    hosts = [*peers(), *peers(10, "db", DAY + 0.4), host("db-low", DAY)]
    together = judged(hosts)
    assert not together.set_index("user").loc["db-low", "odd"]
    roles = {str(part["user"].iloc[0]): str(part["user"].iloc[0])[:2] for part in hosts}
    found = judged(hosts, pd.Series(roles))
    assert found[found["odd"]]["user"].tolist() == ["db-low"]
    assert found["group"].iloc[0] == "db"
    assert found["peers"].iloc[0] == 10


def test_clusters_are_peers_where_that_is_asked_for() -> None:
    night = 0.3 + 0.15 * np.sin(2 * np.pi * (HOURS - 21) / 24)
    hosts = [*peers(), *peers(12, "night", night), host("web-odd", DAY + 0.3)]
    found = judged(hosts, "clusters")
    assert found["group"].nunique() == 2
    assert found[found["odd"]]["user"].tolist() == ["web-odd"]


def test_few_peers_and_few_hours_are_not_judged() -> None:
    few = judged([*peers(FEWEST - 2), host("web-odd", DAY + 0.5)])
    assert few["times"].isna().all()
    assert not few["odd"].any()
    assert (few["peers"] == 0).all()
    short = judged([*peers(), host("web-new", DAY[:20] + 0.5)]).set_index("user")
    assert np.isnan(short.loc["web-new", "times"])
    assert short["times"].notna().sum() == 12
    alone = judged([*peers(), host("other", DAY)], {f"web-{place:02}": "web" for place in range(12)})
    assert alone.set_index("user").loc["other", "group"] == ""


def test_many_alike_are_a_kind_of_their_own() -> None:
    kinds = [*peers(12), *[host(f"big-{place}", DAY + 0.4) for place in range(5)]]
    assert not judged(kinds)["odd"].any()


def test_hours_are_those_of_the_zone() -> None:
    found = judged([*peers(), host("web-odd", np.roll(DAY, 12))], tz="Asia/Tokyo")
    assert found["differs"].iloc[0].startswith("other hours: highest at 1")


def test_wrong_arguments_are_said() -> None:
    frame = frame_of_values(pd.concat(peers()))
    with pytest.raises(FrameError, match="expected groups by user, 'clusters' or None"):
        odd_ones_out(frame, "roles")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="there are no users"):
        odd_ones_out(frame.drop(columns="user"))
    with pytest.raises(FrameError, match="got a Series"):
        odd_ones_out(frame["mean"])
