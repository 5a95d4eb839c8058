"""What is taken of OpenTelemetry's points: of the hosts that the sender is for, of times that can be, once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from contract.metrics import Cpu
from contract.report import FUTURE_MS, Report
from service.ingest.otlp import Converted, Counters, convert
from service.ingest.scrapes import Range

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
        self.counters = Counters()

    def take(self, *metrics: dict[str, Any], host: str = "web-1") -> Converted:
        within = Range.at(self.now_ms, NOW_MS - 30 * 24 * 60 * MINUTE_MS)
        made = convert(request(*metrics, host=host), self.counters, within, self.covers)
        self.counters.keep(made.read)
        return made


def cpus(reports: Iterable[Report]) -> list[Cpu]:
    return [one for report in reports for one in report.typed_metrics() if isinstance(one, Cpu)]


def shares(reports: Iterable[Report]) -> list[float]:
    return [round(one.avg_utilization, 9) for one in cpus(reports)]


def reading(number: int) -> Values:
    """Counters of a core that is busy half of the time."""
    return {("cpu0", "idle"): 30.0 * number, ("cpu0", "user"): 20.0 * number, ("cpu0", "system"): 10.0 * number}


def test_who_is_not_for_a_host_changes_nothing_of_it() -> None:
    door = Door()
    assert shares(door.take(metric(reading(1), NOW_MS - 9 * MINUTE_MS)).reports) == []
    door.covers = lambda host: host == "mine"
    made = door.take(metric(reading(9), NOW_MS), metric(reading(1), NOW_MS, UTILIZATION))
    assert (made.reports, made.points, made.rejected, made.forbidden) == ([], 6, 6, 6)
    assert made.reasons == ["the token is for another user id"]
    door.covers = lambda host: True
    made = door.take(metric(reading(2), NOW_MS - 8 * MINUTE_MS))
    assert (shares(made.reports), made.rejected) == ([0.5], 0)


@pytest.mark.parametrize("name", [TIME, UTILIZATION])
@pytest.mark.parametrize("at_ms", [NOW_MS + FUTURE_MS + 1, NOW_MS + 10**10, NOW_MS - 31 * 24 * 60 * MINUTE_MS, 0])
def test_points_of_times_that_cannot_be_are_rejected_and_leave_no_trace(name: str, at_ms: int) -> None:
    door = Door()
    door.take(metric(reading(1), NOW_MS - 9 * MINUTE_MS))
    made = door.take(metric(reading(2), at_ms, name))
    assert (made.reports, made.rejected) == ([], 3)
    assert made.reasons[0].startswith("expected a time from ") and made.reasons[0].endswith(f"got {at_ms}")
    assert shares(door.take(metric(reading(2), NOW_MS - 8 * MINUTE_MS)).reports) == [0.5]


def test_a_clock_that_ran_ahead_silences_nobody() -> None:
    door = Door()
    door.take(metric(reading(1), NOW_MS + FUTURE_MS))
    # Set right, it is a minute later; and what is there of the time ahead says nothing.
    found = [door.take(metric(reading(number), NOW_MS + (number - 2) * MINUTE_MS)).reports for number in (2, 3, 4)]
    assert [shares(reports) for reports in found] == [[], [0.5], [0.5]]
    # So it is where it was the service's clock.
    door.now_ms += 3_600_000
    door.take(metric(reading(5), door.now_ms))
    door.now_ms -= 3_600_000
    found = [door.take(metric(reading(number), NOW_MS + (number - 6) * MINUTE_MS)).reports for number in (6, 7)]
    assert [shares(reports) for reports in found] == [[], [0.5]]


@pytest.mark.parametrize("core", ["²", "٣", "9" * 5000, "65534", "-1", "x", "cpu", "cpu-total", "all"])
def test_a_core_is_a_number_or_all_of_them(core: str) -> None:
    for name in (TIME, UTILIZATION):
        made = Door().take(metric({(core, "idle"): 0.5, (core, "user"): 0.5}, NOW_MS, name))
        if core in ("cpu", "cpu-total", "all"):
            assert made.rejected == 0
        else:
            assert (made.reports, made.rejected) == ([], 2)
            assert made.reasons[0].startswith(f"{name}: expected in cpu the number of a core, got ")
