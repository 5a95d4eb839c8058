"""Anomaly detection beside published detectors, on 52 series of the Numenta Anomaly Benchmark.

    .venv/bin/python bench/nab.py [--others FOLDER] [--fleet FILE]

The score is NAB's (bench/nab_scoring.py). That it is indeed, the windowed Gaussian shows: made anew, as NAB describes
it, it gets what NAB publishes for it. The detector sees one point after the other, and knows neither what comes, nor a
file's length, extremes or probation (NAB allows the last three); it is told how far apart the points are.

"Cross-validated": what the verdicts score with constants that were chosen without the group
(bench/anomaly_constants.py), threshold and all. "As it is": with the constants that the library has, which all groups
together have chosen. The published detectors have their best threshold for the 52 series; "cross-validated" it is the
best for the other groups.

Then the five AWS CPU files, with which the detector was first designed: "of the other four" is each file with the
threshold that is best for the others. Then each constant is changed by half and double, and the files are disturbed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from anomaly_constants import CANDIDATES, Tried, choose, cross_validated, hosts, outcomes, score, tuned
from data import NAB_OTHER
from nab_scoring import Floats, Labelled, at_threshold, labelled_files, normalised, optimum, other_files
from options import Options
from output import machine, table
from scipy.special import ndtr

from analytics.methods.anomalies import Detector, Tuning

PUBLISHED = {"CAD OSE": 88.3, "ARTime": 84.1, "HTM": 78.7, "random cut forest": 76.4, "windowed Gaussian": 53.0}
"""NAB's own results for the same five files, threshold optimised over the five."""
OF_ALL: dict[str, tuple[float, float, tuple[float, ...]]] = {
    "ARTime": (74.1, 76.0, (83.5, 63.6, 69.4, 75.1, 65.4, 86.9, 81.9)),
    "CAD OSE": (69.0, 70.1, (84.5, 63.3, 71.2, 72.0, 41.7, 91.2, 74.5)),
    "Numenta HTM": (67.7, 69.9, (78.1, 68.4, 66.5, 76.9, 56.5, 82.5, 68.0)),
    "Skyline": (58.3, 58.3, (53.9, 60.8, 40.2, 56.8, 31.8, 76.5, 68.9)),
    "random cut forest": (36.3, 52.1, (73.5, 55.8, 15.5, 62.8, 40.8, 63.8, 48.1)),
}
"""The scores that NAB's repository has of them (results/), scored here on the same 52 series: with the threshold that
is best for the other groups, with the best for all, and with that one group by group."""
GROUPS = {
    "AWS CPU": "",
    "AWS other": "realAWSCloudwatch",
    "made up": "artificialWithAnomaly",
    "ad exchange": "realAdExchange",
    "known causes": "realKnownCause",
    "traffic": "realTraffic",
    "tweets": "realTweets",
}
CHANGED: dict[str, tuple[float, ...]] = {
    "threshold": (0.15, 0.6),
    "window": (12, 18, 36, 48),
    "memory": (84, 336),
    "learning": (34,),
    "neighbours": (7, 28),
    "ignored": (0, 4),
    "grain": (0.35, 1.4),
    "quiet": (72, 288),
}
CHANGED_TOGETHER: dict[str, dict[str, int]] = {"neighbours": {"learning": 31}, "ignored": {"learning": 19}}
"""Fewer neighbours and ignored ones than blocks learned is a must: the smallest change that allows the other."""

Judged = tuple[Floats, Floats]


def main() -> None:
    """Print the tables."""
    parser = Options(__doc__)
    parser.size("--files", 5, tiny=2, help="of the five, the first so many")
    parser.size("--candidates", len(CANDIDATES), tiny=2, help="constants that are tried, the first so many")
    parser.size("--every", 8, tiny=1000, help="of PlanetLab's hosts, those that admit constants")
    parser.data("--others", NAB_OTHER, tiny=None, type=Path, help="the folder of the other 47 series")
    parser.shared("--fleet")
    options = parser.parse()
    print(machine(), flush=True)
    files = dict(islice(labelled_files().items(), options.files))
    everything = {**files, **(other_files(options.others) if options.others else {})}
    tried = outcomes(everything, hosts(options.fleet, options.every), CANDIDATES[: options.candidates])
    print(f"\n{all_groups(everything, tried)}\n\n{chosen_constants(everything, tried)}", flush=True)
    started = time.process_time()
    judged = {name: judge(file, Tuning()) for name, file in files.items()}
    cost_us = (time.process_time() - started) / sum(len(file.value) for file in files.values()) * 1e6
    scores = {name: score for name, (score, _) in judged.items()}
    print(f"\n{beside(files, scores)}\n\n{by_file(files, judged)}")
    print(f"\nCost: {cost_us:.0f} µs a point on one core.")
    print(f"\n{changed(files)}\n\n{disturbed(files)}")


