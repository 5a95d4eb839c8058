"""`loadlens-service up`: a service and an agent for this machine, until Ctrl-C."""

import contextlib
import os
import sys

__all__ = ["run_up"]

_READY_S = 120.0
_STOP_S = 70.0


class UpError(Exception):
    """A part did not start, or ended by itself; the message says which."""


def run_up(data_dir: str, port: int, *, demo: str | None) -> int:
    """Start both, say where to look, and wait; `demo` names a fleet to load first. Returns the exit code."""
    url = f"http://localhost:{port}"
    environment = {**os.environ, "LOADLENS_PORT": str(port), "LOADLENS_DATA_DIR": data_dir}
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stop_signals())
        service = stack.enter_context(_running("service", [sys.executable, "-m", "service"], environment))
