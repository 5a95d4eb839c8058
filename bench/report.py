"""The time and the size of a report on a whole fleet: from a Parquet file, and from a running service.

    .venv/bin/python bench/report.py [--data FILE]

The fleet is that of PlanetLab, 3,079 hosts on six days every five minutes, 2,035,584 windows, where it lies beside
the project; otherwise the sample of it that comes with the project. Times are those a person waits: the command from
start to end, the service's first answer (made anew) and its second (kept for a minute). The service's data end now,
without the days between.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from data import FLEET, SAMPLE
from options import Options, scratch
from output import machine, number, table
from processes import run
from servers import Server, loadlens

Row = tuple[str, str, str]


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.data("--data", FLEET if FLEET.exists() else SAMPLE, tiny=SAMPLE, type=Path, help="the fleet")
    parser.size("--hosts", 0, tiny=6, help="of the fleet, the first so many; 0: all")
    parser.size("--times", 3, tiny=1, help="of which the median is shown")
    parser.shared("--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    with scratch(options) as folder:
        data = some(options.data.resolve(), options.hosts, Path(folder))
        rows = [
            command("command, Parquet file, HTML", ["--data", str(data)], Path(folder), options.times),
            *served(data, Path(folder), options.times),
        ]
    print(table((f"Report on the fleet of {options.data.name}", "s", "MB"), rows))


def some(data: Path, hosts: int, folder: Path) -> Path:
    """The file of a fleet, or one of its first hosts alone."""
    if not hosts:
        return data
    frame = pd.read_parquet(data)
    first = frame["user_id"].drop_duplicates()[:hosts]
    frame[frame["user_id"].isin(first)].to_parquet(folder / data.name)
    return folder / data.name


def command(name: str, arguments: Sequence[str], folder: Path, times: int) -> Row:
    """How long the command takes."""
    out = folder / "report.html"
    took = []
    for _ in range(times):
        began = time.perf_counter()
        run([sys.executable, "-m", "analytics", "report", "fleet", *arguments, "--out", str(out)])
        took.append(time.perf_counter() - began)
    return name, number(sorted(took)[times // 2]), f"{out.stat().st_size / 1e6:.2f}"


def served(data: Path, folder: Path, times: int) -> list[Row]:
    """How long a service with the fleet takes."""
    with loadlens(folder / "data") as server:
        run([sys.executable, "-m", "service", "demo", "--url", server.url, "--data", str(data)])
        # Each asks for another target: what was asked for before is kept.
        asked = [timed(server, f"/reports/fleet?target=0.8{place}") for place in range(times)]
        took, size = sorted(asked)[times // 2]
        again, _ = timed(server, "/reports/fleet?target=0.80")
        from_service = command("command, running service, HTML", ["--url", server.url], folder, times)
    return [
        from_service,
        ("service, GET /reports/fleet", number(took), f"{size / 1e6:.2f}"),
        ("service, the same within a minute", f"{again:.3f}", f"{size / 1e6:.2f}"),
    ]


def timed(server: Server, path: str) -> tuple[float, int]:
    """How long an answer takes, and its bytes."""
    began = time.perf_counter()
    content = server.ask("GET", path)
    return time.perf_counter() - began, len(content)


if __name__ == "__main__":
    main()
