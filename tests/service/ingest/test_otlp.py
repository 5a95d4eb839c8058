"""What OpenTelemetry's own exporter sends is kept as the metrics that it says, as durably as reports."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from analytics.sources.service import Client
from contract import times
from tests.support.access import make_tokens
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server
PATH = "/api/v1/otlp/v1/metrics"
MINUTE_NS = 60 * 10**9


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("otlp") / "data") as service:
        yield service


def exporter(url: str, **options: Any) -> OTLPMetricExporter:
    return OTLPMetricExporter(
        endpoint=url + PATH, timeout=60,
        preferred_temporality={Histogram: AggregationTemporality.DELTA},
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}, **options,
    )  # fmt: skip


def meters(url: str, host: str, **options: Any) -> MeterProvider:
    """Meters of a host, exported when they are flushed."""
    reader = PeriodicExportingMetricReader(exporter(url, **options), export_interval_millis=3_600_000)
    return MeterProvider([reader], Resource({"host.name": host, "os.type": "linux", "service.name": "collector"}))


def history(url: str, host: str, metric: str = "cpuLoadAvg", **options: Any) -> Any:
    with Client(url) as client:
        now_ms = times.now_ms()
        return client.history(host, metric, start=now_ms - 3_600_000, end=now_ms + 3_600_000, rate="raw", **options)


def points(name: str, kind: str, *values: tuple[int, float, dict[str, str]], **members: Any) -> dict[str, Any]:
    """A metric in OTLP's JSON: values at nanoseconds since 1970 with attributes."""
    made = [
        {
            "timeUnixNano": str(at), "asDouble": value,
            "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in attributes.items()],
        } for at, value, attributes in values
    ]  # fmt: skip
    return {"name": name, kind: {"dataPoints": made} | members}


def send(url: str, host: str | None, *metrics: dict[str, Any]) -> dict[str, Any]:
    attributes = [] if host is None else [{"key": "host.name", "value": {"stringValue": host}}]
    resource = {"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": list(metrics)}]}
    answer = httpx.post(url + PATH, json={"resourceMetrics": [resource]}, timeout=60)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document.get("partialSuccess", {})


def test_gauges_of_cores_and_modes_from_the_exporter(service: RunningService) -> None:
    provider = meters(service.url, "gauges")

    def utilization(_: CallbackOptions) -> Iterable[Observation]:
        for core, states in enumerate(({"idle": 0.5, "user": 0.4, "iowait": 0.1}, {"idle": 0.25, "user": 0.75})):
            for mode, share in states.items():
                yield Observation(share, {"cpu.logical_number": core, "cpu.mode": mode})

    meter = provider.get_meter("system")
    meter.create_observable_gauge("system.cpu.utilization", [utilization], "1")
    used = {"system.memory.state": "used"}
    meter.create_observable_gauge("system.memory.utilization", [lambda _: [Observation(0.375, used)]], "1")
    for minutes, load in ((1, 0.5), (5, 0.25), (15, 0.125)):
        meter.create_observable_gauge(
            f"system.cpu.load_average.{minutes}m",
            [lambda _, load=load: [Observation(load)]],  # type: ignore[misc]
        )

    def has_come() -> bool:
        """What a host has is known after some moments, each of a millisecond of its own."""
        assert provider.force_flush(60_000)
        with Client(service.url) as client:
            users = client.users()
        return users.loc[users["user"] == "gauges", "cores"].fillna(0).tolist() == [2]

    try:
        wait_until(has_come, "a window of two cores")
    finally:
        provider.shutdown()
    assert history(service.url, "gauges", core=0)["mean"].tolist()[:1] == pytest.approx([0.4])
    assert history(service.url, "gauges", core=1)["mean"].tolist()[:1] == pytest.approx([0.75])
    assert history(service.url, "gauges")["mean"].tolist()[:1] == pytest.approx([0.575])
    assert history(service.url, "gauges", "memoryUtilization")["mean"].tolist()[:1] == [0.375]
    assert history(service.url, "gauges", "load15m")["mean"].tolist()[:1] == [0.125]


def test_exponential_histograms_from_the_exporter_merge_into_ours(service: RunningService) -> None:
    samples = [random.Random(place).betavariate(2, 5) for place in range(4000)]
    provider = meters(service.url, "histograms")
    histogram = provider.get_meter("agent").create_histogram("system.cpu.utilization", "1")
    for half in (samples[:2000], samples[2000:]):
        for sample in half:
            histogram.record(sample)
        assert provider.force_flush(60_000)
    provider.shutdown()
    frame = history(service.url, "histograms")
    assert int(frame["count"].sum()) == 4000
    total = (frame["mean"] * frame["count"]).sum() / 4000
    assert total == pytest.approx(sum(samples) / 4000, rel=1e-9)
    assert frame["max"].max() == max(samples)
    assert frame["min"].min() == min(samples)
    with Client(service.url) as client:
        p95 = client.query(["cpuLoadAvg"], stats=["p95"], users=["histograms"], by="user", rate="all")
    # Half a bucket of theirs, at most 160 between powers of two, and half a bin of ours.
    assert p95["cpuLoadAvg.p95"].iloc[0] == pytest.approx(sorted(samples)[3800], abs=1 / 64 + 0.03)


