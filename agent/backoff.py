"""How long to wait before the next attempt."""

import random
from collections.abc import Callable

__all__ = ["Backoff"]

FIRST_S = 1.0
CAP_S = 60.0
RETRY_AFTER_CAP_S = 600.0


class Backoff:
    """Exponential back-off with full jitter: a random time up to a bound that doubles with each failure.

    So thousands of agents that lost the service together do not come back together
    (Brooker, "Exponential Backoff and Jitter", 2015).
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform, cap_s: float = CAP_S) -> None:
        self._uniform = uniform
        self._cap_s = cap_s
        self._failures = 0

    def next_s(self, retry_after_s: float = 0.0) -> float:
        """The wait after one more failure, on top of what the service asks for (at most 10 minutes)."""
        bound = min(self._cap_s, FIRST_S * 2 ** min(self._failures, 16))
        self._failures += 1
        return min(retry_after_s, RETRY_AFTER_CAP_S) + self._uniform(0.0, bound)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._failures = 0
