"""Faults of hosts and of careless hands, on a service under load; and what became of its reports.

    python -m tests.support.faults --rounds 3

prints, for each fault, how often it was tried, the reports that were acknowledged, and how many of these are lost or
counted twice afterwards.
"""

import argparse
import contextlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.support.reports import METRICS, as_json, entries, history, small
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

T0 = 1_704_067_200_000
_SENDERS = 4
_DATABASE = "loadlens.duckdb"


class _Sender(threading.Thread):
    """Sends reports in order, each again until it is acknowledged, until it is told to stop."""

    def __init__(self, fleet: "Fleet", number: int) -> None:
        super().__init__()
        self.user = f"sender-{number}"
        self.acknowledged = 0
        self._fleet = fleet

    def run(self) -> None:
        """Send."""
        client = httpx.Client(timeout=30, trust_env=False)
        while not self._fleet.stopping.is_set():
            body = as_json(small(self.user, T0 + self.acknowledged * 1000))
            with contextlib.suppress(httpx.HTTPError):
                if client.post(f"{self._fleet.url}{METRICS}", content=body).status_code == 202:
                    self.acknowledged += 1
                    continue
            self._fleet.stopping.wait(0.02)
        client.close()


class Fleet:
    """Senders, and the service that they send to, which may be another after a fault."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.data_dir = folder / "data"
        self._arguments = arguments
        self.stopping = threading.Event()
        self.service = RunningService(self.data_dir, *arguments)
        self.url = self.service.url
        self.senders = [_Sender(self, number) for number in range(_SENDERS)]
        for sender in self.senders:
            sender.start()

    @property
    def acknowledged(self) -> int:
        """The reports that were acknowledged so far."""
        return sum(sender.acknowledged for sender in self.senders)

    def load(self, reports: int = 300) -> None:
        """Wait until so many more are acknowledged."""
        least = self.acknowledged + reports
        wait_until(lambda: self.acknowledged >= least, "load")

    def start(self) -> None:
        """Start the service again."""
        self.service = RunningService(self.data_dir, *self._arguments)
        self.url = self.service.url

    def end(self) -> tuple[int, int]:
        """Stop the senders and count: the reports that are lost, and those that are there more than once."""
        self.stopping.set()
        for sender in self.senders:
            sender.join()
        lost = double = 0
        with self.service.client() as client:
            for sender in self.senders:
                query = {"start": T0, "end": T0 + 90_000_000, "resample_rate": "1s", "stat": "count"}
                found = dict(entries(history(client, sender.user, **query)))
                lost += max(0, sender.acknowledged - len(found))
                double += sum(value > 1 for value in found.values())
        self.service.kill()
        return lost, double


def kill(fleet: Fleet, dice: random.Random) -> None:
    """kill -9 of all its processes."""
    fleet.service.kill()
    fleet.start()


def kill_worker(fleet: Fleet, dice: random.Random) -> None:
    """kill -9 of the process that answers; the other starts a new one."""
    fleet.service.worker().send_signal(signal.SIGKILL)


def stop_and_go_on(fleet: Fleet, dice: random.Random) -> None:
    """SIGSTOP for a while."""
    worker = fleet.service.worker()
    worker.send_signal(signal.SIGSTOP)
    time.sleep(dice.uniform(0.1, 1.0))
    worker.send_signal(signal.SIGCONT)


def terminate(fleet: Fleet, dice: random.Random) -> None:
    """SIGTERM, and a new start."""
    fleet.service.stop()
    fleet.start()


def full_disk(fleet: Fleet, dice: random.Random) -> None:
    """Writes beyond a length are refused for a while, then kill -9."""
    worker = fleet.service.worker().pid
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (dice.choice((20_000, 100_000)), resource.RLIM_INFINITY))
    time.sleep(1)
    fleet.service.kill()
    fleet.start()


def second_service(fleet: Fleet, dice: random.Random) -> None:
    """Another service is started on the same folder."""
    second = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--data-dir", str(fleet.data_dir)],
        cwd=ROOT, env=clean_environment(), capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert second.returncode == 1


def no_catalogue(fleet: Fleet, dice: random.Random) -> None:
    """The catalogue is deleted, cut, or replaced by an older one while the service is down; then `repair`."""
    database = fleet.data_dir / _DATABASE
    how = dice.choice(("missing", "cut", "older"))
    if how == "older":
        fleet.service.stop()
        older = database.read_bytes()
        fleet.start()
        fleet.load()
    fleet.service.stop()
    if how == "missing":
        database.unlink()
    elif how == "cut":
        database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    else:
        database.write_bytes(older)
    repaired = subprocess.run(
        [sys.executable, "-m", "service", "repair", "--data-dir", str(fleet.data_dir)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert repaired.returncode == 0, repaired.stderr
    fleet.start()


def flipped_bit(fleet: Fleet, dice: random.Random) -> None:
    """kill -9, and a bit of a record that the store does not have yet is another."""
    fleet.service.kill()
    newest = max(path for path in (fleet.data_dir / "journal").glob("*.journal") if b"user_id" in path.read_bytes())
    content = bytearray(newest.read_bytes())
    content[dice.randrange(content.rindex(b"user_id"))] ^= 1 << dice.randrange(8)
    newest.write_bytes(content)
    fleet.start()


class Fault(NamedTuple):
    """A fault, and the arguments of the service."""

    inject: Callable[[Fleet, random.Random], None]
    arguments: tuple[str, ...] = ("--flush-interval", "0.3")


FAULTS = {
    "kill -9 of all": Fault(kill),
    "kill -9 of all, nothing flushed": Fault(kill, ("--flush-interval", "3600")),
    "kill -9 of the worker": Fault(kill_worker),
    "SIGSTOP": Fault(stop_and_go_on),
    "SIGTERM": Fault(terminate),
    "full disk, then kill -9": Fault(full_disk),
    "a second service": Fault(second_service),
    "no catalogue, then repair": Fault(no_catalogue),
    "a flipped bit in the journal": Fault(flipped_bit, ("--flush-interval", "3600")),
}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted(FAULTS), default=[*FAULTS], help="these faults")
    chosen = parser.parse_args()
    print("| fault | tried | acknowledged | lost | doubled |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in chosen.only:
        fault = FAULTS[name]
        folder = Path(tempfile.mkdtemp())
        dice = random.Random(f"{chosen.seed} {name}")
        fleet = Fleet(folder, *fault.arguments)
        try:
            for _ in range(chosen.rounds):
                fleet.load()
                fault.inject(fleet, dice)
            fleet.load()
            lost, double = fleet.end()
        finally:
            fleet.stopping.set()
            fleet.service.kill()
        print(f"| {name} | {chosen.rounds} | {fleet.acknowledged} | {lost} | {double} |", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
