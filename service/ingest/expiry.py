"""By which moment what is old is forgotten: the clock's, unless that has run far ahead."""

import logging
import time
from collections.abc import Callable

from contract import times
from contract.times import DAY_MS, format_instant

_log = logging.getLogger("loadlens.service")
_A_SECOND = 24
"""Seconds that it goes on in a second, at most: an hour for a day."""


class ExpiryClock:
    """Follows the system's clock, but not at once where that is days ahead of all that was ever reported.

    A clock that is set years ahead would have everything deleted for its age, and there is no way back. So the moment
    begins no later than a day after the newest window, and comes nearer by a day an hour: time to set the clock right.
    """

    def __init__(
        self,
        newest_ms: int | None,
        *,
        wall_ms: Callable[[], int] = times.now_ms,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`newest_ms` is the end of the newest window, epoch milliseconds; None where there is none to lose."""
        self._wall_ms = wall_ms
        self._steady_s = steady_s
        self._at_s = steady_s()
        now_ms = wall_ms()
        self._moment_ms = now_ms if newest_ms is None else min(now_ms, newest_ms + DAY_MS)
        self._is_behind = False

    def now_ms(self) -> int:
        """The moment, epoch milliseconds; says once when it does not follow the clock."""
        now_ms, at_s = self._wall_ms(), self._steady_s()
        reached_ms = self._moment_ms + round((at_s - self._at_s) * 1000 * _A_SECOND)
        self._moment_ms, self._at_s = min(now_ms, reached_ms), at_s
        is_behind = now_ms - self._moment_ms > DAY_MS
        if is_behind and not self._is_behind:
            _log.warning(
                "this machine's clock says %s, which is far ahead of the newest window; what is old is forgotten as of"
                " %s, and from there on by a day an hour: set the clock right if it is wrong",
                format_instant(now_ms), format_instant(self._moment_ms),
            )  # fmt: skip
        self._is_behind = is_behind
        return self._moment_ms
