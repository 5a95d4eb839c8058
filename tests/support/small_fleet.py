"""Reports of a small fleet: three hosts, an hour of windows each, made from samples that can be compared with."""

from typing import Any, TypedDict

import numpy as np

from tests.support.sampled_windows import Samples

START_MS = 1_531_396_800_000
"""2018-07-12T12:00:00Z"""


class Range(TypedDict):
    """Arguments of a question."""

    start: str
    end: str


HOUR: Range = {"start": "2018-07-12T12:00:00Z", "end": "2018-07-12T13:00:00Z"}
WINDOW_MS = 60_000
USERS = {"6a:d6:96:d3:45:35": "Linux", "büro/3 50%": "Windows", "..": "Linux"}

_random = np.random.default_rng(7)
SAMPLES: dict[str, list[Samples]] = {
    user: [_random.beta(1 + place, 4, _random.integers(20, 100)) for _ in range(60)] for place, user in enumerate(USERS)
}
"""By user the samples of the windows that end in each minute of the hour, on the minute."""


def _report(user: str, minute: int, samples: Samples) -> dict[str, Any]:
    bins, counts = np.unique(np.minimum(samples * 64, 63).astype(int), return_counts=True)
    end_ms = START_MS + minute * WINDOW_MS
    return {
        "user_id": user,
        "start_timestamp": end_ms - WINDOW_MS,
        "end_timestamp": end_ms,
        "observations_per_metric": len(samples),
        "os_type": USERS[user],
        "os_version": "18.04 LTS",
        "metrics": [
            {
                "type": "CPU",
                "avg_utilization": samples.mean(),
                "var_utilization": samples.var(),
                "min_utilization": samples.min(),
                "max_utilization": samples.max(),
                "histogram": np.stack([bins, counts], axis=1).ravel().tolist(),
                "avg_utilization_by_core": [samples.mean() / 2, samples.mean()],
                "var_utilization_by_core": [0.0, 0.0],
            }
        ],
    }


REPORTS = [_report(user, minute, samples) for user in USERS for minute, samples in enumerate(SAMPLES[user])]
OLD = "old"
OLD_REPORT = {
    "user_id": OLD,
    "start_timestamp": 1531402660605,
    "end_timestamp": 1531402665626,
    "observations_per_metric": 100,
    "os_type": "Linux",
    "os_version": "[red]9[/red]",
    "metrics": [{"type": "CPU", "avg_utilization": 0.2, "var_utilization": 0.01}],
}
"""A report as the original system sends it, half an hour after the others; its host is up to no good."""