def test_cumulative_times_say_it_by_their_growth(service: RunningService) -> None:
    now = times.now_ms() // 1000 * 10**9 - 10 * MINUTE_NS
    sum_of = {"aggregationTemporality": 2, "isMonotonic": True}
    readings = [(100.0, 50.0, 10.0), (130.0, 60.0, 20.0), (5.0, 1.0, 1.0), (35.0, 31.0, 1.0)]
    for minute, seconds in enumerate(readings):
        values = [(now + minute * MINUTE_NS, one, {"state": mode, "cpu": "cpu0"})
                  for mode, one in zip(("idle", "user", "wait"), seconds, strict=True)]  # fmt: skip
        assert send(service.url, "times", points("system.cpu.time", "sum", *values, **sum_of)) == {}
    # 10 of 50 s busy; then it went back; then 30 of 60.
    frame = history(service.url, "times")
    assert frame["mean"].tolist() == pytest.approx([0.2, 0.5])
    assert [moment.value // 10**6 for moment in frame.index] == [
        (now + minute * MINUTE_NS) // 10**6 for minute in (1, 3)
    ]


def test_what_is_sent_twice_counts_once(service: RunningService) -> None:
    at = times.now_ms() * 10**6 - MINUTE_NS
    for _ in range(2):
        assert send(service.url, "twice", points("system.cpu.utilization", "gauge", (at, 0.5, {}))) == {}
    assert history(service.url, "twice")["count"].tolist() == [1]


def test_what_is_not_kept_is_counted_with_the_reason(service: RunningService) -> None:
    at = times.now_ms() * 10**6
    told = send(service.url, "partly", points("process.cpu.time", "sum", (at, 1.0, {})),
                points("system.cpu.utilization", "gauge", (at, 0.5, {})))  # fmt: skip
    assert told == {"rejectedDataPoints": "1", "errorMessage": "process.cpu.time (sum) is not kept"}
    assert (
        "host.name" in send(service.url, None, points("system.cpu.utilization", "gauge", (at, 0.5, {})))["errorMessage"]
    )
    with Client(service.url) as client:
        assert history(service.url, "partly")["mean"].tolist() == [0.5]
        assert "" not in client.users()["user"].tolist()


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"\xff\xff\xff", "application/x-protobuf", 400), (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "text/plain", 415), (b"\xff", "application/json", 400),
        (b"x" * (8 * 1024 * 1024 + 1), "application/json", 413),
        (b"{" + b" " * 2_100_000 + b"}", "application/json", 413),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(service: RunningService, body: bytes, media_type: str, status: int) -> None:
    answer = httpx.post(service.url + PATH, content=body, headers={"Content-Type": media_type}, timeout=60)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_a_request_of_more_points_or_buckets_than_reports_may_be_is_refused(service: RunningService) -> None:
    for points, buckets in ((50_001, 0), (1, 600_000)):
        request = ExportMetricsServiceRequest()
        metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="system.cpu.utilization")
        for _ in range(points):
            metric.exponential_histogram.data_points.add(time_unix_nano=1).positive.bucket_counts.extend([0] * buckets)
        body, headers = request.SerializeToString(), {"Content-Type": "application/x-protobuf"}
        assert httpx.post(service.url + PATH, content=body, headers=headers, timeout=60).status_code == 413


def test_of_what_is_not_kept_few_words_are_said_however_much_it_is(service: RunningService) -> None:
    at = times.now_ms() * 10**6
    told = send(service.url, "wordy", *(points(f"{number}" * 9_000, "gauge", (at, 0.5, {})) for number in range(100)))
    assert told["rejectedDataPoints"] == "100"
    assert len(told["errorMessage"]) < 5000
    wrong = [
        {"resource": {"attributes": [{"key": "host.name", "value": {"stringValue": f"wrong-{number}"}}]},
         "scopeMetrics": [{"metrics": [points("system.cpu.utilization", "gauge", (at, 55.0, {}))]}]}
        for number in range(1000)
    ]  # fmt: skip
    answer = httpx.post(service.url + PATH, json={"resourceMetrics": wrong}, timeout=60)
    assert answer.status_code == 422
    assert (len(answer.json()["rejected"]), answer.json()["rejected_count"]) == (100, 1000)


