"""The data of bench/history.py and bench/disk.py: reports of some hosts, the same in every server.

Each user reports every 5 s, as our agent does: 518,400 reports in 30 days, simulated sample by sample
(bench/hosts.py). In every seventh stretch of 80 minutes a window has 60 samples instead of 100; where it begins or
ends within a bucket of 15 minutes, a mean of means is wrong.
No window ends on the edge of a bucket, so that it does not matter on which side of it a server counts.
"""

import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing.connection import wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Literal

import numpy as np
from hosts import WINDOW_MS, ReplayedFleet, Sampled, samples
from processes import wait_until
from reports import ReportedWindows, Shape, bodies, lines, ndjson, summarised, user_name
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from servers import AnswerError, answer

from contract import times
from contract.times import DAY_MS

_STRETCH_MS = 80 * 60_000
_PER_STRETCH = _STRETCH_MS // WINDOW_MS
_PER_DAY = DAY_MS // _STRETCH_MS
_ANSWER_S, _FULL_S = 120.0, 600.0


Form = Literal["agent", "original", "points", "counted points"]
"""Our agent's reports, the original's, the points that it writes to InfluxDB, and these with the number of samples."""


def shape_of(form: Form) -> Shape:
    """As whose agent samples are summarised."""
    return "agent" if form == "agent" else "original"


@dataclass(frozen=True, slots=True)
class MonthTarget:
    """A server and what it is given."""

    port: int
    form: Form


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
    days: float
    """In whole stretches of 80 minutes, rounded up."""
    cores: int
    seed: int
    start_ms: int

    @classmethod
    def until_today(cls, users: int, days: float, seed: int) -> "Month":
        """The days before today (UTC), of hosts with four cores."""
        midnight = times.now_ms() // DAY_MS * DAY_MS
        return cls(users, days, cores=4, seed=seed, start_ms=midnight - math.ceil(days) * DAY_MS)

    @property
    def stretches(self) -> int:
        """Of each user."""
        return math.ceil(self.days * _PER_DAY)

    @property
    def end_ms(self) -> int:
        """Behind the last window."""
        return self.start_ms + self.stretches * _STRETCH_MS

    @property
    def reports(self) -> int:
        """Of all users."""
        return self.users * self.stretches * _PER_STRETCH

    def stretch(self, fleet: ReplayedFleet, user: int, number: int) -> tuple[Sampled, range]:
        """The samples of the windows of 80 minutes and their ends."""
        rng = np.random.default_rng((self.seed, user, number))
        day, place = divmod(number, _PER_DAY)
        host = (user + self.users * day) % len(fleet.load)
        sampled = samples(fleet.at(host, place * _STRETCH_MS // 1000, _PER_STRETCH), self.cores, rng)
        if number % 7 == 3:
            sampled = sampled.part(of_each=slice(60))
        first = self.start_ms + number * _STRETCH_MS + 1234 + user % 1000
        return sampled, range(first, first + _STRETCH_MS, WINDOW_MS)

    def truth(self, folder: Path, user: int, form: Form) -> Truth:
        """What was loaded of a user in that form."""
        with np.load(folder / f"truth-{user}.npz") as content:
            return Truth(content["end"], content["count"], content[shape_of(form)])


def load(month: Month, fleet: ReplayedFleet, folder: Path, targets: Sequence[MonthTarget], processes: int) -> None:
    """Give the month to every server, stretch by stretch of all users, and keep the truth in `folder`."""
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    workers = [
        context.Process(target=_work, args=(month, fleet, folder, targets, range(place, month.users, processes), done))
        for place in range(min(processes, month.users))
    ]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading reports", total=month.reports)
        for worker in workers:
            worker.start()
        try:
            while any(worker.is_alive() for worker in workers):
                # Each request in them has a deadline, so they end.
                wait([worker.sentinel for worker in workers if worker.is_alive()], timeout=0.2)
                progress.update(task, completed=done.value)
                if any(worker.exitcode for worker in workers):
                    raise RuntimeError("a process that loads reports has failed; what it said is above")
            progress.update(task, completed=done.value)
        finally:
            for worker in workers:
                worker.terminate()
                worker.join()
    if done.value != month.reports:
        raise RuntimeError(f"{done.value} of {month.reports} reports were loaded")


def _work(
    month: Month,
    fleet: ReplayedFleet,
    folder: Path,
    targets: Sequence[MonthTarget],
    users: Sequence[int],
    done: "Synchronized[int]",
) -> None:
    """Load the windows of some users, in order of time."""
    connections = [HTTPConnection("127.0.0.1", target.port, timeout=_ANSWER_S) for target in targets]
    shapes = {shape_of(target.form) for target in targets}
    truths: dict[int, list[tuple[range, dict[Shape, tuple[int, list[float]]]]]] = {user: [] for user in users}
    for number in range(month.stretches):
        for user in users:
            sampled, ends = month.stretch(fleet, user, number)
            windows = {shape: summarised(sampled, shape) for shape in shapes}
            for target, connection in zip(targets, connections, strict=True):
                _send(connection, target.form, windows[shape_of(target.form)], user_name(user), ends)
            known = {shape: (some.count, [means[0] for means in some.mean]) for shape, some in windows.items()}
            truths[user].append((ends, known))
            with done.get_lock():
                done.value += len(ends)
    for user, stretches in truths.items():
        np.savez(
            folder / f"truth-{user}.npz",
            end=np.concatenate([ends for ends, _ in stretches]),
            count=np.repeat([next(iter(known.values()))[0] for _, known in stretches], _PER_STRETCH),
            **{shape: np.concatenate([known[shape][1] for _, known in stretches]) for shape in shapes},
        )


def _send(connection: HTTPConnection, form: Form, windows: ReportedWindows, user: str, ends: range) -> None:
    if form in ("points", "counted points"):
        text = "\n".join(lines(windows, user, ends, count=form == "counted points"))
        answer(connection, "POST", "/write?db=METRICS&precision=ms", text, {})
        return
    body = ndjson(bodies(windows, user, ends, form))

    def is_taken() -> bool:
        try:
            answer(connection, "POST", "/api/v1/metrics", body, {"Content-Type": "application/x-ndjson"})
        except AnswerError as error:
            # Its journal is full: it takes more when the store has caught up.
            if error.status != 503:
                raise
            return False
        return True

    wait_until(is_taken, _FULL_S, "waiting for room in the journal", every=1.0)
