"""The schedule of samples and the edges of windows, with a clock that does what a test says."""

import logging

import pytest

from agent.plan import CommandBox, SamplerCommand, SamplingPlan
from agent.probes import MetricName, Probe
from agent.probes.base import QuantitySamples, WeightedSamples
from agent.probes.cpu import CpuProbe, CpuReading, CpuSamples
from agent.probes.system import Gauges
from agent.sampler import Sampler, Window
from contract.metrics import Memory
from tests.support.scripted_host import WALL_MS, Host, ScriptedClock


def sampled(clock: ScriptedClock, host: Host, *, interval: float = 0.05, samples: int = 100) -> list[Window]:
    windows: list[Window] = []
    Sampler(SamplingPlan(interval, samples, {"cpu": CpuProbe(host)}), clock, windows.append).run()
    return windows


def cpu_of(window: Window) -> CpuSamples:
    [samples] = window.samples
    assert isinstance(samples, CpuSamples)
    return samples


def test_every_window_has_its_samples_and_the_next_begins_where_it_ended() -> None:
    clock = ScriptedClock(until=15.01)
    windows = sampled(clock, Host(clock))
    assert [window.observations for window in windows] == [100, 100, 100]
    assert [window.start_ms - WALL_MS for window in windows] == [0, 5000, 10_000]
    assert [window.duration_s for window in windows] == [pytest.approx(5.0)] * 3
    for window in windows:
        cpu = cpu_of(window)
        assert [series.values for series in (cpu.host, *cpu.by_core)] == [[pytest.approx(0.25)] * 100] * 3


def test_the_schedule_does_not_drift_although_every_sample_is_late() -> None:
    clock = ScriptedClock(until=500.0, late=0.013)
    sampled(clock, Host(clock))
    assert clock.waits[9998] == pytest.approx(9999 * 0.05, abs=1e-9)


def test_deadlines_that_have_passed_are_not_made_up_for() -> None:
    clock = ScriptedClock(until=1.0)
    clock.at(0.5, lambda: clock.stop_process(0.22))
    windows = sampled(clock, Host(clock))
    assert [round(wait, 6) for wait in clock.waits[9:12]] == [0.5, 0.75, 0.8]
    [window] = windows
    assert (len(cpu_of(window).host.values), window.observations) == (16, 20)


def test_the_unfinished_window_is_delivered_at_the_end() -> None:
    clock = ScriptedClock(until=1.01)
    [window] = sampled(clock, Host(clock))
    assert window.observations == 20
    assert window.duration_s == pytest.approx(1.0)


def test_nothing_is_delivered_when_stopped_before_the_first_sample() -> None:
    clock = ScriptedClock(until=0.0)
    assert sampled(clock, Host(clock)) == []


def test_a_core_that_goes_and_comes_cuts_the_window() -> None:
    clock = ScriptedClock(until=3.01)
    host = Host(clock, (0, 1, 2))
    clock.at(1.02, lambda: setattr(host, "cores", (0, 2)))
    clock.at(2.02, lambda: setattr(host, "cores", (0, 1, 2)))
    windows = sampled(clock, host)
    assert [cpu_of(window).cores for window in windows] == [(0, 1, 2), (0, 2), (0, 1, 2)]
    assert [window.observations for window in windows] == [20, 19, 19]
    assert [window.start_ms - WALL_MS for window in windows] == [0, 1050, 2050]


@pytest.mark.parametrize("slept", [0.6, 3.0, 86_400.0])
def test_no_window_spans_sleep_of_the_host(slept: float) -> None:
    clock = ScriptedClock(until=slept + 4.01)
    clock.at(2.0, lambda: clock.sleep(slept))
    first, second = sampled(clock, Host(clock))
    assert first.start_ms + first.duration_s * 1000 == pytest.approx(WALL_MS + 1950)
    assert second.start_ms == pytest.approx(WALL_MS + 2000 + slept * 1000)
    assert first.observations == 39


def test_no_window_spans_a_stop_of_the_process_beyond_the_bound() -> None:
    clock = ScriptedClock(until=34.01)
    clock.at(2.0, lambda: clock.stop_process(30.0))
    first, second = sampled(clock, Host(clock))
    assert (first.observations, second.observations) == (39, 40)
    assert second.start_ms == WALL_MS + 32_000


def test_a_busy_host_that_makes_a_sample_late_does_not_lose_it() -> None:
    clock = ScriptedClock(until=8.01)
    clock.at(2.0, lambda: clock.stop_process(4.0))
    windows = sampled(clock, Host(clock))
    assert [window.observations for window in windows] == [120, 40]
    assert [window.duration_s for window in windows] == [pytest.approx(6.0), pytest.approx(2.0)]


def test_a_wall_clock_that_jumps_within_a_window_moves_only_the_next() -> None:
    clock = ScriptedClock(until=10.01)
    clock.at(2.0, lambda: setattr(clock, "wall", -3600.0))
    first, second = sampled(clock, Host(clock))
    assert (first.start_ms, first.duration_s) == (WALL_MS, pytest.approx(5.0))
    assert second.start_ms == WALL_MS + 5000 - 3_600_000


def test_slow_intervals_keep_their_schedule() -> None:
    clock = ScriptedClock(until=601.0)
    windows = sampled(clock, Host(clock), interval=60.0, samples=5)
    assert [window.observations for window in windows] == [5, 5]


