"""One user's month of 5 s reports at 15 minutes, through HTTP: how long an answer takes.

    .venv/bin/python bench/history.py [--keep DIR]

518,400 reports of a machine with four cores, and as many of nine more users beside it, are loaded into our service,
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
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import msgspec
import numpy as np
from machines import FLEET, Fleet
from month import DAY_MS, Month, Target, Truth, load
from output import machine, number, ratio, table
from reports import user_name
from servers import (
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

from contract import times

RATE_MS = 900_000
_CUT_MS = 187_654
ON_INFLUX = "Loadlens on InfluxDB"
_WARM_UP, _FEWEST, _LONGEST_S = 10, 20, 30.0
Values = dict[int, float]
Starter = Callable[[Path], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Question:
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
class Outcome:
    """How long it took."""

    times_ms: np.ndarray
    bytes: int
    difference: float | None
    """The largest, of any value to numpy's."""


def main() -> None:
    """Load, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10, help="machines that report (default: %(default)s)")
    parser.add_argument("--days", type=int, default=30, help="how long they report (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=200, help="for each question (default: %(default)s)")
    parser.add_argument("--only", metavar="TEXT", default="", help="measure only the servers whose name contains this")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what is loaded, and use it if it is there")
    parser.add_argument("--processes", type=int, default=2, help="that load reports (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where data is kept meanwhile (default: the temporary folder)")
    parser.add_argument("--fleet", type=Path, default=FLEET, metavar="FILE", help="load of real machines (Parquet)")
    options = parser.parse_args()
    chosen = {name: start for name, start in starters().items() if options.only in name}
    if not chosen:
        parser.error(f"--only {options.only}: the servers are {', '.join(starters())}")
    print(machine(), "\n")
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder, prefix="loadlens-bench-"))
        )
        month = prepared(folder.resolve(), options, chosen)
        outcomes = {
            question: outcome
            for name in chosen
            for question, outcome in measured(name, folder.resolve(), month, options.requests)
        }
        sizes = {name: folder_bytes(folder / name) for name in chosen}
        if "Loadlens" in chosen:
            sizes["Loadlens"] -= loadlens_bytes(folder / "Loadlens")["journal"]
        if ON_INFLUX in chosen:
            sizes[ON_INFLUX] = folder_bytes(folder / ON_INFLUX / "influxd")
    show(month, outcomes, sizes)


def starters() -> dict[str, Starter]:
    """How to start each server that there is."""
    servers: dict[str, Starter] = {"Loadlens": loadlens}
    if installed("influxd"):
        servers[ON_INFLUX] = loadlens_on_influx
        servers["InfluxDB"] = influxd
    if installed("victoria-metrics"):
        servers["VictoriaMetrics"] = victoria_metrics
    return servers


def prepared(folder: Path, options: argparse.Namespace, chosen: Mapping[str, Starter]) -> Month:
    """The month in `folder`, loaded where it is not there yet."""
    listed = folder / "month.json"
    wanted = {"users": options.users, "days": options.days, "cores": 4, "seed": 1}
    if listed.exists():
        month = msgspec.json.decode(listed.read_bytes(), type=Month)
        if any(getattr(month, name) != value for name, value in wanted.items()):
            sys.exit(f"{folder} holds {month}; use --users and --days to match, or another folder")
        return month
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty, but not a folder of this program that was loaded whole; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    midnight = times.now_ms() // DAY_MS * DAY_MS
    month = Month(**wanted, start_ms=midnight - options.days * DAY_MS)
    fleet = Fleet.read(options.fleet, 40 * options.users, seed=1)
    with ExitStack() as stack:
        eager = {"InfluxDB": partial(influxd, eager=True), ON_INFLUX: partial(loadlens_on_influx, eager=True)}
        servers = {name: stack.enter_context(eager.get(name, start)(folder / name)) for name, start in chosen.items()}
        if "InfluxDB" in servers:
            servers["InfluxDB"].ask("POST", "/query?q=CREATE+DATABASE+METRICS")
        targets = [
            Target(server.port, "agent" if name in ("Loadlens", ON_INFLUX) else "counted points")
            for name, server in servers.items()
        ]
        load(month, fleet, folder, targets, options.processes)
        print("letting the stores compact ...", file=sys.stderr)
        if "InfluxDB" in servers:
            settle_influxd(servers["InfluxDB"])
        if ON_INFLUX in servers:
            settle_loadlens_on_influx(folder / ON_INFLUX, servers[ON_INFLUX])
    if "Loadlens" in chosen:
        settle_loadlens(folder / "Loadlens")
    listed.write_bytes(msgspec.json.encode(month))
    return month


def questions() -> Iterator[Question]:
    """All questions."""

    def ours(metric: str = "cpuLoadAvg", extra: str = "") -> Callable[[str, int, int], str]:
        return lambda user, start, end: (
            f"/api/v1/metrics/{metric}/byUser/{user}?start={start}&end={end}&resample_rate=15m{extra}"
        )

    for name in ("Loadlens", ON_INFLUX):
        yield Question("mean, exact", name, ours(), _entries, lambda truth: truth.count)
        yield Question("mean, exact, to the millisecond", name, ours(), _entries, lambda truth: truth.count, _CUT_MS)
        yield Question("95th percentile", name, ours(extra="&stat=p95"), _entries, None)
        yield Question("highest core", name, ours("cpuCoreLoadAvgMax"), _entries, None)
    mean = 'SELECT mean(cpuLoadAvg) FROM "measurements" WHERE {where} GROUP BY time(15m)'
    exact = (
        "SELECT sum(total) / sum(n) FROM (SELECT cpuLoadAvg * observations AS total, observations AS n"
        ' FROM "measurements" WHERE {where}) WHERE {range} GROUP BY time(15m)'
    )
    yield Question("mean of means", "InfluxDB", _influxql(mean), _influx_values, _alike)
    yield Question("mean of means, to the millisecond", "InfluxDB", _influxql(mean), _influx_values, _alike, _CUT_MS)
    yield Question("mean, exact, by subquery", "InfluxDB", _influxql(exact), _influx_values, lambda truth: truth.count)
    yield Question("mean of means", "VictoriaMetrics", _metricsql("&nocache=1"), _victoria_values, _alike)
    yield Question("mean of means, from its cache", "VictoriaMetrics", _metricsql(""), _victoria_values, _alike)


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


def measured(name: str, folder: Path, month: Month, requests: int) -> Iterator[tuple[Question, Outcome]]:
    """Ask a server every question that is for it."""
    with starters()[name](folder / name) as server:
        for question in questions():
            if question.server == name:
                print(f"{name}: {question.name} ...", file=sys.stderr)
                yield question, _asked(server, question, folder, month, requests)


def _asked(server: Server, question: Question, folder: Path, month: Month, requests: int) -> Outcome:
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
            _difference(question.decode(content), *_expected(month.truth(folder, user), question.truth, start, end))
            for user, content in enumerate(answers)
        )
    return Outcome(np.array(times) * 1000, len(answers[0]), difference)


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


def show(month: Month, outcomes: dict[Question, Outcome], sizes: dict[str, int]) -> None:
    """Print a table."""
    ours = float(np.median(next(iter(outcomes.values())).times_ms))
    rows = [
        (
            f"{question.server}: {question.name}", number(median), number(float(np.percentile(one.times_ms, 95))),
            ratio(median, ours), str(len(one.times_ms)), f"{one.bytes / 1000:.0f}",
            "-" if one.difference is None else f"{one.difference:.1g}",
        )
        for question, one in outcomes.items()
        for median in [float(np.median(one.times_ms))]
    ]  # fmt: skip
    headers = (
        f"One user's {month.days} days at 15m", "median ms", "p95 ms", "beside the first", "requests", "kB", "error",
    )  # fmt: skip
    print(table(headers, rows))
    said = ", ".join(f"{name} {size / month.reports:.1f}" for name, size in sizes.items())
    print(
        f"\n{month.reports:,} reports of {month.users} users are stored. Bytes a report: {said} "
        "(Loadlens without its journal, which does not grow; it alone keeps cores and histograms)."
    )


if __name__ == "__main__":
    main()
