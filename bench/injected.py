"""Anomalies of known kinds, put into series that are not NAB's: how many are found, and how many alarms are false.

    .venv/bin/python bench/injected.py [--series N] [--machines N] [--alibaba FILE] [--fleet FILE]

Three sources, each with one anomaly a series, at a random place in the second half, all drawn with fixed seeds:

- made up: two weeks of 5-minute points; a level, noise that lasts for minutes to hours, in a third of the series each a
  daily season, a daily spike, and values in coarse steps;
- PlanetLab: the hosts that come with the demo (service/commands/demo/data), five to six days behind each other, in
  whole percent;
- Alibaba: the average of a data centre, eight days (../shared/data; left out where it is missing), once for each kind.

"Found" is an alarm within 50 points of where the anomaly begins. "False a week" counts the alarms before it, and all
in the same series as it was. Real series have events of their own, which nobody labelled: they count as false here.

Beside it stands NAB's windowed Gaussian (bench/nab.py), with the threshold at which it has as many false alarms in all,
and the same silence after an alarm.

Then PlanetLab's whole fleet (../shared/data), as it is: false alarms a machine-day, and how many hosts are found
that stick at a value or at zero for half a day. Beside it a rule that alarms when the last two hours vary less than any
two hours of the three days before.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from anomaly_constants import DAY, NEAR, STEP_MS, Host, hosts, stopped
from data import ALIBABA, SAMPLE
from nab import windowed_gaussian
from nab_scoring import Floats
from options import Options
from output import left_out, machine, table

from analytics.methods.anomalies import Detector, Tuning

WEEK = 2016
LEARNED = 2 * DAY
"""Alarms before count for nothing."""


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


def dead(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """Zero, for half a day."""
    values[start : start + DAY // 2] = 0.0


def season(values: Floats, start: int, noise: float, rng: np.random.Generator) -> None:
    """A day that comes twelve hours late."""
    values[start : start + DAY] = np.roll(values[start - DAY // 2 : start + DAY], DAY // 2)[DAY // 2 :]


KINDS: dict[str, Callable[[Floats, int, float, np.random.Generator], None]] = {
    kind.__name__: kind for kind in (spike, shift, burst, flutter, stick, dead, season)
}

SOURCES = ("made up", "PlanetLab", "Alibaba")


def main() -> None:
    """Print the tables."""
    parser = Options(__doc__)
    parser.size("--series", 120, tiny=6, help="how many are made up")
    parser.size("--machines", 60, tiny=5, help="of PlanetLab")
    parser.data("--alibaba", ALIBABA, tiny=None, type=Path, help="the data centre's file")
    parser.size("--every", 1, tiny=1000, help="of the fleet's hosts, each that many-th")
    parser.shared("--fleet")
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
    print(f"\n{over_fleet(hosts(options.fleet, options.every))}")


def over_fleet(fleet: Sequence[Host]) -> str:
    """False alarms of the whole fleet, and the hosts found that stick or stop."""
    headers = ["PlanetLab's fleet", "machine-days", "alarms a machine-day", "sticks: found", "stops: found"]
    rules: dict[str, Callable[[Sequence[int], Floats], list[int]]] = {
        "Loadlens": detected, "varies less than before": varies_less,
    }  # fmt: skip
    if not fleet:
        return table(headers, [left_out(rule, len(headers), "no data") for rule in rules])
    days = sum(len(host.value) for host in fleet) / DAY
    rows = []
    with ProcessPoolExecutor(2) as pool:
        for name, rule in rules.items():
            alarms, hits = zip(*pool.map(partial(_over_host, rule), fleet, chunksize=16), strict=True)
            found = [hit for hit in hits if hit]
            shares = [f"{np.mean([hit[place] for hit in found]):.1%} of {len(found)}" for place in (0, 1)]
            rows.append([name, f"{days:,.0f}", f"{sum(alarms) / days:.3f}", *shares])
    return table(headers, rows)


def _over_host(rule: Callable[[Sequence[int], Floats], list[int]], host: Host) -> tuple[int, list[bool]]:
    """How many alarms the host has as it is, and whether it is found when it sticks, and when it stops."""
    hits = []
    if host.stops is not None:
        for level in (float(host.value[host.stops - 1]), 0.0):
            alarms = rule(host.time_ms, stopped(host, level))
            hits.append(any(host.stops <= at < host.stops + NEAR for at in alarms))
    return len(rule(host.time_ms, host.value)), hits


def detected(time_ms: Sequence[int], values: Floats) -> list[int]:
    """Where our detector sees an event begin."""
    update = Detector().update
    judged = [update(now, value) for now, value in zip(time_ms, values.tolist(), strict=True)]
    return [place for place, verdict in enumerate(judged) if verdict.anomaly]


def varies_less(time_ms: Sequence[int], values: Floats) -> list[int]:
    """Where the range of the last two hours is below that of any two hours of three days before, said once in 12 h."""
    series = pd.Series(values).rolling(24)
    width = series.max() - series.min()
    is_still = (width < width.shift(1).rolling(3 * DAY, min_periods=DAY).min()).to_numpy()
    places: list[int] = []
    for place in np.flatnonzero(is_still).tolist():
        if not places or place - places[-1] > Tuning().quiet:
            places.append(place)
    return places


def detect(case: InjectedCase) -> Found:
    """Both detectors on both series."""
    return Found(
        (detected(_regular(case.clean), case.clean), detected(_regular(case.changed), case.changed)),
        (windowed_gaussian(case.clean), windowed_gaussian(case.changed)),
    )


def _regular(values: Floats) -> list[int]:
    return list(range(0, len(values) * STEP_MS, STEP_MS))


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
    """Hosts of the demo; their days are put behind each other."""
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
