"""The detector's constants, chosen on some groups of files and judged by others.

Every candidate runs over all series once; how surprising each point was is kept, so that each threshold can be tried on
it. A candidate is admitted by what has no labels: at most `BUDGET` false alarms a machine-day on real hosts,
PlanetLab's, and `LEAST_FOUND` of those found that stick at a value, or at zero, for half a day; at most `NOISE_BUDGET`
a week in noise that lasts some minutes. Among the admitted, the best NAB score on the files that may be looked at
decides: the mean over a threshold and its two neighbours, so that a lucky threshold does not win.

Left out together are the files of one of NAB's folders: the five AWS CPU files with the other AWS files, and the
made-up files with and without anomalies.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from nab_scoring import Floats, Labelled, at_threshold, normalised

from analytics.methods.anomalies import Tuning
from analytics.methods.anomalies.detector import News, said_once
from analytics.methods.anomalies.quantities import Quantities

CANDIDATES = tuple(
    Tuning(memory=memory, neighbours=neighbours, ignored=ignored, learning=neighbours + ignored + 1, grain=grain)
    for memory, neighbours, ignored, grain in (
        *product((168,), (10, 14, 20), (2,), (0.4, 0.5, 0.7)),
        (84, 14, 2, 0.5),
        (336, 14, 2, 0.5),
        (168, 14, 0, 0.5),
    )
)
THRESHOLDS = (0.2, 0.25, 0.3, 1 / 3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
BUDGET = 0.078
LEAST_FOUND = 0.95
NOISE_BUDGET = 1.0
STEP_MS, DAY = 300_000, 288
_NOISES = 20
NEAR = 50
"""Points within which what sticks must be found."""


@dataclass(frozen=True, slots=True)
class Trace:
    """How surprising each point of a series was, as an event and as a stillness."""

    surprise: Floats
    stillness: Floats


@dataclass(frozen=True, slots=True)
class Host:
    """A host's series, and where it is stopped to see whether that is found; None where it is too short."""

    time_ms: list[int]
    value: Floats
    stops: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a candidate gives, for each of `THRESHOLDS`."""

    raw: dict[str, Floats]
    """NAB's raw score of each file."""
    false_a_day: Floats
    noise_a_week: Floats
    found: Floats
    """The smaller share of the hosts that stick and of those that stop, 1 without any."""


Tried = tuple[Tuning, Outcome]


def step_ms(file: Labelled) -> int:
    """How far the first hundred points lie apart, which is what a user knows."""
    return int(np.median(np.diff(file.time.as_unit("ms").asi8[:100])))


def tuned(tuning: Tuning, file: Labelled) -> Tuning:
    """The constants for a file's step."""
    by_step = Tuning.for_step(step_ms(file))
    return replace(tuning, window=by_step.window, quiet=by_step.quiet)


def trace(time_ms: Sequence[int], value: Floats, tuning: Tuning) -> Trace:
    """Every point, seen once, in order."""
    quantities = Quantities(tuning)
    surprise, stillness = np.zeros(len(value)), np.zeros(len(value))
    last = None
    for place, (now, one) in enumerate(zip(time_ms, value.tolist(), strict=True)):
        if last is not None:
            quantities.end_recent_after(now - last)
        last = now
        met = quantities.meet(now, one)
        surprise[place], stillness[place] = met.surprise, met.stillness
    return Trace(surprise, stillness)


def verdicts(traced: Trace, tuning: Tuning, threshold: float) -> Floats:
    """1 where an event begins: what `Detector` says with that threshold."""
    alarm = replace(tuning, threshold=threshold).alarm
    said = np.zeros(len(traced.surprise))
    for news, surprises in (
        (News(tuning.quiet), traced.surprise), (said_once(tuning.quiet), traced.stillness),
    ):  # fmt: skip
        for place in np.flatnonzero(surprises).tolist():
            if news.judge(place, float(surprises[place]), alarm)[1]:
                said[place] = 1.0
    return said


