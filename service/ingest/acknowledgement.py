"""From a valid report to its acknowledgement: duplicates told apart, one commit for all who wait (group commit).

What is not the newest of its stream may be known. All such reports that wait are looked up together: one question to
the store for all of them, and one commit for those that turn out to be new.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import msgspec

from contract.metrics import TYPES, Metric
from contract.report import Report, encode
from service.journal.journal import JournalFull
from service.stores.base import Key, StoreUnavailable


class Unavailable(Exception):
    """Reports cannot be put on disk now; the sender may try again."""


class Acknowledgement(NamedTuple):
    """What became of the reports of one request."""

    accepted: int
    duplicates: int


Append = Callable[[Sequence[bytes], Sequence[Report]], int]
"""Puts reports, given as text and decoded, on disk together; returns the offset of the last.

Raises JournalFull at a limit and OSError where that fails. Called in a thread, one call at a time.
"""
Publish = Callable[[int, Sequence[bytes], Sequence[Report]], None]
"""Is told the offset of the last report of a commit, and the reports as text and decoded."""


class KnownWindows(Protocol):
    """What is asked and told of a store (`service.stores.base.Store`)."""

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream, epoch milliseconds."""

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already."""

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports that are on disk, the last of them at offset `last`."""


_NOTHING = Acknowledgement(0, 0)
_LOOK_S = 0.01
_Done = asyncio.Future[Acknowledgement]
_ONE = Acknowledgement(1, 0)


@dataclass(slots=True)
class _Group:
    """What one commit writes, and who waits for it."""

    bodies: list[bytes] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    waiting: list[tuple[_Done, Acknowledgement]] = field(default_factory=list)


class _Late(NamedTuple):
    """A request some of whose reports may be known."""

    bodies: Sequence[bytes]
    reports: Sequence[Report]
    done: _Done


