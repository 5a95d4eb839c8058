"""Reports to start from."""

import copy
from typing import Any

import msgspec

NOW_MS = 1531402670000
"""A few seconds after the original's report was made."""

ORIGINAL = b"""{
  "user_id": "6a:d6:96:d3:45:35",
  "start_timestamp": 1531402660605,
  "end_timestamp": 1531402665626,
  "observations_per_metric": 100,
  "os_type": "Linux",
  "os_version": "18.04 LTS",
  "metrics": [{
    "type": "CPU",
    "avg_utilization": 0.2148631642976225,
    "var_utilization": 0.005718669350831782,
    "avg_utilization_by_core": [0.19575989029493227, 0.19210218632004747, 0.24848360030511063, 0.18310711960197185],
    "var_utilization_by_core": [0.0033936742208834853, 0.002245358139130047,
                                4.7853845483180853E-4, 0.0030582163825456816],
    "name": "CpuUtilization"
  }]
}"""
"""The report of the original system's README, as its clients send it."""

_FULL = {
    "user_id": "6a:d6:96:d3:45:35",
    "start_timestamp": 1531402660605,
    "end_timestamp": 1531402665626,
    "observations_per_metric": 4,
    "os_type": "Linux",
    "os_version": "18.04 LTS",
    "report_id": "r-1",
    "agent": {"version": "0.1.0", "cpu_seconds": 1.5, "resident_bytes": 18_000_000, "settings": {"samples": 4}},
    "metrics": [
        {
            "type": "CPU",
            "avg_utilization": 0.25,
            "var_utilization": 0.0125,
            "avg_utilization_by_core": [0.25, 0.25],
            "var_utilization_by_core": [0.0125, 0.0125],
            "min_utilization": 0.1,
            "max_utilization": 0.4,
            "histogram": [6, 1, 12, 1, 19, 1, 25, 1],
            "min_utilization_by_core": [0.1, 0.1],
            "max_utilization_by_core": [0.4, 0.4],
            "histogram_by_core": [[6, 1, 12, 1, 19, 1, 25, 1], [6, 2, 25, 2]],
            "cores": [0, 2],
        },
        {"type": "MEMORY", "utilization": {"avg": 0.5, "var": 0.0, "min": 0.5, "max": 0.5, "histogram": [32, 4]}},
        {
            "type": "NETWORK",
            "received_bytes": {"avg": 1000.0, "histogram": [345, 4]},
            "sent_bytes": {"avg": 0.0, "observations": 3, "histogram": [-346, 3]},
        },
    ],
}


def full() -> dict[str, Any]:
    """A report with every kind of member, as JSON has it, to be changed at will."""
    return copy.deepcopy(_FULL)


def changed(path: str, value: object) -> bytes:
    """The full report with the member at a JSON pointer set to another value."""
    document = full()
    *parents, last = path.removeprefix("/").split("/")
    place: Any = document
    for name in parents:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if isinstance(place, list):
        place[int(last)] = value
    else:
        place[last] = value
    return msgspec.json.encode(document)
