"""Disks and interfaces by name: rates of a window that add up, those that did most, names that a report may have."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import psutil
import pytest

from agent.probes import PROBES
from agent.probes.devices import Devices, DeviceSamples
from contract.devices import LISTED, MAX_NAME
from contract.metrics import Disks, Interfaces, Metric


def window(kind: type[Metric], *readings: Mapping[str, Sequence[float]], seconds: float = 2.0) -> Metric:
    """The metric of a window with readings so many seconds apart."""
    given = iter(readings)
    probe = Devices(kind, 0.05, lambda: next(given))
    probe.restart(0.0)
    for place in range(1, len(readings)):
        probe.sample(seconds * place)
    samples = probe.collect()
    assert isinstance(samples, DeviceSamples)
    assert probe.collect() is None
    return samples.metric(100)


def test_each_device_has_its_rates_and_the_whole_is_their_sum() -> None:
    told = window(Interfaces, {"a": (0, 10), "b": (5, 0)}, {"a": (20, 10), "b": (25, 6)}, {"a": (60, 14), "b": (25, 6)})
    assert isinstance(told, Interfaces)
    assert told.devices == ["a", "b"]
    assert told.received_bytes_by_device == [15.0, 5.0]
    assert told.sent_bytes_by_device == [1.0, 1.5]
    assert told.received_bytes.mean == sum(told.received_bytes_by_device)
    assert told.received_bytes.maximum == 20.0


def test_the_busiest_disk_is_told_of_the_whole() -> None:
    told = window(
        Disks, {"a": (0, 0, 0), "b": (0, 0, 0)}, {"a": (1, 8, 0), "b": (0.5, 0, 4)}, {"a": (1, 8, 0), "b": (2.5, 0, 4)}
    )
    assert isinstance(told, Disks)
    assert told.busy_by_device == [0.25, 0.625]
    assert (told.busy.mean, told.busy.minimum, told.busy.maximum) == (0.75, 0.5, 1.0)
    assert told.written_bytes_by_device == [0.0, 1.0]


def test_a_disk_is_busy_for_all_of_the_time_at_most() -> None:
    told = window(Disks, {"a": (0, 0, 0)}, {"a": (2.003, 0, 0)})
    assert isinstance(told, Disks)
    assert told.busy_by_device == [1.0]
    assert told.busy.maximum == 1.0


def test_a_device_that_comes_goes_or_starts_anew_adds_nothing_for_that_sample() -> None:
    told = window(
        Interfaces, {"gone": (9, 9), "back": (100, 100)}, {"new": (7000, 7000), "back": (4, 102)},
        {"new": (7004, 7000), "back": (4, 102)},
    )  # fmt: skip
    assert isinstance(told, Interfaces)
    assert told.devices == ["back", "new"]
    assert told.received_bytes_by_device == [0.0, 1.0]


def test_of_many_devices_those_that_moved_most_are_named_and_the_whole_has_all() -> None:
    names = [f"sd{number}" for number in range(LISTED + 4)]
    told = window(
        Disks, dict.fromkeys(names, (0, 0, 0)), {name: (1, number, number) for number, name in enumerate(names)}
    )
    assert isinstance(told, Disks)
    assert told.devices == sorted(names[-LISTED:])
    assert told.read_bytes.mean == sum(range(LISTED + 4)) / 2
    # Of equal ones the same each time.
    told = window(Disks, dict.fromkeys(names, (0, 0, 0)), dict.fromkeys(reversed(names), (1, 0, 0)))
    assert isinstance(told, Disks)
    assert told.devices == sorted(names)[:LISTED]


def test_without_devices_there_is_no_metric_and_none_that_is_named_is_said() -> None:
    probe = Devices(Disks, 0.05, dict)
    probe.restart(0.0)
    probe.sample(1.0)
    assert probe.collect() is None
    told = window(Disks, {"a": (0, 0, 0)}, {"b": (0, 0, 0)})
    assert isinstance(told, Disks)
    assert told.devices == []
    assert told.busy.mean == 0.0


def test_hostile_names_become_ones_that_a_report_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "e" * 100
    names = {f"{long}0": 5, f"{long}1": 6, "\x1b[31meth\u202e0": 7}
    given = iter([dict.fromkeys(names, 0), names])

    def counters(**_: object) -> dict[str, SimpleNamespace]:
        return {name: SimpleNamespace(bytes_recv=n, bytes_sent=n) for name, n in next(given).items()}

    monkeypatch.setattr(psutil, "net_io_counters", counters)
    monkeypatch.setattr("agent.probes.system.counted_interfaces", lambda names: names)
    probe = PROBES["interfaces"](0.05)
    probe.restart(0.0)
    probe.sample(1.0)
    samples = probe.collect()
    assert samples is not None
    told = samples.metric(20)
    assert isinstance(told, Interfaces)
    assert dict(zip(told.devices, told.sent_bytes_by_device, strict=True)) == {
        "e" * MAX_NAME: 11.0,
        "\ufffd[31meth\ufffd0": 7.0,
    }


@pytest.mark.parametrize(("counted", "busy"), [({"busy_time": 400}, 0.4), ({}, 0.75), ({"read_time": 9000}, 1.0)])
def test_partitions_are_not_disks_and_busy_time_is_as_the_system_tells_it(
    monkeypatch: pytest.MonkeyPatch, counted: Mapping[str, int], busy: float
) -> None:
    last = {"read_bytes": 10, "write_bytes": 30, "read_time": 500, "write_time": 250} | counted
    given = iter([dict.fromkeys(last, 0), last])

    def counters(**_: object) -> dict[str, SimpleNamespace]:
        numbers = SimpleNamespace(**next(given))
        return {"sda": numbers, "sda1": numbers, "dm-0": numbers}

    monkeypatch.setattr(psutil, "disk_io_counters", counters)
    monkeypatch.setattr("agent.probes.devices.is_physical_disk", lambda name: name == "sda")
    probe = PROBES["disks"](0.05)
    probe.restart(0.0)
    probe.sample(1.0)
    samples = probe.collect()
    assert samples is not None
    told = samples.metric(20)
    assert isinstance(told, Disks)
    assert (told.devices, told.busy_by_device) == (["sda"], [busy])
    assert (told.read_bytes_by_device, told.written_bytes_by_device) == ([10.0], [30.0])
