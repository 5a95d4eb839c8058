"""Bursts: however samples are cut into windows, the highest, the sums and the means are those of all of them."""

import itertools
import random
from collections.abc import Sequence

import pytest

from agent.plan import sampling_plan
from agent.probes.base import WeightedSamples
from agent.probes.bursts import BurstProbe, BurstSamples, Runs
from agent.probes.cpu import CpuProbe, CpuReading, CpuSamples
from contract.agent_protocol import SettingsInForce
from contract.metrics import Bursts
from contract.report import Report
from contract.validation import check

INTERVAL_S = 0.05


def windows_of(values: Sequence[float], cuts: Sequence[int]) -> list[Sequence[float]]:
    return [values[start:end] for start, end in itertools.pairwise([0, *cuts, len(values)]) if end > start]


@pytest.mark.parametrize("seed", range(20))
def test_merging_windows_is_looking_at_all_samples(seed: int) -> None:
    chance = random.Random(seed)
    values = [chance.choice((0.2, 0.95, 1.0, 1.0, 1.0)) for _ in range(300)]
    cuts = sorted(chance.sample(range(1, 300), 12))
    runs = Runs()
    found = [
        runs.take(WeightedSamples([*part], [1.0] * len(part)), len(part) * INTERVAL_S)
        for part in windows_of(values, cuts)
    ]
    longest = max((len([*run]) for full, run in itertools.groupby(values, lambda one: one == 1.0) if full), default=0)
    begun = sum(high for high, _ in itertools.groupby(values, lambda one: one >= 0.9))
    assert max(one.longest_s for one in found) == pytest.approx(longest * INTERVAL_S)
    assert sum(one.begun for one in found) == begun
    lengths = [len(part) for part in windows_of(values, cuts)]
    saturated = sum(one.saturated * length for one, length in zip(found, lengths, strict=True)) / len(values)
    assert saturated == pytest.approx(values.count(1.0) / len(values))


def test_a_window_names_the_longest_of_any_core_and_all_bursts() -> None:
    full, half = WeightedSamples([1.0] * 4, [1.0] * 4), WeightedSamples([1.0, 0.5, 1.0, 0.5], [1.0] * 4)
    host = WeightedSamples([1.0, 0.75, 1.0, 0.75], [2.0] * 4)
    samples = CpuSamples((0, 1), host, [full, half])
    told = BurstSamples(0.5, samples, Runs(), [Runs(), Runs()]).metric(4)
    assert isinstance(told, Bursts)
    assert (told.saturated.mean, told.longest.maximum, told.begun.mean) == (0.5, 0.5, 2 * 30.0)
    assert (told.core_saturated.mean, told.core_longest.maximum, told.core_begun.mean) == (0.75, 2.0, 3 * 30.0)
    assert (told.cores, told.saturated_by_core, told.longest_by_core, told.begun_by_core) == (
        [], [1.0, 0.5], [2.0, 0.5], [30.0, 60.0],
    )  # fmt: skip
    report = Report("u", 1_700_000_000_000, 1_700_000_002_000, 4, "Linux", "12", [told])
    assert list(check(report, now_ms=1_700_000_002_000)) == []


def test_the_cores_that_are_online_are_named_where_some_are_not() -> None:
    full = WeightedSamples([1.0] * 4, [1.0] * 4)
    told = BurstSamples(0.5, CpuSamples((0, 3), full, [full, full]), Runs(), [Runs(), Runs()]).metric(4)
    assert (told.cores, told.longest_by_core) == ([0, 3], [2.0, 2.0])


class Full:
    """Counters of two cores that are at work all the time."""

    def __init__(self) -> None:
        self.readings = 0

    def read(self) -> CpuReading:
        self.readings += 1
        return CpuReading((0, 1), self.readings)

    def times(self, counters: int) -> list[tuple[float, float, float]]:
        return [(10.0 * counters, 0.0, 5.0)] * 3


def test_with_the_cpu_its_samples_are_looked_at_and_no_more_are_taken() -> None:
    source = Full()
    cpu = CpuProbe(source)
    probe = BurstProbe(1.0, cpu, is_shared=True)
    cpu.restart(0.0)
    probe.restart(0.0)
    longest = []
    for window in range(3):
        for place in range(4):
            now = 4.0 * window + place + 1
            assert cpu.sample(now)
            assert probe.sample(now)
        assert cpu.collect()
        samples = probe.collect()
        assert samples is not None
        longest.append(samples.metric(4).longest.maximum)
    assert source.readings == 1 + 12
    assert longest == [4.0, 8.0, 12.0]  # one run, that crosses two edges
    probe.restart(13.0)
    cpu.sample(14.0)
    cpu.collect()
    samples = probe.collect()
    assert samples is not None
    assert samples.metric(1).longest.maximum == 1.0


def test_a_plan_shares_the_cpus_probe_whatever_the_order() -> None:
    plan = sampling_plan(SettingsInForce(interval=1.0, samples=1, metrics=["bursts", "cpu"]))
    assert [*plan.probes] == ["cpu", "bursts"]
    plan.probes["cpu"].restart(0.0)
    plan.probes["bursts"].restart(0.0)
    assert plan.probes["bursts"].collect() is None
