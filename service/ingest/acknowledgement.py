"""From a valid report to its acknowledgement: duplicates told apart, one commit for all who wait (group commit)."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import msgspec

from contract.metrics import Metric
from contract.report import Report, encode
from service.journal.journal import Journal, JournalFull
from service.stores.base import Key, Store, StoreUnavailable


class Unavailable(Exception):
    """Reports cannot be put on disk now; the sender may try again."""


class Acknowledgement(NamedTuple):
    """What became of the reports of one request."""

    accepted: int
    duplicates: int


Publish = Callable[[int, Sequence[bytes], Sequence[Report]], None]
"""Is told the offset of the last report of a commit, and the reports as text and decoded."""

_NOTHING = Acknowledgement(0, 0)
_ONE = Acknowledgement(1, 0)


@dataclass(slots=True)
class _Group:
    """What one commit writes, and who waits for it."""

    bodies: list[bytes] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    waiting: list[tuple[asyncio.Future[Acknowledgement], Acknowledgement]] = field(default_factory=list)


class Ingest:
    """Takes valid reports to the journal and the store. Everything here runs on the event loop."""

    def __init__(self, journal: Journal, store: Store, publish: Publish) -> None:
        self._journal = journal
        self._store = store
        self._publish = publish
        # The newest window of each stream: what ends later is new without a look-up.
        self._newest: dict[tuple[str, type[Metric]], int] = store.newest()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: _Group | None = None
        self._writing: _Group | None = None
        self._look_up = asyncio.Lock()
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        """Reports refused as invalid; counted by who refuses them."""
        self.commits = 0

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """How many reports wait for a commit."""
        return sum(len(group.reports) for group in (self._next, self._writing) if group)

    def take(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> Awaitable[Acknowledgement]:
        """Keep `reports`, whose JSON texts are `bodies`.

        The acknowledgement comes when they are on disk and every later query sees them. Raises Unavailable, when it is
        awaited, where they could not be put on disk; then none of them is kept.
        """
        return self._commit(bodies, reports) if self._all_newer(reports) else self._take_known(bodies, reports)

    def _all_newer(self, reports: Iterable[Report]) -> bool:
        newest = self._newest
        all_newer = True
        for report in reports:
            end = report.end_timestamp
            for metric in report.typed_metrics():
                stream = (report.user_id, type(metric))
                if newest.get(stream, -1) < end:
                    # Noted even where another report is to be looked up first: whoever brings this one
                    # meanwhile must look it up too, and so waits for us.
                    newest[stream] = end
                else:
                    all_newer = False
        return all_newer

    async def _take_known(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> Acknowledgement:
        """As `take`, for reports some of which may be known."""
        # One at a time: what another request brings meanwhile is either newer than all (and not ours) or
        # waits here, so the look-up stays true until our commit.
        async with self._look_up:
            for group in (self._writing, self._next):
                if group:
                    with contextlib.suppress(Unavailable):
                        await self._join(group, _NOTHING)
            return await self._take_unknown(bodies, reports)

    async def _take_unknown(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> Acknowledgement:
        try:
            known = await self._store.known({key for report in reports for key in keys_of(report)})
        except StoreUnavailable as error:
            raise Unavailable(f"whether late reports are known cannot be told now: {error}") from None
        fresh_bodies: list[bytes] = []
        fresh_reports: list[Report] = []
        for body, report in zip(bodies, reports, strict=True):
            keys = keys_of(report)
            metrics = [metric for key, metric in keys.items() if key not in known]
            known.update(keys)
            if len(metrics) == len(keys):
                fresh_bodies.append(body)
                fresh_reports.append(report)
            elif metrics:
                rest = msgspec.structs.replace(report, metrics=metrics)
                fresh_bodies.append(encode(rest))
                fresh_reports.append(rest)
        if fresh_reports:
            await self._commit(fresh_bodies, fresh_reports)
        duplicates = len(reports) - len(fresh_reports)
        self.duplicates += duplicates
        return Acknowledgement(len(fresh_reports), duplicates)

    def _commit(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> asyncio.Future[Acknowledgement]:
        group = self._next
        if group is None:
            group = self._next = _Group()
            if self._writing is None:
                # Whoever else is ready in this turn of the loop goes into the same commit.
                self._loop.call_soon(self._write)
        group.bodies.extend(bodies)
        group.reports.extend(reports)
        return self._join(group, _ONE if len(reports) == 1 else Acknowledgement(len(reports), 0))

    def _join(self, group: _Group, acknowledgement: Acknowledgement) -> asyncio.Future[Acknowledgement]:
        # A future for each, so that a client that hangs up cancels only its own.
        done: asyncio.Future[Acknowledgement] = self._loop.create_future()
        group.waiting.append((done, acknowledgement))
        return done

    def _write(self) -> None:
        if self._writing is not None or self._next is None:
            return
        group = self._writing = self._next
        self._next = None
        writing = self._loop.run_in_executor(self._thread, self._journal.append, group.bodies)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[int]) -> None:
        group = self._writing
        assert group is not None
        self._writing = None
        # The next group first: it is written while those of this one are answered.
        self._write()
        error = writing.exception()
        if error is None:
            error = self._add_to_store(writing.result(), group)
            self._publish(writing.result(), group.bodies, group.reports)
        elif isinstance(error, JournalFull | OSError):
            error = Unavailable(f"reports cannot be put on disk: {error}")
        for done, acknowledgement in group.waiting:
            if done.cancelled():
                continue
            if error is None:
                done.set_result(acknowledgement)
            else:
                done.set_exception(error)

    def _add_to_store(self, last: int, group: _Group) -> Exception | None:
        try:
            self._store.add(last, group.reports)
        except Exception as error:  # noqa: BLE001
            # A fault of ours must not leave requests without an answer; the journal has the reports.
            return error
        self.accepted += len(group.reports)
        self.commits += 1
        return None

    def close(self) -> None:
        """Wait for the commit under way, if any."""
        self._thread.shutdown()


def keys_of(report: Report) -> dict[Key, Metric]:
    """What identifies each metric of a report."""
    return {Key(report.user_id, type(metric), report.end_timestamp): metric for metric in report.typed_metrics()}
