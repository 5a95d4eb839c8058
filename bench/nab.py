"""Anomaly detection beside published detectors, on the five AWS CPU files of the Numenta Anomaly Benchmark.

    .venv/bin/python bench/nab.py

The score is NAB's (bench/nab_scoring.py). That it is indeed, the windowed Gaussian shows: made anew, as NAB describes
it, it gets what NAB publishes for it. One setting serves all files; the detector sees one point after the other, and
knows neither what comes, nor a file's length, extremes or probation (NAB allows the last three).

"Of the other four": each file with the threshold that is best for the others. "Default": the detector's own threshold,
0.8. "Verdicts": what it calls an anomaly, which is that threshold and saying one thing once. Then each
constant is changed by half and double, and the files are disturbed; the best threshold is chosen anew each time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice

import numpy as np
from nab_scoring import Floats, Labelled, at_threshold, labelled_files, normalised, optimum
from options import Options
from output import machine, table
from scipy.special import ndtr

from analytics.methods.anomalies import Detector, Tuning

PUBLISHED = {"CAD OSE": 88.3, "ARTime": 84.1, "HTM": 78.7, "random cut forest": 76.4, "windowed Gaussian": 53.0}
"""NAB's own results for the same five files, threshold optimised over the five."""
CHANGED: dict[str, tuple[float, ...]] = {
    "window": (12, 18, 36, 48),
    "memory": (42, 168),
    "learning": (6, 24),
    "neighbours": (5, 20),
    "grain": (0.15, 0.6),
    "quiet": (36, 144),
}
CHANGED_TOGETHER: dict[str, dict[str, int]] = {
    "learning": {"neighbours": 5},
    "neighbours": {"learning": 21},
}
"""Fewer neighbours than blocks learned is a must: the smallest change that allows the other."""

Judged = tuple[Floats, Floats]


def main() -> None:
    """Print the tables."""
    parser = Options(__doc__)
    parser.size("--files", 5, tiny=2, help="of the five, the first so many")
    options = parser.parse()
    print(machine(), flush=True)
    files = dict(islice(labelled_files().items(), options.files))
    started = time.process_time()
    judged = {name: judge(file, Tuning()) for name, file in files.items()}
    cost_us = (time.process_time() - started) / sum(len(file.value) for file in files.values()) * 1e6
    scores = {name: score for name, (score, _) in judged.items()}
    print(f"\n{beside(files, scores)}\n\n{by_file(files, judged)}")
    print(f"\nCost: {cost_us:.0f} µs a point on one core.")
    print(f"\n{changed(files)}\n\n{disturbed(files)}")


def judge(file: Labelled, tuning: Tuning) -> Judged:
    """Scores and verdicts, point by point."""
    detector = Detector(tuning)
    verdicts = [
        detector.update(time_ms, value)
        for time_ms, value in zip(file.time.as_unit("ms").asi8.tolist(), file.value.tolist(), strict=True)
    ]
    return np.array([verdict.score for verdict in verdicts]), np.array([float(verdict.anomaly) for verdict in verdicts])


def windowed_gaussian(values: Floats, size: int = 6400) -> Floats:
    """NAB's detector: a value's place in the normal distribution of all before it, as the window never fills here."""
    assert len(values) <= size
    scores = np.zeros(len(values))
    for place in range(1, len(values)):
        spread = values[:place].std() or 1e-6
        scores[place] = ndtr(abs(values[place] - values[:place].mean()) / spread)
    return scores


def beside(files: Mapping[str, Labelled], scores: Mapping[str, Floats]) -> str:
    """Our score in order among the published ones."""
    ours = optimum(files, scores)
    gaussian = optimum(files, {name: windowed_gaussian(file.value) for name, file in files.items()})
    rows = [("Loadlens", ours.score, "-"), ("windowed Gaussian, made anew", gaussian.score, "53.0")]
    rows += [(name, score, f"{score:.1f}") for name, score in PUBLISHED.items() if name != "windowed Gaussian"]
    rows += [("null detector", 0.0, "0.0")]
    rows.sort(key=lambda row: -row[1])
    measured = ("Loadlens", "windowed Gaussian, made anew", "null detector")
    cells = [[name, f"{score:.1f}" if name in measured else "-", published] for name, score, published in rows]
    return table(["NAB, five AWS CPU files", "measured here", "published"], cells)


