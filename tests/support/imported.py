"""What files of other tools are understood as, to be compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analytics.sources.importing.reading import Understood, read
from analytics.sources.importing.readings import Hints

__all__ = ["CPU", "DATA", "MEMORY", "NOW_MS", "Told", "cpu_of", "same", "told", "understood"]


DATA = Path(__file__).parents[1] / "data" / "import"
NOW_MS = 1_800_000_000_000
CPU, MEMORY = "cpu.utilization", "memory.utilization"
Told = Mapping[tuple[str, str, int, str], float]


def understood(*names: str | Path, **hints: Any) -> Understood:
    return read([DATA / name for name in names], Hints(**hints), NOW_MS)


def told(found: Understood) -> Told:
    """Each sample by host, quantity, core (-1 for the host) and moment."""
    frame = found.checked.frame
    moments = pd.to_datetime(frame["end_ms"], unit="ms").dt.strftime("%d %H:%M:%S")
    keys = zip(frame["user"], frame["quantity"], frame["core"], moments, strict=True)
    return dict(zip(keys, frame["value"], strict=True))


def same(found: Told, expected: Told) -> bool:
    assert found.keys() == expected.keys()
    return found == pytest.approx(dict(expected), rel=1e-12, abs=1e-15)


def cpu_of(found: Understood, user: str = "web-1", core: int = -1) -> list[float]:
    return [
        value for (name, quantity, one, _), value in told(found).items() if (name, quantity, one) == (user, CPU, core)
    ]
