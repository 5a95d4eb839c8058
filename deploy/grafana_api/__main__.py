"""`python -m deploy.grafana_api` writes the dashboards, which Grafana reads, anew."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = {"type": "yesoreyeram-infinity-datasource", "uid": "loadlens-api"}
_RATES = "10s,1m,5m,15m,1h,6h,1d"
_USER = "/api/v1/metrics/{metric}/byUser/${user:percentencode}"
_FLEET = "/api/v1/metrics/{metric}/fleet"
Json = dict[str, Any]


def target(path: str, columns: dict[str, tuple[str, str]], root: str = "", **params: str) -> Json:
    """A question of the Infinity data source; `columns` are title and type by selector. With `root`, a list of JSON."""
    given = {"start": "${__from}", "end": "${__to}"} | params
    return {
        "datasource": SOURCE,
        "type": "json" if root else "csv",
        "source": "url",
        "parser": "backend",
        "format": "table" if root else "timeseries",
        "url": path,
        "url_options": {
            "method": "GET",
            "params": [{"key": key, "value": value} for key, value in given.items()],
            "headers": [{"key": "Accept", "value": "application/json" if root else "text/csv"}],
        },
        "root_selector": root,
        "columns": [{"selector": selector, "text": text, "type": kind} for selector, (text, kind) in columns.items()],
        "filters": [],
    }


def line(path: str, title: str, stat: str, metric: str = "cpuUtilization", **params: str) -> Json:
    """The values of a metric over time."""
    columns = {"date": ("time", "timestamp"), "value": (title, "number")}
    return target(path.replace("{metric}", metric), columns, stat=stat, resample_rate="${rate}", **params)


def lines_by(group: str, **params: str) -> Json:
    """The fleet's utilization over time, a line for each group."""
    columns = {"date": ("time", "timestamp"), "group": ("group", "string"), "value": ("utilization", "number")}
    return target(_FLEET.replace("{metric}", "cpuUtilization"), columns, by=group, resample_rate="${rate}", **params)


def hosts(*stats: str) -> Json:
    """Statistics of each host over the whole range: a row for each host and statistic."""
    columns = {"group": ("host", "string"), "stat": ("stat", "string"), "values.0": ("value", "number")}
    params = {"metric": "cpuUtilization", "stat": ",".join(stats), "by": "user", "resample_rate": "all"}
    return target("/api/v1/query", columns, root="series", **params)


def graph(title: str, description: str, *targets: Json, unit: str = "percentunit", width: int = 24) -> Json:
    """Lines over time."""
    return _panel("timeseries", title, description, targets, width) | {
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"lineWidth": 1, "spanNulls": False}},
            "overrides": [],
        }
    }


def table(title: str, description: str, question: Json, by: str) -> Json:
    """A row for each host, a column for each statistic, the highest first."""
    matrix = {"columnField": "stat", "rowField": "host", "valueField": "value"}
    order = {"sort": [{"field": by, "desc": True}]}
    return _panel("table", title, description, (question,), 24) | {
        "transformations": [{"id": "groupingToMatrix", "options": matrix}, {"id": "sortBy", "options": order}],
        "fieldConfig": {"defaults": {"unit": "percentunit"}, "overrides": []},
    }


def _panel(kind: str, title: str, description: str, targets: tuple[Json, ...], width: int) -> Json:
    return {
        "type": kind, "title": title, "description": description, "datasource": SOURCE,
        "gridPos": {"h": 9, "w": width, "x": 0, "y": 0},
        "targets": [one | {"refId": chr(ord("A") + place)} for place, one in enumerate(targets)],
    }  # fmt: skip


def _variables(*, user: bool) -> list[Json]:
    rates = [{"text": rate, "value": rate, "selected": rate == "1m"} for rate in _RATES.split(",")]
    rate = {
        "name": "rate", "label": "Bucket", "type": "custom", "query": _RATES, "options": rates,
        "current": {"text": "1m", "value": "1m"},
    }  # fmt: skip
    if not user:
        return [rate]
    question = target("/api/v1/users", {"user_id": ("user_id", "string")}, root="users")
    question["url_options"]["params"] = []
    users = {
        "name": "user", "label": "Host", "type": "query", "datasource": SOURCE, "refresh": 2,
        "query": {"queryType": "infinity", "infinityQuery": question | {"refId": "variable"}},
    }  # fmt: skip
    return [users, rate]


def board(uid: str, title: str, description: str, panels: list[Json], *, user: bool = False) -> Json:
    """A dashboard, its panels in rows of 24 columns."""
    x = y = 0
    for number, panel in enumerate(panels, 1):
        place = panel["gridPos"]
        if x + place["w"] > 24:
            x, y = 0, y + place["h"]
        panel |= {"id": number, "gridPos": place | {"x": x, "y": y}}
        x += place["w"]
    return {
        "uid": uid, "title": title, "description": description, "tags": ["loadlens"], "editable": False,
        "schemaVersion": 41, "timezone": "browser", "refresh": "10s", "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables(user=user)}, "panels": panels,
    }  # fmt: skip


def hive() -> Json:
    """The original's dashboard, with exact numbers."""
    return board("loadlens-api-hive", "Hive", "The original's two panels.", [
        graph("CPU Loads", "All samples of all hosts.", line(_FLEET, "load average", "mean"),
              line(_FLEET, "load variance", "var"), line(_FLEET, "maximum", "max"), line(_FLEET, "minimum", "min")),
        table("95 Percentile Load per User", "Of 50 ms samples, exact over the whole range.", hosts("p95"), "p95"),
    ])  # fmt: skip


def fleet() -> Json:
    """All hosts."""
    return board("loadlens-api-fleet", "Fleet", "All hosts together, in groups, and one by one.", [
        graph("Utilization", "All samples of all hosts.", line(_FLEET, "mean", "mean"), line(_FLEET, "p95", "p95"),
              line(_FLEET, "p99", "p99")),
        graph("Hottest hosts", "The ten with the highest p95.", lines_by("user", stat="p95", top="10"), width=12),
        graph("By operating system", "The mean of each.", lines_by("os_type", stat="mean"), width=12),
        table("Hosts", "Over the whole range.", hosts("mean", "p95", "max"), "p95"),
    ])  # fmt: skip


def host() -> Json:
    """One host."""
    rest = [
        graph("Memory", "The share in use.", line(_USER, "memory", "mean", "memoryUtilization"), width=12),
        graph("Disk", "Bytes per second.", line(_USER, "read", "mean", "diskReadBytes"),
              line(_USER, "written", "mean", "diskWrittenBytes"), unit="Bps", width=12),
    ]  # fmt: skip
    return board("loadlens-api-host", "Host", "One host.", [
        graph("Utilization", "Of 50 ms samples.", line(_USER, "mean", "mean"), line(_USER, "p95", "p95"),
              line(_USER, "max", "max"), line(_USER, "min", "min")),
        graph("Cores", "The mean of the busiest and of the idlest core.",
              line(_USER, "busiest", "mean", "cpuCoreLoadAvgMax"), line(_USER, "idlest", "mean", "cpuCoreLoadAvgMin")),
        *rest,
    ], user=True)  # fmt: skip


DASHBOARDS = {"hive": hive, "fleet": fleet, "host": host}
"""By the name of the file."""


def as_json(dashboard: Json) -> str:
    """The text of the file."""
    return json.dumps(dashboard, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(as_json(make()))
