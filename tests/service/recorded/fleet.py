"""The reports that the service is filled with: a small fleet over three days of March 2025, always the same."""

import math
import random
from collections.abc import Sequence
from typing import Any

__all__ = ["DAY_MS", "ORIGINAL", "START_MS", "all_types", "dense", "late", "moment", "plain", "sparse"]

JsonObject = dict[str, Any]
START_MS = 1_741_564_800_000
"""2025-03-10T00:00:00Z."""
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_LOG_GROWTH = math.log(1.01 / 0.99)
_SMALLEST = 1e-3

ORIGINAL: JsonObject = {
    "user_id": "6a:d6:96:d3:45:35",
    "start_timestamp": 1531402660605,
    "end_timestamp": 1531402665626,
    "observations_per_metric": 100,
    "os_type": "Linux",
    "os_version": "18.04 LTS",
    "metrics": [
        {
            "type": "CPU",
            "avg_utilization": 0.2148631642976225,
            "var_utilization": 0.005718669350831782,
            "avg_utilization_by_core": [
                0.19575989029493227, 0.19210218632004747, 0.24848360030511063, 0.18310711960197185,
            ],
            "var_utilization_by_core": [
                0.0033936742208834853, 0.002245358139130047, 4.7853845483180853e-4, 0.0030582163825456816,
            ],
            "name": "CpuUtilization",
        }
    ],
}  # fmt: skip
"""The original system's example."""


def moment(day: int, hour: int, minute: int = 0, second: int = 0) -> int:
    """Epoch milliseconds of a time of day of the three days, the first of which is day 0."""
    return START_MS + day * DAY_MS + hour * HOUR_MS + minute * 60_000 + second * 1000


def dense(user_id: str, first_ms: int, windows: int, cores: int, seed: int) -> list[JsonObject]:
    """Windows of 5 s without a gap, with extremes and histograms of the host and of each core."""
    chance = random.Random(seed)
    found = []
    for place in range(windows):
        samples = [_shares(chance, 20 + place % 7, (core + 1) / (cores + 2)) for core in range(cores)]
        whole = [math.fsum(one) / cores for one in zip(*samples, strict=True)]
        cpu = {
            "type": "CPU",
            "avg_utilization": _mean(whole),
            "var_utilization": _variance(whole),
            "avg_utilization_by_core": [_mean(one) for one in samples],
            "var_utilization_by_core": [_variance(one) for one in samples],
            "min_utilization": min(whole),
            "max_utilization": max(whole),
            "histogram": _histogram(whole, bounded=True),
            "min_utilization_by_core": [min(one) for one in samples],
            "max_utilization_by_core": [max(one) for one in samples],
            "histogram_by_core": [_histogram(one, bounded=True) for one in samples],
        }
        found.append(_report(user_id, first_ms + 5000 * place, len(whole), "Linux", "Debian 12", [cpu]))
    return found


def sparse(user_id: str, first_ms: int, windows: int, step_ms: int, seed: int, **members: Any) -> list[JsonObject]:
    """Windows far apart that say mean and variance and no more, as the original's client does."""
    chance = random.Random(seed)
    found = []
    for place in range(windows):
        cores = [_shares(chance, 10 + place % 3, 0.2 + 0.6 * (place % 5) / 5) for _ in range(2)]
        whole = [math.fsum(one) / 2 for one in zip(*cores, strict=True)]
        cpu = {
            "type": "CPU",
            "avg_utilization": _mean(whole),
            "var_utilization": _variance(whole),
            "avg_utilization_by_core": [_mean(one) for one in cores],
            "var_utilization_by_core": [_variance(one) for one in cores],
        }
        end_ms = first_ms + step_ms * place
        found.append(_report(user_id, end_ms, len(whole), "Linux", "Ubuntu 24.04", [cpu]) | members)
    return found


