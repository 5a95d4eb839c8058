"""The data of bench/history.py: a month of reports of some machines, the same in every server.

Each user reports every 5 s, as our agent does: 518,400 reports in 30 days, simulated sample by sample
(bench/machines.py). In every seventh hour a window has 60 samples instead of 100, so that a mean of means is wrong.
No window ends on the edge of a bucket, so that it does not matter on which side of it a server counts.
"""

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from machines import WINDOW_MS, Fleet, samples
from reports import Windows, bodies, lines, summarised, user_name
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from servers import AnswerError, Server, answer

__all__ = ["DAY_MS", "Month", "Truth", "load"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_PER_HOUR = HOUR_MS // WINDOW_MS


@dataclass(frozen=True, slots=True)
class Truth:
    """The windows of one user, for checks: end in epoch ms, samples and mean utilization."""

    end: np.ndarray
    count: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, slots=True)
class Month:
    """What is loaded."""

    users: int
    days: int
    cores: int
    seed: int
    start_ms: int

    @property
    def end_ms(self) -> int:
        """Behind the last window."""
        return self.start_ms + self.days * DAY_MS

    @property
    def reports(self) -> int:
        """Of all users."""
        return self.users * self.days * DAY_MS // WINDOW_MS

    def hour(self, fleet: Fleet, user: int, hour: int) -> tuple[Windows, range]:
        """The windows of an hour and their ends."""
        rng = np.random.default_rng((self.seed, user, hour))
        machine = (user + self.users * (hour // 24)) % len(fleet.load)
        sampled = samples(fleet.at(machine, hour % 24 * 3600, _PER_HOUR), self.cores, rng)
        if hour % 7 == 3:
            sampled = sampled[:, :, :60]
        first = self.start_ms + hour * HOUR_MS + 1234 + user % 1000
        return summarised(sampled), range(first, first + HOUR_MS, WINDOW_MS)

    def truth(self, folder: Path, user: int) -> Truth:
        """What was loaded of a user."""
        with np.load(folder / f"truth-{user}.npz") as content:
            return Truth(content["end"], content["count"], content["mean"])


def load(month: Month, fleet: Fleet, folder: Path, servers: Mapping[str, Server], processes: int) -> None:
    """Give the month to every server, hour by hour of all users, and keep the truth in `folder`."""
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    ports = {name: server.port for name, server in servers.items()}
    workers = [
        context.Process(target=_work, args=(month, fleet, folder, ports, range(place, month.users, processes), done))
        for place in range(min(processes, month.users))
    ]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading reports", total=month.reports)
        for worker in workers:
            worker.start()
        try:
            while any(worker.is_alive() for worker in workers):
                progress.update(task, completed=done.value)
                if any(worker.exitcode for worker in workers):
                    raise RuntimeError("a process that loads reports has failed")
                time.sleep(0.2)
            progress.update(task, completed=done.value)
        finally:
            for worker in workers:
                worker.terminate()
    if done.value != month.reports:
        raise RuntimeError(f"{done.value} of {month.reports} reports were loaded")


def _work(
    month: Month, fleet: Fleet, folder: Path, ports: Mapping[str, int], users: Sequence[int], done: "Synchronized[int]"
) -> None:
    """Load the windows of some users, in order of time."""
    senders = [_SENDERS[name](port) for name, port in ports.items()]
    truths: dict[int, list[tuple[range, int, list[float]]]] = {user: [] for user in users}
    for hour in range(month.days * 24):
        for user in users:
            windows, ends = month.hour(fleet, user, hour)
            for send in senders:
                send(windows, user_name(user), ends)
            truths[user].append((ends, windows.count, [means[0] for means in windows.mean]))
            with done.get_lock():
                done.value += len(windows)
    for user, hours in truths.items():
        np.savez(
            folder / f"truth-{user}.npz",
            end=np.concatenate([ends for ends, _, _ in hours]),
            count=np.repeat([count for _, count, _ in hours], _PER_HOUR),
            mean=np.concatenate([mean for _, _, mean in hours]),
        )


Sender = Callable[[Windows, str, range], None]


def _to_loadlens(port: int) -> Sender:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)

    def send(windows: Windows, user: str, ends: range) -> None:
        body = b"\n".join(bodies(windows, user, ends, "agent"))
        while True:
            try:
                answer(connection, "POST", "/api/v1/metrics", body, {"Content-Type": "application/x-ndjson"})
            except AnswerError as error:
                if error.status != 503:
                    raise
                time.sleep(1.0)
            else:
                return

    return send


def _to_influxdb(port: int) -> Sender:
    connection = HTTPConnection("127.0.0.1", port, timeout=600)

    def send(windows: Windows, user: str, ends: range) -> None:
        body = "\n".join(lines(windows, user, ends, count=True)).encode()
        answer(connection, "POST", "/write?db=METRICS&precision=ms", body, {})

    return send


_SENDERS: Mapping[str, Callable[[int], Sender]] = {
    "Loadlens": _to_loadlens,
    "InfluxDB": _to_influxdb,
    "VictoriaMetrics": _to_influxdb,
}
