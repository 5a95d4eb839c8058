"""A service in a process of its own."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.preloaded import ROOT, Forked, fork

_STOP_S = 30


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[str]:
    """The address of a service with its data in `folder`, which ends with the context."""
    arguments = ("--port", "0", "--data-dir", str(folder), *arguments)
    log = folder / "log"
    with log.open("wb") as said:
        process = fork("service", *arguments, environment=dict(os.environ), cwd=ROOT, output=said, errors=said)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait(_STOP_S)


def _address(process: Forked, log: Path) -> str:
    """The address that the service logs once it listens; a connection made before it is ready waits for it."""
    with log.open() as lines:
        text = ""
        while process.poll() is None:
            text += lines.read()
            if match := re.search(r"service on (http://\S+)\n", text):
                return match[1]
    raise RuntimeError(f"the service ended:\n{text}")