class Ingest:
    """Takes valid reports to the journal and the store. Everything here runs on the event loop."""

    def __init__(
        self, append: Append, store: KnownWindows, publish: Publish, repeated: Callable[[Report], None] = lambda _: None
    ) -> None:
        self._append = append
        self._store = store
        self._publish = publish
        self._repeated = repeated
        """Is told each report some of whose windows are known."""
        # The newest window of each stream: what ends later is new without a look-up.
        self._newest: dict[tuple[str, type[Metric]], int] = store.newest()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: _Group | None = None
        self._writing: _Group | None = None
        self._late: list[_Late] = []
        self._found: list[_Late] = []
        """Those of them that are looked up now."""
        self.leaving: set[str] = set()
        """Users of whom nothing is taken, because they are being forgotten."""
        self._looking_up: asyncio.Task[None] | None = None
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
        """How many reports wait for a commit, or to be looked up."""
        groups = [self._next, self._writing, *self._late]
        return sum(len(group.reports) for group in groups if group)

    def hear(self, reports: Sequence[Report]) -> None:
        """Note reports that others took: what is not newer than these may be known."""
        self._all_newer(reports)

    def take(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> Awaitable[Acknowledgement]:
        """Keep `reports`, whose JSON texts are `bodies`.

        The acknowledgement comes when they are on disk and every later query sees them. Raises Unavailable, when it is
        awaited, where they could not be put on disk, and at once while one of their users is being forgotten; then none
        of them is kept.
        """
        if self.leaving and not self.leaving.isdisjoint(report.user_id for report in reports):
            raise Unavailable("the user is being forgotten, and is new afterwards")
        if not self._all_newer(reports):
            return self._take_late(bodies, reports)
        return self._commit(bodies, reports, _ONE if len(reports) == 1 else Acknowledgement(len(reports), 0))

    def _all_newer(self, reports: Iterable[Report]) -> bool:
        newest = self._newest
        all_newer = True
        for report in reports:
            end = report.end_timestamp
            for metric in report.metrics:
                stream = (report.user_id, type(metric))
                if newest.get(stream, -1) < end:
                    # Noted even where another report is to be looked up first: whoever brings this one
                    # meanwhile must look it up too, and so waits for us.
                    newest[stream] = end
                else:
                    all_newer = False
        return all_newer

    def _take_late(self, bodies: Sequence[bytes], reports: Sequence[Report]) -> _Done:
        """As `take`, for reports some of which may be known."""
        late = _Late(bodies, reports, self._loop.create_future())
        self._late.append(late)
        if self._looking_up is None:
            self._looking_up = self._loop.create_task(self._look_up())
        return late.done

    async def _look_up(self) -> None:
        """Look up all that wait, until nothing does."""
        try:
            while self._late:
                # What another request brings meanwhile is either newer than all (and not ours) or waits for the next
                # round, and what came before is in the store then, so what is found stays true until our commit.
                self._found, self._late = self._late, []
                await self._settle()
                await self._take_found([one for one in self._found if not one.done.done()])
        finally:
            self._looking_up = None
            self._found = []

    async def _settle(self) -> None:
        """Wait for what is being committed now; then the store knows it, or it has failed."""
        for group in (self._writing, self._next):
            if group:
                with contextlib.suppress(Exception):
                    await self._join(group, _NOTHING)

    async def _take_found(self, late: Sequence[_Late]) -> None:
        """Take requests that are looked up together."""
        try:
            known = await self._store.known({key for one in late for report in one.reports for key in keys_of(report)})
            coming: set[Key] = set()
            for one in late:
                self._take_unknown(one, known, coming)
        except StoreUnavailable as error:
            if len(late) > 1:
                # It may be only one of them that cannot be told.
                for one in late:
                    await self._settle()
                    await self._take_found([one])
            else:
                _fail(late[0].done, Unavailable(f"whether late reports are known cannot be told now: {error}"))
        except Exception as error:  # noqa: BLE001
            # A fault of ours must not leave requests without an answer.
            for one in late:
                _fail(one.done, error)

    def _take_unknown(self, late: _Late, known: Collection[Key], coming: set[Key]) -> None:
        """Commit what of a request is neither known nor `coming`, brought by others of the same commit."""
        bodies: list[bytes] = []
        reports: list[Report] = []
        waits = False
        for body, report in zip(late.bodies, late.reports, strict=True):
            keys = keys_of(report)
            waits |= not coming.isdisjoint(keys)
            metrics = [metric for key, metric in keys.items() if key not in known and key not in coming]
            coming.update(key for key in keys if key not in known)
            if len(metrics) == len(keys):
                bodies.append(body)
                reports.append(report)
                continue
            self._repeated(report)
            if metrics:
                # Who used the CPU came with what is known already, and counts once.
                rest = msgspec.structs.replace(report, metrics=metrics, processes=msgspec.UNSET)
                bodies.append(encode(rest))
                reports.append(rest)
        acknowledgement = Acknowledgement(len(reports), len(late.reports) - len(reports))
        if reports or waits:
            self._commit(bodies, reports, acknowledgement, late.done)
        else:
            self._acknowledge(late.done, acknowledgement)

    def _commit(
        self,
        bodies: Sequence[bytes],
        reports: Sequence[Report],
        acknowledgement: Acknowledgement,
        done: _Done | None = None,
    ) -> _Done:
        group = self._next
        if group is None:
            group = self._next = _Group()
            if self._writing is None:
                # Whoever else is ready in this turn of the loop goes into the same commit.
                self._loop.call_soon(self._write)
        group.bodies.extend(bodies)
        group.reports.extend(reports)
        return self._join(group, acknowledgement, done)

    def _join(self, group: _Group, acknowledgement: Acknowledgement, done: _Done | None = None) -> _Done:
        # A future for each, so that a client that hangs up cancels only its own.
        done = done or self._loop.create_future()
        group.waiting.append((done, acknowledgement))
        return done

    def _acknowledge(self, done: _Done, acknowledgement: Acknowledgement) -> None:
        self.duplicates += acknowledgement.duplicates
        if not done.done():
            done.set_result(acknowledgement)

    def _write(self) -> None:
        if self._writing is not None or self._next is None:
            return
        group = self._writing = self._next
        self._next = None
        writing = self._loop.run_in_executor(self._thread, self._append, group.bodies, group.reports)
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
            if error is None:
                self._acknowledge(done, acknowledgement)
            else:
                _fail(done, error)

    def _add_to_store(self, last: int, group: _Group) -> Exception | None:
        try:
            self._store.add(last, group.reports)
        except Exception as error:  # noqa: BLE001
            # A fault of ours must not leave requests without an answer; the journal has the reports.
            return error
        self.accepted += len(group.reports)
        self.commits += 1
        return None

    async def settle(self, user_id: str, then: Callable[[], int]) -> int:
        """Wait until nothing of a user, who is `leaving`, is on its way; what `then` answers between two commits."""
        while self._is_coming(user_id):  # noqa: ASYNC110 - seldom, and over soon: no report pays for an event
            await asyncio.sleep(_LOOK_S)
        return await self._loop.run_in_executor(self._thread, then)

    def _is_coming(self, user_id: str) -> bool:
        groups = [self._next, self._writing, *self._late, *self._found]
        return any(report.user_id == user_id for group in groups if group for report in group.reports)

    def forget(self, user_id: str) -> None:
        """Take what comes of a user from now on for new, as the store does."""
        for kind in TYPES:
            self._newest.pop((user_id, kind), None)

    def close(self) -> None:
        """Wait for the commit under way, if any."""
        self._thread.shutdown()


def _fail(done: _Done, error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)


def keys_of(report: Report) -> dict[Key, Metric]:
    """What identifies each metric of a report."""
    return {Key(report.user_id, type(metric), report.end_timestamp): metric for metric in report.metrics}
