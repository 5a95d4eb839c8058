"""The probes besides the CPU's, on this machine and with counters that do what a test says."""

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import psutil
import pytest

from agent.probes import PROBES, MetricName, NotMeasured, Probe
from agent.probes.base import QuantitySamples, WeightedSamples
from agent.probes.system import Gauges, Rates
from contract.metrics import TYPES, Distribution, Load, Network, type_name
from contract.report import Report
from contract.validation import check


def collected(probe: Probe) -> Sequence[WeightedSamples]:
    samples = probe.collect()
    assert isinstance(samples, QuantitySamples)
    return samples.series


def test_every_metric_of_the_catalogue_has_a_probe() -> None:
    assert set(PROBES) == {type_name(kind).lower() for kind in TYPES}


@pytest.mark.parametrize("name", PROBES)
def test_this_host_gives_a_metric_that_the_service_takes(name: MetricName) -> None:
    probe = PROBES[name](0.05)
    try:
        probe.restart(time.monotonic())
        probe.sample(time.monotonic())
    except NotMeasured:
        # Not every host tells these, and says so.
        if name not in ("pressure", "limits", "frequency", "temperature"):
            raise
        return
    deadline = time.monotonic() + 10.0
    while (samples := probe.collect()) is None and time.monotonic() < deadline:
        probe.sample(time.monotonic())
    if samples is None:
        pytest.skip(f"this machine has no {name} to sample")
    report = Report("u", 1_700_000_000_000, 1_700_000_005_000, 1, "Linux", "12", [samples.metric(1)])
    assert list(check(report, now_ms=1_700_000_005_000)) == []


def test_gauges_are_summarised_as_they_are() -> None:
    values = iter([(1.0, 2.0, 3.0), (3.0, 2.0, 0.0)])
    probe = Gauges(Load, 0.05, lambda: next(values))
    probe.restart(0.0)
    probe.sample(1.0)
    probe.sample(2.0)
    samples = probe.collect()
    assert samples is not None
    load = samples.metric(40)
    assert isinstance(load, Load)
    assert load.load1 == Distribution(2.0, 1.0, 1.0, 3.0, [0, 1, 55, 1], 2)
    assert load.load5.maximum == 2.0
    assert probe.collect() is None


def rates(*readings: Mapping[str, Sequence[int]]) -> list[list[float]]:
    """The samples from readings two seconds apart."""
    given = iter(readings)
    probe = Rates(Network, 0.05, lambda: next(given))
    probe.restart(0.0)
    for place in range(1, len(readings)):
        probe.sample(2.0 * place)
    return [series.values for series in collected(probe)]


def test_counters_become_rates_added_up_over_the_devices() -> None:
    assert rates({"a": (0, 10), "b": (5, 0)}, {"a": (20, 10), "b": (25, 6)}) == [[20.0], [3.0]]


def test_a_device_that_comes_or_goes_adds_nothing_for_that_sample() -> None:
    assert rates(
        {"a": (0, 0), "gone": (9, 9)}, {"a": (2, 2), "new": (7000, 7000)}, {"a": (2, 2), "new": (7004, 7000)}
    ) == [
        [1.0, 2.0],
        [1.0, 0.0],
    ]


def test_a_counter_that_goes_back_counts_as_unmoved() -> None:
    assert rates({"a": (100, 100)}, {"a": (4, 102)}, {"a": (6, 102)}) == [[0.0, 1.0], [1.0, 0.0]]


def test_a_counter_that_is_0_for_a_moment_is_joined_to_the_next_reading() -> None:
    # As drivers answer while an interface is set up anew: all since boot would count as of two seconds.
    big = 10**12
    assert rates({"a": (big, 7)}, {"a": (0, 9)}, {"a": (big + 4, 9)}, {"a": (big + 6, 9)}) == [
        [0.0, 2.0, 1.0],
        [1.0, 0.0, 0.0],
    ]
    # It may go away in between, and what comes under its name is another.
    assert rates({"a": (big, 7)}, {"a": (0, 9)}, {}, {"a": (big, 9)})[0] == [0.0, 0.0]


def test_a_period_is_kept_although_samples_are_late_and_skipped_where_one_was_missed() -> None:
    probe = Gauges(Load, 0.05, lambda: (0.0, 0.0, 0.0))
    probe.restart(10.0)
    assert probe.due == 11.0
    probe.sample(11.04)
    assert probe.due == 12.0
    probe.sample(15.0)
    assert probe.due == 16.0


def test_space_counts_each_device_once_and_only_what_can_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [("sda1", "/", "rw"), ("sda1", "/bound", "rw,bind"), ("sdb1", "/data", "rw"), ("loop0", "/snap", "ro")]
    # Used and available bytes; of 100 on / root keeps five to itself.
    spaces = {"/": (60, 35), "/bound": (60, 35), "/data": (10, 90), "/snap": (5, 0)}
    monkeypatch.setattr(
        psutil, "disk_partitions", lambda: [SimpleNamespace(device=d, mountpoint=m, opts=o) for d, m, o in parts]
    )
    monkeypatch.setattr(
        psutil, "disk_usage", lambda place: SimpleNamespace(used=spaces[place][0], free=spaces[place][1])
    )
    probe = PROBES["filesystems"](0.05)
    probe.restart(0.0)
    probe.sample(1.0)
    assert [series.values for series in collected(probe)] == [[60 / 95], [70], [125]]


def test_no_file_system_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(place: str) -> None:
        raise OSError(place)

    monkeypatch.setattr(psutil, "disk_usage", away)
    probe = PROBES["filesystems"](0.05)
    probe.restart(0.0)
    with pytest.raises(NotMeasured, match="no local file system"):
        probe.sample(1.0)


def test_memory_in_bytes_adds_up_to_the_hosts() -> None:
    probe = PROBES["memory_bytes"](0.05)
    probe.restart(0.0)
    probe.sample(1.0)
    (used,), (available,), (swap_used,) = (series.values for series in collected(probe))
    assert used + available == psutil.virtual_memory().total
    assert 0 <= swap_used <= psutil.swap_memory().total
