"""One user's month of 5 s windows as a DataFrame, and what that does to reports that come in meanwhile.

    .venv/bin/python bench/windows.py [--days N] [--keep DIR]

518,400 reports of a machine with four cores are loaded into our service, which is then started again and asked by
`analytics.connect(...).history(...)`: until the DataFrame is there. Loading takes a minute: --keep DIR keeps the folder
and uses it again. Afterwards reports are sent one by one on one connection, once alone, and once while the month is
asked for over and over.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from machines import FLEET, Fleet, samples
from month import DAY_MS, Month, Target, load
from output import machine, number, table
from reports import bodies, summarised, user_name
from servers import Server, answer, loadlens, settle_loadlens

import analytics
from contract import times

_TIMES = 15
_SECONDS = 8.0
QUESTIONS: dict[str, dict[str, Any]] = {
    "every window, with histograms": {"rate": "raw"},
    "every window, without histograms": {"rate": "raw", "histograms": False},
    "at 1 min, with histograms": {"rate": "1m"},
    "at 15 min, with histograms": {"rate": "15m"},
}


def main() -> None:
    """Load, measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30, help="how long the machine reports (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what is loaded, and use it if it is there")
    parser.add_argument("--fleet", type=Path, default=FLEET, metavar="FILE", help="load of real machines (Parquet)")
    options = parser.parse_args()
    print(machine(), "\n")
    with tempfile.TemporaryDirectory(prefix="loadlens-bench-") as temporary:
        folder = (options.keep or Path(temporary)).resolve()
        fleet = Fleet.read(options.fleet, 40, seed=1)
        month = _prepared(folder, options.days, fleet)
        with loadlens(folder / "Loadlens") as server:
            rows = [_asked(server, month, name, question) for name, question in QUESTIONS.items()]
            print(table((f"{options.days} days of one user", "windows", "median ms", "p95 ms"), rows), "\n")
            alone, beside = _ingest(server, fleet, None), _ingest(server, fleet, month)
    print(
        table(
            ("Single reports meanwhile", "median ms", "p99 ms", "slowest ms"),
            [_told("alone", alone), _told("while the month is asked for", beside)],
        )
    )


def _prepared(folder: Path, days: int, fleet: Fleet) -> Month:
    listed = folder / "windows.json"
    if listed.exists():
        return msgspec.json.decode(listed.read_bytes(), type=Month)
    folder.mkdir(parents=True, exist_ok=True)
    start_ms = times.now_ms() // DAY_MS * DAY_MS - days * DAY_MS
    month = Month(users=1, days=days, cores=4, seed=1, start_ms=start_ms)
    with loadlens(folder / "Loadlens") as server:
        load(month, fleet, folder, [Target(server.port, "agent")], 1)
    settle_loadlens(folder / "Loadlens")
    listed.write_bytes(msgspec.json.encode(month))
    return month


def _question(server: Server, month: Month, question: dict[str, Any]) -> int:
    """Ask for the month; returns the number of windows."""
    with analytics.connect(f"http://127.0.0.1:{server.port}") as service:
        return len(service.history(user_name(0), start=month.start_ms, end=month.end_ms, **question))


def _asked(server: Server, month: Month, name: str, question: dict[str, Any]) -> tuple[str, ...]:
    print(f"{name} ...", file=sys.stderr)
    windows = _question(server, month, question)
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        _question(server, month, question)
        times.append(1000 * (time.perf_counter() - began))
    return name, f"{windows:,}", number(float(np.median(times))), number(float(np.percentile(times, 95)))


def _ingest(server: Server, fleet: Fleet, month: Month | None) -> np.ndarray:
    """Milliseconds of each report, sent one after the other; with a month, that is asked for meanwhile."""
    print(f"reports {'alone' if month is None else 'beside questions'} ...", file=sys.stderr)
    ended = threading.Event()

    def ask() -> None:
        while month is not None and not ended.is_set():
            _question(server, month, QUESTIONS["every window, with histograms"])

    asking = threading.Thread(target=ask)
    asking.start()
    rng = np.random.default_rng(3)
    windows = summarised(samples(fleet.at(0, 0, 64), 4, rng))
    texts = [
        *bodies(
            windows,
            "meanwhile" if month else "alone",
            range(1_700_000_000_000, 1_700_000_000_000 + 64 * 5000, 5000),
            "agent",
        )
    ]
    times = []
    with closing(server.connect()) as connection:
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            began = time.perf_counter()
            answer(
                connection,
                "POST",
                "/api/v1/metrics",
                texts[len(times) % len(texts)],
                {"Content-Type": "application/json"},
            )
            times.append(1000 * (time.perf_counter() - began))
            # Every 5 ms, as 1,000 machines send: a full queue would measure itself.
            time.sleep(0.005)
    ended.set()
    asking.join()
    return np.array(times)


def _told(name: str, times: np.ndarray) -> tuple[str, ...]:
    return name, number(float(np.median(times))), number(float(np.percentile(times, 99))), number(float(times.max()))


if __name__ == "__main__":
    main()
