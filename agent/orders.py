"""What other threads ask of the sampler: another plan, a window that ends now, or the end."""

from collections.abc import Sequence
from threading import Event, Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.sampler import Plan

__all__ = ["Order", "Orders"]


class Order:
    """To end the running window at its last sample, and go on under `plan`; under the same one where it is None."""

    def __init__(self, plan: "Plan | None") -> None:
        self.plan = plan
        self._obeyed = Event()

    def obey(self) -> None:
        """Say that it was done."""
        self._obeyed.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it was done; False where it was not in time."""
        return self._obeyed.wait(timeout_s)


class Orders:
    """A box of orders that ends a sleep."""

    def __init__(self) -> None:
        self.waiting: list[Order] = []
        """Looked at by the sampler at each sample, which costs nothing."""
        self.stopping = False
        self._lock = Lock()
        self._ring = Event()

    def put(self, plan: "Plan | None") -> Order:
        """Give an order."""
        order = Order(plan)
        with self._lock:
            self.waiting.append(order)
            self._ring.set()
        return order

    def stop(self) -> None:
        """Have the agent end. May be called by a signal's handler."""
        self.stopping = True
        self._ring.set()

    def take(self) -> Sequence[Order]:
        """All orders, oldest first."""
        with self._lock:
            taken, self.waiting = self.waiting, []
            if not self.stopping:
                self._ring.clear()
        return taken

    def sleep(self, seconds: float) -> None:
        """Sleep, until there is an order or the end."""
        self._ring.wait(seconds)
