"""Delivers what the queue has: each target in its order, tried again for a day, then given up."""

import logging
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from contract import times
from contract.retry import Backoff
from service.control.database import ControlError
from service.notifications.delivery import DeliveryFailed
from service.notifications.queue import MAX_PAUSE_MS, NotificationQueue, QueuedNotification
from service.notifications.targets import Target

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 0.2
_BACKOFF = Backoff(cap_s=MAX_PAUSE_MS / 1000, retry_after_cap_s=MAX_PAUSE_MS / 1000, least=0.5)
_MAX_ATTEMPTS = 34
"""With pauses that double up to an hour: about a day."""
_WORKERS = 4
_PAUSE_S = 5.0
"""After the queue could not be read or written."""


class NotificationSender:
    """A thread that looks what is due, and some that deliver: one message of a target at a time."""

    def __init__(
        self,
        queue: NotificationQueue,
        targets: Callable[[], Mapping[str, Target]],
        deliver: Callable[[Target, QueuedNotification], None],
        *,
        is_mine: Callable[[], bool] = lambda: True,
        grace_s: float = 5.0,
    ) -> None:
        """`targets` gives those in force, by name; `deliver` makes one attempt, and raises DeliveryFailed.

        `is_mine` says whether this process is the one of a cluster that delivers. At the end what is under way has
        `grace_s`.
        """
        self._is_mine = is_mine
        self._queue = queue
        self._targets = targets
        self._deliver = deliver
        self._grace_s = grace_s
        self._busy: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._pool = ThreadPoolExecutor(_WORKERS, "notify")
        for name in ("httpx", "httpcore"):
            # They log whole addresses, and these are secrets.
            logging.getLogger(name).setLevel(logging.WARNING)
        self._under_way: dict[str, Future[None]] = {}
        self.delivered = 0
        self.failures = 0
        self.failures_of: Counter[str] = Counter()
        """Attempts that failed, by target."""
        self.given_up = 0

    def start(self) -> None:
        """Begin to deliver, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End. What is under way has a few seconds; if it takes longer, it is sent again after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        wait(self._under_way.values(), self._grace_s)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                now_ms = times.now_ms()
                if not self._is_mine() or not self._queue.has_due(now_ms):
                    continue
                for message in self._queue.due(now_ms, self._busy):
                    self._busy.add(message.target)
                    self._under_way[message.target] = self._pool.submit(self._attempt, message)
            except ControlError as error:
                # For want of disk or log.
                _log.warning("notifications have to wait: %s", error)
                self._stopping.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001 - it must go on
                _log.exception("notifications cannot be read; trying again")
                self._stopping.wait(_PAUSE_S)

    def _attempt(self, message: QueuedNotification) -> None:
        try:
            self._try(message)
        except ControlError as error:
            # It comes again, and not at once.
            _log.warning("what became of notification %s cannot be noted; trying again: %s", message.id, error)
            self._stopping.wait(_PAUSE_S)
        except Exception:  # noqa: BLE001 - it must go on
            # What became of it cannot be noted: it comes again, and not at once. At the end the queue may be closed.
            if not self._stopping.is_set():
                _log.exception("what became of notification %s cannot be noted; trying again", message.id)
            self._stopping.wait(_PAUSE_S)
        finally:
            self._busy.discard(message.target)

    def _try(self, message: QueuedNotification) -> None:
        try:
            self._hand_over(message)
        except DeliveryFailed as error:
            self._fail(message, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again as late as all else
            if message.attempts == 0:
                # Without its text, which may hold the address.
                frames = traceback.extract_tb(error.__traceback__)
                places = ", ".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames)
                _log.error("notification %s raised %s at %s", message.id, type(error).__name__, places)
            self._fail(message, DeliveryFailed(f"{type(error).__name__} in this service; its log says where"))
        else:
            self.delivered += 1
            self._queue.finish(message, "delivered")

    def _hand_over(self, message: QueuedNotification) -> None:
        target = self._targets().get(message.target)
        if target is None:
            raise DeliveryFailed(f"target {message.target} is not known any more", permanent=True)
        self._deliver(target, message)

    def _fail(self, message: QueuedNotification, error: DeliveryFailed) -> None:
        self.failures += 1
        self.failures_of[message.target] += 1
        now_ms = times.now_ms()
        if error.permanent or message.attempts + 1 >= _MAX_ATTEMPTS:
            self.given_up += 1
            _log.error("notification %s to %s is given up: %s", message.id, message.target, error)
            self._queue.finish(message, "dead", str(error))
            return
        pause_s = _BACKOFF.after_s(message.attempts + 1, error.wait_s)
        _log.warning(
            "notification %s to %s failed: %s; trying again in %.0f s",
            message.id, message.target, error, pause_s,
        )  # fmt: skip
        self._queue.postpone(message, now_ms + round(1000 * pause_s), str(error), rejected=error.rejected)
