"""Programs as processes of their own, forked from one process that has imported what a service is made of.

`python -m service` takes over a second of CPU for its imports, each time. A fork of a process that has them takes some
milliseconds; from `main` on it is the same program, with its own session, arguments, environment and files. What needs
an interpreter of its own (a preloaded library, a profile) is started as `python -m`: see `can_fork`.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).parents[2]
_MAX_MESSAGE = 1 << 20


def can_fork(environment: dict[str, str]) -> bool:
    """Whether a program with this environment may be forked: none of its variables is for the start of a process."""
    return not any(
        name.startswith(("PYTHON", "LD_", "COV_", "COVERAGE_", "MALLOC_", "ARROW_", "OMP_", "OPENBLAS_"))
        and os.environ.get(name) != value
        for name, value in environment.items()
    )


class Forked:
    """A forked program: the part of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, forks: "_Forks") -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""
        return self._waited(0)

    def wait(self, timeout: float | None = None) -> int:
        """The same, once it has ended; subprocess.TimeoutExpired where it has not in time (seconds)."""
        code = self._waited(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(["service"], timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _waited(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._has_ended(timeout):
            self.returncode = self._forks.ask({"reap": self.pid})
            os.close(self._ended)
        return self.returncode

    def _has_ended(self, timeout: float | None) -> bool:
        # Not select, which takes no descriptors beyond 1,023: a relay has many.
        asked = select.poll()
        asked.register(self._ended, select.POLLIN)
        return bool(asked.poll(None if timeout is None else timeout * 1000))


class _Forks:
    """The process that has imported everything, of this test process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())]
            environment = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()

    def ask(self, message: dict[str, object], files: Sequence[int] = ()) -> int:
        socket.send_fds(self._socket, [json.dumps(message).encode()], files)
        answer = self._socket.recv(_MAX_MESSAGE)
        assert answer, "the process that forks services has ended"
        return int(answer)


@functools.cache
def _forks() -> _Forks:
    return _Forks()


def preload(module: str) -> None:
    """Import one more module for all that is forked from now on: worth it where many need what takes long to import."""
    _forks().ask({"preload": module})


def fork(
    module: str, *arguments: str, environment: dict[str, str], cwd: Path, output: IO[bytes], errors: IO[bytes]
) -> Forked:
    """`python -m MODULE ARGUMENTS`, in a session of its own, with no input; what it says goes to two files."""
    sys.audit("subprocess.Popen", sys.executable, [sys.executable, "-m", module, *arguments], str(cwd), environment)
    message = {"module": module, "arguments": arguments, "environment": environment, "cwd": str(cwd)}
    return Forked(_forks().ask(message, [output.fileno(), errors.fileno()]), _forks())


def run(
    module: str, *arguments: str, environment: dict[str, str], cwd: Path = ROOT, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE ARGUMENTS` says, once it has ended; subprocess.TimeoutExpired after so many seconds."""
    command = [sys.executable, "-m", module, *arguments]
    if not can_fork(environment):
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = fork(module, *arguments, environment=environment, cwd=cwd, output=output, errors=errors)
        try:
            code = process.wait(timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                error.add_note(f"it said: {_read(output)}{_read(errors)}")
            raise
        said = [_read(output), _read(errors)]
    return subprocess.CompletedProcess(command, code, *said)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _serve(connection: socket.socket) -> None:
    """Fork what is asked for until nobody is there to ask."""
    # For those that are forked.
    import analytics  # noqa: F401
    import service.cluster.log
    import service.server
    import service.stores.embedded.store
    import service.stores.influx.store  # noqa: F401
    from service.app import preload
    from service.settings import ServiceSettings

    preload(ServiceSettings())

    while True:
        body, files, _, _ = socket.recv_fds(connection, _MAX_MESSAGE, 2)
        if not body:
            return
        message = json.loads(body)
        if "reap" in message:
            answer = os.waitstatus_to_exitcode(os.waitpid(message["reap"], 0)[1])
        elif "preload" in message:
            importlib.import_module(message["preload"])
            answer = 0
        else:
            answer = _forked(connection, message, files)
            for file in files:
                os.close(file)
        connection.send(str(answer).encode())


def _forked(connection: socket.socket, message: dict[str, object], files: Sequence[int]) -> int:
    begun, begins = os.pipe()
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.close(begun)
        os.setsid()
        os.close(begins)
        _become(message, files)
    os.close(begins)
    with contextlib.closing(os.fdopen(begun, "rb")) as waiting:
        waiting.read()  # it has a session of its own now
    return pid


def _become(message: dict[str, object], files: Sequence[int]) -> NoReturn:
    """Be the program, to its end.

    As at the end of an interpreter, threads that are no daemons are waited for and what was registered for the exit
    runs. That modules are torn down one by one, which takes most of a second, is left out.
    """
    for file, standard in zip(files, (1, 2), strict=True):
        os.dup2(file, standard)
        os.close(file)
    os.environ.clear()
    os.environ.update(message["environment"])  # type: ignore[call-overload]  # a dict of texts
    time.tzset()
    os.chdir(str(message["cwd"]))
    sys.argv[1:] = message["arguments"]  # type: ignore[call-overload]  # a list of texts
    code: object = 0
    try:
        runpy.run_module(str(message["module"]), run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - what nobody caught, as the interpreter prints it
        traceback.print_exc()
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
