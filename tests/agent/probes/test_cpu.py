"""Samples of the CPU, from recorded and written /proc/stat files in testcases/."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes.base import NotMeasured, WeightedSamples
from agent.probes.cpu import (
    AT_ONCE,
    STAND_STILL_S,
    CpuProbe,
    CpuReading,
    CpuSamples,
    ProcStat,
    Times,
    UnreadableCounters,
    busy_and_total,
)
from contract.report import Report
from contract.validation import check

CASES = sorted(Path(__file__).with_name("testcases").iterdir())
NOT_MEASURED = ("gvisor",)
COUNTER = st.integers(0, 2**40)
TIMES = st.tuples(COUNTER, COUNTER, COUNTER)


def stat_files(case: Path) -> list[Path]:
    return sorted(case.glob("stat.*"), key=lambda file: int(file.suffix[1:]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sequence_of_proc_stat_files_gives_the_expected_samples(case: Path, tmp_path: Path) -> None:
    file = tmp_path / "stat"
    first, *others = stat_files(case)
    file.write_bytes(first.read_bytes())
    source = ProcStat(str(file))
    probe = CpuProbe(source)
    probe.restart(0.0)
    windows = []
    for second, other in enumerate(others, 1):
        file.write_bytes(other.read_bytes())
        if not probe.sample(float(second)):
            windows.append(probe.collect())
            probe.restart(float(second))
    if case.name in NOT_MEASURED:
        with pytest.raises(NotMeasured):
            probe.collect()
    else:
        windows.append(probe.collect())
    source.close()
    for window, expected in zip(windows, json.loads((case / "expected.json").read_text()), strict=True):
        assert window is not None
        assert list(window.cores) == expected["cores"]
        series = [window.host, *window.by_core]
        assert [one.values for one in series] == [pytest.approx(values) for values in expected["values"]]
        assert [one.weights for one in series] == expected["ticks"]


@given(before=TIMES, after=TIMES)
def test_busy_time_is_part_of_all_time_whatever_the_counters_do(before: Times, after: Times) -> None:
    busy, total = busy_and_total(before, after)
    assert 0.0 <= busy <= total


class Written:
    """A source that reads what a test wrote: work and idle time of a host of one core."""

    def __init__(self, *times: tuple[int, int]) -> None:
        self._times = iter(times)

    def read(self) -> CpuReading:
        return CpuReading([0], next(self._times))

    def times(self, counters: tuple[int, int]) -> list[Times]:
        work, idle = counters
        return [(work, 0, idle)] * 2


def both(values: list[float], ticks: list[float]) -> CpuSamples:
    """The same samples for the host and its core."""
    return CpuSamples((0,), WeightedSamples(values, ticks), [WeightedSamples(values, ticks)])


def test_a_host_that_stands_still_for_a_short_window_keeps_its_last_value() -> None:
    probe = CpuProbe(Written((0, 0), (4, 1), (4, 1), (4, 1)))
    probe.restart(0.0)
    probe.sample(0.0)
    assert probe.collect() == both([0.8], [5])
    probe.sample(0.0)
    probe.sample(0.0)
    assert probe.collect() == both([0.8], [1])


def test_counters_that_never_move_are_no_measurement() -> None:
    probe = CpuProbe(Written(*[(0, 0)] * 40))
    probe.restart(10.0)
    probe.sample(10.05)
    assert probe.collect() is None, "too early to tell"
    probe.sample(10.0 + STAND_STILL_S)
    with pytest.raises(NotMeasured, match="do not move"):
        probe.collect()


def test_a_core_that_never_moved_is_left_out_and_the_others_named() -> None:
    class OneStandsStill(Written):
        def read(self) -> CpuReading:
            return CpuReading([0, 1], super().read().counters)

        def times(self, counters: tuple[int, int]) -> list[Times]:
            work, idle = counters
            return [(work, 0, idle), (7, 0, 7), (work, 0, idle)]

    probe = CpuProbe(OneStandsStill((0, 0), (1, 3)))
    probe.restart(0.0)
    probe.sample(0.05)
    samples = probe.collect()
    assert samples is not None
    assert (samples.cores, len(samples.by_core)) == ((1,), 1)
    assert samples.metric(1).cores == [1]


@given(windows=st.lists(st.integers(0, 2 * AT_ONCE + 5), min_size=1, max_size=5))
def test_a_window_has_one_value_a_sample_however_long_it_is(windows: list[int]) -> None:
    probe = CpuProbe(Written(*((3 * moment, moment) for moment in range(sum(windows) + 1))))
    probe.restart(0.0)
    for count in windows:
        assert all(probe.sample(0.0) for _ in range(count))
        assert probe.collect() == (both([0.75] * count, [4] * count) if count else None)


@given(
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80),
    cuts=st.sets(st.integers(0, 80)),
)
def test_the_mean_of_a_window_is_the_share_of_time_by_the_counters_of_its_ends(
    steps: list[tuple[int, int]], cuts: set[int]
) -> None:
    readings = [(0, 0)]
    for work, idle in steps:
        readings.append((readings[-1][0] + work, readings[-1][1] + idle))
    probe = CpuProbe(Written(*readings))
    probe.restart(0.0)
    first = 0
    for last in range(1, len(readings)):
        probe.sample(0.0)
        if last not in cuts and last < len(readings) - 1:
            continue
        samples = probe.collect()
        work, idle = (readings[last][column] - readings[first][column] for column in (0, 1))
        if work + idle:
            assert samples is not None
            cpu = samples.metric(last - first)
            share = pytest.approx(work / (work + idle), rel=1e-14)
            assert (cpu.avg_utilization, cpu.avg_utilization_by_core) == (share, [share])
        first = last


def test_idle_time_that_goes_back_by_ticks_is_joined_to_the_next_sample() -> None:
    # A load of 0.2; each hundredth reading has two ticks of idle time fewer, as seen on kernels in the field.
    times = [(moment, 4 * moment) for moment in range(1001)]
    times[100::100] = [(work, idle - 6) for work, idle in times[100::100]]
    probe = CpuProbe(Written(*times[:-1]))
    probe.restart(0.0)
    for _ in times[1:-1]:
        probe.sample(0.0)
    samples = probe.collect()
    assert samples is not None
    cpu = samples.metric(999)
    assert cpu.avg_utilization == pytest.approx(0.2, abs=1e-15)
    assert cpu.max_utilization == pytest.approx(0.2)


class HalfWritten(Written):
    """A source some of whose readings are no counters."""

    def times(self, counters: tuple[int, int]) -> list[Times]:
        if counters[0] < 0:
            raise UnreadableCounters("half a line")
        return super().times(counters)


NOTHING = (-1, -1)


def test_a_reading_that_is_no_counters_is_left_to_the_next_one() -> None:
    probe = CpuProbe(HalfWritten(*((moment, 3 * moment) if moment % 7 else NOTHING for moment in range(1, 201))))
    probe.restart(0.0)
    for first in range(1, 199, 99):
        for second in range(first, first + 99):
            assert probe.sample(0.05 * second)
        samples = probe.collect()
        assert samples is not None
        assert set(samples.host.values) == {0.25}
    assert sum(samples.host.weights) == 4 * 99


def test_counters_that_cannot_be_read_are_said_and_measured_again_when_they_can() -> None:
    probe = CpuProbe(HalfWritten((0, 0), *[NOTHING] * 50, (51, 153)))
    probe.restart(0.0)
    for _ in range(50):
        assert probe.sample(0.0)
    with pytest.raises(UnreadableCounters, match="half a line"):
        probe.collect()
    probe.sample(0.0)
    assert probe.collect() == both([0.25], [204])


def test_a_beginning_that_fails_is_tried_again() -> None:
    probe = CpuProbe(HalfWritten(NOTHING, (1, 3), (1, 3), (2, 6)))
    with pytest.raises(UnreadableCounters):
        probe.restart(0.0)
    assert not probe.sample(0.05)
    assert probe.collect() is None
    probe.restart(0.1)
    assert probe.sample(0.15)
    assert probe.collect() == both([0.25], [4])


def test_a_core_that_stands_still_for_long_is_left_out() -> None:
    class OneStops(Written):
        def read(self) -> CpuReading:
            return CpuReading([0, 1], super().read().counters)

        def times(self, counters: tuple[int, int]) -> list[Times]:
            work, idle = counters
            return [(work, 0, idle), (work, 0, idle), (min(work, 2), 0, min(idle, 6))]

    probe = CpuProbe(OneStops(*((moment, 3 * moment) for moment in range(30))))
    probe.restart(0.0)
    cores = []
    for second in range(1, 14):
        probe.sample(float(second))
        samples = probe.collect()
        assert samples is not None
        cores.append(samples.cores)
    assert cores == [(0, 1)] * 11 + [(0,)] * 2


def test_nothing_is_collected_before_the_first_sample() -> None:
    probe = CpuProbe(Written((1, 1)))
    assert probe.collect() is None
    probe.restart(0.0)
    assert probe.collect() is None


TIMED = st.tuples(*[st.floats(0.0, 1.0)] * 3, *[st.integers(1, 50)] * 3)


@given(samples=st.lists(TIMED, min_size=1, max_size=50), observations=st.integers(1, 200))
def test_the_metric_of_any_samples_passes_the_services_checks(samples: list[Any], observations: int) -> None:
    columns = [list(values) for values in zip(*samples, strict=True)]
    host, *cores = [WeightedSamples(columns[number], columns[number + 3]) for number in range(3)]
    cpu = CpuSamples((0, 3), host, cores).metric(observations)
    report = Report("u", 1_700_000_000_000, 1_700_000_005_000, observations, "Linux", "12", [cpu])
    assert list(check(report, now_ms=1_700_000_005_000)) == []
    assert cpu.cores == [0, 3]
    assert cpu.max_utilization_by_core == [max(columns[1]), max(columns[2])]


def test_cores_are_named_only_where_their_places_do_not_tell() -> None:
    half = WeightedSamples([0.5], [1.0])
    assert CpuSamples((0, 1), half, [half] * 2).metric(1).cores == []
    assert CpuSamples((1,), half, [half]).metric(1).cores == [1]
