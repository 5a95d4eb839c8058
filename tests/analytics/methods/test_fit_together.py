"""Hosts with complementary days are paired, and later days say whether that held."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from analytics import TooFewData, fit_together
from analytics.frames.frame import FrameError, frame_of_values

Floats = npt.NDArray[np.float64]
START = pd.Timestamp("2024-03-04", tz="UTC")
HOURS = np.arange(9 * 24)
BY_DAY = np.where((HOURS % 24 >= 8) & (HOURS % 24 < 16), 0.6, 0.1)
BY_NIGHT = np.where(HOURS % 24 < 8, 0.6, 0.1)


def fleet(**loads: Floats) -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {"user": name, "value": load}, pd.date_range(START, periods=len(load), freq="1h", name="time")
        )
        for name, load in loads.items()
    ]  # fmt: skip
    return frame_of_values(pd.concat(parts))


def test_those_busy_by_day_go_with_those_busy_by_night() -> None:
    frame = fleet(day=BY_DAY, night=BY_NIGHT, other_day=BY_DAY * 0.9)
    [pair] = fit_together(frame, 10, 0.8).to_dict("records")
    assert {pair["user"], pair["other"]} == {"day", "night"}
    assert {pair["peak"], pair["other_peak"]} == {8, 0}
    assert pair["apart"] == pytest.approx(2 * 6 / 0.8)
    assert pair["together"] == pytest.approx(7 / 0.8)
    assert pair["saved"] == pytest.approx(5 / 0.8)
    assert pair["saved_share"] == pytest.approx(5 / 12)
    assert (pair["held"], pair["held_apart"], pair["later_days"], pair["fits"]) == (1.0, 1.0, 3, True)


def test_cores_count_and_not_shares() -> None:
    frame = fleet(day=BY_DAY, night=BY_NIGHT)
    [pair] = fit_together(frame, {"day": 4, "night": 8}).to_dict("records")
    assert pair["together"] * 0.8 == pytest.approx(0.1 * 4 + 0.6 * 8)


def test_hosts_that_are_busy_together_are_not_paired() -> None:
    assert fit_together(fleet(one=BY_DAY, other=BY_DAY), 4).empty
    assert fit_together(fleet(one=np.full(len(HOURS), 0.5), other=BY_DAY), 4).empty
    assert fit_together(fleet(one=np.zeros(len(HOURS)), other=np.zeros(len(HOURS))), 4).empty


def test_what_was_complementary_at_first_only_does_not_fit() -> None:
    turned = np.where(HOURS // 24 < 6, BY_NIGHT, BY_DAY)
    [pair] = fit_together(fleet(day=BY_DAY, turned=turned), 4).to_dict("records")
    assert pair["held"] == pytest.approx(2 / 3)
    assert pair["held_apart"] == 1.0
    assert not pair["fits"]


def test_no_host_is_in_two_pairs_and_the_most_is_saved_first() -> None:
    loads = {f"day{place}": BY_DAY * (1 - place / 10) for place in range(4)}
    loads |= {f"night{place}": BY_NIGHT * (1 - place / 10) for place in range(3)}
    found = fit_together(fleet(**loads), 4)
    names = [*found["user"], *found["other"]]
    assert len(names) == len({*names}) == 6
    assert found["saved"].is_monotonic_decreasing
    assert {found["user"].iloc[0], found["other"].iloc[0]} == {"day0", "night0"}


def test_parts_of_the_day_are_those_of_the_zone() -> None:
    [pair] = fit_together(fleet(day=BY_DAY, night=BY_NIGHT), 4, tz="Asia/Dubai").to_dict("records")
    assert {pair["peak"], pair["other_peak"]} == {12, 4}


def test_a_host_that_was_seen_on_early_days_only_is_not_paired() -> None:
    assert fit_together(fleet(day=BY_DAY, gone=BY_NIGHT[: 4 * 24]), 4).empty


def test_too_few_days_and_wrong_arguments_are_said() -> None:
    with pytest.raises(TooFewData, match="at least 3 days, got 2"):
        fit_together(fleet(day=BY_DAY[:48], night=BY_NIGHT[:48]), 4)
    frame = fleet(day=BY_DAY, night=BY_NIGHT)
    with pytest.raises(FrameError, match=r"^target: expected a share"):
        fit_together(frame, 4, 80)
    with pytest.raises(FrameError, match=r"^quantile: expected a share"):
        fit_together(frame, 4, quantile=95)
    with pytest.raises(FrameError, match="there are no users"):
        fit_together(frame.drop(columns="user"), 4)
    with pytest.raises(FrameError, match="no cores to count"):
        fit_together(frame)
