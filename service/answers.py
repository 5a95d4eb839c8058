"""What is kept in memory of answers, and read ahead for the first of them.

It needs what the store reads with, not what all questions need: reading begins while the rest is imported
(`service.answering`).
"""

import threading
from collections.abc import Sequence

from contract.report import Report
from service.dashboard.analysis import Analyst
from service.dashboard.matrix import FleetCache
from service.dashboard.reading_ahead import read_ahead
from service.parts import Service


class Answering:
    """What is kept in memory of answers, and read ahead for the first of them."""

    def __init__(self, service: Service) -> None:
        self.fleet_cache = FleetCache(service.store)
        self.analyst = Analyst(service.store, service.annotations)
        self._ends = threading.Event()
        self._reading_ahead = threading.Thread(
            target=read_ahead, args=(self.fleet_cache, self._ends), name="read-ahead"
        )

    def read_ahead(self) -> None:
        """Read what the dashboard shows first, in a thread."""
        self._reading_ahead.start()

    def note(self, reports: Sequence[Report]) -> None:
        """Take reports that the store answers already."""
        self.fleet_cache.note(reports)

    def clear(self) -> None:
        """Give no answer again that was made so far. Blocks."""
        self.fleet_cache.clear()
        self.analyst.clear()

    def close(self) -> None:
        """Wait for what is being read."""
        self._ends.set()
        if self._reading_ahead.is_alive():
            self._reading_ahead.join()
