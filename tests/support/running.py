"""Services as processes of their own, on a free port, stopped by who started them."""

import functools
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import httpx
import psutil

from tests.support.preloaded import ROOT, Forked, can_fork, fork

__all__ = ["ROOT", "RunningService", "clean_environment", "wait_until"]

T = TypeVar("T")
_ADDRESS = re.compile(r"Loadlens service on (https?://[^\s\"]+)")
_DEADLINE_S = 60.0
_LOOK_EVERY_S = (0.01, 0.1)
"""How long to wait between two looks: at first, and at most."""


def wait_until(condition: Callable[[], T | None], what: str, deadline_s: float = _DEADLINE_S) -> T:
    """What the condition answers, as soon as that holds; fails with `what` where it does not in time."""
    begin = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - begin
        assert waited < deadline_s, f"waited {deadline_s} s for {what}"
        # Looking takes CPU that what is waited for needs: the longer that takes, the less often it is looked for.
        time.sleep(min(max(waited / 10, _LOOK_EVERY_S[0]), _LOOK_EVERY_S[1]))
    return found


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Of this machine, read once: each client that reads them anew takes 25 ms for it."""
    return ssl.create_default_context()


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment without settings of ours, but for `variables`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")} | variables


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class RunningService:
    """`python -m service` with its data in a folder, ready for requests."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.data_dir = data_dir
        self._log = data_dir.with_name(data_dir.name + ".log")
        arguments = ("--port", "0", "--data-dir", str(data_dir), *arguments)
        environment = environment or clean_environment()
        with self._log.open("ab") as log:
            before = log.tell()
            self.process: subprocess.Popen[bytes] | Forked
            if not prefix and can_fork(environment):
                self.process = fork("service", *arguments, environment=environment, cwd=ROOT, output=log, errors=log)
            else:
                self.process = subprocess.Popen(
                    [*prefix, sys.executable, "-m", "service", *arguments],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        try:
            # The address is logged once the socket listens: what connects from then on waits until it is answered.
            wait_until(lambda: bool(self._address(before)) or self.process.poll() is not None, "the address")
            assert self._address(before), self.log
        except BaseException:
            self.kill()
            raise
        self.url = self._address(before)

    def _address(self, before: int) -> str:
        match = _ADDRESS.search(self._log.read_bytes()[before:].decode())
        return match[1] if match else ""

    @property
    def log(self) -> str:
        """What it has said on stdout and stderr."""
        return self._log.read_text()

    @property
    def port(self) -> int:
        """Its port."""
        return httpx.URL(self.url).port or 80

    def client(self, **options: object) -> httpx.Client:
        """A client for it."""
        options.setdefault("verify", _certificates())
        return httpx.Client(base_url=self.url, timeout=_DEADLINE_S, trust_env=False, **options)  # type: ignore[arg-type]

    def worker(self) -> psutil.Process:
        """The process that answers."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def stop(self) -> int:
        """SIGTERM, as a supervisor stops it; returns the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(_DEADLINE_S)

    def kill(self) -> None:
        """SIGKILL to it and to all that it started, of which none holds the port any more then."""
        if self.process.poll() is None:
            started = psutil.Process(self.process.pid).children(recursive=True)
            os.killpg(self.process.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(_runs, started)), "the end of its processes")
        self.process.wait(_DEADLINE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
