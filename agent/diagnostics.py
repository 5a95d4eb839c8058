"""What helps to find out what ails an agent: a small document, without secrets and environment."""

import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from msgspec import UNSET

from agent.identity import Identity
from agent.remote import Remote
from agent.troubles import Troubles
from contract import __version__, times

__all__ = ["diagnostics"]

_STARTED = time.monotonic()


def diagnostics(
    identity: Identity, remote: Remote, counts: Callable[[], Mapping[str, int]], trouble: Callable[[], str | None],
    troubles: Troubles,
) -> dict[str, Any]:  # fmt: skip
    """The document. `counts` are those of spool and sender, `trouble` is why reports are not taken now."""
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
        "spool": dict(counts()) | {"trouble": trouble()},
        "troubles": troubles.last(),
    }


def _version(name: str) -> str:
    return str(getattr(sys.modules.get(name), "__version__", "unknown"))
