"""What a running agent leaves beside its spool for `loadlens-agent status`: that it runs, and how it goes."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import msgspec
import psutil
from msgspec import Struct

from contract import times
from contract.agent_protocol import MetricName, SettingsInForce
from contract.problems import decode_json

_NAME = "heartbeat.json"
_SAME_PROCESS_S = 2.0
SILENT_S = 60.0
"""An agent that samples writes a heartbeat with its reports, and at least this often once one is due."""
_MAX_BYTES = 256 * 1024


class Heartbeat(Struct, frozen=True):
    """How an agent was at a moment."""

    at: int
    """The agent's clock, epoch milliseconds."""
    pid: int
    process_started: float
    """When the process began, seconds of the epoch, as the system tells: numbers of processes are given out again."""
    user_id: str
    url: str
    """Where reports are posted."""
    settings: SettingsInForce
    spool_limit_bytes: int
    waiting: int = 0
    """Reports in the spool, and their bytes."""
    waiting_bytes: int = 0
    dropped: int = 0
    """Reports that were given up since the spool was made."""
    refused: int = 0
    """Reports that the service refused since the agent started."""
    problem: str | None = None
    """Why reports are not taken; None where they are."""
    not_sampled: dict[MetricName, str] = {}
    """Why metrics are left out of reports."""

    @property
    def runs(self) -> bool:
        """Whether the process that wrote this is still there."""
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return False
        return abs(started - self.process_started) < _SAME_PROCESS_S


class HeartbeatFile:
    """Writes what `look` tells, whole or not at all, and without a sync: after a crash of the host nobody needs it.

    No failure of the disk raises. Used by any thread.
    """

    def __init__(self, directory: Path, look: Callable[[int, float], Heartbeat]) -> None:
        """`look` gets the number of this process and when it began."""
        self._path = directory / _NAME
        self._look = look
        self._lock = Lock()
        self._written_s = float("-inf")
        self._process_started = psutil.Process().create_time()

    def beat(self, least_s: float = 0.0) -> None:
        """Write, unless it was written less than `least_s` seconds ago."""
        with self._lock:
            if time.monotonic() - self._written_s < least_s:
                return
            self._written_s = time.monotonic()
            unfinished = self._path.with_suffix(".new")
            try:
                unfinished.write_bytes(msgspec.json.encode(self._look(os.getpid(), self._process_started)))
                unfinished.replace(self._path)
            except OSError:
                # The spool, on the same disk, says so in the log; and what is old is told as old.
                return


def read_heartbeat(directory: Path) -> Heartbeat | None:
    """The last heartbeat of the agent whose spool is there; None where none ran.

    Raises OSError where the folder may not be read, and msgspec.DecodeError where it is no heartbeat.
    """
    try:
        with (directory / _NAME).open("rb") as file:
            return decode_json(file.read(_MAX_BYTES), Heartbeat)
    except FileNotFoundError:
        return None


def is_late(heartbeat: Heartbeat) -> bool:
    """Whether the agent should have made a report since; one that is paused makes none."""
    settings = heartbeat.settings
    return not settings.paused and age_s(heartbeat) > 2 * settings.interval * settings.samples + SILENT_S


def is_healthy(directory: Path) -> bool:
    """Whether the agent whose spool is there runs and makes its reports; the images' health check asks this."""
    try:
        heartbeat = read_heartbeat(directory)
    except (OSError, msgspec.DecodeError):
        return False
    return heartbeat is not None and heartbeat.runs and not is_late(heartbeat)


def age_s(heartbeat: Heartbeat) -> float:
    """Seconds since it was written."""
    return max(0.0, (times.now_ms() - heartbeat.at) / 1000)
