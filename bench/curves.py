"""What an answer and a report cost, as what is stored grows: four curves, and their picture.

    .venv/bin/python bench/curves.py [--picture docs/pictures/cost-curves.svg]

The question is always the same: one host's last day at 15 minutes over HTTP, on one connection that is kept alive.
It is asked while more hosts are stored, while more days of each are, and while more windows wait in memory. Then
reports of ever more hosts come in, a thousand to a request. What is told is the CPU time of the service, which a
busy machine falsifies less than the time that passes.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from data import ROOT
from hosts import WINDOW_MS
from load import varied
from options import Options, scratch
from output import machine, number, table
from reports import ReportedWindows, Shape, bodies, ndjson, user_name
from servers import Server, answer, loadlens, settle_loadlens

from contract import times
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS

_STEP_MS = 15 * MINUTE_MS
_BATCH = 1000
_NDJSON = "application/x-ndjson"
_SERIES = 5
_WIDTH, _HEIGHT, _PANEL, _MARGIN = 760, 560, 290, 26


class Curve(NamedTuple):
    """CPU time by how much there is."""

    title: str
    against: str
    unit: str
    points: list[tuple[float, float]]


def main() -> None:
    """Measure, print a table and draw the picture where it is asked for."""
    parser = Options(__doc__)
    parser.data("--hosts", [10, 100, 1000, 10_000], tiny=[2, 4], type=int, nargs="+", help="hosts stored")
    parser.data("--days", [1, 7, 30, 90], tiny=[1, 2], type=int, nargs="+", help="days stored of each of ten hosts")
    parser.data("--fill", [1000, 10_000, 100_000, 500_000], tiny=[50, 100], type=int, nargs="+",
                help="windows in memory")  # fmt: skip
    parser.data("--reporting", [10, 100, 1000, 10_000, 50_000], tiny=[2, 4], type=int, nargs="+",
                help="hosts that report")  # fmt: skip
    parser.size("--reports", 100_000, tiny=20, help="of each number of hosts that report")
    parser.size("--requests", 200, tiny=2, help="for each point of a curve")
    parser.data("--picture", None, tiny=None, type=Path, metavar="FILE", help="where to draw the curves, as SVG")
    parser.shared("--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    windows = varied(options.fleet)
    with scratch(options) as folder:
        curves = list(_curves(Path(folder), windows, options))
    rows = [
        [f"{curve.title}, {size:,.0f} {curve.against}", f"{number(cost)} {curve.unit}"]
        for curve in curves
        for size, cost in curve.points
    ]
    print(table(("What is done, and how much there is", "CPU each"), rows))
    if options.picture:
        options.picture.write_text(drawn(curves))


def _curves(folder: Path, windows: list[ReportedWindows], options: argparse.Namespace) -> Iterator[Curve]:
    stored = [(hosts, _stored(folder / f"hosts-{hosts}", windows, hosts, 1, options)) for hosts in options.hosts]
    yield Curve("A day of one host", "hosts stored", "ms", stored)
    hosts = min(10, max(options.hosts))
    stored = [(days, _stored(folder / f"days-{days}", windows, hosts, days, options)) for days in options.days]
    yield Curve("A day of one host", "days stored", "ms", stored)
    yield Curve("A day of one host", "windows in memory", "ms", list(_in_memory(folder / "memory", windows, options)))
    taken = [(count, _taken(folder / f"taken-{count}", windows, count, options)) for count in options.reporting]
    yield Curve("A report", "hosts that report", "us", taken)


def _stored(folder: Path, windows: list[ReportedWindows], hosts: int, days: int, options: argparse.Namespace) -> float:
    """Milliseconds of an answer where so many hosts have so many days on disk."""
    print(f"{hosts:,} hosts, {days} days ...", file=sys.stderr)
    end = times.now_ms() // HOUR_MS * HOUR_MS
    stored_on(folder, windows, hosts, days, end)
    with loadlens(folder) as server, closing(server.connect()) as connection:
        return _asked(server, connection, hosts, end, options.requests)


def stored_on(
    folder: Path,
    windows: list[ReportedWindows],
    hosts: int,
    days: int,
    end: int,
    *,
    shape: Shape = "agent",
    tree: Path = ROOT,
) -> None:
    """Fill the folder of a service with days of hosts, until `end` in epoch ms, all of it on disk and compacted."""
    with loadlens(folder, tree=tree) as server, closing(server.connect()) as connection:
        for batch in _batches(
            windows, hosts, end - days * DAY_MS + _STEP_MS, days * DAY_MS // _STEP_MS * hosts, shape=shape
        ):
            answer(connection, "POST", "/api/v1/metrics", batch, {"Content-Type": _NDJSON})
    settle_loadlens(folder, tree)


def _in_memory(
    folder: Path, windows: list[ReportedWindows], options: argparse.Namespace
) -> Iterator[tuple[float, float]]:
    end = times.now_ms() // HOUR_MS * HOUR_MS
    hosts = max(2, min(1000, min(options.fill) // _SERIES))
    reports = max(options.fill) // _SERIES
    step = DAY_MS // -(-reports // hosts) // WINDOW_MS * WINDOW_MS
    batches = _batches(windows, hosts, end - DAY_MS + step, reports, min(_BATCH, min(options.fill) // _SERIES), step)
    with loadlens(folder, "--flush-interval", "3600") as server, closing(server.connect()) as connection:
        there = 0
        for batch in batches:
            answer(connection, "POST", "/api/v1/metrics", batch, {"Content-Type": _NDJSON})
            there += (batch.count(b"\n") + 1) * _SERIES
            if there in options.fill:
                print(f"{there:,} windows in memory ...", file=sys.stderr)
                yield there, _asked(server, connection, hosts, end, options.requests)


def _taken(folder: Path, windows: list[ReportedWindows], hosts: int, options: argparse.Namespace) -> float:
    """Microseconds of a report, of so many hosts that report in turn."""
    print(f"{hosts:,} hosts report ...", file=sys.stderr)
    first = times.now_ms() // HOUR_MS * HOUR_MS - DAY_MS
    batches = list(_batches(windows, hosts, first, options.reports, step_ms=WINDOW_MS))
    with loadlens(folder) as server, closing(server.connect()) as connection:
        began = server.cpu_seconds()
        for batch in batches:
            answer(connection, "POST", "/api/v1/metrics", batch, {"Content-Type": _NDJSON})
        return (server.cpu_seconds() - began) / options.reports * 1e6


def _batches(
    windows: list[ReportedWindows],
    hosts: int,
    first: int,
    reports: int,
    batch: int = _BATCH,
    step_ms: int = _STEP_MS,
    shape: Shape = "agent",
) -> Iterator[bytes]:
    """Reports of hosts in turn, so many milliseconds from one of a host to the next."""
    for start in range(0, reports, batch):
        yield ndjson(
            next(bodies(windows[at % len(windows)], user_name(at % hosts), [first + at // hosts * step_ms], shape))
            for at in range(start, min(start + batch, reports))
        )


def _asked(server: Server, connection: HTTPConnection, hosts: int, end: int, requests: int) -> float:
    """Milliseconds of the service for an answer, after as many that do not count."""

    def ask_all() -> None:
        for turn in range(requests):
            user = user_name(turn * 7 % hosts)
            path = f"/api/v1/metrics/cpuLoadAvg/byUser/{user}?start={end - DAY_MS}&end={end}&resample_rate=15m"
            answer(connection, "GET", path, None, {})

    ask_all()
    began = server.cpu_seconds()
    ask_all()
    return (server.cpu_seconds() - began) / requests * 1000


def drawn(curves: Sequence[Curve]) -> str:
    """The picture, SVG: a panel each, sizes on a logarithmic scale, costs from 0."""
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="13">',
        "<title>CPU time of an answer and of a report, as what is stored grows</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#ffffff"/>',
    ]
    for place, curve in enumerate(curves):
        lines += _panel(curve, 60 + place % 2 * (_WIDTH // 2), 50 + place // 2 * (_HEIGHT // 2))
    return "\n".join([*lines, "</svg>", ""])


def _panel(curve: Curve, left: int, top: int) -> Iterator[str]:
    sizes, costs = np.array(curve.points).T
    high, wide, tall = _round_up(max(costs.max(), 1e-3)), _PANEL, 160
    low_log, span = math.log10(sizes.min()), max(1e-9, math.log10(sizes.max() / sizes.min()))
    xs = left + _MARGIN + (wide - 2 * _MARGIN) * (np.log10(sizes) - low_log) / span
    ys = top + tall * (1 - costs / high)
    yield f'<text x="{left}" y="{top - 22}" font-weight="bold" fill="#1f2933">{curve.title}: {curve.unit} of CPU</text>'
    for share in (0, 0.5, 1):
        y = top + tall * (1 - share)
        yield f'<path d="M{left} {y:.1f}h{wide}" stroke="#d5dbe1"/>'
        yield f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#52606d">{high * share:g}</text>'
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    yield f'<polyline points="{line}" fill="none" stroke="#1261a0" stroke-width="2"/>'
    for x, y, there, cost in zip(xs, ys, sizes, costs, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1261a0"/>'
        yield f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle" fill="#1f2933">{number(float(cost))}</text>'
        yield f'<text x="{x:.1f}" y="{top + tall + 18}" text-anchor="middle" fill="#52606d">{there:,.0f}</text>'
    middle, below = left + wide / 2, top + tall + 38
    yield f'<text x="{middle}" y="{below}" text-anchor="middle" fill="#52606d">{curve.against}</text>'


def _round_up(cost: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8 and their decades that leaves some room above the curve."""
    decade = 10.0 ** math.floor(math.log10(cost * 1.2))
    return decade * next(step for step in (1, 2, 4, 5, 6, 8, 10) if step * decade >= cost * 1.2)


if __name__ == "__main__":
    main()