def all_groups(files: Mapping[str, Labelled], tried: Sequence[Tried]) -> str:
    """Every group's score, cross-validated, with the library's constants, and of published detectors."""
    parts = {title: [name for name in files if _folder(name) == folder] for title, folder in GROUPS.items()}
    columns = ["NAB, 52 series, 108 windows", "all", *parts]
    with ProcessPoolExecutor(2) as pool:
        judged = list(pool.map(verdicts_score, files.values()))
    _, held_out = cross_validated(files, tried)
    rows = []
    for title, raw in (
        ("Loadlens, cross-validated", held_out), ("Loadlens, as it is", dict(zip(files, judged, strict=True))),
    ):  # fmt: skip
        cells = [f"{score(files, raw, names):.1f}" if names else "-" for names in parts.values()]
        rows.append([title, f"{score(files, raw):.1f}", *cells])
    for title, (validated, best, groups) in OF_ALL.items():
        rows.append([f"{title}, cross-validated", f"{validated:.1f}", *["-"] * len(groups)])
        rows.append([f"{title}, best threshold", f"{best:.1f}", *(f"{one:.1f}" for one in groups)])
    gaussian = {name: windowed_gaussian(file.value) for name, file in files.items()}
    best_threshold = optimum(files, gaussian).threshold
    raw = {name: at_threshold(file, gaussian[name], best_threshold) for name, file in files.items()}
    cells = [f"{score(files, raw, names):.1f}" if names else "-" for names in parts.values()]
    rows.append(["windowed Gaussian, made anew, best threshold", f"{score(files, raw):.1f}", *cells])
    return table(columns, rows)


def chosen_constants(files: Mapping[str, Labelled], tried: Sequence[Tried]) -> str:
    """What each group's absence chooses, and all groups together."""
    chosen, _ = cross_validated(files, tried)
    rows = [
        [f"without {group}", f"{one.threshold:.2f}", *map(str, (one.memory, one.neighbours, one.ignored, one.grain))]
        for group, one in {**chosen, "nothing": choose(tried, list(files))[0]}.items()
    ]
    return table(["Chosen", "threshold", "memory", "neighbours", "ignored", "grain"], rows)


def verdicts_score(file: Labelled) -> float:
    """The raw score of the verdicts, with the library's constants for the file's step."""
    return at_threshold(file, judge(file, tuned(Tuning(), file))[1], 1.0)


def judge(file: Labelled, tuning: Tuning) -> Judged:
    """Scores and verdicts, point by point."""
    detector = Detector(tuning)
    verdicts = [
        detector.update(time_ms, value)
        for time_ms, value in zip(file.time.as_unit("ms").asi8.tolist(), file.value.tolist(), strict=True)
    ]
    return np.array([verdict.score for verdict in verdicts]), np.array([float(verdict.anomaly) for verdict in verdicts])


def windowed_gaussian(values: Floats, size: int = 6400, step: int = 150) -> Floats:
    """NAB's detector: a value's place in the normal distribution of the 6,400 before it, taken anew each 150 points."""
    scores = np.zeros(len(values))
    past = values[:1]
    for place in range(1, len(values)):
        if place <= size:
            past = values[:place]
        elif (place - size) % step == 0:
            past = values[place - size : place]
        spread = past.std() or 1e-6
        scores[place] = ndtr(abs(values[place] - past.mean()) / spread)
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


def _folder(name: str) -> str:
    """NAB's folder of a file; none for the five AWS CPU files. The made-up files without anomalies count as made up."""
    folder = name.partition("/")[0] if "/" in name else ""
    return "artificialWithAnomaly" if folder == "artificialNoAnomaly" else folder


def _possible(name: str, value: float) -> bool:
    try:
        replace(Tuning(), **{name: value})
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()
