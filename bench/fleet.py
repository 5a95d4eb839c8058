"""The mean of all hosts together at 15 minutes, over a week: how it grows with their number.

    .venv/bin/python bench/fleet.py [--machines 300 3079] [--every 30] [--beside TREE]

Each host reports a mean every half an hour (`--every`), one after the other; everything is flushed and compacted
before the fleet is asked for over HTTP, on one connection that is kept alive. Then for a row of each host, as Arrow:
its mean, p95 and change of the last day, the same again and, from one time to the next, half an hour earlier. At last
for the mean while windows wait in memory (`--waiting`): those of the last hour, and one in a hundred from anywhere in
the week, late. *First*: the first answer after all of these came. CPU is that of the service. With --beside TREE the
service of another work tree is filled as well, and the two of them are asked in turn.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pyarrow as pa
from options import Options, scratch, trees
from output import machine, number, table
from reports import user_name
from servers import Server, answer, loadlens, settle_loadlens

from contract import times
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS

_BATCH = 5000
_SAMPLES = 100
_STATISTICS = "mean", "p95"
_ROWS = {"a row each, asked again,": 0, "a row each, half an hour earlier,": 30 * MINUTE_MS}
"""By what is asked: how much earlier it ends each time."""
_LATE = 100
"""Of so many windows that wait one is late."""
_Window = tuple[int, int]
"""The number of a host, and the end of a window of it."""


def main() -> None:
    """Fill, ask and print a table."""
    parser = Options(__doc__)
    parser.data("--machines", [300, 3079], tiny=[3], type=int, nargs="+", help="how many report")
    parser.size("--days", 7, tiny=1, help="how long they report")
    parser.size("--every", 30, tiny=30, help="minutes between two reports of a host")
    parser.size("--waiting", 500_000, tiny=300, help="windows that wait in memory at last")
    parser.size("--requests", 40, tiny=2, help="for each")
    parser.shared("--beside", "--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    end = times.now_ms() // DAY_MS * DAY_MS
    rows = []
    with scratch(options) as folder:
        for hosts in options.machines:
            for (asked, name), taken in _measured(Path(folder), hosts, end, options).items():
                label = f"{asked} of {hosts:,} hosts, {name}"
                times_ms, cpu_ms = np.array(taken).T
                rows.append([label, *map(number, (np.median(times_ms), np.percentile(times_ms, 95), cpu_ms.mean()))])
    print(table((f"All hosts together, {options.days} days at 15m", "median ms", "p95 ms", "CPU ms each"), rows))


def _measured(
    folder: Path, hosts: int, end: int, options: argparse.Namespace
) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Milliseconds of each answer and of CPU for it, by what is asked and work tree."""
    start = end - options.days * DAY_MS
    settled = _settled(hosts, start, end - HOUR_MS, options.every * MINUTE_MS)
    with ExitStack() as stack:
        connections, servers = {}, {}
        for name, tree in trees(options).items():
            print(f"{name}: {hosts:,} hosts ...", file=sys.stderr)
            place = folder / f"{name}-{hosts}"
            with loadlens(place, tree=tree) as server:
                _send(server, settled)
            settle_loadlens(place, tree)
            servers[name] = stack.enter_context(loadlens(place, "--flush-interval", "3600", tree=tree))
            connections[name] = servers[name].connect()
            stack.callback(connections[name].close)
        taken: dict[tuple[str, str], list[tuple[float, float]]] = {
            (asked, name): [] for asked in (*_STATISTICS, *_ROWS) for name in connections
        }
        for connection in connections.values():
            _check(connection, start, end, len(settled))
        for turn in range(options.requests):
            for (asked, name), some in taken.items():
                used = servers[name].cpu_seconds()
                if asked in _STATISTICS:
                    spent, _ = _asked(connections[name], asked, start, end)
                else:
                    spent = _rows(connections[name], hosts, end - _ROWS[asked] * (turn + 1))
                some.append((spent, (servers[name].cpu_seconds() - used) * 1000))
        waiting = _waiting(hosts, start, end, options.waiting)
        wait = f"mean, {options.waiting:,} windows in memory,"
        for name, server in servers.items():
            _send(server, waiting)
            connections[name].close()  # nothing was asked on it for so long that the service has closed it
            taken[f"{wait} first", name] = [_costing(server, connections[name], start, end)]
            _check(connections[name], start, end, len(settled) + len(waiting))
        for _ in range(options.requests):
            for name, server in servers.items():
                taken.setdefault((wait, name), []).append(_costing(server, connections[name], start, end))
        return taken


