"""From the start of the service until it answers, the memory that it has then, and what comes in its first seconds.

    .venv/bin/python bench/start.py [--beside TREE]

An empty data folder; the files of the program are in the page cache. With --beside TREE the service of another work
tree is measured as well, the two of them in turn. CPU time and memory are those of both processes; memory that they
share counts twice. Then one report comes each 10 ms for five seconds, while the service imports what questions need: a
report's time is from when it was due. In a start of its own a question is asked at once.
"""

import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from options import Options, scratch, trees
from output import machine, number, table
from servers import Server, answer, loadlens

_EVERY_S, _FOR_S = 0.01, 5.0


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--starts", 10, tiny=1, help="of each")
    parser.shared("--beside", "--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    with scratch(options) as folder:
        for turn in range(options.starts):
            for name, tree in trees(options).items():
                place = Path(folder) / f"{name}-{turn}"
                found[name].append((*_started(place, tree), _asked_at_once(place, tree)))
    rows = [[f"the service, {name}", *map(number, np.median(starts, axis=0))] for name, starts in found.items()]
    head = f"Median of {options.starts} starts", "s until it answers", "CPU s", "MB"
    print(table((*head, "report p50 ms", "p99 ms", "longest ms", "MB then", "s until a question is answered"), rows))


def _started(folder: Path, tree: Path) -> tuple[float, ...]:
    """Seconds, CPU seconds and megabytes; how long reports took then, in ms, and megabytes afterwards."""
    began = time.perf_counter()
    with loadlens(folder, tree=tree) as server:
        took = time.perf_counter() - began
        cpu_s, memory = server.cpu_seconds(), _megabytes(server)
        waits = _reported(server)
        return took, cpu_s, memory, *np.percentile(waits, (50, 99, 100)).tolist(), _megabytes(server)


def _megabytes(server: Server) -> float:
    processes = [server.process, *server.process.children(recursive=True)]
    return sum(one.memory_info().rss for one in processes) / 1e6


def _reported(server: Server) -> list[float]:
    now_ms = time.time_ns() // 1_000_000
    first = time.perf_counter()
    waits = []
    with closing(server.connect()) as connection:
        for turn in range(int(_FOR_S / _EVERY_S)):
            due = first + turn * _EVERY_S
            time.sleep(max(0.0, due - time.perf_counter()))
            report = {
                "user_id": "one", "start_timestamp": now_ms + turn - 5000, "end_timestamp": now_ms + turn,
                "observations_per_metric": 100, "os_type": "Linux", "os_version": "12",
                "metrics": [{"type": "CPU", "avg_utilization": 0.5, "avg_utilization_by_core": [0.5]}],
            }  # fmt: skip
            body = msgspec.json.encode(report)
            answer(connection, "POST", "/api/v1/metrics", body, {"Content-Type": "application/json"})
            waits.append(1000 * (time.perf_counter() - due))
    return waits


def _asked_at_once(folder: Path, tree: Path) -> float:
    """Seconds from the start to an answer."""
    began = time.perf_counter()
    with loadlens(folder, tree=tree) as server:
        server.ask("GET", "/api/v1/metrics/cpuLoadAvg/byUser/one?start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z")
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
