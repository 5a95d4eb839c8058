"""One user's month of 5 s windows as a DataFrame, and what that does to reports that come in meanwhile.

    .venv/bin/python bench/windows.py [--days N] [--keep DIR]

518,400 reports of a host with four cores are loaded into our service, which is then started again and asked by
`analytics.connect(...).history(...)`: until the DataFrame is there. Loading takes a minute: --keep DIR keeps the folder
and uses it again. Afterwards reports are sent one by one on one connection, once alone, and once while the month is
asked for over and over.
"""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hosts import WINDOW_MS, ReplayedFleet, samples
from month import Month, MonthTarget, load
from options import Options, scratch
from output import machine, number, table
from reports import bodies, summarised, user_name
from servers import Server, answer, loadlens, settle_loadlens

import analytics
from contract import times
from contract.times import DAY_MS

_EVERY_S = 0.005
"""As 1,000 hosts send: a full queue would measure itself."""
_VARIETY = 64
QUESTIONS: dict[str, dict[str, Any]] = {
    "every window, with histograms": {"rate": "raw"},
    "every window, without histograms": {"rate": "raw", "histograms": False},
    "at 1 min, with histograms": {"rate": "1m"},
    "at 15 min, with histograms": {"rate": "15m"},
}


def main() -> None:
    """Load, measure and print two tables."""
    parser = Options(__doc__)
    parser.size("--days", 30.0, tiny=0.1, help="how long the host reports")
    parser.size("--times", 15, tiny=2, help="how often each question is asked")
    parser.size("--seconds", 8.0, tiny=0.2, help="how long single reports are sent, alone and beside questions")
    parser.shared("--keep", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    with scratch(options) as scratched:
        folder = Path(scratched)
        fleet = ReplayedFleet.read(options.fleet, 40, seed=1)
        month = _prepared(folder, options.days, fleet)
        with loadlens(folder / "Loadlens") as server:
            rows = [_asked(server, month, name, question, options.times) for name, question in QUESTIONS.items()]
            headers = (f"{options.days:g} days of one user", "windows", "median ms", "p95 ms")
            print(f"{table(headers, rows)}\n")
            alone = _ingest(server, fleet, "alone", options.seconds)
            with _asking(server, month):
                meanwhile = _ingest(server, fleet, "meanwhile", options.seconds)
    print(
        table(
            ("Single reports meanwhile", "median ms", "p99 ms", "slowest ms"),
            [_row("alone", alone), _row("while the month is asked for", meanwhile)],
        )
    )


def _prepared(folder: Path, days: float, fleet: ReplayedFleet) -> Month:
    listed = folder / "windows.json"
    if listed.exists():
        return msgspec.json.decode(listed.read_bytes(), type=Month)
    folder.mkdir(parents=True, exist_ok=True)
    month = Month.until_today(users=1, days=days, seed=1)
    with loadlens(folder / "Loadlens") as server:
        load(month, fleet, folder, [MonthTarget(server.port, "agent")], 1)
    settle_loadlens(folder / "Loadlens")
    listed.write_bytes(msgspec.json.encode(month))
    return month


def _question(server: Server, month: Month, question: dict[str, Any]) -> int:
    """Ask for the month; returns the number of windows."""
    with analytics.connect(f"http://127.0.0.1:{server.port}") as service:
        return len(service.history(user_name(0), start=month.start_ms, end=month.end_ms, **question))


def _asked(server: Server, month: Month, name: str, question: dict[str, Any], count: int) -> tuple[str, ...]:
    print(f"{name} ...", file=sys.stderr)
    windows = _question(server, month, question)
    times = []
    for _ in range(count):
        began = time.perf_counter()
        _question(server, month, question)
        times.append(1000 * (time.perf_counter() - began))
    return name, f"{windows:,}", number(float(np.median(times))), number(float(np.percentile(times, 95)))


@contextmanager
def _asking(server: Server, month: Month) -> Iterator[None]:
    """Ask for the month over and over, on a thread of its own. Raises what asking raises."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            _question(server, month, QUESTIONS["every window, with histograms"])

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield
        finally:
            ended.set()
        asking.result()


def _ingest(server: Server, fleet: ReplayedFleet, user: str, seconds: float) -> np.ndarray:
    """Milliseconds of each report, sent one after the other; each is new, so each is synced to disk."""
    print(f"single reports, {user} ...", file=sys.stderr)
    windows = summarised(samples(fleet.at(0, 0, _VARIETY), 4, np.random.default_rng(3)), "agent")
    end_ms = times.now_ms() - DAY_MS
    took: list[float] = []
    with closing(server.connect()) as connection:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            turn, place = divmod(len(took), _VARIETY)
            first = end_ms + turn * _VARIETY * WINDOW_MS
            if place == 0:
                texts = [*bodies(windows, user, range(first, first + _VARIETY * WINDOW_MS, WINDOW_MS), "agent")]
            began = time.perf_counter()
            said = answer(connection, "POST", "/api/v1/metrics", texts[place], {"Content-Type": "application/json"})
            took.append(1000 * (time.perf_counter() - began))
            if msgspec.json.decode(said)["accepted"] != 1:
                raise RuntimeError(f"expected one accepted report, got {said.decode()}")
            time.sleep(_EVERY_S)
    return np.array(took)


def _row(name: str, times: np.ndarray) -> tuple[str, ...]:
    return name, number(float(np.median(times))), number(float(np.percentile(times, 99))), number(float(times.max()))


if __name__ == "__main__":
    main()