def by_file(files: Mapping[str, Labelled], judged: Mapping[str, Judged]) -> str:
    """Each file's score with three ways to choose the threshold, and the alarms outside windows."""
    scores = {name: score for name, (score, _) in judged.items()}
    best, default = optimum(files, scores).threshold, Tuning().threshold
    choices: dict[str, Callable[[str], float]] = {
        "best threshold": lambda name: at_threshold(files[name], scores[name], best),
        "of the other four": lambda name: at_threshold(files[name], scores[name], others(files, scores, name)),
        "default": lambda name: at_threshold(files[name], scores[name], default),
        "verdicts": lambda name: at_threshold(files[name], judged[name][1], 1.0),
    }
    raw = {choice: {name: measure(name) for name in files} for choice, measure in choices.items()}
    rows = [
        [
            name,
            *(f"{normalised(raw[choice][name], len(file.windows)):.1f}" for choice in raw),
            alarms(file, judged[name][1]),
        ]
        for name, file in files.items()
    ]
    windows = sum(len(file.windows) for file in files.values())
    totals = [f"{normalised(sum(raw[choice].values()), windows):.1f}" for choice in raw]
    return table(["Threshold", *raw, "false alarms"], [*rows, ["all", *totals, "-"]])


def others(files: Mapping[str, Labelled], scores: Mapping[str, Floats], name: str) -> float:
    """The threshold that is best for all files but this one."""
    return optimum(files, scores, [other for other in files if other != name]).threshold


def alarms(file: Labelled, verdicts: Floats) -> str:
    """How many verdicts lie outside of windows, after probation."""
    places = np.flatnonzero(verdicts)
    outside = [not any(start <= place <= end for start, end in file.windows) for place in places]
    return str(int(np.sum((places >= file.probation) & np.array(outside, bool))))


def changed(files: Mapping[str, Labelled]) -> str:
    """The score with each constant changed."""
    cases: list[tuple[str, Tuning]] = [("as it is", Tuning())]
    for name, values in CHANGED.items():
        for value in values:
            needed = CHANGED_TOGETHER.get(name, {}) if not _possible(name, value) else {}
            note = "".join(f", {other} {number}" for other, number in needed.items())
            tuning = replace(Tuning(), **{name: value}, **needed)
            cases.append((f"{name} {value:g} instead of {getattr(Tuning(), name):g}{note}", tuning))
    return scored("Constants", [(case, files, tuning) for case, tuning in cases])


def disturbed(files: Mapping[str, Labelled]) -> str:
    """The score where the files begin later, so that blocks lie elsewhere, and with a third of their noise added."""
    cases = [
        (f"the first {start} points left out", {name: later(file, start) for name, file in files.items()}, Tuning())
        for start in (3, 7, 12, 17, 22)
    ]
    cases += [
        (f"noise added, seed {seed}", {name: noisy(file, seed) for name, file in files.items()}, Tuning())
        for seed in (0, 1, 2)
    ]
    return scored("The same files", cases)


def later(file: Labelled, start: int) -> Labelled:
    """Without its first points."""
    windows = tuple((first - start, last - start) for first, last in file.windows)
    return Labelled(file.time[start:], file.value[start:], windows)


def noisy(file: Labelled, seed: int) -> Labelled:
    """With normal noise, a third of what lies between neighbours."""
    noise = np.median(np.abs(np.diff(file.value))) / 0.6745 / 2**0.5 / 3
    return replace(file, value=file.value + np.random.default_rng(seed).normal(0, noise, len(file.value)))


def scored(title: str, cases: Sequence[tuple[str, Mapping[str, Labelled], Tuning]]) -> str:
    """A table of scores."""
    with ProcessPoolExecutor(2) as pool:
        measured = list(pool.map(score_with, [files for _, files, _ in cases], [tuning for *_, tuning in cases]))
    rows = [
        [case, f"{best:.1f}", f"{verdicts:.1f}"] for (case, *_), (best, verdicts) in zip(cases, measured, strict=True)
    ]
    return table([title, "best threshold", "verdicts"], rows)


def score_with(files: Mapping[str, Labelled], tuning: Tuning) -> tuple[float, float]:
    """The score with the best threshold, and that of the verdicts."""
    judged = {name: judge(file, tuning) for name, file in files.items()}
    raw = sum(at_threshold(file, judged[name][1], 1.0) for name, file in files.items())
    windows = sum(len(file.windows) for file in files.values())
    return optimum(files, {name: score for name, (score, _) in judged.items()}).score, normalised(raw, windows)


def _possible(name: str, value: float) -> bool:
    try:
        replace(Tuning(), **{name: value})
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
