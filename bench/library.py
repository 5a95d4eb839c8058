"""The library on a fleet of 10,000 users over 30 days at 1 h: 7.2 million rows, seconds and memory of each function.

    .venv/bin/python bench/library.py [--users N] [--days N] [--keep DIR]

The fleet is made up, with a fixed seed: each user has a level, a daily course, quieter weekends and noise; a row stands
for 720 samples in some ten bins. It is written as Parquet, a file for every thousand users. Then each function runs in
a process of its own that reads the files, on all cores. Its peak memory is that of the whole process, the frame
included; "reading alone" says what the frame takes. What a function imports at its first call is in its seconds. The
rows with Dask read the same files partition by partition.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from options import Options, scratch
from output import machine, number, table
from processes import run

import analytics
from analytics.frames.columns import Windows
from analytics.frames.exchange import schema_of, table_of
from analytics.frames.frame import to_frame
from analytics.frames.kernel import Histograms
from analytics.sources.parquet import Files

_PER_FILE = 1000
_DASK = ", with Dask"
_SAMPLES = 720
_HOUR_MS = 3_600_000
_START_MS = 1_704_067_200_000  # 2024-01-01, a Monday
_SHAPE = np.array([1, 2, 5, 12, 40, 300, 300, 40, 12, 5, 2, 1])
"""Samples in the bins around the mean, lowest first: 720 in all."""

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "reading alone": lambda frame: frame,
    "resample to a day": lambda frame: analytics.resample(frame, "1d"),
    "fleet_trend by day": lambda frame: analytics.fleet_trend(frame, "1d"),
    "fleet_trend by hour": lambda frame: analytics.fleet_trend(frame, "1h"),
    "load_duration_curve": analytics.load_duration_curve,
    "load_duration_curve, by user": lambda frame: analytics.load_duration_curve(frame, by="user"),
    "hour_of_week_profile": lambda frame: analytics.hour_of_week_profile(frame, "Europe/Berlin"),
    "saturation, by user": lambda frame: analytics.saturation(frame, 0.9),
    "compare halves": lambda halves: analytics.compare(*halves),
    "compare halves, by user": lambda halves: analytics.compare(*halves, by="user"),
    "cluster_profiles": analytics.cluster_profiles,
}
WITH_DASK = ("resample to a day", "fleet_trend by day", "load_duration_curve, by user", "hour_of_week_profile")


def main() -> None:
    """Make the fleet, measure and print a table."""
    parser = Options(__doc__)
    parser.size("--users", 10_000, tiny=20, help="hosts")
    parser.size("--days", 30, tiny=16, help="how long")
    parser.size("--per-process", 1, tiny=20, help="functions that share one, and so its peak of memory")
    parser.shared("--keep", "--folder")
    parser.add_argument("--here", nargs="+", metavar="FOLDER NAME", help=argparse.SUPPRESS)
    options = parser.parse()
    if options.here:
        folder, *names = options.here
        for name in names:
            print(_one(Path(folder), name))
        return
    print(f"{machine()}\n")
    with scratch(options) as scratched:
        folder = Path(scratched)
        if not list(folder.glob("*.parquet")):
            write(folder, options.users, options.days)
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        names = [*FUNCTIONS, *(f"{name}{_DASK}" for name in WITH_DASK)]
        parts = [names[first : first + options.per_process] for first in range(0, len(names), options.per_process)]
        rows = [row for part in parts for row in _measured(folder, part)]
    print(table((f"{options.users:,} users, {options.days} days at 1 h", "seconds", "peak MB"), rows))
    print(f"\n{options.users * options.days * 24:,} rows, {size / 1e6:,.0f} MB of Parquet.")


def write(folder: Path, users: int, days: int) -> None:
    """The fleet as Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = schema_of(users=True, cores=False, histograms=True).with_metadata({"metric": "cpuUtilization"})
    for first in range(0, users, _PER_FILE):
        names = [f"machine-{user:05}" for user in range(first, min(first + _PER_FILE, users))]
        pq.write_table(
            table_of(to_frame(_windows(len(names), days * 24, seed=first), pd.DataFrame({"user": names})), schema),
            folder / f"{first:05}.parquet", compression="zstd",
        )  # fmt: skip


def _windows(users: int, hours: int, seed: int) -> Windows:
    random = np.random.default_rng(seed)
    hour = np.arange(hours)
    peak = random.integers(0, 24, (users, 1))
    course = np.cos(2 * np.pi * (hour - peak) / 24) * random.uniform(0, 0.2, (users, 1))
    weekend = np.where((hour // 24 % 7) >= 5, 0.6, 1.0)
    level = random.beta(1.5, 5, (users, 1))
    wanted = np.clip((level + course) * weekend + random.normal(0, 0.03, (users, hours)), 0.0, 0.999).ravel()
    rows = len(wanted)
    bins = np.clip((wanted * 64).astype(np.int32)[:, None] + np.arange(len(_SHAPE)) - 6, 0, 63)
    # What would lie below 0 or above 1 gathers in the first or the last bin.
    kept = np.ones(bins.shape, bool)
    kept[:, 1:] = bins[:, 1:] != bins[:, :-1]
    group = kept.ravel().cumsum() - 1
    count = np.bincount(group, np.tile(_SHAPE, rows)).astype(np.int64)
    row, bin_ = np.repeat(np.arange(rows), len(_SHAPE))[kept.ravel()], bins.ravel()[kept.ravel()]
    value = (bin_ + 0.5) / 64
    mean = np.bincount(row, value * count) / _SAMPLES
    variance = np.maximum(np.bincount(row, value * value * count) / _SAMPLES - mean * mean, 0)
    return Windows(
        series=np.repeat(np.arange(users), hours), time=np.tile(_START_MS + hour * _HOUR_MS, users),
        count=np.full(rows, _SAMPLES), mean=mean, variance=variance,
        minimum=bins[:, 0] / 64, maximum=(bins[:, -1] + 1) / 64, approximated=np.zeros(rows, np.int64),
        histograms=Histograms(row, bin_.astype(np.int32), count),
    )  # fmt: skip


def _measured(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The rows of some functions, measured in a process of their own."""
    print(f"{'; '.join(names)} ...", file=sys.stderr)
    lines = run([sys.executable, __file__, "--here", str(folder), *names]).splitlines()
    for name, line in zip(names, lines, strict=True):
        seconds, megabytes = line.split()
        yield name, number(float(seconds)), number(float(megabytes))


def _one(folder: Path, named: str) -> str:
    """Run a function: seconds, for Dask with reading, and the peak of this process' memory in MB."""
    name, dask = named.removesuffix(_DASK), named.endswith(_DASK)
    files = Files(folder)
    given: Any
    if dask:
        given = files.dask_frame()
    elif name.startswith("compare"):
        middle = _START_MS + 14 * 24 * _HOUR_MS
        given = [files.fleet(end=middle, rate="raw", by="user"), files.fleet(start=middle, rate="raw", by="user")]
    else:
        given = files.fleet(rate="raw", by="user")
    began = time.perf_counter()
    answer = FUNCTIONS[name](given)
    if dask and hasattr(answer, "compute"):
        answer.compute()
    seconds = time.perf_counter() - began
    return f"{seconds:.2f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"


if __name__ == "__main__":
    main()
