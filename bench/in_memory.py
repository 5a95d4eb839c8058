"""A host's history while the service is in use: windows wait in memory until they are flushed.

    .venv/bin/python bench/in_memory.py [--beside TREE]

Windows of 3,079 hosts with four cores wait in memory, ever more of them: a million at most, or what comes in five
minutes. Each time one host after the other is asked for its day at 15 minutes, on one connection that is kept alive.
With --beside TREE the service of another work tree is measured as well, the two of them in turn.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from hosts import WINDOW_MS
from load import varied
from options import Options, scratch, trees
from output import machine, number, table
from reports import ReportedWindows, bodies, ndjson, user_name
from servers import answer, loadlens

from contract import times
from contract.times import DAY_MS, HOUR_MS

_SERIES = 5
_BATCH = 1000
_NDJSON = "application/x-ndjson"


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--machines", 3079, tiny=10, help="that report")
    parser.data(
        "--fill", [20_000, 100_000, 250_000, 510_000, 990_000], tiny=[50, 500], type=int, nargs="+",
        help="windows in memory",
    )  # fmt: skip
    parser.size("--requests", 100, tiny=2, help="for each")
    parser.size("--rounds", 2, tiny=1, help="how often each is measured")
    parser.shared("--beside", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    windows = varied(options.fleet)
    found: dict[tuple[int, str], list[float]] = {}
    with scratch(options) as folder:
        for turn in range(options.rounds):
            for name, tree in trees(options).items():
                for fill, taken in _measured(Path(folder) / f"{name}-{turn}", tree, windows, options):
                    found.setdefault((fill, name), []).extend(taken)
    rows = [
        [f"{fill:,} windows in memory, {name}", number(float(np.median(taken))), number(np.percentile(taken, 95))]
        for (fill, name), taken in sorted(found.items())
    ]
    print(table(("A day of one host at 15m", "median ms", "p95 ms"), rows))


def _measured(
    folder: Path, tree: Path, windows: list[ReportedWindows], options: argparse.Namespace
) -> Iterator[tuple[int, list[float]]]:
    """Milliseconds of each answer at each fill."""
    end = times.now_ms() // HOUR_MS * HOUR_MS
    reports = _reports(windows, options.machines, end - DAY_MS + HOUR_MS)
    with loadlens(folder, "--flush-interval", "3600", tree=tree) as server, closing(server.connect()) as connection:
        there = 0
        for fill in sorted(options.fill):
            print(f"{folder.name}: {fill:,} windows in memory ...", file=sys.stderr)
            while there < fill:
                batch = [next(reports) for _ in range(min(_BATCH, -(-(fill - there) // _SERIES)))]
                answer(connection, "POST", "/api/v1/metrics", ndjson(batch), {"Content-Type": _NDJSON})
                there += len(batch) * _SERIES
            if (held := server.metrics()["loadlens_store_head_windows"]) != there:
                raise RuntimeError(f"expected {there} windows in memory, got {held:.0f}")
            known = min(options.machines, there // _SERIES)
            yield fill, [_asked(connection, place * 7 % known, end) for place in range(options.requests)]


def _reports(windows: list[ReportedWindows], hosts: int, first_end: int) -> Iterator[bytes]:
    """Reports of each host in turn, in order of time."""
    count = 0
    while True:
        step, place = divmod(count, hosts)
        yield next(bodies(windows[count % len(windows)], user_name(place), [first_end + step * WINDOW_MS], "agent"))
        count += 1


def _asked(connection: HTTPConnection, place: int, end: int) -> float:
    """How many milliseconds one host's day takes."""
    path = f"/api/v1/metrics/cpuLoadAvg/byUser/{user_name(place)}?start={end - DAY_MS}&end={end}&resample_rate=15m"
    began = time.perf_counter()
    answer(connection, "GET", path, None, {})
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
