"""A server that stands still: whoever finds out tells the others, so that not each waits for it by itself.

This is the circuit breaker of M. Nygard, Release It! (2007), that opens only where the server answers nothing at all.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

AGAIN_S: Final = 5.0
"""So long a server that stands still is not asked again."""


class StandsStill(Exception):
    """It answered nothing when it was last asked; `again_s` is when it will be asked again."""

    def __init__(self, again_s: float) -> None:
        super().__init__()
        self.again_s = again_s


class Breaker:
    """Keeps whether a server stands still; any thread may call.

    `is_alive` asks it the least there is to ask, and does not wait long.
    """

    def __init__(self, is_alive: Callable[[], bool]) -> None:
        self._is_alive = is_alive
        self._until: float | None = None
        """Until then, by the monotonic clock, it is not asked; None where it answers."""
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raises StandsStill where it is known to; one of those who come later tries it anew."""
        with self._lock:
            now = time.monotonic()
            if self._until is None:
                return
            if now < self._until:
                raise StandsStill(self._until - now)
            self._until = now + AGAIN_S
        self._try()
        with self._lock:
            if self._until is not None:
                raise StandsStill(AGAIN_S)

    def note_timeout(self) -> None:
        """A request had no answer in its time: it may have asked for much, or the server stands still."""
        with self._lock:
            is_known = self._until is not None
        if not is_known:
            self._try()

    def _try(self) -> None:
        is_alive = self._is_alive()
        with self._lock:
            self._until = None if is_alive else time.monotonic() + AGAIN_S
