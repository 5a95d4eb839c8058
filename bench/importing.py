"""Importing two million rows of CSV into a service on the same host, and into files.

    .venv/bin/python bench/importing.py [--hosts 1000] [--rows 2000]

The file is what a spreadsheet of a monitoring tool is: a moment, a host, and the utilization in percent, a row a minute
for each host. `loadlens-analytics import` reads it, guesses its columns, and writes; a service has every row when the
command ends. Aim: under 60 s into a service.
"""

import sys
import time
from pathlib import Path

import numpy as np
from options import Options, scratch
from output import machine, number, table
from processes import run
from servers import loadlens

_START_MS = 1_767_225_600_000  # 2026-01-01
_MINUTE_MS = 60_000


def write(path: Path, hosts: int, rows: int) -> None:
    """The file: `rows` for each of `hosts`, in the order of their moments."""
    random = np.random.default_rng(1)
    moments = np.datetime_as_string(
        (_START_MS + _MINUTE_MS * np.arange(rows)).astype("datetime64[ms]").astype("datetime64[s]")
    )
    names = [f"machine-{host:05}" for host in range(hosts)]
    with path.open("w") as file:
        file.write("time,host,cpu_percent\n")
        for moment in moments:
            values = np.round(100 * random.beta(1.5, 5, hosts), 2).tolist()
            file.writelines(f"{moment}Z,{name},{value}\n" for name, value in zip(names, values, strict=True))


def seconds_of(file: Path, target: str) -> float:
    """How long the command takes."""
    began = time.perf_counter()
    run([sys.executable, "-m", "analytics", "import", str(file), "--to", target, "--yes"])
    return time.perf_counter() - began


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--hosts", 1000, tiny=3, help="hosts in the file")
    parser.size("--rows", 2000, tiny=20, help="rows of each")
    parser.shared("--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    total = options.hosts * options.rows
    with scratch(options) as scratched:
        folder = Path(scratched)
        file = folder / "load.csv"
        write(file, options.hosts, options.rows)
        rows = []
        with loadlens(folder / "service") as server:
            took = seconds_of(file, server.url)
            taken = int(server.metrics()["loadlens_reports_accepted_total"])
            if taken != total:
                raise RuntimeError(f"expected {total} windows in the service, got {taken}")
            rows.append(["into a service", number(took), f"{total / took:,.0f}"])
        took = seconds_of(file, str(folder / "fleet"))
        rows.append(["into files", number(took), f"{total / took:,.0f}"])
        size = file.stat().st_size
    print(table([f"{total:,} rows of CSV, {size / 1e6:,.0f} MB", "seconds", "rows a second"], rows))


if __name__ == "__main__":
    main()
