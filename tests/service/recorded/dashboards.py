"""Requests of tables and of the dashboard: several questions at once, pictures, analyses, annotations, documents."""

from tests.service.recorded.asking import JsonObject, delete, get, post, query
from tests.service.recorded.fleet import moment

__all__ = ["DASHBOARDS", "DEVICES"]

_RANGE: JsonObject = {"start": "2025-03-10", "end": "2025-03-13"}


def _table(**parameters: str) -> JsonObject:
    return get(f"/query{query(_RANGE | parameters)}")


DASHBOARDS = [
    _table(metric="cpuLoadAvg,memoryUtilization", stat="mean", resample_rate="1d"),
    _table(metric="cpuLoadAvg.p95", by="os_type", resample_rate="all"),
    _table(metric="cpuLoadAvg", by="user", user="web-*", resample_rate="12h"),
    _table(metric="cpuLoadAvrg"),
    _table(metric="cpuLoadAvg", by="rack"),
    get("/annotations"),
    post("/annotations", {"text": ""}),
    get("/annotations/00000000"),
    delete("/annotations/00000000"),
    get("/schedules"),
    post("/schedules", {"at": "25:00"}),
    get("/schedules/00000000"),
    delete("/schedules/00000000"),
    get("/schedules/00000000/report"),
    get("/fleet/picture?width=0"),
    get("/fleet/machines?start=2018-07-12&end=2018-07-13&limit=2"),
    get("/fleet/machines?state=busy"),
    get("/analysis/astrology/byUser/web-1"),
    post("/backtests", {}),
    get("//machines"),
    get("//static/0/none.js"),
    get("//openapi.json"),
    get("//docs"),
    get("/identity"),
    get("/tokens"),
    post("/tokens", {"name": "mine", "role": "admin"}),
    post("/tokens", {"name": "", "role": "king"}),
    get("/sessions"),
]

DEVICES = [
    post(
        "/metrics",
        {
            "user_id": "disks", "start_timestamp": moment(2, 1), "end_timestamp": moment(2, 1) + 5000,
            "observations_per_metric": 5, "os_type": "Linux", "os_version": "12",
            "metrics": [
                {
                    "type": "DISKS", "devices": ["sdb", "sda"], "busy": {"avg": 0.5}, "read_bytes": {"avg": 30.0},
                    "written_bytes": {"avg": 3.0}, "busy_by_device": [0.25, 0.5], "read_bytes_by_device": [10.0, 20.0],
                    "written_bytes_by_device": [1.0, 2.0],
                }
            ],
        },
    ),
    _table(metric="disksBusy,disksReadBytes", by="device", user="disks", resample_rate="all"),
    _table(metric="disksBusy", by="device,user", user="disks", resample_rate="all", top="1"),
    _table(metric="cpuLoadAvg", by="device"),
]  # fmt: skip
"""Last, as they bring another host."""
