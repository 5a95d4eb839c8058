"""A host that makes a backup at 14:00 UTC each day, and says which processes use its CPU."""

from collections.abc import Iterator

from contract.times import DAY_MS, HOUR_MS
from tests.support.reports import JsonObject, small

__all__ = ["BACKUP_HOUR", "DAYS", "reports"]

BACKUP_HOUR, DAYS = 14, 7
_STEP_MS = 900_000


def reports(user: str, now_ms: int, hostile: str = "") -> Iterator[JsonObject]:
    """Its reports of the last days, one in a quarter of an hour, all processes in units; `hostile` runs too."""
    newest = now_ms // _STEP_MS * _STEP_MS
    for step in range(DAYS * DAY_MS // _STEP_MS):
        end_ms = newest - step * _STEP_MS
        is_backup = (end_ms - 1) // HOUR_MS % 24 == BACKUP_HOUR
        busy_s = 900.0 * 4 * (0.95 if is_backup else 0.2)
        used = {"python3": ("backup.service", 0.82 * busy_s)} if is_backup else {}
        used["postgres"] = ("postgresql.service", 0.1 * busy_s)
        if hostile:
            used[hostile] = ("web.service", 0.05 * busy_s)
        consumers = [
            {"name": name, "unit": unit, "user": "root", "cpu_s": cpu_s, "resident_bytes": 50_000_000}
            for name, (unit, cpu_s) in used.items()
        ]
        use = {
            "seconds": 900.0, "cores": 4, "busy_s": busy_s, "processes": consumers, "processes_beyond_s": 1.0,
            "units": [{"name": unit, "cpu_s": cpu_s} for unit, cpu_s in used.values()],
        }  # fmt: skip
        yield small(user, end_ms, busy_s / 3600.0, 100, processes=use) | {"start_timestamp": end_ms - _STEP_MS}
