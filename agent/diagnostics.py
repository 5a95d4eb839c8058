"""The document that the command `diagnostics` answers: versions, host, settings, spool, recent problems; no secrets."""

import logging
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psutil
from msgspec import UNSET

from agent.identity import HostIdentity
from agent.probes import MetricName
from agent.remote_configuration import RemoteConfigurationClient
from contract import __version__, times
from contract.times import format_instant

KEPT = 50
_MAX_CHARACTERS = 300


class RecentProblems(logging.Handler):
    """Keeps the last messages logged as a warning or worse; each of `secrets` is blotted out."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__(logging.WARNING)
        self._secrets = [secret for secret in secrets if secret]
        self._kept: deque[dict[str, str]] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a log record says."""
        text = record.getMessage()
        for secret in self._secrets:
            text = text.replace(secret, "(hidden)")
        self._kept.append(
            {
                "at": format_instant(round(record.created * 1000)),
                "level": record.levelname.lower(),
                "message": text[:_MAX_CHARACTERS],
            }
        )

    def last(self) -> list[dict[str, str]]:
        """At most `KEPT` messages, oldest first, each with `at`, `level` and `message`."""
        return list(self._kept)


_STARTED = time.monotonic()


def diagnostics(
    identity: HostIdentity,
    remote: RemoteConfigurationClient,
    counts: Callable[[], Mapping[str, int]],
    problem: Callable[[], str | None],
    recent_problems: RecentProblems,
    failing: Mapping[MetricName, str],
) -> dict[str, Any]:
    """The document as JSON has it.

    `counts` gives the numbers of spool and sender, `problem` says why reports are not taken now, None where they are,
    `failing` why metrics are left out of reports.
    Raises OSError and psutil.Error where the system does not answer.
    """
    process = psutil.Process()
    return {
        "agent": {
            "version": __version__,
            "python": platform.python_version(),
            "msgspec_psutil": [_version("msgspec"), psutil.__version__],
            "running_s": round(time.monotonic() - _STARTED, 1),
            "cpu_s": round(time.process_time(), 3),
            "resident_bytes": process.memory_info().rss,
            "open_files": process.num_fds() if hasattr(process, "num_fds") else None,
            "threads": sorted(thread.name for thread in threading.enumerate()),
        },
        "machine": {
            "user_id": identity.user_id,
            "os_type": identity.os_type,
            "os_version": identity.os_version,
            "labels": dict(identity.labels),
            "kernel": platform.release(),
            "processor": platform.machine(),
            "cores": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "booted_s_ago": round(time.time() - psutil.boot_time()),
            "clock": times.now_ms(),
        },
        "settings": {
            "in_force": remote.in_force,
            "version": remote.version,
            "refused": None if remote.refusal is UNSET else remote.refusal,
            "listening": remote.listening,
        },
        "not_sampled": dict(failing),
        "spool": dict(counts()) | {"trouble": problem()},
        "troubles": recent_problems.last(),
    }


def _version(name: str) -> str:
    return str(getattr(sys.modules.get(name), "__version__", "unknown"))
