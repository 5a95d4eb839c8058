"""Files of measurements to report on."""

from pathlib import Path

import numpy as np
import pandas as pd

from tests.support.hostile_names import NAMES

__all__ = ["SAMPLE", "hostile_file"]

SAMPLE = Path(__file__).parents[2] / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"


def hostile_file(folder: Path) -> Path:
    """Six days of a fleet whose hosts are named as badly as can be, some hot and some idle."""
    random = np.random.default_rng(7)
    hours = pd.date_range("2026-03-02", periods=6 * 24, freq="1h")
    parts = [
        pd.DataFrame({"time": hours, "user": name, "value": (level + random.normal(0, 0.02, len(hours))).clip(0, 1)})
        for name, level in zip(NAMES, np.linspace(0.02, 0.97, len(NAMES)), strict=True)
    ]
    path = folder / "hostile.parquet"
    pd.concat(parts).to_parquet(path)
    return path
