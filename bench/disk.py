"""Bytes a report takes on disk, once everything is flushed and compacted.

    .venv/bin/python bench/disk.py [--users 20] [--days 1]

Reports every 5 s of simulated hosts with four cores (bench/hosts.py), sent in order of time: as the original's
client sends them (mean and variance), and as our agent does (also minimum, maximum and histogram of the host and
of each core). InfluxDB and VictoriaMetrics get the six numbers that the original keeps of each report: neither cores
nor histograms. Counted are the blocks of the disk that files take, without logs that do not grow: the service's
journal, which is used again, and InfluxDB's, which is emptied first.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from data import ROOT
from hosts import ReplayedFleet
from month import Form, Month, MonthTarget, load
from options import Options, scratch
from output import left_out, machine, number, ratio, table
from reports import summarised
from servers import (
    STEADY_S,
    folder_bytes,
    influxd,
    installed,
    loadlens,
    loadlens_bytes,
    settle_influxd,
    settle_loadlens,
    victoria_metrics,
)

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
    parser = Options(__doc__)
    parser.size("--users", 20, tiny=1, help="hosts that report")
    parser.size("--days", 1.0, tiny=0.1, help="how long they report")
    parser.size("--processes", 2, tiny=1, help="that load reports")
    parser.size("--steady", STEADY_S, tiny=0.5, help="seconds without a change that say that InfluxDB has compacted")
    parser.size(
        "--agent", 0.0, tiny=0.0,
        help="seconds to run our agent on this machine, to print how its histograms compare",
    )  # fmt: skip
    parser.add_argument("--columns", action="store_true", help="also print what each column of the windows takes")
    parser.shared("--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    month = Month.until_today(options.users, options.days, seed=2)
    fleet = ReplayedFleet.read(options.fleet, options.users * math.ceil(options.days), seed=2)
    with scratch(options) as scratched:
        folder = Path(scratched)
        sizes = filled(folder, month, fleet, options.processes, options.steady)
        show(month, sizes)
        print(f"\nThe hosts have the {fleet.source}.")
        for name in _OURS:
            print(f"- {name}: {_inside(folder / name)}")
            if options.columns:
                print(_columns(folder / name, month))
    if options.agent:
        print(_real_agent(month, fleet, options.agent))


def filled(folder: Path, month: Month, fleet: ReplayedFleet, processes: int, steady_s: float) -> dict[str, Size | None]:
    """Load every server; what each takes in the end, None where it is not installed."""
    sizes: dict[str, Size | None] = {}
    peers = {
        name: start
        for name, start, program in (
            (_INFLUXDB, partial(influxd, eager=True), "influxd"),
            (_VICTORIA, victoria_metrics, "victoria-metrics"),
        )
        if installed(program)
    }
    with ExitStack() as stack:
        targets = [MonthTarget(stack.enter_context(loadlens(folder / name)).port, form) for name, form in _OURS.items()]
        targets += [
            MonthTarget(stack.enter_context(start(folder / name)).port, "points") for name, start in peers.items()
        ]
        load(month, fleet, folder, targets, processes)
        print("letting the stores compact ...", file=sys.stderr)
        if _INFLUXDB in peers:
            settle_influxd(folder / _INFLUXDB, steady_s)
    for name in _OURS:
        settle_loadlens(folder / name)
        parts = loadlens_bytes(folder / name)
        sizes[name] = Size(parts["raw"], parts["rollups"], parts["raw"] + parts["rollups"])
    for name, kept in ((_INFLUXDB, "data"), (_VICTORIA, ".")):
        sizes[name] = Size(None, None, folder_bytes(folder / name / kept)) if name in peers else None
    return sizes


def show(month: Month, sizes: Mapping[str, Size | None]) -> None:
    """Print a table."""

    def each(size: int | None) -> str:
        return "-" if size is None else number(size / month.reports)

    headers = ("Bytes a report", "windows", "rollups", "all", "beside InfluxDB", "MB")
    peer = sizes[_INFLUXDB]
    rows = [
        [
            name, each(size.windows), each(size.rollups), each(size.all), ratio(size.all, peer.all if peer else None),
            f"{size.all / 1e6:.1f}",
        ]
        if size
        else left_out(name, len(headers))
        for name, size in sizes.items()
    ]  # fmt: skip
    print(f"{month.reports:,} reports of {month.users} hosts with {month.cores} cores, {month.days:g} days at 5 s.\n")
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


def _real_agent(month: Month, fleet: ReplayedFleet, seconds: float) -> str:
    """How full the histograms of our agent's reports are, beside the simulated ones."""
    command = [sys.executable, "-m", "agent", "--dry-run"]
    try:
        text = subprocess.run(command, cwd=ROOT, timeout=seconds, capture_output=True, check=True).stdout
    except subprocess.TimeoutExpired as stopped:
        text = stopped.stdout or b""
    metrics = [json.loads(line)["metrics"][0] for line in text.splitlines() if line.endswith(b"}")]
    real = [len(bins) / 2 for metric in metrics for bins in metric["histogram_by_core"]]
    stretches = (summarised(month.stretch(fleet, user, 0)[0], "agent") for user in range(month.users))
    simulated = [len(bins) / 2 for windows in stretches for one in windows.histogram for bins in one[1:]]
    if not real:
        return f"The agent sent no report in {seconds} s."
    return (
        f"\nBins in use in the histogram of a core: {sum(real) / len(real):.1f} in {len(metrics)} reports of the agent "
        f"on this machine, {sum(simulated) / len(simulated):.1f} in the simulated ones."
    )


if __name__ == "__main__":
    main()
