"""When to try again: exponential back-off, and what a Retry-After header asks for."""

import random
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST_S = 1.0
CAP_S = 60.0
RETRY_AFTER_CAP_S = 600.0
_LONGEST_S = float(2**31)
"""What RFC 9111 (1.2.2) lets a receiver take for any larger number."""


class Backoff:
    """Exponential back-off with jitter: a random time up to a bound that doubles with each failure.

    So thousands of clients that lost a server together do not come back together
    (Brooker, "Exponential Backoff and Jitter", 2015).
    """

    def __init__(
        self,
        uniform: Callable[[float, float], float] = random.uniform,
        *,
        first_s: float = FIRST_S,
        cap_s: float = CAP_S,
        retry_after_cap_s: float = RETRY_AFTER_CAP_S,
        least: float = 0.0,
    ) -> None:
        """A back-off whose bound is `first_s` after the first failure and never more than `cap_s`.

        A wait is at least the share `least` of its bound: 0 is Brooker's full jitter, 0.5 his equal jitter, for
        attempts that a person counts on not to follow each other at once. `retry_after_cap_s` limits what a server
        may ask for.
        """
        self._uniform = uniform
        self._first_s = first_s
        self._cap_s = cap_s
        self._retry_after_cap_s = retry_after_cap_s
        self._least = least
        self.failures = 0
        """In a row, since the last success."""

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """Count one more failure; the wait after it, as `after_s`."""
        self.failures += 1
        return self.after_s(self.failures, retry_after_s)

    def after_s(self, failures: int, retry_after_s: float = 0.0) -> float:
        """The seconds to wait after `failures` (from 1) in a row, on top of what the server asks for."""
        bound = min(self._cap_s, self._first_s * 2 ** min(failures - 1, 30))
        return min(retry_after_s, self._retry_after_cap_s) + self._uniform(self._least * bound, bound)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self.failures = 0


def retry_after_s(header: str | None, now_s: float | None = None) -> float | None:
    """The seconds that a Retry-After header asks to wait: a whole number of them, or a date (RFC 9110, 10.2.3).

    Never negative, 0 for a date in the past, and at most 2**31; None without a header and for anything else.
    `now_s` is the time, epoch seconds, the system's where it is None.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        # The form of C's asctime, which receivers have to read, names no zone and means GMT (RFC 9110, 5.6.7).
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, moment.timestamp() - (time.time() if now_s is None else now_s)), _LONGEST_S)
