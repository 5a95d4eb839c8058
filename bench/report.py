"""The time and the size of a report on a whole fleet: from a Parquet file, and from a running service.

    .venv/bin/python bench/report.py [--data FILE]

The fleet is that of PlanetLab, 3,079 machines on six days every five minutes, 2,035,584 windows, where it lies beside
the project; otherwise the sample of it that comes with the project. Times are those a person waits: the command from
start to end, the service's first answer (made anew) and its second (kept for a minute). The service's data end now,
without the days between.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from output import machine, number, table
from servers import ROOT, Server, loadlens

FULL = ROOT.parent / "shared" / "data" / "planetlab-fleet.parquet"
SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
Row = tuple[str, str, str]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=FULL if FULL.exists() else SAMPLE, help="(default: %(default)s)")
    parser.add_argument("--times", type=int, default=3, help="of which the median is told (default: %(default)s)")
    options = parser.parse_args()
    print(machine(), "\n")
    with tempfile.TemporaryDirectory(prefix="loadlens-bench-") as folder:
        rows = [
            commanded("command, Parquet file, HTML", ["--data", str(options.data)], Path(folder), options.times),
            *served(options.data.resolve(), Path(folder), options.times),
        ]
    print(table((f"Report on the fleet of {options.data.name}", "s", "MB"), rows))


def commanded(name: str, arguments: Sequence[str], folder: Path, times: int) -> Row:
    """How long the command takes."""
    out = folder / "report.html"
    command = [sys.executable, "-m", "analytics", "report", "fleet", *arguments, "--out", str(out)]
    took = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True)
        took.append(time.perf_counter() - began)
    return name, number(sorted(took)[times // 2]), f"{out.stat().st_size / 1e6:.2f}"


def served(data: Path, folder: Path, times: int) -> list[Row]:
    """How long a service with the fleet takes."""
    with loadlens(folder / "data") as server:
        command = [sys.executable, "-m", "service", "demo", "--url", server.url, "--data", str(data)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        asked = [*(timed(server, f"/reports/fleet?target=0.8{place}") for place in range(times))]
        took, size = sorted(asked)[times // 2]
        again, _ = timed(server, "/reports/fleet?target=0.80")
        from_service = commanded("command, running service, HTML", ["--url", server.url], folder, times)
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
