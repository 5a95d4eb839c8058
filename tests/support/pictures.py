"""A fleet in a store, and the pictures of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from contract.metrics import NAMES
from contract.report import Report, decode_report, encode
from service.alerts.repository import Alert
from service.dashboard.columns import PictureQuestion
from service.dashboard.fleet import picture
from service.dashboard.matrix import FleetCache
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from tests.support.dashboard_fleet import STEP_MS, report
from tests.support.reports import as_json

__all__ = ["ALERT", "CPU", "START_MS", "STEPS", "Counting", "Fleet", "level"]


CPU = NAMES["cpuUtilization"]
START_MS = 1_700_000_100_000 // STEP_MS * STEP_MS
STEPS = 24
ALERT = Alert(7, "busy", "b", "warning", "firing", START_MS, START_MS, None, 0.5, 1, START_MS)


class Counting(EmbeddedStore):
    """A store that remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[Question] = []

    def answer(self, question: Question) -> Any:
        self.asked.append(question)
        return super().answer(question)


class Fleet:
    """A store, and the pictures of what is in it."""

    def __init__(self, folder: Path) -> None:
        self.store = Counting(folder)
        self.cache = FleetCache(self.store)
        self.sent = 0

    def add(self, user: str, step: int, mean: float, **members: object) -> None:
        """A window of a host at the end of a step."""
        said = report(user, START_MS + step * STEP_MS, mean, spread=0.0) | members
        taken: Report = decode_report(as_json(said))
        assert encode(taken)
        self.sent += 1
        self.store.add(self.sent, [taken])
        self.cache.note([taken])

    def picture(
        self, now_ms: int = START_MS + STEPS * STEP_MS, **asked: Any
    ) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        """The header and the pixels."""
        wanted: dict[str, Any] = {
            "metric": CPU, "statistic": "mean", "start_ms": START_MS, "end_ms": START_MS + STEPS * STEP_MS,
            "rate_ms": STEP_MS, "columns": 100, "rows": 100,
        }  # fmt: skip
        content = picture(self.cache, PictureQuestion(**wanted | asked), {"b": [ALERT]}, now_ms)
        length = int.from_bytes(content[:4], "little")
        header = json.loads(content[4 : 4 + length])
        pixels = np.frombuffer(content[4 + length :], np.uint8).reshape(header["rows"], header["columns"])
        return header, pixels


def level(share: float) -> int:
    """The byte of a share."""
    return 1 + round(254 * share)
