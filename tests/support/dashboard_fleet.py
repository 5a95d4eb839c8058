"""A small fleet for the dashboard: busy, idle and silent hosts, cores, memory, a change, and hostile names."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx

from contract.histogram import LINEAR, count_values, flatten
from tests.support.hostile_names import NAMES
from tests.support.reports import JsonObject

__all__ = ["HOSTILE", "HOT", "IDLE", "MINUTE_MS", "SILENT", "STEP_MS", "WEB", "fill", "newest_ms", "report", "until"]

MINUTE_MS = 60_000
STEP_MS = 5 * MINUTE_MS
HOT, IDLE, SILENT, WEB = "db-hot", "spare-idle", "gone-silent", "web-01"
HOSTILE = [name for name in NAMES if name.isprintable()]
_PLAIN = [f"web-{number:02}" for number in range(1, 25)]


def report(user: str, end_ms: int, mean: float, spread: float = 0.04, *, memory: bool = True) -> JsonObject:
    """A window of 100 samples, half of them below the mean and half above, of a host with four cores."""
    low, high = max(mean - spread, 0.0), min(mean + spread, 1.0)
    middle = (low + high) / 2
    cores = [min(middle * factor, 1.0) for factor in (0.6, 0.8, 1.2, 1.4)]
    cpu: JsonObject = {
        "type": "CPU",
        "avg_utilization": middle,
        "var_utilization": ((high - low) / 2) ** 2,
        "min_utilization": low,
        "max_utilization": high,
        "histogram": flatten(count_values([low] * 50 + [high] * 50, LINEAR)),
        "avg_utilization_by_core": cores,
        "var_utilization_by_core": [0.0] * len(cores),
    }
    metrics = [cpu]
    if memory:
        metrics.append({"type": "MEMORY", "utilization": {"avg": 0.4 + middle / 5}})
    labels = _labels(user)
    return {
        **({"labels": labels} if labels else {}),
        "user_id": user, "start_timestamp": end_ms - STEP_MS, "end_timestamp": end_ms, "observations_per_metric": 100,
        "os_type": "MacOS" if user.startswith("spare") else "Linux", "os_version": "6.1", "metrics": metrics,
    }  # fmt: skip


def _labels(user: str) -> dict[str, str]:
    if user == HOT:
        return {"role": "db", "zone": "a"}
    return {"role": "web", "zone": "ab"[int(user[4:]) % 2]} if user in _PLAIN else {}


def _mean(user: str, end_ms: int, now_ms: int, noise: random.Random) -> float:
    if user == HOT:
        return min(0.92 + noise.uniform(-0.03, 0.03), 1.0)
    if user == IDLE:
        return 0.02
    day = 0.25 + 0.15 * math.sin(end_ms / 86_400_000 * 2 * math.pi)
    if user == WEB:
        # It takes a step ten hours ago, and has a burst two hours ago.
        day = 0.2 + (0.25 if end_ms > now_ms - 10 * 3_600_000 else 0.0)
        if now_ms - 2 * 3_600_000 - 6 * STEP_MS < end_ms <= now_ms - 2 * 3_600_000:
            day = 0.97
    return min(max(day + noise.uniform(-0.02, 0.02), 0.0), 1.0)


def _reports(now_ms: int) -> Iterator[JsonObject]:
    newest = now_ms // STEP_MS * STEP_MS
    for user in (*_PLAIN, HOT, IDLE, SILENT, *HOSTILE):
        noise = random.Random(user)
        days = 9 if user in (WEB, "web-02") else 1.2
        for step in range(int(days * 288)):
            end_ms = newest - step * STEP_MS
            if user == SILENT and end_ms > now_ms - 3 * 3_600_000:
                continue
            yield report(user, end_ms, _mean(user, end_ms, now_ms, noise), memory=user == WEB)


def fill(client: httpx.Client, now_ms: int) -> None:
    """Send the fleet's reports of the last day, of two hosts of the last nine."""
    batch: list[JsonObject] = []
    for one in _reports(now_ms):
        batch.append(one)
        if len(batch) == 2000:
            assert client.post("/api/v1/metrics", json=batch).status_code == 202
            batch = []
    answer = client.post("/api/v1/metrics", json=batch)
    assert answer.status_code == 202, answer.text
    assert not answer.json().get("rejected"), answer.text[:500]


def newest_ms(client: httpx.Client) -> int:
    """The end of the newest window of a step, however long ago `fill` sent it."""
    [seen] = [one["last_seen"] for one in client.get("/api/v1/users").json()["users"] if one["user_id"] == HOT]
    return int(datetime.fromisoformat(seen).timestamp() * 1000) // STEP_MS * STEP_MS


def until(end_ms: int, hours: float) -> str:
    """The parameters of a view's address that shows the hours before a moment."""
    start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (end_ms - int(hours * 3_600_000), end_ms))
    return f"from={start:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}"
