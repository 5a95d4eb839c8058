"""Every benchmark runs to its end on tiny input, and its tables have every row; one that waits in vain gives up."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from bench.__main__ import DOCUMENT, FOLDER, benchmarks

pytestmark = pytest.mark.server

ROOT = FOLDER.parent
DEADLINE_S = 420
"""Behind the deadline of a benchmark itself: it says what it waited for."""
TABLES: dict[str, list[list[str]]] = {
    "access": [
        ["look-up", "the first of a token: look-up, SHA-256 and comparison", "all that a report passes, beyond none"]
    ],
    "curves": [
        [
            *(f"A day of one host, {much}" for much in (
                "2 hosts stored", "4 hosts stored", "1 days stored", "2 days stored", "50 windows in memory",
                "100 windows in memory",
            )),
            "A report, 2 hosts that report", "A report, 4 hosts that report",
        ]
    ],
    "compare": [[*["* hosts beside *", "* with 5 points more"] * 6, "ten hosts, two weeks later (made up)"]],
    "odd_ones": [
        ["alike", "one load"],
        [f"{source}, {size} hosts" for source in ("alike", "one load") for size in (8, 20, 50)],
        ["the hosts that the threshold was chosen on", "the others"],
    ],
    "right_size": [
        [
            *(
                f"{rule}, {cores} cores" for cores in ("16", "1,000") for rule in (
                    "Loadlens", "highest daily p95", "VPA", "VPA, divided by the target", "Loadlens, its interval",
                )
            )
        ]
    ] * 3 + [["the ??th percentile of each part of the day"] * 3],
    "agent_footprint": [
        [
            "20 wake-ups a second in Python, nothing else", "loadlens-agent, 20 Hz",
            "loadlens-agent, 20 Hz, without remote control", "loadlens-agent, 20 Hz, all metrics",
            "collectd, 20 Hz, no output*", "collectd, 20 Hz, to CSV*", "loadlens-agent, 20 Hz, 500 processes",
            "loadlens-agent, 20 Hz, 500 processes, their names",
            "loadlens-agent, 20 Hz, 500 processes, command lines too", "glances, 1 Hz*",
        ]
    ],
    "who": [
        ["burner-red", "burner-green", "burner-blue"],
        [
            "loadlens-agent, 20 Hz, all metrics, names", "pidstat -u -r, 1 Hz*", "Netdata's apps.plugin, 1 Hz*",
            "the netdata that runs it, 1 Hz*",
        ],
    ],
    "importing": [["into a service", "into files"]],
    "disk": [
        [
            "Loadlens, the original's report", "Loadlens, our agent's report",
            "InfluxDB, the original's six fields*", "VictoriaMetrics, the original's six fields*",
        ]
    ],
    "forecasts": [
        ["Loadlens", "STL + ETS (statsmodels)", "seasonal naive", "MSTL (statsforecast)*"],
        [
            *(f"Alibaba, {name}: no data" for name in ("cpu", "mem", "net_in", "net_out", "disk_io")),
            *(f"NAB, {name}" for name in ("24ae8d", "53ea38", "5f5533", "825cc2", "cc0c53")),
            "?*median?*", "?*worst?*",
        ],
        [
            "each day from the days before, hourly", "the last six hours of each day, hourly",
            "second of two days, put together, hourly", "third of three days, put together, hourly",
            "third of three days, put together, 5 minutes",
        ],
        [
            *(
                f"PlanetLab, {name}"
                for name in (
                    "the idlest fifth", "the second", "the middle", "the fourth", "the busiest", "twelve",
                    "the steadiest quarter", "the most varied quarter",
                )
            ),
            "NAB, CPU, one by one", "NAB, CPU, as a fleet",
            *(
                f"made up, {name}"
                for name in (
                    "high", "low", "wandering", "heavy tails", "jumping levels", "batch jobs", "working days",
                )
            ),
            "?*mean of the groups*?",
        ],
        [
            "forecast of a day, 3,000 hosts, 30 days hourly", "forecast of a week, 3,000 hosts, 30 days hourly",
            "forecast of a week, one host, 30 days hourly", "right_size, 10,000 hosts, 30 days hourly",
        ],
    ],
    "hostile": [["that once were heavy", "of seed 1"]],
    "history": [
        [
            *(
                f"{server}: {question}{'*' if 'Influx' in server else ''}"
                for server in ("Loadlens", "Loadlens on InfluxDB")
                for question in (
                    "mean, exact", "mean, exact, to the millisecond", "95th percentile", "highest core",
                )
            ),
            "InfluxDB: mean of means*", "InfluxDB: mean of means, to the millisecond*",
            "InfluxDB: mean, exact, by subquery*",
            "VictoriaMetrics: mean of means*", "VictoriaMetrics: mean of means, from its cache*",
        ]
    ],
    "fleet": [
        [
            "mean of 3 hosts, now", "p95 of 3 hosts, now", "a row each, asked again, of 3 hosts, now",
            "a row each, half an hour earlier, of 3 hosts, now",
            "mean, 300 windows in memory, first of 3 hosts, now", "mean, 300 windows in memory, of 3 hosts, now",
        ]
    ],
    "memory": [
        [
            "started, now", "loaded, now", "the page's fleet view, 24 h and 7 days, now", "a fleet report, now",
            "at rest, now",
        ]
    ],
    "in_memory": [["50 windows in memory, now", "500 windows in memory, now"]],
    "late": [
        [
            "the newest of each host, now", "sent twice, in memory, now", "backfilled, older than all, now",
            "sent twice, on disk, now", "late, between those on disk, now",
        ]
    ],
    "ingest": [
        [
            "Loadlens, the original's report (* bytes)", "Loadlens, our agent's report (* bytes)",
            "Loadlens on InfluxDB, the original's report (* bytes)*",
            "Loadlens on InfluxDB, our agent's report (* bytes)*",
            "InfluxDB, the original's point (* bytes)*", "HTTP layer alone, the original's report, nothing kept",
        ]
    ],
    "sustained": [["Loadlens", "Loadlens on InfluxDB*"]],
    "injected": [
        [
            f"{detector}, {source}" for detector in ("Loadlens", "windowed Gaussian")
            for source in ("made up", "PlanetLab", "Alibaba: no data")
        ],
        ["Loadlens: no data", "varies less than before: no data"],
    ],
    "library": [
        [
            "reading alone", "resample to a day", "fleet_trend by day", "fleet_trend by hour", "load_duration_curve",
            "load_duration_curve, by user", "hour_of_week_profile", "saturation, by user", "compare halves",
            "compare halves, by user", "cluster_profiles", "resample to a day, with Dask",
            "fleet_trend by day, with Dask", "load_duration_curve, by user, with Dask",
            "hour_of_week_profile, with Dask",
        ]
    ],
    "load": [
        [
            "Loadlens, mean alone, as in the demo", "Loadlens, the original's report", "Loadlens, our agent's report",
            "InfluxDB, the original's points*", "VictoriaMetrics, the original's points*",
        ]
    ],
    "nab": [
        ["Loadlens, cross-validated", "Loadlens, as it is", *["*"] * 11],
        ["without realAWSCloudwatch", "without nothing"],
        [
            "*", "*", "*", "*", "*", "*", "null detector",
        ],
        ["ec2_cpu_utilization_24ae8d", "ec2_cpu_utilization_53ea38", "all"],
        ["as it is", *["* instead of *"] * 17],
        [*["the first * points left out"] * 5, *["noise added, seed ?"] * 3],
    ],
    "page": [["20*"]],
    "profiles": [
        [
            "files: DuckDB and Parquet*", "journal*", "DataFrames: pandas and numpy*", "store, windows in memory*",
            "decoding and checking*", "stream and rules*", "access, routes, answers*", "falcon*",
            "HTTP: uvicorn and httptools*", "event loop and sockets*", "other*",
        ]
    ],
    "export": [["loadlens-analytics report fleet"]],
    "report": [
        [
            "command, Parquet file, HTML", "command, running service, HTML", "service, GET /reports/fleet",
            "service, the same within a minute",
        ]
    ],
    "steering": [
        [
            "service's memory with all agents known, none listening, MB", "memory of each stream, KB",
            "streams opened each second", "CPU for heartbeats alone, % of a core",
            *["fleet's rate changed: half, 99 %, all have heard after, s"] * 3,
            "a real agent has it in force after: half, all of 2, s",
        ]
    ],
    "simulate": [
        [
            "10,000 agents, as it is", "25,000 agents, as it is", "35,000 agents, as it is", "50,000 agents, as it is",
            "50,000 agents, two writers", "80,000 agents, four writers, two groups",
            "1,000,000 agents, 64 writers, 64 groups",
        ]
    ],
    "agents": [["50 agents, now"]],
    "start": [["the service, now"]],
    "stream": [
        [
            "Nobody follows, no rules", "10 threshold rules", "1 consumer of everything",
            "20 consumers, each of one user", "20 consumers, all of the hottest hosts",
            "20 consumers, each of one user, and 10 rules",
        ],
        [
            "threshold on the mean of a window", "threshold on the p95 of a window", "threshold on the mean over 5 min",
            "threshold on the p95 over 5 min", "change in 5 min", "absence", "share of the fleet",
            "anomaly, every 5 min",
        ],
    ],
    "windows": [
        [
            "every window, with histograms", "every window, without histograms", "at 1 min, with histograms",
            "at 15 min, with histograms",
        ],
        ["alone", "while the month is asked for"],
    ],
}  # fmt: skip
"""The first cell of each row of each table that a benchmark prints; `*` where a peer may be missing."""


@contextmanager
def started(name: str, *options: str) -> "Iterator[subprocess.Popen[str]]":
    """A benchmark as a process; it and what it has started are gone afterwards, whatever happens."""
    with subprocess.Popen(
        [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", *options],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def tables(text: str) -> list[list[list[str]]]:
    """The cells of each row of each Markdown table, without its header."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()]
        assert all(len(row) == len(rows[0]) for row in rows), block
        found.append(rows[2:])
    return found


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_fills_every_row_of_its_tables(name: str) -> None:
    if name in ("ingest", "late") and not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    assert name in TABLES, f"{name} is new: say in TABLES which rows its tables have"
    with started(name) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    printed = tables(output)
    assert len(printed) == len(TABLES[name]), output
    for rows, expected in zip(printed, TABLES[name], strict=True):
        assert len(rows) == len(expected), f"expected {expected}, got {[row[0] for row in rows]}"
        for (first, *cells), label in zip(rows, expected, strict=True):
            assert fnmatchcase(first, label), f"expected {label}, got {first}"
            is_left_out = first.endswith((": not installed", ": no data"))
            assert not {"", "nan", "inf", "none", "nat"} & {cell.lower().rstrip("%") for cell in cells}, (first, cells)
            assert is_left_out == all(cell == "-" for cell in cells), (first, cells)


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_has_its_place_in_the_document(name: str) -> None:
    document = DOCUMENT.read_text()
    assert f"<!-- begin {name} -->" in document
    assert f"<!-- end {name} -->" in document
    assert f"    .venv/bin/python bench/{name}.py" in document


def test_each_program_in_the_folder_is_a_benchmark_or_part_of_one() -> None:
    assert set(benchmarks()) == set(TABLES)


def test_a_benchmark_gives_up_at_its_deadline_and_says_what_it_had_started() -> None:
    with started("steering", "--quiet", "1000", "--deadline", "4") as process:
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "TimeoutError: gave up after 4 s" in errors
    assert "service" in errors


SERVER = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from processes import running, wait_until
with running([sys.executable, "-c", {program!r}], Path({log!r})) as program:
    program.wait_until(lambda: False, 60, "the impossible")
"""


def test_a_server_that_ends_early_is_told_at_once_with_its_output(tmp_path: Path) -> None:
    ended = "import sys; sys.exit('no port is free')"
    code = SERVER.format(folder=str(FOLDER), program=ended, log=str(tmp_path / "log"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "ended early, with exit code 1" in done.stderr
    assert "no port is free" in done.stderr
