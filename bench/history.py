"""One user's month of 5 s reports at 15 minutes, through HTTP: how long an answer takes.

    .venv/bin/python bench/history.py [--keep DIR]

518,400 reports of a host with four cores, and as many of nine more users beside it, are loaded into our service,
InfluxDB and VictoriaMetrics (bench/month.py); each is stopped, started again by itself, and asked for the month of one
user after the other on one connection that is kept alive. Loading takes some minutes: --keep DIR keeps the folder
and uses it again.

Every answer is compared with numpy's, over the reports that were sent. InfluxDB's mean() and VictoriaMetrics'
avg_over_time() are means of means: they are compared with that. A month "to the millisecond" begins and ends
within buckets, as the last 30 days do at any time of day.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
import numpy as np
from hosts import ReplayedFleet
from month import Form, Month, MonthTarget, Truth, load
from options import Options, scratch
from output import left_out, machine, number, ratio, table
from reports import user_name
from servers import (
    STEADY_S,
    Server,
    answer,
    folder_bytes,
    influxd,
    installed,
    loadlens,
    loadlens_bytes,
    loadlens_on_influx,
    settle_influxd,
    settle_loadlens,
    settle_loadlens_on_influx,
    victoria_metrics,
)

RATE_MS = 900_000
_CUT_MS = 187_654
ON_INFLUX = "Loadlens on InfluxDB"
_WARM_UP, _FEWEST, _LONGEST_S = 10, 20, 30.0
NEEDS = {ON_INFLUX: "influxd", "InfluxDB": "influxd", "VictoriaMetrics": "victoria-metrics"}
"""The program of a server that must be installed."""
Values = dict[int, float]
Starter = Callable[[Path], AbstractContextManager[Server]]


STARTERS: dict[str, Starter] = {
    "Loadlens": loadlens,
    ON_INFLUX: loadlens_on_influx,
    "InfluxDB": influxd,
    "VictoriaMetrics": victoria_metrics,
}
"""How to start each server."""


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """What is asked of a server."""

    name: str
    server: str
    path: Callable[[str, int, int], str]
    """For a user, from, until (epoch ms)."""
    decode: Callable[[bytes], Values]
    truth: Callable[[Truth], np.ndarray] | None
    """The weight of each window in the right answer; None where it is not checked."""
    cut_ms: int = 0
    """How much is asked less of the month, at both ends."""


@dataclass(frozen=True, slots=True)
class HistoryOutcome:
    """How long it took."""

    times_ms: np.ndarray
    bytes: int
    difference: float | None
    """The largest, of any value to numpy's."""


def main() -> None:
    """Load, measure and print a table."""
    parser = Options(__doc__)
    parser.size("--users", 10, tiny=1, help="hosts that report")
    parser.size("--days", 30.0, tiny=0.16, help="how long they report")
    parser.size("--requests", 200, tiny=2, help="for each question")
    parser.size("--processes", 2, tiny=1, help="that load reports")
    parser.size("--steady", STEADY_S, tiny=0.5, help="seconds without a change that say that InfluxDB has compacted")
    parser.shared("--only", "--keep", "--folder", "--fleet")
    options = parser.parse()
    # "Loadlens" is a server's whole name, and part of another's.
    only = [options.only] if options.only in STARTERS else [name for name in STARTERS if options.only in name]
    chosen = {name: STARTERS[name] for name in only}
    if not chosen:
        parser.error(f"--only {options.only}: the servers are {', '.join(STARTERS)}")
    servers = {name: start for name, start in chosen.items() if installed(*filter(None, [NEEDS.get(name)]))}
    print(f"{machine()}\n")
    with scratch(options) as scratched:
        folder = Path(scratched)
        month = prepared(folder, options, servers)
        asked = [question for question in questions() if question.server in chosen]
        outcomes: dict[HistoryQuestion, HistoryOutcome | None] = dict.fromkeys(asked)
        for server in servers:
            outcomes |= measured(server, folder, month, asked, options.requests)
        sizes = {name: folder_bytes(folder / name) for name in servers}
        if "Loadlens" in servers:
            sizes["Loadlens"] -= loadlens_bytes(folder / "Loadlens")["journal"]
        if ON_INFLUX in servers:
            sizes[ON_INFLUX] = folder_bytes(folder / ON_INFLUX / "influxd")
    show(month, outcomes, sizes)


