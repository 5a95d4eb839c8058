"""How finely a report looks: as finely as there is use for, and as can be worked with."""

from dataclasses import dataclass

from contract.times import HOUR_MS

__all__ = ["MACHINES", "TOTAL", "Fineness", "not_finer"]

_RATES_MS = [
    1000 * rate for rate in (10, 30, 60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800)
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fineness:
    """Limits of what is asked for."""

    buckets: int
    """Of one machine."""
    windows: int
    """Of all machines together, in buckets of an hour or longer."""
    fine_windows: int
    """The same, in shorter buckets."""

    def rate_ms(self, span_ms: int, machines_ms: float) -> int:
        """The width of the shortest buckets within the limits, for a range of `span_ms` in which all machines together
        were there for `machines_ms`.
        """
        return next((rate for rate in _RATES_MS if self._allows(rate, span_ms, machines_ms)), _RATES_MS[-1])

    def _allows(self, rate_ms: int, span_ms: int, machines_ms: float) -> bool:
        windows = self.fine_windows if rate_ms < HOUR_MS else self.windows
        return span_ms / rate_ms <= self.buckets and machines_ms / rate_ms <= windows


MACHINES = Fineness(buckets=900, windows=1_000_000, fine_windows=200_000)
"""Of each machine: an hour is fine enough where there are many."""
TOTAL = Fineness(buckets=10_080, windows=12_000_000, fine_windows=12_000_000)
"""Of all together: five weeks in steps of five minutes; so many windows does the source merge for that."""


def not_finer(step_ms: int) -> int:
    """The shortest width of a bucket that is not below `step_ms`."""
    return next((rate for rate in _RATES_MS if rate >= step_ms), _RATES_MS[-1])
