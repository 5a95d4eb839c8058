"""A sample weighs as much as the time that it covers: what is reported is what the counters say, however late."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from agent.plan import SamplingPlan
from agent.probes.cpu import CpuProbe
from agent.probes.system import Gauges, Rates
from agent.sampler import Sampler, Window
from contract.histogram import LINEAR, quantile, unflatten
from contract.metrics import Cpu, Load, Network
from contract.report import Report
from contract.validation import check
from tests.support.scripted_host import Host, ScriptedClock


class HeldUpClock(ScriptedClock):
    """A clock that wakes the sampler late by what `late` says of the time it should have woken."""

    def __init__(self, until: float, late: Callable[[float], float]) -> None:
        super().__init__(until)
        self._held_up = late

    def wait(self, until: float) -> bool:
        ended = super().wait(until)
        self.time += self._held_up(self.time - 1000.0)
        return ended


def windows_of(clock: ScriptedClock, host: Host, interval: float = 0.05, samples: int = 100) -> list[Window]:
    windows: list[Window] = []
    Sampler(SamplingPlan(interval, samples, {"cpu": CpuProbe(host)}), clock, windows.append).run()
    return windows


def cpu_of(window: Window) -> Cpu:
    [samples] = window.samples
    cpu = samples.metric(window.observations)
    assert isinstance(cpu, Cpu)
    end_ms = window.start_ms + round(window.duration_s * 1000)
    report = Report("u", window.start_ms, end_ms, window.observations, "Linux", "12", [cpu])
    assert list(check(report, now_ms=end_ms)) == []
    return cpu


def every_other_second(time: float) -> float:
    """The work done by `time` on a host that is idle in even seconds and saturated in odd ones."""
    seconds = int(time)
    return seconds // 2 + (time - seconds if seconds % 2 else 0.0)


def test_a_host_saturated_every_other_second_that_holds_the_agent_up_is_half_busy() -> None:
    # Each busy second, the sample that is due after 50 ms comes 0.9 s late.
    clock = HeldUpClock(60.0, lambda time: 0.9 if int(time) % 2 and 0.04 < time % 1 < 0.09 else 0.0)
    for window in windows_of(clock, Host(clock, busy=every_other_second), samples=120):
        cpu = cpu_of(window)
        assert cpu.avg_utilization == pytest.approx(0.5, abs=0.01)
        assert cpu.avg_utilization_by_core == [cpu.avg_utilization] * 2
        assert cpu.var_utilization == pytest.approx(0.25, abs=0.01)
        counts = unflatten(cpu.histogram or [])
        assert abs(counts[LINEAR.index(1.0)] - window.observations / 2) <= 2


def test_ten_late_samples_of_250_ms_weigh_as_much_as_fifty_of_50_ms() -> None:
    # 2.5 s idle, then 2.5 s busy, in which each sample comes 200 ms late.
    clock = HeldUpClock(5.01, lambda time: 0.2 if time > 2.51 else 0.0)
    [window] = windows_of(clock, Host(clock, busy=lambda time: max(0.0, time - 1002.5)))
    assert len(window.samples[0].host.values) == 60  # type: ignore[attr-defined]
    assert window.observations == 100
    assert window.duration_s == pytest.approx(5.0)
    cpu = cpu_of(window)
    assert cpu.avg_utilization == pytest.approx(0.5, abs=1e-9)
    assert cpu.var_utilization == pytest.approx(0.25, abs=1e-9)
    assert sum(unflatten(cpu.histogram or []).values()) == 100
    assert unflatten(cpu.histogram or [])[LINEAR.index(1.0)] == 50


@pytest.mark.parametrize(("on", "period"), [(0.007, 0.023), (0.013, 0.05), (0.004, 0.01), (0.05, 0.333)])
def test_at_10_ms_intervals_a_cores_mean_is_that_of_its_ticks(on: float, period: float) -> None:
    def busy(time: float) -> float:
        cycles = int(time / period)
        return cycles * on + min(time - cycles * period, on)

    chance = random.Random(7)
    clock = HeldUpClock(10.0, lambda _: chance.choice([0.0, 0.0, 0.001, 0.004, 0.012]))
    host = Host(clock, busy=busy, ticks=100)
    windows: list[Window] = []
    ends = [host.read().counters[0]]

    def deliver(window: Window) -> None:
        windows.append(window)
        ends.append(host.last)

    Sampler(SamplingPlan(0.01, 100, {"cpu": CpuProbe(host)}), clock, deliver).run()
    assert len(windows) >= 9
    for window, before, after in zip(windows, ends, ends[1:], strict=False):
        work, _, idle = (last - first for first, last in zip(before, after, strict=True))
        assert cpu_of(window).avg_utilization_by_core[0] == pytest.approx(work / (work + idle), rel=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_merged_windows_are_the_counters_of_the_whole_run_and_quantiles_weigh_time(seed: int) -> None:
    chance = random.Random(seed)
    levels = [chance.choice([0.0, 0.1, 0.5, 1.0]) for _ in range(2000)]
    work = np.concatenate([[0.0], np.cumsum(levels)]) / 10

    def busy(time: float) -> float:
        return float(np.interp(time - 1000.0, np.arange(len(work)) / 10, work))

    clock = HeldUpClock(150.0, lambda time: chance.choice([0.0] * 20 + [0.3, 1.0]))
    windows = windows_of(clock, Host(clock, busy=busy))
    counts = np.array([window.observations for window in windows])
    means = np.array([cpu_of(window).avg_utilization for window in windows])
    seconds = sum(window.duration_s for window in windows)
    assert counts.sum() == pytest.approx(seconds / 0.05, abs=len(windows))
    assert np.average(means, weights=counts) == pytest.approx(busy(1000.0 + seconds) / seconds, abs=0.01)
    for window in windows:
        series = window.samples[0].host  # type: ignore[attr-defined]
        histogram = unflatten(cpu_of(window).histogram or [])
        for q in (0.1, 0.5, 0.9):
            # Exact would be the quantile of the samples, each as often as it has time; half an observation is rounding.
            low, high = (weighted(series.values, series.weights, q + shift / window.observations) for shift in (-1, 1))
            assert low - 1 / 64 <= quantile(histogram, q, LINEAR) <= high + 1 / 64


def weighted(values: list[float], weights: list[float], q: float) -> float:
    order = np.argsort(values)
    share = np.cumsum(np.array(weights)[order]) / sum(weights)
    return float(np.array(values)[order][min(np.searchsorted(share, q), len(values) - 1)])


def test_a_rate_over_a_short_time_weighs_less_than_one_over_a_long_time() -> None:
    counters = iter([{"eth0": (0, 0)}, {"eth0": (50, 0)}, {"eth0": (50, 1950)}])
    probe = Rates(Network, 0.05, lambda: next(counters))
    probe.restart(0.0)
    probe.sample(0.05)
    probe.sample(2.0)
    samples = probe.collect()
    assert samples is not None
    network = samples.metric(40)
    assert isinstance(network, Network)
    assert network.received_bytes.mean == pytest.approx(50 / 2.0)
    assert network.sent_bytes.mean == pytest.approx(1950 / 2.0)
    assert network.sent_bytes.observations == 2


def test_a_gauge_stands_for_the_time_since_it_was_read_before() -> None:
    values = iter([(1.0, 1.0, 1.0), (3.0, 3.0, 3.0)])
    probe = Gauges(Load, 0.05, lambda: next(values))
    probe.restart(0.0)
    probe.sample(1.0)
    probe.sample(4.0)
    samples = probe.collect()
    assert samples is not None
    load = samples.metric(80)
    assert isinstance(load, Load)
    assert (load.load1.mean, load.load1.observations) == (pytest.approx(2.5), 4)
    assert load.load1.variance == pytest.approx(0.75)


def test_with_long_intervals_an_observation_is_an_interval() -> None:
    probe = Gauges(Load, 60.0, lambda: (1.0, 1.0, 1.0))
    probe.restart(0.0)
    for now in (60.0, 120.0, 240.0):
        probe.sample(now)
    samples = probe.collect()
    assert samples is not None
    load = samples.metric(4)
    assert isinstance(load, Load)
    assert load.load1.observations == 4