def prepared(folder: Path, options: argparse.Namespace, chosen: Mapping[str, Starter]) -> Month:
    """The month in `folder`, loaded where it is not there yet."""
    listed = folder / "month.json"
    wanted = Month.until_today(options.users, options.days, seed=1)
    if listed.exists():
        month = msgspec.json.decode(listed.read_bytes(), type=Month)
        if month != replace(wanted, start_ms=month.start_ms):
            sys.exit(f"{folder} holds {month}; use --users and --days to match, or another folder")
        return month
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty, but not a folder of this program that was loaded whole; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    month = wanted
    fleet = ReplayedFleet.read(options.fleet, 40 * options.users, seed=1)
    with ExitStack() as stack:
        eager = {"InfluxDB": partial(influxd, eager=True), ON_INFLUX: partial(loadlens_on_influx, eager=True)}
        servers = {name: stack.enter_context(eager.get(name, start)(folder / name)) for name, start in chosen.items()}
        targets = [MonthTarget(server.port, _form_of(name)) for name, server in servers.items()]
        load(month, fleet, folder, targets, options.processes)
        print("letting the stores compact ...", file=sys.stderr)
        if "InfluxDB" in servers:
            settle_influxd(folder / "InfluxDB", options.steady)
        if ON_INFLUX in servers:
            settle_loadlens_on_influx(folder / ON_INFLUX, servers[ON_INFLUX], options.steady)
    if "Loadlens" in chosen:
        settle_loadlens(folder / "Loadlens")
    listed.write_bytes(msgspec.json.encode(month))
    return month


def _form_of(server: str) -> Form:
    return "agent" if server in ("Loadlens", ON_INFLUX) else "counted points"


def questions() -> Iterator[HistoryQuestion]:
    """All questions."""

    def ours(metric: str = "cpuLoadAvg", extra: str = "") -> Callable[[str, int, int], str]:
        return lambda user, start, end: (
            f"/api/v1/metrics/{metric}/byUser/{user}?start={start}&end={end}&resample_rate=15m{extra}"
        )

    for name in ("Loadlens", ON_INFLUX):
        yield HistoryQuestion("mean, exact", name, ours(), _entries, lambda truth: truth.count)
        yield HistoryQuestion(
            "mean, exact, to the millisecond", name, ours(), _entries, lambda truth: truth.count, _CUT_MS
        )
        yield HistoryQuestion("95th percentile", name, ours(extra="&stat=p95"), _entries, None)
        yield HistoryQuestion("highest core", name, ours("cpuCoreLoadAvgMax"), _entries, None)
    mean = 'SELECT mean(cpuLoadAvg) FROM "measurements" WHERE {where} GROUP BY time(15m)'
    exact = (
        "SELECT sum(total) / sum(n) FROM (SELECT cpuLoadAvg * observations AS total, observations AS n"
        ' FROM "measurements" WHERE {where}) WHERE {range} GROUP BY time(15m)'
    )
    yield HistoryQuestion("mean of means", "InfluxDB", _influxql(mean), _influx_values, _alike)
    yield HistoryQuestion(
        "mean of means, to the millisecond", "InfluxDB", _influxql(mean), _influx_values, _alike, _CUT_MS
    )
    yield HistoryQuestion(
        "mean, exact, by subquery", "InfluxDB", _influxql(exact), _influx_values, lambda truth: truth.count
    )
    yield HistoryQuestion("mean of means", "VictoriaMetrics", _metricsql("&nocache=1"), _victoria_values, _alike)
    yield HistoryQuestion("mean of means, from its cache", "VictoriaMetrics", _metricsql(""), _victoria_values, _alike)


def _alike(truth: Truth) -> np.ndarray:
    return np.ones(len(truth.count))


def _influxql(text: str) -> Callable[[str, int, int], str]:
    def path(user: str, start: int, end: int) -> str:
        within = f"time >= {start}ms AND time < {end}ms"
        query = text.format(where=f"userId = '{user}' AND {within}", range=within)
        return f"/query?db=METRICS&epoch=ms&q={quote(query)}"

    return path


def _metricsql(extra: str) -> Callable[[str, int, int], str]:
    def path(user: str, start: int, end: int) -> str:
        # Its buckets are named after their end.
        asked = {
            "query": f'avg_over_time(measurements_cpuLoadAvg{{userId="{user}"}}[15m])',
            "start": (start + RATE_MS) // 1000,
            "end": end // 1000,
            "step": "15m",
        }
        return f"/api/v1/query_range?{urlencode(asked)}{extra}"

    return path


