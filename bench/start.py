"""From the start of the service until it answers, and the memory that it has then.

    .venv/bin/python bench/start.py [--beside TREE]

An empty data folder; the files of the program are in the page cache. With --beside TREE the service of another work
tree is measured as well, the two of them in turn. CPU time and memory are those of both processes; memory that they
share counts twice.
"""

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from options import Options, scratch, trees
from output import machine, number, table
from servers import loadlens


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--starts", 10, tiny=1, help="of each")
    parser.shared("--beside", "--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    with scratch(options) as folder:
        for turn in range(options.starts):
            for name, tree in trees(options).items():
                found[name].append(_started(Path(folder) / f"{name}-{turn}", tree))
    rows = [[f"the service, {name}", *map(number, np.median(starts, axis=0))] for name, starts in found.items()]
    print(table((f"Median of {options.starts} starts", "s until it answers", "CPU s", "MB"), rows))


def _started(folder: Path, tree: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and megabytes."""
    began = time.perf_counter()
    with loadlens(folder, tree=tree) as server:
        took = time.perf_counter() - began
        processes = [server.process, *server.process.children(recursive=True)]
        return took, server.cpu_seconds(), sum(one.memory_info().rss for one in processes) / 1e6


if __name__ == "__main__":
    main()