def hosts(fleet: Path | None, every: int, first: int = 0) -> list[Host]:
    """Every so many of PlanetLab's hosts; empty without the file."""
    if fleet is None or not fleet.exists():
        return []
    rows = pd.read_parquet(fleet).sort_values(["user_id", "time"], kind="stable")
    chosen = set(np.sort(rows["user_id"].unique())[first::every])
    rng = np.random.default_rng(0)
    found = []
    for _, own in rows[rows["user_id"].isin(chosen)].groupby("user_id", observed=True):
        count = len(own)
        stops = int(rng.integers(2 * DAY, count - DAY // 2)) if count >= 3 * DAY else None
        time_ms = pd.DatetimeIndex(own["time"]).as_unit("ms").asi8.tolist()
        found.append(Host(time_ms, own["utilization_percent"].to_numpy(float), stops))
    return found


def noise(seed: int, days: int = 14) -> Floats:
    """A busy host, 40 %, without an event."""
    shocks = np.random.default_rng(seed).normal(0, 0.02, days * DAY + 3)
    return 0.4 + np.convolve(shocks, [0.4, 0.3, 0.2, 0.1], "valid")


def stopped(host: Host, value: float) -> Floats:
    """The series with half a day at a value."""
    assert host.stops is not None
    changed = host.value.copy()
    changed[host.stops : host.stops + DAY // 2] = value
    return changed


def outcome(tuning: Tuning, files: Mapping[str, Labelled], fleet: Sequence[Host]) -> Outcome:
    """A candidate on all series."""
    raw = {}
    for name, file in files.items():
        own = tuned(tuning, file)
        traced = trace(file.time.as_unit("ms").asi8.tolist(), file.value, own)
        raw[name] = np.array([at_threshold(file, verdicts(traced, own, one), 1.0) for one in THRESHOLDS])
    false = np.zeros(len(THRESHOLDS))
    for host in fleet:
        traced = trace(host.time_ms, host.value, tuning)
        false += [verdicts(traced, tuning, one).sum() for one in THRESHOLDS]
    found: tuple[list[list[bool]], list[list[bool]]] = ([], [])
    for host in [one for one in fleet if one.stops is not None][::3]:
        assert host.stops is not None
        for hits, level in zip(found, (host.value[host.stops - 1], 0.0), strict=True):
            traced = trace(host.time_ms, stopped(host, level), tuning)
            near = slice(host.stops, host.stops + NEAR)
            hits.append([bool(verdicts(traced, tuning, one)[near].any()) for one in THRESHOLDS])
    in_noise = np.zeros(len(THRESHOLDS))
    for seed in range(_NOISES):
        traced = trace(range(0, 14 * DAY * STEP_MS, STEP_MS), noise(seed), tuning)
        in_noise += [verdicts(traced, tuning, one).sum() for one in THRESHOLDS]
    days = sum(len(host.value) for host in fleet) / DAY
    shares = [np.mean(hits, axis=0) if hits else np.ones(len(THRESHOLDS)) for hits in found]
    return Outcome(raw, false / max(days, 1 / DAY), in_noise / (2 * _NOISES), np.minimum(*shares))


def outcomes(
    files: Mapping[str, Labelled], fleet: Sequence[Host], candidates: Sequence[Tuning] = CANDIDATES
) -> list[Tried]:
    """All candidates, on two cores."""
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(partial(outcome, files=files, fleet=fleet), candidates))
    return list(zip(candidates, found, strict=True))


def choose(tried: Sequence[Tried], names: Sequence[str]) -> tuple[Tuning, Outcome, int]:
    """What is best for some files: the constants with their threshold, what they give, and the threshold's place.

    Where nothing is admitted, the budget alone is let go.
    """
    best: tuple[float, float, int, int] | None = None
    for place, (_, one) in enumerate(tried):
        raw = np.sum([one.raw[name] for name in names], axis=0)
        padded = np.concatenate([raw[:1], raw, raw[-1:]])
        smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
        admitted = (one.false_a_day <= BUDGET) & (one.noise_a_week <= NOISE_BUDGET) & (one.found >= LEAST_FOUND)
        for threshold in range(len(THRESHOLDS)):
            key = (float(admitted[threshold]), float(smooth[threshold]), place, threshold)
            if best is None or key[:2] > best[:2]:
                best = key
    assert best is not None
    tuning, found = tried[best[2]]
    return replace(tuning, threshold=THRESHOLDS[best[3]]), found, best[3]


def fold(name: str) -> str:
    """What a file is left out with."""
    folder = name.partition("/")[0] if "/" in name else "realAWSCloudwatch"
    return "artificial" if folder.startswith("artificial") else folder


def cross_validated(
    files: Mapping[str, Labelled], tried: Sequence[Tried]
) -> tuple[dict[str, Tuning], dict[str, float]]:
    """What is chosen for each group without it, and the raw score of each file with what was chosen without it."""
    chosen, raw = {}, {}
    for group in dict.fromkeys(map(fold, files)):
        others = [name for name in files if fold(name) != group] or list(files)
        chosen[group], found, threshold = choose(tried, others)
        raw.update({name: float(found.raw[name][threshold]) for name in files if fold(name) == group})
    return chosen, raw


def score(files: Mapping[str, Labelled], raw: Mapping[str, float], names: Sequence[str] | None = None) -> float:
    """The normalised score of some files (all), 0 to 100 or below."""
    names = list(files) if names is None else names
    return normalised(sum(raw[name] for name in names), sum(len(files[name].windows) for name in names))