def test_exponential_histograms_of_strange_scales_are_not_kept(service: RunningService) -> None:
    at = str(times.now_ms() * 10**6)
    for scale, offset, said in ((100, 0, "expected a scale"), (-200, 0, "expected a scale"), (0, -2_000_000_000, None)):
        point = {"timeUnixNano": at, "count": "2", "scale": scale, "sum": 0.5,
                 "positive": {"offset": offset, "bucketCounts": ["2"]}}  # fmt: skip
        histogram = {"aggregationTemporality": 1, "dataPoints": [point]}
        told = send(service.url, "strange", {"name": "system.cpu.utilization", "exponentialHistogram": histogram})
        assert (said is None and told == {}) or said in told["errorMessage"]


def test_histograms_with_observations_above_1_are_not_kept_but_what_rounding_has_carried_there_is(
    service: RunningService,
) -> None:
    at = times.now_ms() * 10**6
    # Of the scale 3, bucket 0 reaches from 1 to 1.09; bucket -1 ends at 1.
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"positive": {"offset": -1, "bucketCounts": ["2"]}}, True),
        ({"positive": {"offset": -1, "bucketCounts": ["1", "1"]}}, False),
        ({"positive": {"offset": -1, "bucketCounts": ["1", "1"]}, "max": 1.004}, False),
        ({"positive": {"offset": -1, "bucketCounts": ["1", "1"]}, "max": 1.0 + 1e-12}, True),
        ({"positive": {"offset": 40, "bucketCounts": ["2"]}}, False),
        ({"positive": {"offset": -1, "bucketCounts": ["2"]}, "sum": 2.2}, False),
    ]
    for number, (members, kept) in enumerate(cases):
        point = {"timeUnixNano": str(at + number * 10**6), "count": "2", "scale": 3, **members}
        histogram = {"aggregationTemporality": 1, "dataPoints": [point]}
        told = send(
            service.url, f"above {number}", {"name": "system.cpu.utilization", "exponentialHistogram": histogram}
        )
        said = "system.cpu.utilization: expected shares from 0 to 1, got an observation above 1"
        assert told == ({} if kept else {"rejectedDataPoints": "1", "errorMessage": said}), members
        if kept:
            assert history(service.url, f"above {number}")["max"].max() <= 1.0


def test_a_histogram_in_the_place_of_another_is_said_to_be_lost(service: RunningService) -> None:
    at = str(times.now_ms() * 10**6)

    def histogram(count: int) -> dict[str, Any]:
        point = {"timeUnixNano": at, "count": str(count), "scale": 0, "sum": 0.5 * count, "zeroCount": str(count)}
        return {"aggregationTemporality": 1, "dataPoints": [point]}

    name = "system.cpu.utilization"
    first, other = ({"name": name, "exponentialHistogram": histogram(count)} for count in (2, 3))
    assert send(service.url, "place", first) == {}
    told = send(service.url, "place", other)
    assert told == {"errorMessage": "1 windows end when windows do that were there already, which stay"}
    told = send(service.url, "places", first, other)
    assert told["rejectedDataPoints"] == "1"
    assert history(service.url, "places")["count"].tolist() == history(service.url, "place")["count"].tolist() == [2]


def test_values_that_no_share_has_are_refused(service: RunningService) -> None:
    at = times.now_ms() * 10**6
    resource = {"resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "wrong"}}]},
                "scopeMetrics": [{"metrics": [points("system.cpu.utilization", "gauge", (at, 55.0, {}))]}]}  # fmt: skip
    answer = httpx.post(service.url + PATH, json={"resourceMetrics": [resource]}, timeout=60)
    assert answer.status_code == 422
    assert "avg_utilization" in answer.text


def test_what_was_acknowledged_survives_the_end_of_the_service(tmp_path: Path) -> None:
    at = times.now_ms() * 10**6 - MINUTE_NS
    with RunningService(tmp_path / "data") as service:
        assert send(service.url, "durable", points("system.cpu.utilization", "gauge", (at, 0.5, {}))) == {}
        service.kill()
    with RunningService(tmp_path / "data") as service:
        assert history(service.url, "durable")["mean"].tolist() == [0.5]


def test_an_agents_token_is_good_for_its_own_host_alone(tmp_path: Path) -> None:
    made = make_tokens(tmp_path / "data", ("agent", "agent", "mine"), ("reader", "reader", "*"))
    at = times.now_ms() * 10**6 - MINUTE_NS
    with RunningService(tmp_path / "data") as service:
        agent, reader = made["agent"], made["reader"]
        for token, host, status in (
            (agent, "mine", 200), (agent, "other", 403), (reader, "mine", 403), ("none", "mine", 401),
        ):  # fmt: skip
            named = {"attributes": [{"key": "host.name", "value": {"stringValue": host}}]}
            gauge = points("system.cpu.utilization", "gauge", (at, 0.5, {}))
            resource = {"resource": named, "scopeMetrics": [{"metrics": [gauge]}]}
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            body = json.dumps({"resourceMetrics": [resource]})
            answer = httpx.post(service.url + PATH, content=body, headers=headers, timeout=60)
            assert answer.status_code == status, answer.text
