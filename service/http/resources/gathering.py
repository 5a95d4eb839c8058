"""What senders bring in parts (`service.ingest.scrapes`), on its way to disk."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from contract import times
from contract.metrics import Metric
from contract.report import encode
from service.credentials.identity import Identity
from service.http.problems import HTTPProblem
from service.http.resources.ingest import Metrics, Rejections
from service.ingest.scrapes import Conventions, Range, ScrapedValue, Scrapes, ScrapeWindow
from service.stores.base import Store

System = tuple[str, str, str]
"""A host with the system that it runs, and its release."""
Whole = tuple[str, int, int, int, Metric]
"""What needs not be gathered: a host, start and end of a window, its observations, and what they say."""


@dataclass
class Kept:
    """What became of what was brought."""

    rejections: Rejections = field(default_factory=Rejections)
    """The windows that are not kept."""
    duplicates: int = 0
    """How many windows were there already, the same or others that end at the same time."""
    faults: list[str] = field(default_factory=list)
    """Why moments that are over say nothing; some of what they had came with earlier requests."""

    @property
    def first_problem(self) -> str:
        """What is wrong with the first window that is not kept; empty where there is none."""
        return next((f"{one.problems[0].pointer}: {one.problems[0].detail}" for one in self.rejections.listed), "")


class Gathering:
    """Takes values of hosts in parts. What was gathered is let go only once what was made of it is on disk."""

    def __init__(self, conventions: Conventions, metrics: Metrics, store: Store) -> None:
        self._metrics = metrics
        self._store = store
        self._scrapes = Scrapes(conventions)
        self._turn = asyncio.Lock()
        """One thread at a time has the scrapes."""

    def within(self) -> Range:
        """Of what times readings are taken now."""
        now_ms = times.now_ms()
        return Range.at(now_ms, self._store.oldest_ms(now_ms))

    async def take(
        self,
        readings: Sequence[ScrapedValue],
        systems: Iterable[System],
        identity: Identity,
        whole: Iterable[Whole] = (),
    ) -> Kept:
        """Gather what came, and put on disk what is complete by it. Raises as `Metrics.take`."""
        async with self._turn:
            # Beside the event loop: a large request takes longer than others should wait.
            windows, bodies = await asyncio.to_thread(self._gather, readings, systems, whole)
        kept = Kept(faults=[fault for window in windows for fault in window.faults])
        if bodies:
            # Not in turn, so that one commit is for many; who makes the same windows meanwhile brings duplicates.
            try:
                told = await self._metrics.take(bodies, identity)
            except HTTPProblem as error:
                if error.status_code != 503:
                    # What is refused for good would only be made again.
                    await self._go_on(windows)
                raise
            kept.rejections, kept.duplicates = told.rejections, told.acknowledgement.duplicates
        await self._go_on(windows)
        return kept

    async def _go_on(self, windows: Sequence[ScrapeWindow]) -> None:
        async with self._turn:
            self._scrapes.keep(windows)

    def _gather(
        self, readings: Sequence[ScrapedValue], systems: Iterable[System], whole: Iterable[Whole]
    ) -> tuple[list[ScrapeWindow], list[bytes]]:
        for system in systems:
            self._scrapes.name_system(*system)
        windows = self._scrapes.windows(self._scrapes.add(readings, times.now_ms()))
        reports = [window.report for window in windows if window.report is not None]
        reports += [self._scrapes.report(host, start, end, count, [one]) for host, start, end, count, one in whole]
        return windows, [encode(report) for report in reports]
