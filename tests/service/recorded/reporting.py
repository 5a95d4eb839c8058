"""What is reported: the fleet in three parts, two of which are on disk and one in memory, and all that is refused."""

from typing import Any

from tests.service.recorded.asking import API, JSON, get, post, send
from tests.service.recorded.fleet import DAY_MS, ORIGINAL, all_types, dense, late, moment, plain, sparse

__all__ = ["FIRST", "MAIN", "REFUSED", "SECOND"]

JsonObject = dict[str, Any]
METRICS = "/metrics"
NDJSON = "application/x-ndjson"
PROTOBUF = "application/x-protobuf"
HALF_HOUR_MS = 1_800_000


def raw(text: str, **options: Any) -> JsonObject:
    """A POST of a text as it is."""
    body = {name: options.pop(name) for name in ("times", "encoding", "chunked") if name in options}
    return send("POST", f"{API}/metrics", {"text": text} | body, **{"Content_Type": JSON} | options)


def packed(documents: list[JsonObject], encoding: str, **body: Any) -> JsonObject:
    """A POST of compressed JSON."""
    content = {"json": documents, "encoding": encoding} | body
    return send("POST", f"{API}/metrics", content, Content_Type=JSON, Content_Encoding=encoding)


_SPARSE = sparse("web-2", moment(0, 0, 10), 72, HALF_HOUR_MS, 2)
_MAIN = all_types("db/main", "MacOS", "15.3", moment(0, 6), 12, 3 * HALF_HOUR_MS, 3)
_WINDOWS = all_types("büro 7", "Windows", "11", moment(1, 8), 8, HALF_HOUR_MS // 3, 4)

FIRST = [
    post(METRICS, ORIGINAL),
    post(METRICS, dense("web-1", moment(0, 9, 58, 20), 24, 4, 1)),
    packed(_SPARSE[:40], "gzip"),
    packed(_MAIN, "zstd"),
]
"""Is put on disk by the end of the first start."""

SECOND = [
    post(METRICS, dense("web-1", moment(1, 12), 12, 4, 5)),
    post(METRICS, late(_SPARSE[30:60])),
    post(METRICS, _WINDOWS[:5]),
    # Fills gaps before what the first start has put on disk.
    post(METRICS, sparse("web-1", moment(0, 0, 5), 8, HALF_HOUR_MS, 6)),
]
"""Is put on disk by the end of the second."""

MAIN = [
    post(METRICS, dense("web-1", moment(2, 0, 0, 2), 12, 4, 7)),
    post(METRICS, _SPARSE[50:]),
    post(METRICS, _WINDOWS),
    post(METRICS, all_types("db/main", "MacOS", "15.3", moment(1, 0, 7), 6, 2 * HALF_HOUR_MS, 8)),
    post(METRICS, ORIGINAL),
    post(METRICS, plain("lone", moment(1, 3), 0.25, os_version="12", report_id="a-7", unknown={"ignored": True})),
    raw('{"user_id": "line-1", "start_timestamp": 1741564800000, "end_timestamp": 1741564805000, '
        '"observations_per_metric": 2, "os_type": "Linux", "os_version": "", '
        '"metrics": [{"type": "CPU", "avg_utilization": 1}]}\n'
        '\n'
        '{"user_id": "line-2", "start_timestamp": 1741564800000, "end_timestamp": 1741564805000, '
        '"observations_per_metric": 2, "os_type": "Linux", "os_version": "", '
        '"metrics": [{"type": "CPU", "avg_utilization": 0}]}\n', Content_Type=NDJSON),
    packed([plain("packed", moment(2, 23, 59, 59), 0.5)], "gzip", chunked=True),
    post(METRICS, [plain("lone", moment(1, hour), mean) for hour, mean in ((4, 0.75), (4, 1.5), (3, 1.0))]),
    post(METRICS, plain("lone", moment(1, 5), 0.5), Content_Encoding="identity"),
    post(METRICS, plain("lone", moment(1, 5), 0.5), Content_Type="text/plain"),
    get("//api/v1/users"),
]  # fmt: skip
"""Stays in memory: new windows, windows that are known, and windows between those on disk."""


def wrong(**members: Any) -> JsonObject:
    """A report with other members."""
    return plain("refused", moment(0, 1), 0.5) | members


def cpu(**members: Any) -> JsonObject:
    """A report with another CPU metric of two cores."""
    return wrong(
        observations_per_metric=10,
        metrics=[
            {"type": "CPU", "avg_utilization": 0.5, "avg_utilization_by_core": [0.4, 0.6], "var_utilization": 0.01}
            | members
        ],
    )


def other(kind: str, **members: Any) -> JsonObject:
    """A report with one metric of another type."""
    return wrong(observations_per_metric=10, metrics=[{"type": kind} | members])


def without(name: str) -> JsonObject:
    """A report that lacks a member."""
    return {key: value for key, value in wrong().items() if key != name}


_WRONG = [
    *(without(name) for name in (
        "user_id", "start_timestamp", "end_timestamp", "observations_per_metric", "os_type", "os_version", "metrics",
    )),
    wrong(user_id=""),
    wrong(user_id="x" * 129),
    wrong(user_id="a\nb", os_version="\u0007"),
    wrong(user_id=7),
    wrong(os_type="BeOS"),
    wrong(os_version="v" * 257),
    wrong(observations_per_metric=0),
    wrong(observations_per_metric=2.5),
    wrong(start_timestamp=moment(0, 2)),
    wrong(start_timestamp=1_741_564_800, end_timestamp=1_741_564_805),
    wrong(end_timestamp=-1),
    wrong(end_timestamp=253_402_300_799_000),
    wrong(end_timestamp="2025-03-10T01:00:00Z"),
    wrong(report_id="r" * 129),
    wrong(agent={"version": "1"}),
    wrong(metrics=[]),
    wrong(metrics=[{"avg_utilization": 0.5}]),
    wrong(metrics=[{"type": "GPU"}]),
    wrong(metrics=[{"type": "CPU"}]),
    wrong(metrics=[{"type": "CPU", "avg_utilization": 0.5}] * 2),
    cpu(avg_utilization=1.5),
    cpu(avg_utilization=-0.1),
    cpu(avg_utilization="0.5"),
    cpu(var_utilization=0.26),
    cpu(avg_utilization_by_core=[0.5, 1.01]),
    cpu(var_utilization_by_core=[0.1]),
    cpu(var_utilization_by_core=[0.1, 0.3]),
    cpu(min_utilization=0.6, max_utilization=0.4),
    cpu(min_utilization_by_core=[0.5, 0.5]),
    cpu(max_utilization_by_core=[0.5, 0.5]),
    cpu(histogram=[32]),
    cpu(histogram=[32, 11]),
    cpu(histogram=[65, 10]),
    cpu(histogram=[33, 5, 31, 5]),
    cpu(histogram=[31, 10, 32, 0]),
    cpu(histogram_by_core=[[31, 10]]),
    cpu(histogram_by_core=[[31, 10], [31, 9]]),
    cpu(cores=[0]),
    cpu(cores=[1, 1]),
    cpu(cores=[0, 65536]),
    other("MEMORY"),
    other("MEMORY", utilization={"avg": 1.5}),
    other("MEMORY", utilization={"avg": 0.5, "var": 0.3}),
    other("SWAP", utilization={"avg": 0.5, "max": 1.1}),
    other("DISK", read_bytes={"avg": 1}, written_bytes={"avg": 1}, reads={"avg": 1}),
    other("DISK", read_bytes={"avg": -1}, written_bytes={"avg": 1}, reads={"avg": 1}, writes={"avg": 1}),
    other("NETWORK", received_bytes={"avg": 5, "min": 6}, sent_bytes={"avg": 5, "max": 4}),
    other("NETWORK", received_bytes={"avg": 5, "histogram": [81, 9]}, sent_bytes={"avg": 5, "observations": 0}),
    other("LOAD", load1={"avg": 1e301}, load5={"avg": 1}, load15={"avg": 1}),
]  # fmt: skip

_OTHERS = {
    "resource": {},
    "scopeMetrics": [{"metrics": [{"name": "system.uptime", "gauge": {"dataPoints": [{"asInt": "1"}]}}]}],
}

_WRITE = f"{API}/prometheus/write"
REFUSED = [
    send("POST", _WRITE, {"base64": "/////w8AeA=="}, Content_Type=PROTOBUF, Content_Encoding="snappy"),
    send("POST", _WRITE, {"base64": "Ch4KDgoIX19uYW1lX18SAnVwEgwJAAAAAAAA8D8QrAI="}, Content_Type=PROTOBUF),
    send("POST", _WRITE, {"text": "{}"}, Content_Type=JSON),
    post("/otlp/v1/metrics", {"resourceMetrics": [_OTHERS]}),
    post("/otlp/v1/metrics", {"resourceMetrics": 7}),
    *(post(METRICS, report) for report in _WRONG),
    post(METRICS, []),
    post(METRICS, [wrong(os_type="BeOS"), without("metrics"), "text"]),
    post(METRICS, [wrong(user_id=""), plain("refused", moment(0, 1), 0.5), 7]),
    post(METRICS, "text"),
    post(METRICS, None),
    raw(""),
    raw("{"),
    raw("[{]"),
    raw("nonsense"),
    raw('{"user_id": "a"}\n{"user_id": "b"}\n'),
    raw("\n\n", Content_Type=NDJSON),
    raw("{}\nnonsense\n", Content_Type="application/jsonl"),
    raw("[" * 5000),
    send("POST", f"{API}/metrics", {"base64": "eyJ1c2VyX2lkIjogIv8ifQ=="}, Content_Type=JSON),
    raw("{}", Content_Encoding="gzip"),
    send("POST", f"{API}/metrics", {"base64": "H4sIAAAAAAAC/6uuBQBDv6ajAg=="}, Content_Encoding="gzip"),
    raw("{}", Content_Encoding="zstd"),
    raw("{}", Content_Encoding="br"),
    raw("{}", Content_Encoding="GZIP", encoding="gzip"),
    raw(" ", times=8_388_609, encoding="gzip", Content_Encoding="gzip"),
    raw(" ", times=8_388_609, encoding="zstd", Content_Encoding="zstd"),
    raw(" ", times=8_388_609, chunked=True),
    raw("{}", Content_Length="8388609"),
    send("PUT", f"{API}/metrics"),
    send("DELETE", f"{API}/metrics"),
    send("HEAD", f"{API}/metrics"),
    send("OPTIONS", f"{API}/metrics"),
    # A window that ends later is new; of a report with known and new types the new ones are kept.
    post(METRICS, plain("partly", moment(0, 1), 0.5)),
    post(METRICS, wrong(user_id="partly", metrics=[
        {"type": "CPU", "avg_utilization": 0.9}, {"type": "MEMORY", "utilization": {"avg": 0.5}},
    ])),
    post(METRICS, plain("far", moment(0, 1) + 400 * DAY_MS * 100, 0.5)),
]  # fmt: skip
"""What is wrong is told, member by member."""
