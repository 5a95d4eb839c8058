"""Constants of the detector are chosen without what they are judged by."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analytics.methods.anomalies import Detector, Tuning
from bench.__main__ import FOLDER


@pytest.fixture
def constants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import anomaly_constants

    return anomaly_constants


def outcome(
    constants: Any, raw: dict[str, float], *, false: float = 0.0, noise: float = 0.0, found: float = 1.0
) -> Any:
    """A candidate that scores the same at each threshold."""
    full = np.ones(len(constants.THRESHOLDS))
    return constants.Outcome(
        {name: value * full for name, value in raw.items()}, false * full, noise * full, found * full
    )


def test_a_group_has_no_part_in_what_it_is_scored_with(constants: Any) -> None:
    day = pd.date_range("2024", periods=100, freq="5min", tz="UTC")
    files = {name: constants.Labelled(day, np.zeros(100), ((50, 60),)) for name in ("a/1", "a/2", "b/1", "c/1")}
    good_for_a = outcome(constants, {"a/1": 1.0, "a/2": 1.0, "b/1": -1.0, "c/1": -1.0})
    good_for_others = outcome(constants, {"a/1": -1.0, "a/2": -1.0, "b/1": 0.9, "c/1": 0.9})
    tried = [(Tuning(grain=0.1), good_for_a), (Tuning(grain=0.2), good_for_others)]
    chosen, raw = constants.cross_validated(files, tried)
    assert {group: tuning.grain for group, tuning in chosen.items()} == {"a": 0.2, "b": 0.1, "c": 0.1}
    assert raw == {"a/1": -1.0, "a/2": -1.0, "b/1": -1.0, "c/1": -1.0}


def test_what_alarms_too_often_or_finds_too_little_is_not_chosen(constants: Any) -> None:
    best = {"a/1": 1.0}
    tried = [
        (Tuning(grain=0.1), outcome(constants, best, false=1.0)),
        (Tuning(grain=0.2), outcome(constants, best, found=0.9)),
        (Tuning(grain=0.25), outcome(constants, best, noise=1.5)),
        (Tuning(grain=0.3), outcome(constants, {"a/1": 0.1})),
    ]
    assert constants.choose(tried, ["a/1"])[0].grain == 0.3


def test_the_five_cpu_files_are_left_out_with_the_other_aws_files(constants: Any) -> None:
    fold = constants.fold
    assert fold("ec2_cpu_utilization_24ae8d") == fold("realAWSCloudwatch/ec2_network_in_257a54.csv")
    assert fold("artificialNoAnomaly/art_flatline.csv") == fold("artificialWithAnomaly/art_daily_nojump.csv")


def test_what_is_chosen_by_is_what_the_detector_says(constants: Any) -> None:
    values = np.random.default_rng(0).beta(2, 5, 3000)
    values[2000] += 3
    values[2500:2600] = 0.2
    times = list(range(0, 3000 * 300_000, 300_000))
    for threshold in (0.3, 0.8):
        tuning = Tuning(threshold=threshold)
        detector = Detector(tuning)
        said = [detector.update(time, value).anomaly for time, value in zip(times, values.tolist(), strict=True)]
        traced = constants.trace(times, values, tuning)
        assert constants.verdicts(traced, tuning, threshold).astype(bool).tolist() == said