def _entries(content: bytes) -> Values:
    entries = json.loads(content)["entries"]
    dates = np.array([entry["date"].rstrip("Z") for entry in entries], "M8[ms]").astype(np.int64)
    return dict(zip(dates.tolist(), [entry["value"] for entry in entries], strict=True))


def _influx_values(content: bytes) -> Values:
    (series,) = json.loads(content)["results"][0]["series"]
    return {time_ms: value for time_ms, value in series["values"] if value is not None}


def _victoria_values(content: bytes) -> Values:
    (series,) = json.loads(content)["data"]["result"]
    return {time_s * 1000 - RATE_MS: float(value) for time_s, value in series["values"]}


def measured(
    name: str, folder: Path, month: Month, asked: Sequence[HistoryQuestion], requests: int
) -> dict[HistoryQuestion, HistoryOutcome]:
    """Ask a server every question that is for it."""
    outcomes = {}
    with STARTERS[name](folder / name) as server:
        for question in asked:
            if question.server == name:
                print(f"{name}: {question.name} ...", file=sys.stderr)
                outcomes[question] = _asked(server, question, folder, month, requests)
    return outcomes


def _asked(server: Server, question: HistoryQuestion, folder: Path, month: Month, requests: int) -> HistoryOutcome:
    start, end = month.start_ms + question.cut_ms, month.end_ms - question.cut_ms
    paths = [question.path(user_name(user), start, end) for user in range(month.users)]
    with closing(server.connect()) as connection:
        answers = [answer(connection, "GET", path, None, {}) for path in paths]
        for number in range(_WARM_UP):
            answer(connection, "GET", paths[number % len(paths)], None, {})
        times: list[float] = []
        while len(times) < requests and (sum(times) < _LONGEST_S or len(times) < _FEWEST):
            began = time.perf_counter()
            answer(connection, "GET", paths[len(times) % len(paths)], None, {})
            times.append(time.perf_counter() - began)
    difference = None
    if question.truth:
        difference = max(
            _difference(
                question.decode(content),
                *_expected(month.truth(folder, user, _form_of(question.server)), question.truth, start, end),
            )
            for user, content in enumerate(answers)
        )
    return HistoryOutcome(np.array(times) * 1000, len(answers[0]), difference)


def _expected(
    truth: Truth, weight: Callable[[Truth], np.ndarray], start: int, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """Buckets and weighted means, as numpy has them."""
    chosen = (truth.end >= start) & (truth.end < end)
    buckets, place = np.unique(truth.end[chosen] // RATE_MS * RATE_MS, return_inverse=True)
    weights = weight(truth)[chosen]
    sums = np.bincount(place, truth.mean[chosen] * weights)
    return buckets, sums / np.bincount(place, weights)


def _difference(values: Values, buckets: np.ndarray, means: np.ndarray) -> float:
    """The largest difference. Raises RuntimeError where the buckets are not the same."""
    if sorted(values) != buckets.tolist():
        raise RuntimeError(f"{len(values)} buckets were answered, {len(buckets)} are right")
    return float(np.abs(np.array([values[bucket] for bucket in buckets.tolist()]) - means).max())


def show(month: Month, outcomes: Mapping[HistoryQuestion, HistoryOutcome | None], sizes: Mapping[str, int]) -> None:
    """Print a table."""
    headers = (
        f"One user's {month.days:g} days at 15m", "median ms", "p95 ms", "beside the first", "requests", "kB", "error",
    )  # fmt: skip
    first = next((float(np.median(one.times_ms)) for one in outcomes.values() if one), None)
    rows = [
        _row(f"{question.server}: {question.name}", one, first)
        if one
        else left_out(f"{question.server}: {question.name}", len(headers))
        for question, one in outcomes.items()
    ]
    print(table(headers, rows))
    said = ", ".join(f"{name} {size / month.reports:.1f}" for name, size in sizes.items())
    print(
        f"\n{month.reports:,} reports of {month.users} users are stored. Bytes a report: {said} "
        "(Loadlens without its journal, which does not grow; it alone keeps cores and histograms)."
    )


def _row(name: str, one: HistoryOutcome, first: float | None) -> list[str]:
    median = float(np.median(one.times_ms))
    return [
        name, number(median), number(float(np.percentile(one.times_ms, 95))), ratio(median, first),
        str(len(one.times_ms)), f"{one.bytes / 1000:.0f}", "-" if one.difference is None else f"{one.difference:.1g}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
