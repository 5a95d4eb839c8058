"""What is taken of OpenTelemetry's points: of the hosts that the sender is for, of times that can be, once."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from contract.metrics import Cpu
from contract.report import FUTURE_MS, Report
from service.ingest.otlp import OtlpRequest, read
from service.ingest.scrapes import Range, Scrapes
from service.ingest.system_metrics import OPENTELEMETRY

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
UTILIZATION, TIME = "system.cpu.utilization", "system.cpu.time"
Values = Mapping[tuple[str, str], float]
"""By core and mode."""


def metric(values: Values, at_ms: int, name: str = TIME) -> dict[str, Any]:
    """A cumulative sum of times, or a gauge of another name."""
    points = [
        {
            "timeUnixNano": str(at_ms * 10**6), "asDouble": value,
            "attributes": [
                {"key": key, "value": {"stringValue": text}} for key, text in (("cpu", core), ("state", mode)) if text
            ],
        } for (core, mode), value in values.items()
    ]  # fmt: skip
    kind = {"aggregationTemporality": 2, "isMonotonic": True} if name == TIME else {}
    return {"name": name, "sum" if name == TIME else "gauge": {"dataPoints": points} | kind}


def request(*metrics: dict[str, Any], host: str = "web-1") -> ExportMetricsServiceRequest:
    named = {"attributes": [{"key": "host.name", "value": {"stringValue": host}}]}
    document = {"resourceMetrics": [{"resource": named, "scopeMetrics": [{"metrics": list(metrics)}]}]}
    return json_format.ParseDict(document, ExportMetricsServiceRequest())


class Door:
    """Takes requests as the service does; its clock is set by hand."""

    def __init__(self, covers: Callable[[str], bool] = lambda host: True) -> None:
        self.now_ms = NOW_MS
        self.covers = covers
        self.scrapes = Scrapes(OPENTELEMETRY)
        self.faults: list[str] = []
        """Of all requests."""

    def take(self, *metrics: dict[str, Any], host: str = "web-1") -> OtlpRequest:
        """What is taken of a request; `reports` are what is made of it and of those before."""
        within = Range.at(self.now_ms, NOW_MS - 30 * 24 * 60 * MINUTE_MS)
        taken = read(request(*metrics, host=host), within, self.covers)
        windows = self.scrapes.windows(self.scrapes.add(taken.readings, self.now_ms))
        self.reports = [window.report for window in windows if window.report is not None]
        self.faults += [fault for window in windows for fault in window.faults]
        self.scrapes.keep(windows)
        return taken

    def shares(self, *metrics: dict[str, Any], host: str = "web-1") -> list[float]:
        """The utilization of the host in the windows that a request completes."""
        self.take(*metrics, host=host)
        return shares(self.reports)


def cpus(reports: Iterable[Report]) -> list[Cpu]:
    return [one for report in reports for one in report.metrics if isinstance(one, Cpu)]


def shares(reports: Iterable[Report]) -> list[float]:
    return [round(one.avg_utilization, 9) for one in cpus(reports)]


def reading(number: int, name: str = TIME) -> Values:
    """Of two cores that are busy for a quarter and three quarters of the time: counters, or shares."""
    grown = {"idle": (0.5, 0.125), "iowait": (0.25, 0.125), "user": (0.25, 0.75)}
    times = 60.0 * number if name == TIME else 1.0
    return {(f"cpu{core}", mode): times * both[core] for mode, both in grown.items() for core in range(2)}


def at(number: int) -> int:
    """The moment of a reading."""
    return NOW_MS + (number - 20) * MINUTE_MS


def split(values: Values, parts: int) -> list[Values]:
    """The values in so many requests."""
    return [dict([*values.items()][part::parts]) for part in range(parts)]


def known(name: str = TIME) -> Door:
    """Of whose host four moments came, of which two requests bring the parts."""
    door = Door()
    for number in range(4):
        for part in split(reading(number, name), 2):
            door.take(metric(part, at(number), name))
    assert door.faults == []
    return door


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_points_of_a_moment_may_come_in_any_requests_and_order(name: str, parts: int) -> None:
    door, found, dice = Door(), [], random.Random(parts)
    for number in range(12):
        requests = split(reading(number, name), parts)
        for part in dice.sample(requests, parts) + dice.sample(requests, parts // 2):
            found += door.shares(metric(part, at(number), name))
    assert found == [0.5] * (11 if name == TIME else 12)
    assert door.faults == []
    cores = [one.avg_utilization_by_core for one in cpus(door.reports)]
    assert cores == [pytest.approx([0.25, 0.75])] * len(cores)


def test_gauges_that_are_sent_again_late_after_others_are_kept() -> None:
    door, found = known(UTILIZATION), []
    for number in (6, 5, 7, 4, 6, 4):
        door.take(metric(reading(number, UTILIZATION), at(number), UTILIZATION))
        found += [(one.start_timestamp, one.end_timestamp) for one in door.reports]
    assert found == [(at(number - 1), at(number)) for number in (6, 5, 7, 4)]
    assert door.shares(metric({("", ""): 0.25}, at(9), UTILIZATION), host="plain") == [0.25]
    assert door.shares(metric({("", ""): 0.75}, at(8), UTILIZATION), host="plain") == [0.75]


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
def test_a_moment_of_which_a_part_is_lost_is_left_out_and_said(name: str) -> None:
    door, found = known(name), []
    for number in range(4, 20):
        parts = split(reading(number, name), 2)
        for part in parts[:1] if number == 6 else parts:
            door.take(metric(part, at(number), name))
            found += [(one.end_timestamp - at(0)) // MINUTE_MS for one in door.reports]
    assert sorted(found) == [number for number in range(4, 20) if number != 6]
    [fault] = door.faults
    assert fault.endswith("left out 3 values of a moment of which others did not come")


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
def test_a_core_that_goes_offline_is_not_waited_for_for_long(name: str) -> None:
    door, found = known(name), []
    for number in range(4, 20):
        one = {key: value for key, value in reading(number, name).items() if key[0] == "cpu0"}
        found += door.shares(metric(one, at(number), name))
    assert len(found) >= 14
    assert set(found) == {0.25}


def test_times_without_a_whole_say_nothing_and_that_is_said() -> None:
    for modes in ({"idle"}, {"user", "system"}):
        door = Door()
        for number in range(6):
            part = {key: value for key, value in reading(number).items() if key[1] in modes}
            assert door.shares(metric(part, at(number))) == []
        assert "expected the modes idle and user, system and their like" in door.faults[0]


def test_a_series_that_has_ended_is_not_a_zero() -> None:
    door = Door()
    ended = metric({("", ""): 0.0}, at(1), UTILIZATION)
    ended["gauge"]["dataPoints"][0]["flags"] = 1
    assert door.shares(metric({("", ""): 0.5}, at(0), UTILIZATION)) == [0.5]
    assert (door.shares(ended), door.take(ended).rejected) == ([], 0)
    del ended["gauge"]["dataPoints"][0]["asDouble"], ended["gauge"]["dataPoints"][0]["flags"]
    assert (door.take(ended).rejected, door.reports) == (1, [])


def test_counters_are_better_than_gauges_and_a_window_has_one_of_them() -> None:
    door, found = Door(), []
    gauge = {("", ""): 0.125}
    for number in range(8):
        door.take(metric(gauge, at(number), UTILIZATION), metric(reading(number), at(number)))
        found += [(one.end_timestamp, tuple(shares([one]))) for one in door.reports]
    assert found == [(at(0), (0.125,)), *((at(number), (0.5,)) for number in range(1, 8))]


def test_who_is_not_for_a_host_changes_nothing_of_it() -> None:
    door = known()
    door.covers = lambda host: host == "mine"
    made = door.take(metric(reading(19), at(20)), metric(reading(1), at(20), UTILIZATION))
    assert (door.reports, made.points, made.rejected, made.forbidden) == ([], 12, 12, 12)
    assert (made.reasons, made.systems) == (["the token is for another user id"], [])
    door.covers = lambda host: True
    assert door.shares(metric(reading(4), at(4))) == [0.5]


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
@pytest.mark.parametrize("at_ms", [NOW_MS + FUTURE_MS + 1, NOW_MS + 10**10, NOW_MS - 31 * 24 * 60 * MINUTE_MS, 0])
def test_points_of_times_that_cannot_be_are_rejected_and_leave_no_trace(name: str, at_ms: int) -> None:
    door = known()
    made = door.take(metric(reading(5), at_ms, name))
    assert (door.reports, made.rejected, made.systems) == ([], 6, [])
    assert made.reasons[0].startswith("expected a time from ") and made.reasons[0].endswith(f"got {at_ms}")
    assert door.shares(metric(reading(4), at(4))) == [0.5]


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
def test_a_clock_that_ran_ahead_silences_nobody(name: str) -> None:
    door = known(name)
    door.now_ms = at(3)
    for number in (4, 5, 6, 7, 8):
        door.take(metric(reading(number, name), at(number), name))
    # The clock was set right, and minutes go on.
    found = []
    for number in range(3, 8):
        door.now_ms = at(number)
        found += door.shares(metric(reading(number, name), at(number), name))
    assert found == [0.5] * 4
    assert door.faults == []


@pytest.mark.parametrize(
    ("host", "right"),
    [("", "expected one of host.name, host.id, service.instance.id in the resource, got none"),
     ("x" * 129, "expected a host of 1 to 128 printable characters, got 'xxxx"), ("a\nb", "got 'a\\nb'")],
)  # fmt: skip
def test_points_without_a_host_that_can_be_are_rejected(host: str, right: str) -> None:
    made = Door().take(metric({("", ""): 0.5}, NOW_MS, UTILIZATION), host=host)
    assert (made.readings, made.rejected) == ([], 1)
    assert right in made.reasons[0]


@pytest.mark.parametrize("core", ["²", "٣", "9" * 5000, "65534", "-1", "x", "cpu", "cpu-total", "all"])
def test_a_core_is_a_number_or_all_of_them(core: str) -> None:
    for name in (TIME, UTILIZATION):
        made = Door().take(metric({(core, "idle"): 0.5, (core, "user"): 0.5}, NOW_MS, name))
        if core in ("cpu", "cpu-total", "all"):
            assert made.rejected == 0
        else:
            assert (made.readings, made.rejected) == ([], 2)
            assert made.reasons[0].startswith(f"{name}: expected in cpu the number of a core, got ")
