"""Where the service's CPU time goes, by what it does: while reports come in, and while history is asked for.

    .venv/bin/python bench/profiles.py [--beside TREE] [--flames FOLDER]

py-spy looks at the running service so many times a second, from outside, and only at threads that run. Each stack
counts for the innermost of its frames that belongs to a part. Reports come on 64 connections, one a request, as in
bench/ingest.py; history is one host's last day at 15 minutes, over and over. --flames keeps the stacks, in the
format that flamegraph.pl and speedscope.app read. py-spy is on PyPI; on most systems it needs root.
"""

import argparse
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from curves import stored_on
from ingest import OfferedLoad, contestants, wrk
from load import varied
from options import Options, scratch, trees
from output import left_out, machine, table
from processes import SERVER_CORE
from reports import user_name
from servers import Server, answer, installed, loadlens

from contract import times
from contract.times import DAY_MS, HOUR_MS

_HEADERS = ("Part", "a report", "a history")
_RATE = 200
_GRACE_S = 60.0
_IDLE = ("threading.py:", "concurrent/futures/thread.py:", "queue.py:")
_PARTS: dict[str, tuple[str, ...]] = {
    "files: DuckDB and Parquet": ("duckdb/", "pyarrow/", "service/stores/embedded/"),
    "journal": ("service/journal/",),
    "DataFrames: pandas and numpy": ("pandas/", "numpy/", "analytics/"),
    "store, windows in memory": ("service/stores/",),
    "decoding and checking": ("service/ingest/", "contract/", "msgspec/"),
    "stream and rules": ("service/stream/", "service/alerts/"),
    "access, routes, answers": ("service/",),
    "falcon": ("falcon/",),
    "HTTP: uvicorn and httptools": ("uvicorn/", "httptools/"),
    "event loop and sockets": ("asyncio/", "uvloop/", "selectors.py"),
}
"""By part: what is in the path of a frame that belongs to it, the more particular first."""


def main() -> None:
    """Profile and print a table for each work tree."""
    parser = Options(__doc__)
    parser.size("--seconds", 20, tiny=2, help="how long each is looked at")
    parser.size("--connections", 64, tiny=4, help="that send reports")
    parser.size("--machines", 100, tiny=2, help="whose day is stored and asked for")
    parser.data("--shape", "agent", tiny="agent", choices=["agent", "original"],
                help="reports as our agent sends them, or as the original's client")  # fmt: skip
    parser.data("--flames", None, tiny=None, type=Path, metavar="FOLDER", help="where to keep the stacks")
    parser.shared("--beside", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    if not shutil.which("py-spy") or not installed("wrk"):
        print(table(_HEADERS, [left_out(part, len(_HEADERS)) for part in (*_PARTS, "other")]))
        return
    for name, tree in trees(options).items():
        with scratch(options) as folder:
            stacks = [_of_reports(Path(folder), tree, options), _of_history(Path(folder), tree, options)]
        if options.flames:
            options.flames.mkdir(parents=True, exist_ok=True)
            for what, some in zip(("reports", "history"), stacks, strict=True):
                (options.flames / f"{what}-{name}.txt").write_text("".join(f"{one} {n}\n" for one, n in some.items()))
        print(f"{name}:\n\n{table(_HEADERS, list(_rows(stacks)))}\n")


def _rows(stacks: list[Counter[str]]) -> Iterator[list[str]]:
    parts = [_by_part(one) for one in stacks]
    for part in (*_PARTS, "other"):
        yield [part, *(f"{100 * one[part] / max(1, one.total()):.0f} %" for one in parts)]


def _by_part(stacks: Counter[str]) -> Counter[str]:
    """Samples of each part."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        frames = stack.split(";")[::-1]
        if not any(idle in frames[0] for idle in _IDLE):
            found[next((part for frame in frames if (part := _part(frame))), "other")] += count
    return found


def _part(frame: str) -> str | None:
    return next((part for part, marks in _PARTS.items() if any(f"({mark}" in frame for mark in marks)), None)


def _of_reports(folder: Path, tree: Path, options: argparse.Namespace) -> Counter[str]:
    [contestant] = [
        one for one in contestants(folder, options.fleet)
        if one.name.startswith("Loadlens,") and one.templates.stem == options.shape
    ]  # fmt: skip
    load = OfferedLoad(options.connections, 0, options.seconds + 4)
    with loadlens(folder / "reports", core=SERVER_CORE, tree=tree) as server, ThreadPoolExecutor(1) as beside:
        server.ask("GET", "/api/v1/users?limit=1")  # once everything is imported
        sent = beside.submit(wrk, contestant, server, load, times.now_ms() - DAY_MS)
        stacks = _stacks(server, folder, options.seconds)
        if (outcome := sent.result()).refused or not outcome.requests:
            raise RuntimeError(f"{outcome.refused} reports were refused, of {outcome.requests} answered")
    return stacks


def _of_history(folder: Path, tree: Path, options: argparse.Namespace) -> Counter[str]:
    end = times.now_ms() // HOUR_MS * HOUR_MS
    place = folder / "history"
    stored_on(place, varied(options.fleet), options.machines, 1, end, shape=options.shape, tree=tree)
    ended = threading.Event()
    with (
        loadlens(place, core=SERVER_CORE, tree=tree) as server,
        closing(server.connect()) as connection,
        ThreadPoolExecutor(1) as beside,
    ):

        def ask() -> None:
            query = f"start={end - DAY_MS}&end={end}&resample_rate=15m"
            turn = 0
            while not ended.is_set():
                user = user_name(turn % options.machines)
                answer(connection, "GET", f"/api/v1/metrics/cpuLoadAvg/byUser/{user}?{query}", None, {})
                turn += 1

        asked = beside.submit(ask)
        try:
            stacks = _stacks(server, folder, options.seconds)
        finally:
            ended.set()
        asked.result()
    return stacks


def _stacks(server: Server, folder: Path, seconds: float) -> Counter[str]:
    """How often each stack was seen."""
    # The worker, not gunicorn's arbiter, which imported what both need.
    process = max(server.process.children() or [server.process], key=lambda one: sum(one.cpu_times()[:2]))
    path = folder / "stacks.txt"
    command = ["py-spy", "record", "--pid", str(process.pid), "--format", "raw", "--output", str(path)]
    done = subprocess.run(
        [*command, "--duration", str(int(seconds)), "--rate", str(_RATE), "--nonblocking"],
        capture_output=True, text=True, timeout=seconds + _GRACE_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"py-spy ended with exit code {done.returncode}:\n{done.stderr.strip()}")
    found: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found[stack] += int(count)
    return found


if __name__ == "__main__":
    sys.exit(main())
