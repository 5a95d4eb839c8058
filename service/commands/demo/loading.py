"""Loading a fleet: which windows the service lacks, and sending them, several requests at a time."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from analytics.sources.service_api import Patience, ServiceApi
from contract.times import DAY_MS, parse_timestamp
from service.commands.demo.fleet import DemoBatch, RecordedFleet, batches

_IN_FLIGHT = 4
_AHEAD = 2
"""Bodies made while all requests are under way."""
_RECENT_MS = DAY_MS
PATIENCE_S = 120.0
"""How long a batch is tried again while the service has no room, or does not answer."""


class BatchReceipt(NamedTuple):
    """What became of the reports of a batch."""

    accepted: int
    duplicates: int
    rejected: int
    reason: str
    """Why the first of the rejected ones was; empty without any."""


class Cancelled(Exception):
    """The work was given up while a request waited for its next try."""


def last_seen(api: ServiceApi) -> dict[str, int]:
    """The end of the newest window of each user that the service knows, epoch milliseconds."""
    users = api.call("GET", "users").document()["users"]
    return {user["user_id"]: parse_timestamp(user["last_seen"]) for user in users}


def post(api: ServiceApi, batch: DemoBatch, patience: Patience) -> BatchReceipt:
    """Send a batch of reports until the service has taken it, or `patience` ends; raises ServiceError."""
    receipt = api.call(
        "POST", "metrics", body=batch.body, headers={"Content-Type": "application/x-ndjson"},
        expected=(HTTPStatus.ACCEPTED, HTTPStatus.UNPROCESSABLE_ENTITY), patience=patience,
    ).document()  # fmt: skip
    rejected = receipt.get("rejected", [])
    reason = rejected[0]["problems"][0] if rejected else None
    return BatchReceipt(
        receipt["accepted"],
        receipt["duplicates"],
        len(rejected),
        f"{reason['pointer']}: {reason['detail']}" if reason else "",
    )


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to send, at which times."""

    fleet: RecordedFleet
    """Where its windows belong in time."""
    complete: bool = False
    """Whether all of it is there already."""
    continues_after_ms: int | None = None
    """The end of an older load, where this one goes on; None where it does not."""


def plan(fleet: RecordedFleet, last_seen: Mapping[str, int], now_ms: int) -> LoadPlan:
    """Where a fleet belongs in time, given the newest window of each user that the service knows.

    A fleet that is new there ends now. One that ended within a day keeps its times, so that what is sent again is known
    as a duplicate. One that ended earlier is continued: only windows after its end are sent.
    """
    last = fleet.last_of_each()
    shifts = [last_seen[user] - end for user, end in last.items() if user in last_seen]
    # Hosts that were loaded later than others are the ones to follow.
    here = fleet.shifted(max(shifts)) if shifts else None
    if here is None or here.last_ms > now_ms:
        return LoadPlan(fleet.ending(now_ms))
    if here.last_ms >= now_ms - _RECENT_MS:
        complete = all(last_seen.get(user, 0) >= end for user, end in here.last_of_each().items())
        return LoadPlan(here, complete=complete)
    return LoadPlan(fleet.ending(now_ms).after(here.last_ms), continues_after_ms=here.last_ms)


@dataclass(slots=True)
class Loaded:
    """What became of the windows sent."""

    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    reason: str = ""
    """Why the first of the rejected windows was."""
    seconds: float = 0.0

    def count(self, receipt: BatchReceipt) -> None:
        """Add what became of a batch."""
        self.accepted += receipt.accepted
        self.duplicates += receipt.duplicates
        self.rejected += receipt.rejected
        self.reason = self.reason or receipt.reason


def load_fleet(fleet: RecordedFleet, api: ServiceApi, advance: Callable[[int], object]) -> Loaded:
    """Send all windows of `fleet`; `advance` is told of each number of windows that were answered.

    Raises ServiceError where the service cannot be reached or refuses what is sent.
    """
    loaded = Loaded()
    started = time.monotonic()
    pending: dict[Future[BatchReceipt], DemoBatch] = {}

    cancelled = threading.Event()

    def sleep(seconds: float) -> None:
        if cancelled.wait(seconds):
            raise Cancelled

    patience = Patience(PATIENCE_S, sleep=sleep)

    def collect() -> None:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            advance(pending.pop(future).reports)
            loaded.count(future.result())

    with ThreadPoolExecutor(_IN_FLIGHT, "demo") as pool:
        try:
            for batch in batches(fleet):
                pending[pool.submit(post, api, batch, patience)] = batch
                if len(pending) >= _IN_FLIGHT + _AHEAD:
                    collect()
            while pending:
                collect()
        except BaseException:
            cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    loaded.seconds = time.monotonic() - started
    return loaded
