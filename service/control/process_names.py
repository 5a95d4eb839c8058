"""Names of processes by which another on the same host can tell that they have ended.

A name is host, start of the kernel, space of process numbers, number and start of the process: a number alone is
given again, and means another process in a container. Only Linux says all of these.
"""

import os
import socket
from pathlib import Path

_STATE, _START = 0, 19
"""Places of fields in what follows the program's name in `/proc/PID/stat` (proc(5))."""


def own_name() -> str:
    """The name of this process; empty where the system does not say enough."""
    try:
        return " ".join((_space(), str(os.getpid()), _stat("self")[_START]))
    except (OSError, IndexError):
        return ""


def has_ended(name: str) -> bool:
    """Whether the process of a name has ended for sure; False where that cannot be told from here."""
    space, _, process = name.rpartition(" ")[0].rpartition(" ")
    try:
        if not space or space != _space():
            return False
    except OSError:
        return False
    try:
        stat = _stat(process)
    except FileNotFoundError:
        return True
    except (OSError, IndexError):
        return False
    return stat[_STATE] in "ZX" or stat[_START] != name.rpartition(" ")[2]


def _space() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink().name}"


def _stat(process: str) -> list[str]:
    # The program's name, in brackets, may have spaces and brackets of its own.
    return Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
