"""Reports as JSON, as clients of all kinds send them."""

from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from contract.report import Report, encode
from tests.support.running import wait_until

__all__ = ["END_MS", "JsonObject", "as_json", "entries", "history", "original", "post", "small"]

JsonObject = dict[str, Any]
END_MS = 1_531_402_665_626
METRICS = "/api/v1/metrics"


def original(user_id: str, **members: Any) -> JsonObject:
    """The original system's example, of another user; `members` replace its own or are added."""
    return {
        "user_id": user_id,
        "start_timestamp": END_MS - 5021,
        "end_timestamp": END_MS,
        "observations_per_metric": 100,
        "os_type": "Linux",
        "os_version": "18.04 LTS",
        "metrics": [
            {
                "type": "CPU",
                "avg_utilization": 0.2148631642976225,
                "var_utilization": 0.005718669350831782,
                "avg_utilization_by_core": [0.19575989029493227, 0.19210218632004747, 0.24848360030511063],
                "var_utilization_by_core": [0.0033936742208834853, 0.002245358139130047, 4.7853845483180853e-4],
                "name": "CpuUtilization",
            }
        ],
    } | members


def small(user_id: str, end_ms: int, mean: float = 0.5, observations: int = 1, **members: Any) -> JsonObject:
    """A report of one CPU mean."""
    return original(
        user_id,
        start_timestamp=end_ms - 1000,
        end_timestamp=end_ms,
        observations_per_metric=observations,
        metrics=[{"type": "CPU", "avg_utilization": mean}],
        **members,
    )


def as_json(report: JsonObject | Report) -> bytes:
    """The JSON of a report."""
    return encode(report) if isinstance(report, Report) else msgspec.json.encode(report)


def post(client: httpx.Client, *reports: JsonObject | Report, **headers: str) -> httpx.Response:
    """Send a report, or several as an array."""
    texts = [as_json(report) for report in reports]
    body = texts[0] if len(texts) == 1 else b"[" + b",".join(texts) + b"]"
    return client.post(METRICS, content=body, headers={"Content-Type": "application/json"} | headers)


def history(client: httpx.Client, user_id: str, metric: str = "cpuLoadAvg", /, **query: Any) -> httpx.Response:
    """Ask for a user's history; without a start for all time, in buckets of 52 weeks."""
    always: JsonObject = {"start": 20_000_000_000, "end": "2040-01-01T00:00:00Z", "resample_rate": "52w"}
    query = query if "start" in query else always | query
    # Dots too: clients take `..` out of a path.
    name = quote(user_id, safe="").replace(".", "%2E")
    return client.get(f"{METRICS}/{metric}/byUser/{name}", params=query)


def entries(response: httpx.Response) -> list[tuple[str, float]]:
    """The dates and values of an answer."""
    assert response.status_code == 200, response.text
    return [(entry["date"], entry["value"]) for entry in response.json()["entries"]]


def flushes(client: httpx.Client) -> float:
    (line,) = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("loadlens_store_flushes_total ")
    ]
    return float(line.split()[1])


def wait_for_flush(client: httpx.Client) -> None:
    """Return when what was posted before is on the store's disk."""
    before = flushes(client)
    wait_until(lambda: flushes(client) >= before + 2, "two flushes")
