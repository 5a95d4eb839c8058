"""Samples brought to a service: several requests at a time, taken up where they were cut short.

What was taken is noted in a file of the user's state folder, named after what is imported where; the same import goes
on behind it. Without the note nothing is counted twice either, because the service knows a window by its host,
metric and end; it only takes longer.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from analytics.sources.importing.reports import ImportBatch
from analytics.sources.service_api import Patience, ServiceApi

PATIENCE_S: Final = 120.0
"""How long a batch is tried again while the service has no room, or does not answer."""


@dataclass
class SentWindows:
    """What became of the windows."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    skipped: int = 0
    """Taken by an earlier run that was cut short."""
    reason: str = ""
    """Why the first of those that were refused was."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, receipt: dict[str, Any]) -> None:
        """Add the answer to a batch."""
        rejected = receipt.get("rejected", [])
        with self.lock:
            self.accepted += receipt["accepted"]
            self.duplicates += receipt["duplicates"]
            self.refused += receipt.get("rejected_count", len(rejected))
            if rejected and not self.reason:
                problem = rejected[0]["problems"][0]
                self.reason = f"{problem['pointer']}: {problem['detail']}"


class Note:
    """Which batches of an import were taken: how many of each lane."""

    def __init__(self, url: str, lanes: Sequence[Sequence[ImportBatch]]) -> None:
        digest = hashlib.sha256(url.rstrip("/").encode())
        for lane in lanes:
            for batch in lane:
                digest.update(hashlib.sha256(batch.body).digest())
            digest.update(b"|")
        self.path = state_folder() / f"{digest.hexdigest()[:32]}.json"
        self._lock = threading.Lock()
        self.taken = self._read(len(lanes))

    def _read(self, lanes: int) -> list[int]:
        try:
            taken = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return [0] * lanes
        right = isinstance(taken, list) and len(taken) == lanes and all(type(one) is int and one >= 0 for one in taken)
        return taken if right else [0] * lanes

    def took(self, lane: int) -> None:
        """Note one more batch of a lane."""
        with self._lock:
            self.taken[lane] += 1
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(self.taken), "utf-8")
            part.replace(self.path)

    def forget(self) -> None:
        """Delete the file of how far the import came: it is whole."""
        self.path.unlink(missing_ok=True)


def state_folder() -> Path:
    """Where notes are kept: https://specifications.freedesktop.org/basedir-spec/latest/"""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "loadlens" / "imports"


def send(api: ServiceApi, lanes: Sequence[Sequence[ImportBatch]], advance: Callable[[int], object]) -> SentWindows:
    """Send all batches; `advance` is told of each number of windows that were answered. Raises ServiceError.

    Where one is raised, what was taken stays noted.
    """
    sent = SentWindows()
    note = Note(api.url, lanes)
    ended = threading.Event()

    def wait(seconds: float) -> None:
        if ended.wait(seconds):
            raise InterruptedError("another request failed")

    patience = Patience(PATIENCE_S, sleep=wait)

    def run(number: int) -> None:
        lane = lanes[number]
        taken = min(note.taken[number], len(lane))
        earlier = sum(batch.reports for batch in lane[:taken])
        with sent.lock:
            sent.skipped += earlier
        advance(earlier)
        for batch in lane[taken:]:
            if ended.is_set():
                return
            answer = api.call(
                "POST", "metrics", body=batch.body, headers={"Content-Type": "application/x-ndjson"},
                expected=(HTTPStatus.ACCEPTED, HTTPStatus.UNPROCESSABLE_ENTITY), patience=patience,
            )  # fmt: skip
            sent.count(answer.document())
            note.took(number)
            advance(batch.reports)

    with ThreadPoolExecutor(max(1, len(lanes)), "import") as pool:
        futures = [pool.submit(run, number) for number in range(len(lanes))]
        try:
            for future in futures:
                future.result()
        except BaseException:
            ended.set()
            raise
    note.forget()
    return sent
