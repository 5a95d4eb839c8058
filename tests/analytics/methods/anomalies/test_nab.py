"""The detector finds what the Numenta Anomaly Benchmark labels, and the score is the benchmark's."""

import numpy as np
import pandas as pd
import pytest

from analytics.methods.anomalies import anomalies
from bench.nab_scoring import Labelled, at_threshold, labelled_files, normalised, optimum, perfect_scores

FILES = labelled_files()
WINDOWS = sum(len(file.windows) for file in FILES.values())


@pytest.fixture(scope="module")
def judged() -> dict[str, pd.DataFrame]:
    frames = [pd.DataFrame({"mean": file.value, "user": name}, index=file.time) for name, file in FILES.items()]
    verdicts = anomalies(pd.concat(frames))
    return {str(name): rows for name, rows in verdicts.groupby("user")}


def test_a_detector_that_says_nothing_scores_0_and_a_perfect_one_100() -> None:
    silent = {name: np.zeros(len(file.value)) for name, file in FILES.items()}
    perfect = {name: perfect_scores(file) for name, file in FILES.items()}
    assert optimum(FILES, silent).score == 0
    assert optimum(FILES, perfect).score == pytest.approx(100)


def test_detections_are_weighed_as_nab_does() -> None:
    file = Labelled(pd.date_range("2024", periods=1000, freq="5min", tz="UTC"), np.zeros(1000), ((400, 499),))

    def raw(*places: int) -> float:
        scores = np.zeros(1000)
        scores[list(places)] = 1.0
        return at_threshold(file, scores, 0.5)

    assert raw() == -1
    assert raw(400) == pytest.approx(1)
    assert raw(449) == pytest.approx((2 / (1 + np.exp(-5 * 0.51)) - 1) / (2 / (1 + np.exp(-5)) - 1))
    assert raw(449, 480) == raw(449), "only the earliest counts"
    assert raw(100) == -1, "probation is not scored"
    assert raw(200) == pytest.approx(-1.11)
    assert raw(499 + 99) == pytest.approx(-1 - 0.11 * (1 - 2 / (1 + np.exp(5))))
    assert raw(999) == pytest.approx(-1.11)


def test_the_score_is_above_85_with_the_best_threshold(judged: dict[str, pd.DataFrame]) -> None:
    assert optimum(FILES, {name: rows["score"].to_numpy() for name, rows in judged.items()}).score > 88


def test_the_verdicts_alone_score_above_85(judged: dict[str, pd.DataFrame]) -> None:
    raw = sum(at_threshold(file, judged[name]["anomaly"].to_numpy(float), 1.0) for name, file in FILES.items())
    assert normalised(raw, WINDOWS) > 88


def test_every_labelled_window_is_found(judged: dict[str, pd.DataFrame]) -> None:
    for name, file in FILES.items():
        news = judged[name]["anomaly"].to_numpy()
        assert [bool(news[start : end + 1].any()) for start, end in file.windows] == [True] * len(file.windows), name


@pytest.mark.parametrize("name", FILES)
def test_no_verdict_knows_the_future(judged: dict[str, pd.DataFrame], name: str) -> None:
    file = FILES[name]
    rng = np.random.default_rng(0)
    for end in (700, int(rng.integers(1000, 4000))):
        alone = anomalies(pd.DataFrame({"mean": file.value[:end]}, index=file.time[:end]))
        pd.testing.assert_frame_equal(alone, judged[name].drop(columns="user").iloc[:end])
