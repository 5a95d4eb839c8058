"""Programs that a benchmark starts: none outlives it, none is waited for without end, none ends unnoticed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from data import ROOT

SERVER_CORE, CLIENT_CORE = 0, 1
"""What is measured has one core, what measures the other."""
_STOP_S, _REAP_S, _RUN_S = 300.0, 1.0, 900.0
_TAIL = 3000
"""Characters of a program's output that are shown where something fails."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    """What it says on stdout and stderr."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def check(self) -> None:
        """Raises RuntimeError where it has ended, with the end of its output (as all that fails while it runs has)."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended early, with exit code {self.process.returncode}")

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str, every: float = 0.02) -> None:
        """Wait until `condition` holds. Raises TimeoutError after `seconds`, RuntimeError where the program ends."""

        def holds() -> bool:
            self.check()
            return condition()

        wait_until(holds, seconds, what, every)

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_REAP_S)
        state = "still runs" if self.process.returncode is None else f"ended with exit code {self.process.returncode}"
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return f"{self.name} {state}; " + (f"the end of its output:\n{text[-_TAIL:]}" if text else "it said nothing")

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    *,
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    tree: Path = ROOT,
) -> Iterator[Program]:
    """A program that runs as long as the context, on one core if that is named, with its output in a file.

    Whatever fails meanwhile is told together with whether the program had ended, and the end of its output.
    """
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned, *command], cwd=tree, env=environment, pass_fds=pass_fds,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    program = Program(_name(command), process, log)
    try:
        yield program
    except BaseException as error:
        signal.setitimer(signal.ITIMER_REAL, 0)  # the deadline must not interrupt what stops the program
        error.add_note(program._last_words())
        raise
    finally:
        program._stop()


def run(command: Sequence[str], seconds: float = _RUN_S) -> str:
    """What a program prints. Raises RuntimeError where it fails, TimeoutError where it takes longer than `seconds`."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{_name(command)} took more than {seconds:.0f} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-_TAIL:]
        raise RuntimeError(f"{_name(command)} ended with exit code {done.returncode}:\n{said}")
    return done.stdout


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.02) -> None:
    """Wait until `condition` holds, and look every so many seconds; raises TimeoutError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} took more than {seconds:.0f} s")
        time.sleep(every)


def pin(core: int | None) -> None:
    """Have this thread run on one core, or on all of them again."""
    os.sched_setaffinity(0, range(psutil.cpu_count() or 1) if core is None else {core})


def _name(command: Sequence[str]) -> str:
    """How a command is called in messages."""
    words = command[1:3] if command[0] == sys.executable else command[:1]
    return " ".join(Path(word).name for word in words if word != "-m")
