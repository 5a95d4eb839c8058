"""NAB's score (Numenta Anomaly Benchmark v1.1, standard profile), on its five files of AWS CPU load and 47 others.

As nab/sweeper.py and nab/optimizer.py compute it, in a few array operations:

- The first 15 % of a file, at most 750 points, are not scored.
- In a labelled window the earliest detection counts, with a scaled sigmoid of its place: 1 at the left edge, near 0 at
  the right one. A window without a detection costs 1.
- A detection outside costs up to 0.11: all of it before the first window, less just behind one.
- One threshold, the best for all files together, is put on the scores of a detector.
- 0 is a detector that says nothing, 100 one that finds every window at its left edge and nothing else.

Lavin and Ahmad, "Evaluating Real-Time Anomaly Detection Algorithms", ICMLA 2015.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

DATA = Path(__file__).parents[1] / "tests" / "data" / "nab"
_FALSE_POSITIVE = 0.11
_PROBATION, _LONGEST_PROBATION = 0.15, 750
_ABOVE_ALL = 1.1
"""A threshold that no score reaches."""

Floats = npt.NDArray[np.float64]
Scores = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A series and its labelled windows (first and last place)."""

    time: pd.DatetimeIndex
    value: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Points at the start that are not scored."""
        return min(math.floor(_PROBATION * len(self.value)), _LONGEST_PROBATION)


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best threshold and what it gives."""

    threshold: float
    score: float
    """Normalised: 0 to 100, or below."""


def labelled_files() -> dict[str, Labelled]:
    """The five files by their names."""
    table = pd.read_parquet(DATA / "aws-cpu.parquet")
    windows = json.loads((DATA / "windows.json").read_text())
    files = {}
    for name, rows in table.groupby("file", observed=True):
        time = pd.DatetimeIndex(rows["time"])
        places = tuple(
            (time.get_loc(pd.Timestamp(start)), time.get_loc(pd.Timestamp(end))) for start, end in windows[name]
        )
        files[str(name)] = Labelled(time, rows["value"].to_numpy(float), places)
    return files


def other_files(folder: Path) -> dict[str, Labelled]:
    """The further series, by group and name; empty where the folder has none."""
    if not (folder / "series.parquet").exists():
        return {}
    windows = json.loads((folder / "anomaly-windows.json").read_text())
    files = {}
    for name, rows in pd.read_parquet(folder / "series.parquet").groupby("file", observed=True, sort=False):
        time = pd.DatetimeIndex(rows["timestamp"]).as_unit("ms")
        time = time.tz_localize("UTC") if time.tz is None else time
        first: dict[int, int] = {}
        for place, time_ms in enumerate(time.asi8.tolist()):
            first.setdefault(time_ms, place)
        places = tuple((first[_epoch_ms(start)], first[_epoch_ms(end)]) for start, end in windows.get(name, []))
        # A few times repeat or go back: what comes later is taken to be as late as the latest so far.
        files[str(name)] = Labelled(
            pd.DatetimeIndex(np.maximum.accumulate(time.asi8).astype("datetime64[ms]"), tz="UTC"),
            rows["value"].to_numpy(float), places,
        )  # fmt: skip
    return files


def perfect_scores(file: Labelled) -> Floats:
    """1 at the first point of each window, 0 elsewhere."""
    scores = np.zeros(len(file.value))
    scores[[start for start, _ in file.windows]] = 1.0
    return scores


def at_threshold(file: Labelled, scores: Floats, threshold: float) -> float:
    """The raw score: between minus and plus the number of windows, less what false positives cost."""
    return float(_raw(file, scores, np.array([threshold]))[0])


def optimum(files: Mapping[str, Labelled], scores: Scores, names: Iterable[str] | None = None) -> Optimum:
    """The threshold that is best for `names` (all files) together, and their score."""
    chosen = list(files if names is None else names)
    scored = [scores[name][files[name].probation :] for name in chosen]
    thresholds = np.concatenate([[_ABOVE_ALL], np.unique(np.concatenate(scored))[::-1]])
    raw = np.sum([_raw(files[name], scores[name], thresholds) for name in chosen], axis=0)
    best = int(np.argmax(raw))
    return Optimum(
        float(thresholds[best]), normalised(float(raw[best]), sum(len(files[name].windows) for name in chosen))
    )


def normalised(raw: float, windows: int) -> float:
    """100 * (raw - null) / (perfect - null)."""
    return 100 * (raw + windows) / (2 * windows)


def _epoch_ms(time: str) -> int:
    return pd.Timestamp(time, tz="UTC").value // 1_000_000


def _raw(file: Labelled, scores: Floats, thresholds: Floats) -> Floats:
    """The raw score for each of `thresholds`."""
    count = len(scores)
    place = np.arange(count)
    gain = np.full(count, -_FALSE_POSITIVE)
    window_of = np.full(count, -1)
    starts = [start for start, _ in file.windows] + [count]
    for number, (start, end) in enumerate(file.windows):
        next_start = starts[number + 1]
        width = end - start + 1
        gain[start : end + 1] = _sigmoid(-(end - place[start : end + 1] + 1) / width) / _sigmoid(np.array(-1.0))
        gain[end + 1 : next_start] = _FALSE_POSITIVE * _sigmoid((place[end + 1 : next_start] - end) / (width - 1))
        window_of[start : end + 1] = number
    is_scored = place >= file.probation
    outside = is_scored & (window_of < 0)
    order = np.argsort(-scores[outside], kind="stable")
    costs = np.concatenate([[0.0], np.cumsum(gain[outside][order])])
    raw = costs[np.searchsorted(-scores[outside][order], -thresholds, side="right")]
    for number in range(len(file.windows)):
        inside = np.flatnonzero(is_scored & (window_of == number))
        highest = np.maximum.accumulate(scores[inside])
        first = np.searchsorted(highest, thresholds, side="left")
        found = first < len(inside)
        raw = raw + np.where(found, gain[inside[np.minimum(first, len(inside) - 1)]], -1.0)
    return raw


def _sigmoid(position: Floats) -> Floats:
    """From 1 far left of the window's right edge (0) to -1 far behind it."""
    return np.where(position >= 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * np.minimum(position, 3.0))) - 1.0)
