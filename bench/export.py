"""The fleet report of an export: 10,000 hosts over 30 days at 1 h, 7.2 million rows in 240 Parquet files.

    .venv/bin/python bench/export.py [--users N] [--days N] [--keep DIR]

The files are laid out as `loadlens-service export --rate 1h` writes them, a folder a day and eight files in it, by the
CRC-32 of the host's name; their windows are those of `bench/library.py`. *Seconds* are those a person waits for
`loadlens-analytics report fleet --data DIR`, *CPU* is user and system time of that process, *peak MB* its memory.
"""

import resource
import sys
import time
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from library import _PER_FILE, _START_MS, _windows
from options import Options, scratch
from output import machine, number, table
from processes import run

from analytics.frames.exchange import schema_of, table_of
from analytics.frames.frame import to_frame
from contract.times import DAY_MS

_PARTS = 8


def main() -> None:
    """Make the export, report on it and print a table."""
    parser = Options(__doc__)
    parser.size("--users", 10_000, tiny=20, help="hosts")
    parser.size("--days", 30, tiny=16, help="how long")
    parser.size("--times", 3, tiny=1, help="of which the median is shown")
    parser.shared("--keep", "--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    with scratch(options) as scratched:
        folder = Path(scratched) / "export"
        if not folder.exists():
            write(folder, options.users, options.days)
        files = [*folder.rglob("*.parquet")]
        measured = sorted(_report(folder, Path(scratched) / "report.html") for _ in range(options.times))
        seconds, cpu = measured[options.times // 2]
        size = sum(path.stat().st_size for path in files)
        row = (
            "loadlens-analytics report fleet", number(seconds), number(cpu),
            number(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        )  # fmt: skip
    print(table((f"{options.users:,} hosts, {options.days} days at 1 h", "seconds", "CPU s", "peak MB"), [row]))
    print(f"\n{options.users * options.days * 24:,} rows, {len(files)} files, {size / 1e6:,.0f} MB of Parquet.")


def write(folder: Path, users: int, days: int) -> None:
    """The fleet as an export has it."""
    schema = schema_of(users=True, cores=False, histograms=True).with_metadata({"metric": "cpuUtilization"})
    found: dict[Path, list[pa.Table]] = defaultdict(list)
    for first in range(0, users, _PER_FILE):
        names = [f"machine-{user:05}" for user in range(first, min(first + _PER_FILE, users))]
        frame = to_frame(_windows(len(names), days * 24, seed=first), pd.DataFrame({"user": names}))
        rows = table_of(frame, schema)
        place = np.arange(len(frame)).reshape(len(names), days, 24)
        part_of = np.array([zlib.crc32(name.encode()) % _PARTS for name in names])
        for day in range(days):
            for part in np.unique(part_of):
                path = folder / "cpuUtilization" / f"day={_date(day)}" / f"part-{part:03}.parquet"
                # As the service answers them: hour after hour.
                found[path].append(rows.take(pa.array(place[part_of == part, day].T.ravel())))
    for path, tables in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.concat_tables(tables).unify_dictionaries(), path, compression="zstd")


def _date(day: int) -> str:
    return str(pd.Timestamp(_START_MS + day * DAY_MS, unit="ms").date())


def _report(folder: Path, out: Path) -> tuple[float, float]:
    """How long a report takes, in seconds, and in CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run([sys.executable, "-m", "analytics", "report", "fleet", "--data", str(folder), "--out", str(out)])
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
