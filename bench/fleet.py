"""The mean of all machines together at 15 minutes, over a week: how it grows with their number.

    .venv/bin/python bench/fleet.py [--machines 300 3079] [--beside TREE]

Each machine reports a mean every half an hour; everything is flushed and compacted before the fleet is asked for over
HTTP, on one connection that is kept alive. Then for a row of each machine, as Arrow: its mean, p95 and change of the
last day, the same again and, from one time to the next, half an hour earlier. CPU is that of the service. With
--beside TREE the service of another work tree is filled as well, and the two of them are asked in turn.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pyarrow as pa
from options import Options, scratch, trees
from output import machine, number, table
from reports import user_name
from servers import answer, loadlens, settle_loadlens

from contract import times
from contract.times import DAY_MS, MINUTE_MS

_STEP_MS = 30 * MINUTE_MS
_BATCH = 5000
_SAMPLES = 100
_STATISTICS = "mean", "p95"
_ROWS = {"a row each, asked again,": 0, "a row each, half an hour earlier,": _STEP_MS}
"""By what is asked: how much earlier it ends each time."""


def main() -> None:
    """Fill, ask and print a table."""
    parser = Options(__doc__)
    parser.data("--machines", [300, 3079], tiny=[3], type=int, nargs="+", help="how many report")
    parser.size("--days", 7, tiny=1, help="how long they report")
    parser.size("--requests", 40, tiny=2, help="for each")
    parser.shared("--beside", "--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    end = times.now_ms() // DAY_MS * DAY_MS
    rows = []
    with scratch(options) as folder:
        for machines in options.machines:
            for (statistic, name), taken in _measured(Path(folder), machines, end, options).items():
                label = f"{statistic} of {machines:,} machines, {name}"
                times_ms, cpu_ms = np.array(taken).T
                rows.append([label, *map(number, (np.median(times_ms), np.percentile(times_ms, 95), cpu_ms.mean()))])
    print(table((f"All machines together, {options.days} days at 15m", "median ms", "p95 ms", "CPU ms each"), rows))


def _measured(
    folder: Path, machines: int, end: int, options: argparse.Namespace
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Milliseconds of each answer and of CPU for it, by what is asked and work tree."""
    start = end - options.days * DAY_MS
    with ExitStack() as stack:
        connections, servers = {}, {}
        for name, tree in trees(options).items():
            print(f"{name}: {machines:,} machines ...", file=sys.stderr)
            place = folder / f"{name}-{machines}"
            with loadlens(place, tree=tree) as server:
                for batch in _batches(machines, start, end):
                    server.ask("POST", "/api/v1/metrics", batch, **{"Content-Type": "application/x-ndjson"})
            settle_loadlens(place, tree)
            servers[name] = stack.enter_context(loadlens(place, tree=tree))
            connections[name] = servers[name].connect()
            stack.callback(connections[name].close)
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {
            (asked, name): [] for asked in (*_STATISTICS, *_ROWS) for name in connections
        }
        samples = machines * (end - start) // _STEP_MS * _SAMPLES
        for connection in connections.values():
            _, counts = _asked(connection, "count", start, end)
            if sum(counts) != samples:
                raise RuntimeError(f"expected {samples} samples in the answer, got {sum(counts):.0f}")
        for turn in range(options.requests):
            for (asked, name), some in taken.items():
                used = servers[name].cpu_seconds()
                if asked in _STATISTICS:
                    spent, _ = _asked(connections[name], asked, start, end)
                else:
                    spent = _rows(connections[name], machines, end - _ROWS[asked] * (turn + 1))
                some.append((spent, (servers[name].cpu_seconds() - used) * 1000))
        return taken


def _rows(connection: HTTPConnection, machines: int, end: int) -> float:
    """How many milliseconds a row of each machine takes, of the day before `end`."""
    path = f"/api/v1/fleet/machines?start={end - DAY_MS}&end={end}&limit=10000"
    began = time.perf_counter()
    content = answer(connection, "GET", path, None, {"Accept": "application/vnd.apache.arrow.stream"})
    spent = (time.perf_counter() - began) * 1000
    found = pa.ipc.open_stream(content).read_all()
    if len(found) != min(machines, 10_000) or found["p95"].null_count:
        raise RuntimeError(f"expected a row of each of {machines} machines, got {len(found)}")
    return spent


def _asked(connection: HTTPConnection, statistic: str, start: int, end: int) -> tuple[float, list[float]]:
    """How many milliseconds an answer takes, and its values."""
    path = f"/api/v1/metrics/cpuLoadAvg/fleet?start={start}&end={end}&resample_rate=15m&stat={statistic}"
    began = time.perf_counter()
    content = answer(connection, "GET", path, None, {})
    spent = (time.perf_counter() - began) * 1000
    return spent, [entry["value"] for entry in json.loads(content)["entries"]]


def _batches(machines: int, start: int, end: int) -> Iterator[bytes]:
    """The reports of all machines in order of time, one a line."""
    rng = np.random.default_rng(1)
    lines: list[bytes] = []
    for window_end in range(start + 1000, end, _STEP_MS):
        for place, mean in enumerate(rng.random(machines).tolist()):
            lines.append(
                b'{"user_id":"%s","start_timestamp":%d,"end_timestamp":%d,"observations_per_metric":%d,'
                b'"os_type":"Linux","os_version":"12","metrics":[{"type":"CPU","avg_utilization":%.17g}]}'
                % (user_name(place).encode(), window_end - 1000, window_end, _SAMPLES, mean)
            )
            if len(lines) == _BATCH:
                yield b"\n".join(lines)
                lines.clear()
    if lines:
        yield b"\n".join(lines)


if __name__ == "__main__":
    main()
