"""Anomalies of known kinds, put into series that are not NAB's: how many are found, and how many alarms are false.

    .venv/bin/python bench/injected.py [--series N] [--machines N] [--alibaba FILE]

Three sources, each with one anomaly a series, at a random place in the second half, all drawn with fixed seeds:

- made up: two weeks of 5-minute points; a level, noise that lasts for minutes to hours, in a third of the series each a
  daily season, a daily spike, and values in coarse steps;
- PlanetLab: the machines that come with the demo (service/commands/demo/data), five to six days behind each other, in
  whole percent;
- Alibaba: the average of a data centre, eight days (../shared/data; left out where it is missing), once for each kind.

"Found" is an alarm within 50 points of where the anomaly begins. "False a week" counts the alarms before it, and all
in the same series as it was. Real series have events of their own, which nobody labelled: they count as false here.

Beside it stands NAB's windowed Gaussian (bench/nab.py), with the threshold at which it has as many false alarms in all,
and the same silence after an alarm.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from data import ALIBABA, SAMPLE
from nab import windowed_gaussian
from nab_scoring import Floats
from options import Options
from output import left_out, machine, table

from analytics.methods.anomalies import Detector, Tuning

STEP_MS, DAY, WEEK = 300_000, 288, 2016
LEARNED = 2 * DAY
"""Alarms before count for nothing."""
NEAR = 50


@dataclass(frozen=True, slots=True)
class InjectedCase:
    """A series, without and with an anomaly."""

    source: str
    kind: str
    start: int
    clean: Floats
    changed: Floats


@dataclass(frozen=True, slots=True)
class Found:
    """Alarms of both detectors in a case: ours in both series, and the other's scores in both."""

    ours: tuple[list[int], list[int]]
    gaussian: tuple[Floats, Floats]