def all_types(
    user_id: str, os_type: str, os_version: str, first_ms: int, windows: int, step_ms: int, seed: int
) -> list[JsonObject]:
    """Windows of every metric type, every other one with extremes and histograms; cores have numbers of their own."""
    chance = random.Random(seed)
    found = []
    for place in range(windows):
        count = 8 + place % 4
        detailed = place % 2 == 0
        cores = [_shares(chance, count, 0.3 + core / 10) for core in range(3)]
        cpu = {
            "type": "CPU",
            "avg_utilization": _mean(cores[1]),
            "var_utilization": _variance(cores[1]),
            "avg_utilization_by_core": [_mean(one) for one in cores],
            "cores": [0, 2, 5],
        }
        metrics: list[JsonObject] = [
            cpu,
            {"type": "MEMORY", "utilization": _summary(_shares(chance, count, 0.6), detailed, bounded=True)},
            {"type": "SWAP", "utilization": _summary([0.0] * count, detailed, bounded=True)},
            {"type": "DISK"}
            | {
                name: _summary(_rates(chance, 5 + place % 2, scale), detailed, own_count=True)
                for name, scale in (("read_bytes", 5e6), ("written_bytes", 2e6), ("reads", 90.0), ("writes", 40.0))
            },
            {"type": "NETWORK"}
            | {
                name: _summary(_rates(chance, count, scale), detailed)
                for name, scale in (("received_bytes", 3e5), ("sent_bytes", 8e4))
            },
            {"type": "LOAD"}
            | {
                name: _summary(_rates(chance, count, scale), detailed)
                for name, scale in (("load1", 2.0), ("load5", 1.5), ("load15", 1.0))
            },
        ]
        found.append(_report(user_id, first_ms + step_ms * place, count, os_type, os_version, metrics))
    return found


def late(reports: Sequence[JsonObject]) -> list[JsonObject]:
    """The reports newest first, as a spool that is emptied from its end sends them."""
    return list(reversed(reports))


def plain(user_id: str, end_ms: int, mean: float, **members: Any) -> JsonObject:
    """A report of one CPU mean."""
    return _report(user_id, end_ms, 1, "Linux", "12", [{"type": "CPU", "avg_utilization": mean}]) | members


def _report(
    user_id: str, end_ms: int, observations: int, os_type: str, os_version: str, metrics: list[JsonObject]
) -> JsonObject:
    return {
        "user_id": user_id,
        "start_timestamp": end_ms - 5000,
        "end_timestamp": end_ms,
        "observations_per_metric": observations,
        "os_type": os_type,
        "os_version": os_version,
        "metrics": metrics,
    }


def _shares(chance: random.Random, count: int, level: float) -> list[float]:
    return [round(min(1.0, max(0.0, level + 0.5 * (chance.random() - 0.5))), 4) for _ in range(count)]


def _rates(chance: random.Random, count: int, scale: float) -> list[float]:
    return [round(scale * chance.random() * chance.random(), 3) for _ in range(count)]


def _summary(samples: Sequence[float], detailed: bool, *, bounded: bool = False, own_count: bool = False) -> JsonObject:
    summary: JsonObject = {"avg": _mean(samples), "var": _variance(samples)}
    if detailed:
        summary |= {"min": min(samples), "max": max(samples), "histogram": _histogram(samples, bounded=bounded)}
    if own_count:
        summary["observations"] = len(samples)
    return summary


def _mean(samples: Sequence[float]) -> float:
    return math.fsum(samples) / len(samples)


def _variance(samples: Sequence[float]) -> float:
    mean = _mean(samples)
    return math.fsum((sample - mean) * (sample - mean) for sample in samples) / len(samples)


def _histogram(samples: Sequence[float], *, bounded: bool) -> list[int]:
    """`[bin, count, ...]`: 64 equal bins of [0, 1], or bins of 1 % relative error."""
    bins = [min(int(64 * sample), 63) if bounded else _logarithmic(sample) for sample in samples]
    return [number for bin_ in sorted(set(bins)) for number in (bin_, bins.count(bin_))]


def _logarithmic(sample: float) -> int:
    if sample < _SMALLEST:
        return math.ceil(math.log(_SMALLEST) / _LOG_GROWTH) - 1
    return math.ceil(math.log(sample) / _LOG_GROWTH)
