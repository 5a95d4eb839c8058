"""Bytes a report takes on disk, once everything is flushed and compacted.

    .venv/bin/python bench/disk.py [--users 20] [--days 1]

Reports every 5 s of simulated machines with four cores (bench/machines.py), sent in order of time: as the original's
client sends them (mean and variance), and as our agent does (also minimum, maximum and histogram of the machine and
of each core). InfluxDB and VictoriaMetrics get the six numbers that the original keeps of each report: neither cores
nor histograms. Counted are the blocks of the disk that files take, without logs that do not grow: the service's
journal, which is used again, and InfluxDB's, which is emptied first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from machines import FLEET, Fleet
from month import DAY_MS, Form, Month, Target, load
from output import machine, number, ratio, table
from servers import (
    ROOT,
    folder_bytes,
    influxd,
    installed,
    loadlens,
    loadlens_bytes,
    settle_influxd,
    settle_loadlens,
    victoria_metrics,
)

from contract import times

_OURS: dict[str, Form] = {
    "Loadlens, the original's report": "original",
    "Loadlens, our agent's report": "agent",
}
_INFLUXDB, _VICTORIA = "InfluxDB, the original's six fields", "VictoriaMetrics, the original's six fields"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of all reports."""

    windows: int | None
    rollups: int | None
    all: int


def main() -> None:
    """Load, settle, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20, help="machines that report (default: %(default)s)")
    parser.add_argument("--days", type=int, default=1, help="how long they report (default: %(default)s)")
    parser.add_argument("--columns", action="store_true", help="also print what each column of the windows takes")
    parser.add_argument(
        "--agent", type=float, metavar="SECONDS", default=0.0,
        help="also run our agent on this machine for so long, and print how its histograms compare",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2, help="that load reports (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where data is kept meanwhile (default: the temporary folder)")
    parser.add_argument("--fleet", type=Path, default=FLEET, metavar="FILE", help="load of real machines (Parquet)")
    options = parser.parse_args()
    print(machine(), "\n")
    midnight = times.now_ms() // DAY_MS * DAY_MS
    month = Month(options.users, options.days, cores=4, seed=2, start_ms=midnight - options.days * DAY_MS)
    fleet = Fleet.read(options.fleet, options.users * options.days, seed=2)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="loadlens-bench-") as temporary:
        folder = Path(temporary)
        sizes = filled(folder, month, fleet, options.processes)
        show(month, sizes)
        print(f"\nThe machines have the {fleet.source}.")
        for name in _OURS:
            print(f"- {name}: {_inside(folder / name)}")
            if options.columns:
                print(_columns(folder / name, month))
    if options.agent:
        print(_real_agent(month, fleet, options.agent))


def filled(folder: Path, month: Month, fleet: Fleet, processes: int) -> dict[str, Size]:
    """Load every server; what each takes in the end."""
    with ExitStack() as stack:
        targets = [Target(stack.enter_context(loadlens(folder / name)).port, form) for name, form in _OURS.items()]
        influx = victoria = None
        if installed("influxd"):
            influx = stack.enter_context(influxd(folder / _INFLUXDB, eager=True))
            influx.ask("POST", "/query?q=CREATE+DATABASE+METRICS")
            targets.append(Target(influx.port, "points"))
        if installed("victoria-metrics"):
            victoria = stack.enter_context(victoria_metrics(folder / _VICTORIA))
            targets.append(Target(victoria.port, "points"))
        load(month, fleet, folder, targets, processes)
        print("letting the stores compact ...", file=sys.stderr)
        if influx:
            settle_influxd(influx)
    sizes = {}
    for name in _OURS:
        settle_loadlens(folder / name)
        parts = loadlens_bytes(folder / name)
        sizes[name] = Size(parts["raw"], parts["rollups"], parts["raw"] + parts["rollups"])
    if influx:
        sizes[_INFLUXDB] = Size(None, None, folder_bytes(influx.folder / "data"))
    if victoria:
        sizes[_VICTORIA] = Size(None, None, folder_bytes(victoria.folder))
    return sizes


def show(month: Month, sizes: dict[str, Size]) -> None:
    """Print a table."""

    def each(size: int | None) -> str:
        return "-" if size is None else number(size / month.reports)

    peer = sizes[_INFLUXDB].all if _INFLUXDB in sizes else None
    rows = [
        (name, each(size.windows), each(size.rollups), each(size.all), ratio(size.all, peer), f"{size.all / 1e6:.1f}")
        for name, size in sizes.items()
    ]
    headers = ("Bytes a report", "windows", "rollups", "all", "beside InfluxDB", "MB")
    print(f"{month.reports:,} reports of {month.users} machines with {month.cores} cores, {month.days} days at 5 s.\n")
    print(table(headers, rows))


def _inside(folder: Path) -> str:
    """What the service's database says of itself."""
    with duckdb.connect(str(folder / "loadlens.duckdb"), read_only=True) as connection:
        _, _, block, _, used, free, *_ = connection.execute("CALL pragma_database_size()").fetchone() or (0,) * 9
        tables = connection.execute("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'rollup%'").fetchall()
        rows = {
            name: connection.execute(f"SELECT count(*), sum(octet_length(histogram)) FROM {name}").fetchone() or (0, 0)
            for (name,) in tables
        }
    files = len([*(folder / "raw").glob("*.parquet")])
    told = ", ".join(f"{name} {count:,} rows, histograms {size / 1e6:.1f} MB" for name, (count, size) in rows.items())
    return f"{files} files of windows; a database of {used} blocks of {block // 1024} KiB in use, {free} free: {told}."


def _columns(folder: Path, month: Month) -> str:
    """Bytes a report of each column of the windows' files."""
    sizes: dict[str, int] = {}
    for path in (folder / "raw").glob("*.parquet"):
        metadata = pq.read_metadata(path)
        for group in range(metadata.num_row_groups):
            for place in range(metadata.num_columns):
                column = metadata.row_group(group).column(place)
                sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    return "  columns: " + ", ".join(f"{name} {size / month.reports:.2f}" for name, size in sizes.items())


def _real_agent(month: Month, fleet: Fleet, seconds: float) -> str:
    """How full the histograms of our agent's reports are, beside the simulated ones."""
    command = [sys.executable, "-m", "agent", "--dry-run"]
    try:
        text = subprocess.run(command, cwd=ROOT, timeout=seconds, capture_output=True, check=True).stdout
    except subprocess.TimeoutExpired as stopped:
        text = stopped.stdout or b""
    metrics = [json.loads(line)["metrics"][0] for line in text.splitlines() if line.endswith(b"}")]
    real = [len(bins) / 2 for metric in metrics for bins in metric["histogram_by_core"]]
    stretches = (month.stretch(fleet, user, 0)[0] for user in range(month.users))
    simulated = [len(bins) / 2 for windows in stretches for one in windows.histogram for bins in one[1:]]
    if not real:
        return f"The agent sent no report in {seconds} s."
    return (
        f"\nBins in use in the histogram of a core: {sum(real) / len(real):.1f} in {len(metrics)} reports of the agent "
        f"on this machine, {sum(simulated) / len(simulated):.1f} in the simulated ones."
    )


if __name__ == "__main__":
    main()
