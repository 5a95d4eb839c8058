"""The work in the background: flushes, pruning of the journal, compaction."""

import contextlib
import logging
import threading
import time

from service.journal import Journal
from service.stores.base import Store

__all__ = ["Upkeep"]

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 0.25
_RETRY_S = 5.0


class Upkeep:
    """One thread that flushes the store when it holds much, or has held it for long."""

    def __init__(self, journal: Journal, store: Store, flush_interval_s: float) -> None:
        self._journal = journal
        self._store = store
        self._interval = flush_interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self.flushes = 0
        self.failures = 0
        self.flush_seconds = 0.0

    def start(self) -> None:
        """Begin."""
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
        last = time.monotonic()
        wait = _LOOK_EVERY_S
        while not self._stopping.wait(wait):
            wait = _LOOK_EVERY_S
            self._prepare()
            if not self._filled() and time.monotonic() - last < self._interval:
                continue
            try:
                started = time.monotonic()
                self._store.flush()
                self._journal.prune(self._store.flushed)
                self.flushes += 1
                self.flush_seconds += time.monotonic() - started
                self._store.expire(time.time_ns() // 1_000_000)
                while self._store.compact() and not self._filled() and not self._stopping.is_set():
                    pass
            except Exception:  # noqa: BLE001
                # What is not flushed stays in the journal; its limit turns new reports away before memory runs out.
                self.failures += 1
                _log.exception("the store could not be flushed; trying again in %.0f s", _RETRY_S)
                wait = _RETRY_S
            last = time.monotonic()