def test_other_metrics_are_sampled_about_once_a_second() -> None:
    clock = ScriptedClock(until=10.01)
    windows: list[Window] = []
    probes = {"cpu": CpuProbe(Host(clock)), "memory": Gauges(Memory, 0.05, lambda: (0.5,))}
    Sampler(SamplingPlan(0.05, 100, probes), clock, windows.append).run()
    for window in windows:
        _, memory = window.samples
        assert isinstance(memory, QuantitySamples)
        assert memory.series == [WeightedSamples([0.5] * 5, [pytest.approx(1.0)] * 5)]


def test_a_failing_probe_is_left_out_and_logged_once_until_it_works_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ScriptedClock(until=15.01)
    broken = True

    def read() -> tuple[float]:
        if broken:
            raise PermissionError("no")
        return (0.5,)

    def mend() -> None:
        nonlocal broken
        broken = False

    clock.at(7.0, mend)
    windows: list[Window] = []
    probes = {"cpu": CpuProbe(Host(clock)), "memory": Gauges(Memory, 0.05, read)}
    Sampler(SamplingPlan(0.05, 100, probes), clock, windows.append).run()
    assert [len(window.samples) for window in windows] == [1, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "memory cannot be sampled: no",
        "memory can be sampled again",
    ]


def test_a_cpu_that_cannot_be_sampled_ends_the_sampling() -> None:
    clock = ScriptedClock(until=1.0)

    class Broken(Host):
        def read(self) -> CpuReading:
            raise OSError("no /proc")

    with pytest.raises(OSError, match="no /proc"):
        sampled(clock, Broken(clock))


def test_a_cpu_that_fails_later_is_left_out_until_it_can_be_sampled_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = ScriptedClock(until=4.0)

    class Failing(Host):
        def read(self) -> CpuReading:
            if 1001.5 < clock.time < 1002.5:
                raise KeyError("cpu1")
            return super().read()

    windows = sampled(clock, Failing(clock), samples=10)
    assert len(windows) > 3
    assert "cpu cannot be sampled" in caplog.text
    assert max(window.start_ms for window in windows) > 1_800_000_002_500


def test_another_plan_ends_the_window_at_its_last_sample_and_begins_one_of_its_own() -> None:
    clock, commands = ScriptedClock(until=10.0), CommandBox()
    host = Host(clock)
    windows: list[Window] = []
    second = SamplingPlan(0.2, 10, {"cpu": CpuProbe(host)}, version="v")
    given: list[SamplerCommand] = []
    clock.at(1.51, lambda: given.append(commands.put(second)))
    Sampler(SamplingPlan(0.05, 100, {"cpu": CpuProbe(host)}), clock, windows.append, commands).run()
    first, *rest = windows
    assert (first.plan.version, first.observations) == ("", 30)
    assert first.duration_s == pytest.approx(1.5)
    assert [window.plan.version for window in rest] == ["v"] * len(rest)
    assert [window.observations for window in rest[:-1]] == [10] * (len(rest) - 1)
    assert rest[0].duration_s == pytest.approx(2.0)
    # What lies between the last sample of the one and the begin of the other belongs to neither.
    assert 0.0 <= rest[0].start_ms - (first.start_ms + first.duration_s * 1000) <= 51.0
    assert given[0].wait(0.0)


def test_a_window_ends_when_it_is_asked_for_and_the_next_goes_on_without_a_gap() -> None:
    clock, commands = ScriptedClock(until=5.0), CommandBox()
    windows: list[Window] = []
    clock.at(1.01, lambda: commands.put(None) and None)
    Sampler(SamplingPlan(0.05, 1000, {"cpu": CpuProbe(Host(clock))}), clock, windows.append, commands).run()
    first, second = windows
    assert first.observations == 20
    assert second.start_ms == pytest.approx(first.start_ms + first.duration_s * 1000, abs=1)
    assert second.observations == pytest.approx(80, abs=1)


def test_while_paused_nothing_is_sampled_and_afterwards_a_new_window_begins() -> None:
    clock, commands = ScriptedClock(until=3 * 3600.0 + 10.0), CommandBox()
    windows: list[Window] = []
    host = Host(clock)
    plan = SamplingPlan(0.05, 100, {"cpu": CpuProbe(host)})
    clock.at(1.0, lambda: commands.put(SamplingPlan(0.05, 100, {"cpu": CpuProbe(host)}, paused=True)) and None)
    clock.at(3 * 3600.0, lambda: commands.put(plan) and None)
    Sampler(plan, clock, windows.append, commands).run()
    before, *after = windows
    assert before.observations == 19
    assert min(window.start_ms for window in after) >= WALL_MS + 3 * 3600 * 1000
    assert max(window.duration_s for window in windows) <= 5.01


def test_counters_of_the_cpu_that_never_move_are_said_once_and_the_other_metrics_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ScriptedClock(until=30.01)

    class Sandbox(Host):
        def read(self) -> CpuReading:
            return CpuReading(self.cores, [(0.0, 0.0, 0.0)] * (len(self.cores) + 1))

    windows: list[Window] = []
    failing: dict[MetricName, str] = {}
    probes: dict[MetricName, Probe] = {
        "cpu": CpuProbe(Sandbox(clock)),
        "memory": Gauges(Memory, 0.05, lambda: (0.5,)),
    }
    Sampler(SamplingPlan(0.05, 100, probes), clock, windows.append, failing=failing).run()
    assert [[type(samples) for samples in window.samples] for window in windows] == [[QuantitySamples]] * 6
    assert [record.getMessage() for record in caplog.records] == [
        "cpu cannot be sampled: the system's counters of CPU time do not move"
    ]
    assert failing == {"cpu": "the system's counters of CPU time do not move"}
