"""Requests of tables and of the dashboard: several questions at once, pictures, analyses, annotations, documents."""

from tests.service.recorded.asking import JsonObject, delete, get, post, query

__all__ = ["DASHBOARDS"]

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