def _costing(server: Server, connection: HTTPConnection, start: int, end: int) -> tuple[float, float]:
    """Milliseconds of an answer with the mean, and of CPU for it."""
    used = server.cpu_seconds()
    spent, _ = _asked(connection, "mean", start, end)
    return spent, (server.cpu_seconds() - used) * 1000


def _check(connection: HTTPConnection, start: int, end: int, windows: int) -> None:
    _, counts = _asked(connection, "count", start, end)
    if sum(counts) != windows * _SAMPLES:
        raise RuntimeError(f"expected {windows * _SAMPLES} samples in the answer, got {sum(counts):.0f}")


def _rows(connection: HTTPConnection, hosts: int, end: int) -> float:
    """How many milliseconds a row of each host takes, of the day before `end`."""
    path = f"/api/v1/fleet/machines?start={end - DAY_MS}&end={end}&limit=10000"
    began = time.perf_counter()
    content = answer(connection, "GET", path, None, {"Accept": "application/vnd.apache.arrow.stream"})
    spent = (time.perf_counter() - began) * 1000
    found = pa.ipc.open_stream(content).read_all()
    if len(found) != min(hosts, 10_000) or found["p95"].null_count:
        raise RuntimeError(f"expected a row of each of {hosts} hosts, got {len(found)}")
    return spent


def _asked(connection: HTTPConnection, statistic: str, start: int, end: int) -> tuple[float, list[float]]:
    """How many milliseconds an answer takes, and its values."""
    path = f"/api/v1/metrics/cpuLoadAvg/fleet?start={start}&end={end}&resample_rate=15m&stat={statistic}"
    began = time.perf_counter()
    content = answer(connection, "GET", path, None, {})
    spent = (time.perf_counter() - began) * 1000
    return spent, [entry["value"] for entry in json.loads(content)["entries"]]


def _settled(hosts: int, start: int, end: int, every_ms: int) -> list[_Window]:
    """The windows of all hosts in order of time."""
    firsts = range(start + 1000, end - every_ms + 1, every_ms)
    return [(place, first + place * every_ms // hosts) for first in firsts for place in range(hosts)]


def _waiting(hosts: int, start: int, end: int, count: int) -> list[_Window]:
    """Windows of the last hour in order of time, and among them late ones of any time before."""
    late_ms = end - HOUR_MS - start
    return [
        (turn % hosts, start + turn // _LATE * MINUTE_MS % late_ms + 777)
        if turn % _LATE == 0
        else (turn % hosts, end - HOUR_MS + turn * HOUR_MS // count)
        for turn in range(count)
    ]


def _send(server: Server, windows: Iterable[_Window]) -> None:
    for batch in _batches(windows):
        server.ask("POST", "/api/v1/metrics", batch, **{"Content-Type": "application/x-ndjson"})


def _batches(windows: Iterable[_Window]) -> Iterator[bytes]:
    """Their reports, one a line."""
    rng = np.random.default_rng(1)
    lines: list[bytes] = []
    for place, window_end in windows:
        lines.append(
            b'{"user_id":"%s","start_timestamp":%d,"end_timestamp":%d,"observations_per_metric":%d,'
            b'"os_type":"Linux","os_version":"12","metrics":[{"type":"CPU","avg_utilization":%.17g}]}'
            % (user_name(place).encode(), window_end - 1000, window_end, _SAMPLES, rng.random())
        )
        if len(lines) == _BATCH:
            yield b"\n".join(lines)
            lines.clear()
    if lines:
        yield b"\n".join(lines)


if __name__ == "__main__":
    main()
