"""Fleets of windows whose samples are kept, so that what is merged can be compared with numpy on all of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analytics.frames.frame import to_frame
from contract.histogram import LINEAR
from tests.support.sampled_windows import Samples, windows_of

__all__ = ["Sampled", "loads", "sampled"]


@dataclass(frozen=True)
class Sampled:
    """Windows and their samples."""

    frame: pd.DataFrame
    samples: pd.DataFrame
    """A row a sample: `user`, `time` of its window, `value`."""


def sampled(
    users: int = 3, windows: int = 200, every: str = "10min", start: str = "2024-03-28", seed: int = 1
) -> Sampled:
    """Users with different loads, and different numbers of samples in each window."""
    random = np.random.default_rng(1)
    times = pd.date_range(start, periods=windows, freq=every, tz="UTC", unit="ms")
    parts: list[Samples] = [
        random.beta(1 + user, 3, random.integers(1, 30)) for user in range(users) for _ in range(windows)
    ]
    labels = pd.DataFrame({"user": [f"user {user}" for user in range(users)]})
    epoch_ms = times.asi8.tolist()
    frame = to_frame(windows_of([(user, time) for user in range(users) for time in epoch_ms], parts, LINEAR), labels)
    sizes = [len(part) for part in parts]
    samples = pd.DataFrame(
        {
            "user": np.repeat(np.repeat(labels["user"].to_numpy(), windows), sizes),
            "time": np.tile(times, users).repeat(sizes),
            "value": np.concatenate(parts),
        }
    )
    samples["time"] = pd.DatetimeIndex(samples["time"])
    return Sampled(frame, samples)


def loads(values: Samples, start: str = "2024-01-01", every: str = "1h", user: str | None = None) -> pd.DataFrame:
    """Windows of a hundred samples each with these means, and a standard deviation of a tenth of what is possible."""
    index = pd.date_range(start, periods=len(values), freq=every, tz="UTC", unit="ms", name="time")
    variance = np.minimum(0.001, values * (1 - values) / 10)
    columns = {"count": 100, "mean": values, "var": variance, "min": 0.0, "max": 1.0, "approximated": 0}
    frame = pd.DataFrame(columns, index=index)
    return frame if user is None else frame.assign(user=user)
