"""Makes reports, a few at a time, each in a process of its own, and keeps the newest for a moment."""

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from service.reporting.worker import ReportMade, ReportRefused, ReportRequest, Task

_AT_ONCE = 1
"""Processes at a time; each may use all cores for some seconds, and some 500 MB."""
_WAITING = 8
_FRESH_S = 60.0
_KEPT_BYTES = 64 << 20
_KEPT = 32
PATIENCE_S = 300.0
"""A report that takes longer is given up."""
_Asked = tuple[ReportRequest, str]
"""What is to be made, and the scope of who asks."""


class TooManyReports(Exception):
    """As many reports as are allowed are being made, or wait for their turn."""


class ReportFailed(Exception):
    """A report could not be made; the message is for the log."""


@dataclass(frozen=True, slots=True)
class FinishedReport:
    """A report, and how old it is."""

    content: bytes
    policy: str
    etag: str
    made_s: float
    """On the monotonic clock."""

    @property
    def fresh_s(self) -> float:
        """For how much longer it may be answered, in seconds."""
        return max(0.0, _FRESH_S - (time.monotonic() - self.made_s))


class ReportMaker:
    """Everything here runs on the event loop; processes are waited for in threads."""

    def __init__(self, certificate: Path | None = None, own_address: str = "", patience_s: float = PATIENCE_S) -> None:
        """`certificate` is what the service shows where it speaks HTTPS.

        `own_address` is where this process alone answers, if others do too at the address of the service. A report
        that takes more than `patience_s` seconds is given up.
        """
        self._patience_s = patience_s
        self._certificate = certificate
        self._own_address = own_address
        self._kept: OrderedDict[_Asked, FinishedReport] = OrderedDict()
        self._running: dict[_Asked, asyncio.Task[FinishedReport | ReportRefused]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self.made = 0
        """Reports made so far."""
        self.failures = 0
        """Processes that did not come to their end."""
        self.refused = 0
        """Requests for reports turned away because there were too many."""

    @property
    def waiting(self) -> int:
        """Reports that are being made or wait for their turn."""
        return len(self._running)

    def clear(self) -> None:
        """Keep no report that was made so far."""
        self._kept.clear()

    async def report(
        self, request: ReportRequest, address: str, token: Callable[[], str] | None, scope: str = "*"
    ) -> FinishedReport | ReportRefused:
        """The report, a kept one of the last minute where there is one. Raises TooManyReports and ReportFailed.

        `address` is the host and port where the service answers. `token` makes the token that it is made with, and
        `scope` says whose report it may be: one that was made for who may see all is not answered to who may not.
        """
        asked = (request, scope)
        kept = self._kept.get(asked)
        if kept is not None and kept.fresh_s > 0:
            return kept
        task = self._running.get(asked)
        if task is None:
            if len(self._running) >= _AT_ONCE + _WAITING:
                self.refused += 1
                raise TooManyReports
            # Whoever asks for the same meanwhile waits for this one; it goes on if the first of them leaves.
            task = asyncio.create_task(self._make(request, address, token and token()))
            self._running[asked] = task
            task.add_done_callback(lambda done: self._ended(asked, done))
        return await asyncio.shield(task)

    def _ended(self, asked: _Asked, task: "asyncio.Task[FinishedReport | ReportRefused]") -> None:
        self._running.pop(asked, None)
        if task.cancelled():
            return
        if task.exception() is not None:
            self.failures += 1
            return
        result = task.result()
        if isinstance(result, FinishedReport):
            self.made += 1
            self._kept[asked] = result
            self._kept.move_to_end(asked)
        while len(self._kept) > _KEPT or sum(len(kept.content) for kept in self._kept.values()) > _KEPT_BYTES:
            self._kept.popitem(last=False)

    async def _make(self, request: ReportRequest, address: str, token: str | None) -> FinishedReport | ReportRefused:
        scheme = "http" if self._certificate is None else "https"
        certificate = None if self._certificate is None else str(self._certificate)
        task = msgspec.msgpack.encode(
            Task(
                request=request, url=f"{scheme}://{self._own_address or address}", token=token, certificate=certificate
            )
        )
        async with self._turn:
            try:
                output = await asyncio.to_thread(_run, task, self._patience_s)
            except subprocess.TimeoutExpired:
                self.failures += 1
                return ReportRefused(
                    503,
                    f"The report took more than {self._patience_s:g} s and was stopped. Ask for a shorter range, "
                    "or when the host of the service has less to do.",
                )
        result = msgspec.msgpack.decode(output, type=ReportMade | ReportRefused)
        if isinstance(result, ReportRefused):
            return result
        etag = hashlib.sha256(result.content).hexdigest()[:32]
        return FinishedReport(result.content, result.policy, etag, time.monotonic())


def _run(task: bytes, patience_s: float) -> bytes:
    """Run the worker with a task; what it answers. Raises ReportFailed, and TimeoutExpired of subprocess."""
    # Other settings are none of its business; its token comes with the task.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
    parent_watch = ("service.commands.parent_watch", str(os.getpid())) if os.name == "posix" else ()
    done = subprocess.run(
        [sys.executable, "-P", "-m", *parent_watch, "service.reporting.worker"],
        input=task, env=environ, capture_output=True, timeout=patience_s, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ReportFailed(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-4000:]}")
    return done.stdout
