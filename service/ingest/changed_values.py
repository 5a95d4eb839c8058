"""Windows that are sent again with another value: the first is kept, and that is counted and told.

A sender is answered that the report is a duplicate, as if it had been sent twice. Whether it has another value is
looked at beside ingest, of so many a second that whoever sends much again pays nothing for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from contract.metrics import Quantity
from contract.problems import display
from contract.report import Report
from contract.times import format_instant
from service.stores.base import Question, StoreUnavailable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ChangedValues"]

_log = logging.getLogger(__name__)
_MOST_WAITING: Final = 64
"""Reports that wait to be compared; further ones are not."""
_PAUSE_S: Final = 0.05
"""Between two comparisons, and before the first: what came in the same commit is there then."""
_MOST_HOSTS: Final = 10_000
"""Hosts that are told of, once each."""
_SAME: Final = 1e-6
"""Relative distance of two values that are the same but for rounding."""

Answer = Callable[[Question], "pd.DataFrame"]


class ChangedValues:
    """Compares reports that are known already with what is kept of them. Used on the event loop."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._waiting: deque[Report] = deque()
        self._comparing: asyncio.Task[None] | None = None
        self._told: set[str] = set()
        self.found = 0
        """Reports that had another value, of those that were compared."""

    def look_at(self, report: Report) -> None:
        """Compare a report some of whose windows are known, as soon as there is time."""
        if len(self._waiting) >= _MOST_WAITING:
            return
        self._waiting.append(report)
        if self._comparing is None or self._comparing.done():
            self._comparing = asyncio.get_running_loop().create_task(self._compare())

    def close(self) -> None:
        """Compare nothing any more."""
        self._waiting.clear()
        if self._comparing is not None:
            self._comparing.cancel()

    async def _compare(self) -> None:
        while self._waiting:
            await asyncio.sleep(_PAUSE_S)
            report = self._waiting.popleft()
            try:
                changed = await asyncio.to_thread(self._changed, report)
            except StoreUnavailable as error:
                _log.debug("a report that was sent again cannot be compared now: %s", error)
                continue
            except Exception:  # noqa: BLE001 - a fault of ours must not end the comparing of others
                _log.exception("a report that was sent again cannot be compared")
                continue
            if changed:
                self._tell(report, changed)

    def _changed(self, report: Report) -> str:
        """What differs from what is kept, in words; empty where nothing does."""
        for metric in report.metrics:
            for quantity in metric.quantities:
                told = getattr(metric, quantity.attribute)  # of CPU a number, of others a distribution
                sent, kept = float(getattr(told, "mean", told)), self._kept(quantity, report)
                if kept is not None and not _same(kept, sent):
                    return f"{quantity.title} {sent:.6g}, kept is {kept:.6g}"
        return ""

    def _kept(self, quantity: Quantity, report: Report) -> float | None:
        end_ms = report.end_timestamp
        found = self._answer(Question(quantity, end_ms, end_ms + 1, 1, user_id=report.user_id, statistic="mean"))
        return float(found["mean"].iloc[0]) if len(found) else None

    def _tell(self, report: Report, changed: str) -> None:
        self.found += 1
        user = report.user_id
        if user in self._told or len(self._told) >= _MOST_HOSTS:
            return
        self._told.add(user)
        _log.warning(
            "%s sent the window that ends %s again with another value (%s): the first stays; do two hosts share this "
            "id? This is told once for each host, and counted in loadlens_reports_changed_total",
            display(user), format_instant(report.end_timestamp), changed,
        )  # fmt: skip


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME * max(1.0, abs(one), abs(other))
