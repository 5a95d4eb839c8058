"""From the journal to the store's own disk: replay at the start, then flushes, pruning and compaction."""

import contextlib
import importlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from contract.report import Report
from contract.retry import Backoff
from service.ingest.expiry import ExpiryClock
from service.interpreter import give_way
from service.journal.base import Log
from service.stores.base import Store, StoreUnavailable
from service.stores.memory import give_back

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 0.25
_TIDY_EVERY_S = 5.0
"""Where nothing came, what is old is looked for so seldom at most."""
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_GIVE_BACK_S, _GIVE_BACK_EVERY_S = 10.0, 30.0
"""Memory is given back after a flush, where it was not so shortly before, and so often anyway: large answers take some
too."""
_MANY = 20_000
"""Reports of the journal."""

_REPORTS = msgspec.json.Decoder(list[Report])


def replay(
    journal: Log, store: Store, note: Callable[[int, Sequence[Report]], None] = lambda last, reports: None
) -> int:
    """Give the store what it had not put on its own disk; returns how many reports that were.

    `note` hears of them too: the offset of the last, and the reports.
    """
    count = 0
    for record in journal.read(after=store.flushed):
        reports = _REPORTS.decode(record.body)
        store.add(record.last, reports)
        note(record.last, reports)
        count += len(reports)
        if count > _MANY:
            # They are kept as columns from here on; a start that has so much to read waits for that import too.
            importlib.import_module("service.stores.sorted_windows")
    return count


class Maintenance:
    """One thread that flushes the store when it holds much, or has held it for long.

    Where the store cannot take anything, it is tried again ever more seldom, up to twice a minute. What is not flushed
    stays in the journal; its limit turns new reports away before memory runs out.
    """

    def __init__(
        self, journal: Log, store: Store, flush_interval_s: float, fatal: type[Exception] | tuple[()] = ()
    ) -> None:
        """Flush every `flush_interval_s` at least; an error of a kind that is `fatal` ends it (see `ended_by`)."""
        self._journal = journal
        self._store = store
        self._interval = flush_interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self._backoff = Backoff(first_s=_FIRST_RETRY_S, cap_s=_LONGEST_RETRY_S, least=0.5)
        self._fatal = fatal
        self.ended_by: Exception | None = None
        """The error that ended it; None while it goes on."""
        self._gave_back = -math.inf
        self.flushes = 0
        self.failures = 0
        self.problem: str | None = None
        """Why the store could not be flushed when it was last tried; None where it could."""
        self.flush_seconds = 0.0
        self._tidied = (-1, float("-inf"))
        self._expiry = ExpiryClock(max(store.newest().values(), default=None))

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the step under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _prepare(self) -> None:
        # Where it fails, the append that needs the file fails too, and says so to who waits for it.
        with contextlib.suppress(OSError):
            self._journal.prepare()

    def _filled(self) -> bool:
        """Whether to flush now: much is in memory, or the journal would soon have to turn reports away."""
        journal = self._journal
        return self._store.full or (journal.size > journal.limit_bytes // 2 and journal.last > self._store.flushed)

    def _run(self) -> None:
        give_way()
        last = not_before = time.monotonic()
        while not self._stopping.wait(_LOOK_EVERY_S):
            self._prepare()
            self._give_back(_GIVE_BACK_EVERY_S)
            now = time.monotonic()
            if now < not_before or (not self._backoff.failures and not self._filled() and now - last < self._interval):
                continue
            retry_s = self._step()
            last = time.monotonic()
            not_before = last + retry_s

    def _step(self) -> float:
        """Flush and tidy up; returns after how many seconds to try again where it failed, else 0."""
        try:
            self._flush()
            self._tidy()
        except Exception as error:  # noqa: BLE001
            if isinstance(error, self._fatal):
                self.ended_by = error
                self._stopping.set()
                return 0.0
            return self._failed(error)
        if self._backoff.failures:
            _log.info("the store takes reports again, after %d failures", self._backoff.failures)
        self._backoff.reset()
        self.problem = None
        return 0.0

    def _tidy(self) -> None:
        """Forget what is old and merge what is small, as far as there may be anything new to do."""
        flushed, now = self._store.flushed, time.monotonic()
        if self._tidied[0] == flushed and now - self._tidied[1] < _TIDY_EVERY_S:
            return
        self._store.expire(self._expiry.now_ms())
        if self._tidied[0] != flushed:
            # Before more is needed: what a flush and a compaction take is not to be there together.
            self._give_back(_GIVE_BACK_S)
        compacted = False
        while self._store.compact():
            compacted = True
            if self._filled() or self._stopping.is_set():
                break
        if compacted:
            self._give_back(0.0)
        self._tidied = flushed, now

    def _give_back(self, every_s: float) -> None:
        now = time.monotonic()
        if now - self._gave_back > every_s:
            self._gave_back = now
            give_back()

    def _flush(self) -> None:
        started = time.monotonic()
        try:
            self._store.flush()
            self.flushes += 1
        finally:
            # Also what a flush put on the store's disk before it failed need not be kept.
            self._journal.prune(self._store.flushed)
            self.flush_seconds += time.monotonic() - started

    def _failed(self, error: Exception) -> float:
        self.failures += 1
        self.problem = str(error) or type(error).__name__
        if isinstance(error, StoreUnavailable):
            retry_s = self._backoff.next_s(error.retry_after_s or 0.0)
            _log.warning("the store cannot be used: %s; trying again in %.0f s", error, retry_s)
        else:
            retry_s = self._backoff.next_s()
            _log.error("the store could not be flushed; trying again in %.0f s", retry_s, exc_info=error)
        return retry_s
