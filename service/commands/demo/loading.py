"""Loading a fleet: which windows the service lacks, and sending them, several requests at a time."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from service.commands.demo.client import Client, Receipt
from service.commands.demo.fleet import Fleet
from service.commands.demo.reports import Batch, batches

_IN_FLIGHT = 4
_AHEAD = 2
"""Bodies made while all requests are under way."""
_RECENT_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, at which times."""

    fleet: Fleet
    """Where its windows belong in time."""
    complete: bool = False
    """Whether all of it is there already."""
    continues_after_ms: int | None = None
    """The end of an older load, where this one goes on; None where it does not."""


def plan(fleet: Fleet, last_seen: Mapping[str, int], now_ms: int) -> Plan:
    """Where a fleet belongs in time, given the newest window of each user that the service knows.

    A fleet that is new there ends now. One that ended within a day keeps its times, so that what is sent again is known
    as a duplicate. One that ended earlier is continued: only windows after its end are sent.
    """
    last = fleet.last_of_each()
    shifts = [last_seen[user] - end for user, end in last.items() if user in last_seen]
    # Machines that were loaded later than others are the ones to follow.
    here = fleet.shifted(max(shifts)) if shifts else None
    if here is None or here.last_ms > now_ms:
        return Plan(fleet.ending(now_ms))
    if here.last_ms >= now_ms - _RECENT_MS:
        complete = all(last_seen.get(user, 0) >= end for user, end in here.last_of_each().items())
        return Plan(here, complete=complete)
    return Plan(fleet.ending(now_ms).after(here.last_ms), continues_after_ms=here.last_ms)


@dataclass(slots=True)
class Loaded:
    """What became of the windows sent."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    reason: str = ""
    """Why the first of the rejected windows was."""
    seconds: float = 0.0

    def count(self, receipt: Receipt) -> None:
        """Add what became of a batch."""
        self.accepted += receipt.accepted
        self.duplicates += receipt.duplicates
        self.rejected += receipt.rejected
        self.reason = self.reason or receipt.reason


def load(fleet: Fleet, client: Client, advance: Callable[[int], object]) -> Loaded:
    """Send all windows of `fleet`; `advance` is told of each number of windows that were answered.

    Raises ClientError where the service cannot be reached or refuses what is sent.
    """
    loaded = Loaded()
    started = time.monotonic()
    pending: dict[Future[Receipt], Batch] = {}

    def collect() -> None:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            advance(pending.pop(future).reports)
            loaded.count(future.result())

    with ThreadPoolExecutor(_IN_FLIGHT, "demo") as pool:
        try:
            for batch in batches(fleet):
                pending[pool.submit(client.post, batch)] = batch
                if len(pending) >= _IN_FLIGHT + _AHEAD:
                    collect()
            while pending:
                collect()
        except BaseException:
            client.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    loaded.seconds = time.monotonic() - started
    return loaded
