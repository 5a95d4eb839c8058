"""What the service holds in memory: a fleet is loaded, looked at, reported on, and then nothing happens.

    .venv/bin/python bench/memory.py [--beside TREE]

The fleet is that of `make demo`: 3,079 hosts, 2,035,584 windows (`--fleet`; the sample that comes with Loadlens
where that file is missing). *Now* is the proportional set size (PSS) of the service's two processes, where what they
share counts once, some seconds after each step, when all is flushed; *most* is the highest that the process which
works had resident meanwhile. What makes a report is a process of its own, which ends with it: its own highest is told
apart. With --beside TREE the service of another work tree is measured as well. Linux only.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from options import Options, scratch, trees
from output import machine, number, table
from processes import run
from servers import Server, answer, loadlens

from contract import times
from contract.times import DAY_MS

_STEPS = "started", "loaded", "the page's fleet view, 24 h and 7 days", "a fleet report", "at rest"
_LOAD_S, _SETTLE_S, _REPORT_S = 900.0, 300.0, 600.0


def main() -> None:
    """Load, ask and print a table."""
    parser = Options(__doc__)
    parser.data("--users", None, tiny=5, type=int, help="hosts that are loaded, all without")
    parser.size("--rest", 32.0, tiny=0.1, help="seconds after each step: memory is given back each half minute")
    parser.shared("--beside", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    rows = []
    with scratch(options) as folder:
        for name, tree in trees(options).items():
            for step, now, gunicorns, most, reports in _measured(Path(folder) / name, tree, options):
                rows.append(
                    [f"{step}, {name}", *map(number, (now, gunicorns, most)), number(reports) if reports else "-"]
                )
    print(table(("Memory, MB", "now", "of it gunicorn's", "most of the worker", "most of a report"), rows))


def _measured(
    folder: Path, tree: Path, options: argparse.Namespace
) -> Iterator[tuple[str, float, float, float, float]]:
    """Each step, what is held afterwards by both processes and by gunicorn's, the most meanwhile, and a report's."""
    with loadlens(folder, "--flush-interval", "5", tree=tree) as server:
        # The first question has all imported.
        steps: list[Callable[[], object]] = [
            lambda: server.ask("GET", "/api/v1/users"),
            lambda: _load(server, options),
            lambda: _look(server),
            lambda: _report(server),
            lambda: None,
        ]
        for name, step in zip(_STEPS, steps, strict=True):
            print(f"{name} ...", file=sys.stderr)
            (worker,) = server.process.children()
            _forget_most(worker)
            with _children_watched(worker) as reports:
                step()
                time.sleep(options.rest)
            own, its = (one.memory_full_info().pss / 1e6 for one in (server.process, worker))
            print(f"  {own + its:.0f} MB", file=sys.stderr)
            yield name, own + its, own, _most(worker), max(reports, default=0.0)


def _load(server: Server, options: argparse.Namespace) -> None:
    """Load the fleet, and wait until the store has it."""
    given = [] if options.fleet is None or not options.fleet.exists() else ["--data", str(options.fleet)]
    some = [] if options.users is None else ["--users", str(options.users)]
    run([sys.executable, "-m", "service", "demo", "--url", server.url, *given, *some], _LOAD_S)
    server.program.wait_until(lambda: server.metrics()["loadlens_journal_behind"] == 0, _SETTLE_S, "flushing")


def _report(server: Server) -> None:
    """Have a report made. It gives way to all else, so on a busy machine it takes long."""
    with closing(server.connect(_REPORT_S)) as connection:
        answer(connection, "GET", "/reports/fleet", None, {})


def _look(server: Server) -> None:
    """Ask what the page asks when its fleet view is opened."""
    now = times.now_ms()
    for days in (1, 7):
        shown = f"metric=cpuLoadAvg&start={now - days * DAY_MS}&end={now}"
        server.ask("GET", f"/api/v1/fleet/picture?{shown}&stat=mean&columns=300&rows=400")
        server.ask("GET", f"/api/v1/metrics/cpuLoadAvg/fleet?start={now - days * DAY_MS}&end={now}&resample_rate=15m")


@contextmanager
def _children_watched(process: psutil.Process) -> Iterator[list[float]]:
    """The most that processes which it starts have resident, in MB, looked at ten times a second."""
    ended = threading.Event()
    found: list[float] = []

    def watch() -> None:
        while not ended.wait(0.1):
            for child in process.children(recursive=True):
                try:
                    found.append(_most(child))
                except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _most(process: psutil.Process) -> float:
    text = Path(f"/proc/{process.pid}/status").read_text()
    lines = (line.split() for line in text.splitlines() if line.startswith("VmHWM:"))
    return max((int(line[1]) * 1024 / 1e6 for line in lines), default=0.0)


def _forget_most(process: psutil.Process) -> None:
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
