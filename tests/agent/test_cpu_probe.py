"""Samples of the CPU, from recorded and written /proc/stat files in testcases/."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes.cpu import AT_ONCE, CpuProbe, CpuReading, CpuSamples, ProcStat, Times, utilization
from contract.report import Report
from contract.validation import check

CASES = sorted(Path(__file__).with_name("testcases").iterdir())
COUNTER = st.integers(0, 2**40)
TIMES = st.tuples(COUNTER, COUNTER, COUNTER, COUNTER)


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
    for other in others:
        file.write_bytes(other.read_bytes())
        if not probe.sample(0.0):
            windows.append(probe.collect())
            probe.restart(0.0)
    windows.append(probe.collect())
    source.close()
    for window, expected in zip(windows, json.loads((case / "expected.json").read_text()), strict=True):
        assert window is not None
        assert list(window.cores) == expected["cores"]
        assert window.series == [pytest.approx(samples) for samples in expected["series"]]


@given(before=TIMES, after=TIMES)
def test_utilization_is_a_share_whatever_the_counters_do(before: Times, after: Times) -> None:
    share = utilization(before, after)
    assert share is None or 0.0 <= share <= 1.0


def test_without_any_counted_time_there_is_no_utilization() -> None:
    assert utilization((5, 0, 7, 0), (5, 0, 7, 0)) is None


class Written:
    """A source that reads what a test wrote: work and idle time of a machine of one core."""

    def __init__(self, *times: tuple[int, int]) -> None:
        self._times = iter(times)

    def read(self) -> CpuReading:
        return CpuReading([0], next(self._times))

    def times(self, counters: tuple[int, int]) -> list[Times]:
        work, idle = counters
        return [(work, 0, idle, 0)] * 2


def test_a_core_that_stands_still_for_a_window_keeps_its_last_value() -> None:
    probe = CpuProbe(Written((0, 0), (4, 1), (4, 1), (4, 1)))
    probe.restart(0.0)
    probe.sample(0.0)
    assert probe.collect() == CpuSamples((0,), [[0.8], [0.8]])
    probe.sample(0.0)
    probe.sample(0.0)
    assert probe.collect() == CpuSamples((0,), [[0.8, 0.8], [0.8, 0.8]])


@given(windows=st.lists(st.integers(0, 2 * AT_ONCE + 5), min_size=1, max_size=5))
def test_a_window_has_one_value_a_sample_however_long_it_is(windows: list[int]) -> None:
    probe = CpuProbe(Written(*((3 * moment, moment) for moment in range(sum(windows) + 1))))
    probe.restart(0.0)
    for count in windows:
        assert all(probe.sample(0.0) for _ in range(count))
        assert probe.collect() == (CpuSamples((0,), [[0.75] * count] * 2) if count else None)


def test_nothing_is_collected_before_the_first_sample() -> None:
    probe = CpuProbe(Written((1, 1)))
    assert probe.collect() is None
    probe.restart(0.0)
    assert probe.collect() is None


@given(samples=st.lists(st.tuples(*[st.floats(0.0, 1.0)] * 3), min_size=1, max_size=50))
def test_the_metric_of_any_samples_passes_the_services_checks(samples: list[tuple[float, float, float]]) -> None:
    series = [list(values) for values in zip(*samples, strict=True)]
    cpu = CpuSamples((0, 3), series).metric()
    report = Report("u", 1_700_000_000_000, 1_700_000_005_000, len(samples), "Linux", "12", [cpu])
    assert list(check(report, now_ms=1_700_000_005_000)) == []
    assert cpu.cores == [0, 3]
    assert cpu.max_utilization_by_core == [max(series[1]), max(series[2])]


def test_cores_are_named_only_where_their_places_do_not_tell() -> None:
    assert CpuSamples((0, 1), [[0.5]] * 3).metric().cores == []
    assert CpuSamples((1,), [[0.5]] * 2).metric().cores == [1]