def spike(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """One to three points, beyond all before."""
    past = values[:start]
    values[start : start + rng.integers(1, 4)] = past.max() + 0.5 * (past.max() - np.median(past)) + 3 * noise


def shift(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """A new level, for good."""
    values[start:] += 5 * noise * rng.choice([-1, 1])


def burst(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """Two to five hours a little higher, no point of them extreme."""
    values[start : start + rng.integers(24, 60)] += 3 * noise


def flutter(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """Four times the noise, for half a day to a day."""
    length = rng.integers(DAY // 2, DAY)
    values[start : start + length] += 4 * noise * rng.normal(size=len(values[start : start + length]))


def stick(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """Always the same value, for half a day."""
    values[start : start + DAY // 2] = np.median(values[start - DAY : start])


def season(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """A day that comes twelve hours late."""
    values[start : start + DAY] = np.roll(values[start - DAY // 2 : start + DAY], DAY // 2)[DAY // 2 :]


KINDS: dict[str, Callable[[Floats, int, float, np.random.Generator], None]] = {
    kind.__name__: kind for kind in (spike, shift, burst, flutter, stick, season)
}

SOURCES = ("made up", "PlanetLab", "Alibaba")


def main() -> None:
    """Print the tables."""
    parser = Options(__doc__)
    parser.size("--series", 120, tiny=6, help="how many are made up")
    parser.size("--machines", 60, tiny=5, help="of PlanetLab")
    parser.data("--alibaba", ALIBABA, tiny=None, type=Path, help="the data centre's file")
    options = parser.parse()
    print(machine(), flush=True)
    cases = [*made_up(options.series), *planetlab(options.machines), *alibaba(options.alibaba)]
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(detect, cases, chunksize=4))
    budget = sum(false_alarms(case, *one.ours) for case, one in zip(cases, found, strict=True))
    threshold = threshold_for(budget, cases, found)
    ours = [one.ours for one in found]
    theirs = [tuple(alarms(scores, threshold) for scores in one.gaussian) for one in found]
    print(f"\n{summary(cases, {'Loadlens': ours, 'windowed Gaussian': theirs})}")


def detect(case: InjectedCase) -> Found:
    """Both detectors on both series."""
    return Found(
        (verdicts(case.clean), verdicts(case.changed)),
        (windowed_gaussian(case.clean), windowed_gaussian(case.changed)),
    )


def verdicts(values: Floats) -> list[int]:
    """Where our detector sees an event begin."""
    detector = Detector()
    judged = [detector.update(place * STEP_MS, value) for place, value in enumerate(values.tolist())]
    return [place for place, verdict in enumerate(judged) if verdict.anomaly]


def alarms(scores: Floats, threshold: float) -> list[int]:
    """Where scores reach a threshold, and did not shortly before."""
    places: list[int] = []
    for place in np.flatnonzero(scores >= threshold).tolist():
        if not places or place - places[-1] > Tuning().quiet:
            places.append(place)
    return places


def false_alarms(case: InjectedCase, clean: Sequence[int], changed: Sequence[int]) -> int:
    """In the series as it was, and before the anomaly."""
    return sum(place >= LEARNED for place in clean) + sum(LEARNED <= place < case.start - NEAR for place in changed)


def threshold_for(budget: int, cases: Sequence[InjectedCase], found: Sequence[Found]) -> float:
    """The lowest threshold with which the Gaussian has no more false alarms than `budget`."""
    low, high = 0.5, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        false = sum(
            false_alarms(case, alarms(one.gaussian[0], middle), alarms(one.gaussian[1], middle))
            for case, one in zip(cases, found, strict=True)
        )
        low, high = (middle, high) if false > budget else (low, middle)
    return high


def summary(cases: Sequence[InjectedCase], found: Mapping[str, Sequence[Sequence[Sequence[int]]]]) -> str:
    """The share found of each source and kind, and the false alarms."""
    hits: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    false: dict[tuple[str, str], int] = defaultdict(int)
    weeks: dict[str, float] = defaultdict(float)
    for place, case in enumerate(cases):
        weeks[case.source] += (len(case.clean) - LEARNED + case.start - NEAR - LEARNED) / WEEK
        for name, places in found.items():
            clean, changed = places[place]
            hits[name, case.source, case.kind].append(any(case.start - 1 <= at <= case.start + NEAR for at in changed))
            false[name, case.source] += false_alarms(case, clean, changed)
    rows = []
    for name in found:
        for source in SOURCES:
            if source not in weeks:
                rows.append(left_out(f"{name}, {source}", len(KINDS) + 2, "no data"))
                continue
            shares = [hits.get((name, source, kind)) for kind in KINDS]
            cells = ["-" if share is None else f"{np.mean(share):.0%} of {len(share)}" for share in shares]
            rows.append([f"{name}, {source}", *cells, f"{false[name, source] / weeks[source]:.2f}"])
    return table(["Found", *KINDS, "false a week"], rows)


def made_up(count: int) -> Iterator[InjectedCase]:
    """Series of many kinds."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        values, is_seasonal = usual(rng)
        kind = list(KINDS)[seed % len(KINDS)]
        if kind == "season" and not is_seasonal:
            values += 0.5 * np.median(values) * (1 + np.sin(np.arange(len(values)) * 2 * np.pi / DAY))
        yield case("made up", kind, values, rng)


def usual(rng: np.random.Generator, count: int = 14 * DAY) -> tuple[Floats, bool]:
    """A series without an anomaly, and whether the day has a large part in it."""
    level = rng.choice([0.3, 2.0, 10.0, 40.0])
    memory = rng.choice([0.0, 0.5, 0.8, 0.95])
    noise = np.zeros(count)
    for place, shock in enumerate(rng.normal(0, (1 - memory**2) ** 0.5, count)):
        noise[place] = memory * noise[place - 1] + shock
    values = level * (1 + rng.choice([0.03, 0.08, 0.15]) * noise)
    is_seasonal = bool(rng.random() < 1 / 3)
    if is_seasonal:
        values += 0.4 * level * np.sin(np.arange(count) * 2 * np.pi / DAY + rng.uniform(0, 6))
    if rng.random() < 1 / 3:
        hours = np.arange(14) * DAY + rng.integers(DAY) + np.rint(rng.normal(0, 2, 14)).astype(int)
        values[hours[(hours >= 0) & (hours < count)]] += level * rng.uniform(1.8, 2.2)
    if rng.random() < 1 / 3:
        step = 0.05 * level
        values = np.rint(values / step) * step
    return np.maximum(values, 0), is_seasonal


def planetlab(count: int) -> Iterator[InjectedCase]:
    """Machines of the demo; their days are put behind each other."""
    fleet = pd.read_parquet(SAMPLE)
    for seed, (_, rows) in enumerate(list(fleet.groupby("user_id", observed=True))[:count]):
        kind = list(KINDS)[seed % (len(KINDS) - 1)]  # these days have no season to be late
        yield case("PlanetLab", kind, rows["utilization_percent"].to_numpy(float), np.random.default_rng(seed))


def alibaba(path: Path | None) -> Iterator[InjectedCase]:
    """The data centre, once for each kind."""
    if path and path.exists():
        values = pd.read_csv(path)["cpu_util_percent"].to_numpy(float)
        for seed, kind in enumerate(KINDS):
            yield case("Alibaba", kind, values, np.random.default_rng(seed))


def case(source: str, kind: str, values: Floats, rng: np.random.Generator) -> InjectedCase:
    """The series with an anomaly in its second half."""
    start = int(rng.uniform(0.5, 0.9) * (len(values) - DAY))
    noise = max(float(np.median(np.abs(np.diff(values)))) / 0.6745 / 2**0.5, 0.25 * float(values.std()))
    changed = values.copy()
    KINDS[kind](changed, start, noise, rng)
    return InjectedCase(source, kind, start, values, np.maximum(changed, 0))


if __name__ == "__main__":
    main()
