"""Campaigns of faults: a service, an agent and senders run for real, and a seed says what happens to them, and when.

    python -m tests.faults.campaign --seeds 20

runs a campaign for each seed and prints, for each fault, how often it was tried, the reports that were acknowledged in
the campaigns that had it, and how many of these were lost or counted twice. A campaign that fails is written to
`failed.txt` beside this file: from then on it is run by the tests, and by `--failed`.
"""

import argparse
import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from contract.times import DAY_MS, DAY_S, now_ms
from tests.faults.preload import Fault, Preload
from tests.faults.relay import Relay
from tests.support.reports import METRICS, as_json, entries, history, small
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

T0 = 1_704_067_200_000
_SENDERS = 3
_FAULTS_EACH = 6
"""One behind the other; many together are what a seed is for."""
_AGENT = "agent"


class Outcome(NamedTuple):
    """What became of a campaign."""

    tried: Counter[str]
    acknowledged: int
    """Reports of senders that were answered with 202, and those that the agent had finished."""
    lost: int
    doubled: int
    aside: int = 0
    """Reports that the agent put aside, as the service refused them: they were not acknowledged, and are not lost."""


class Plan(NamedTuple):
    """What is done in a campaign: the faults, one after the other, with the details that a seed says."""

    seed: int
    faults: tuple[str, ...]

    @classmethod
    def of(cls, seed: int, faults: int) -> Self:
        """The plan of a seed, with so many faults."""
        # Dice of their own: where a fault is added to the list, the details of the plans that are kept stay.
        return cls(seed, tuple(random.Random(f"faults of {seed}").choices(sorted(FAULTS), k=faults)))

    @classmethod
    def parse(cls, line: str) -> Self:
        """The plan of a line as `str` writes it."""
        seed, _, faults = line.partition(":")
        return cls(int(seed), tuple(name.strip() for name in faults.split(";")))

    def __str__(self) -> str:
        return f"{self.seed}: {'; '.join(self.faults)}"


FAILED = Path(__file__).with_name("failed.txt")


def failed() -> list[Plan]:
    """The plans of campaigns that failed once, without those that are comments."""
    lines = FAILED.read_text(encoding="utf-8").splitlines()
    return [Plan.parse(line) for line in lines if line.strip() and not line.startswith("#")]


class _Sender(threading.Thread):
    """Sends reports in order, each again until it is acknowledged, until it is told to stop."""

    def __init__(self, url: str, number: int, stopping: threading.Event) -> None:
        super().__init__(daemon=True)
        self.user = f"sender-{number}"
        self.acknowledged = 0
        self._url = url
        self._stopping = stopping

    def run(self) -> None:
        """Send."""
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._stopping.is_set():
                body = as_json(small(self.user, T0 + self.acknowledged * 1000))
                with contextlib.suppress(httpx.HTTPError):
                    if client.post(f"{self._url}{METRICS}", content=body).status_code == 202:
                        self.acknowledged += 1
                        continue
                self._stopping.wait(0.02)


class Campaign:
    """Everything that runs for one seed. Used as a context, so that nothing is left running."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.data_dir = folder / "data"
        self.spool = folder / "spool"
        self.disk = Preload(folder / "disk", below=self.data_dir)
        self.clock = Preload(folder / "clock")
        self._arguments = ("--flush-interval", self.dice.choice(("0.2", "1", "3600")))
        self.service = self._service()
        self.relay = Relay(self.service.port)
        self._agent_log = (folder / "agent.log").open("ab")
        self.agent = self._agent()
        self.stopping = threading.Event()
        self.senders = [_Sender(self.relay.url, number, self.stopping) for number in range(_SENDERS)]
        for sender in self.senders:
            sender.start()

    def _service(self) -> RunningService:
        environment = clean_environment(**self.disk.environment)
        return RunningService(self.data_dir, *self._arguments, environment=environment)

    def _agent(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "--interval", "10ms", "--samples", "10", "--user-id", _AGENT,
             "--url", self.relay.url, "--spool-dir", str(self.spool)],
            cwd=ROOT, env=clean_environment(**self.clock.environment), stdout=self._agent_log, stderr=self._agent_log,
        )  # fmt: skip

    def start_service(self) -> None:
        """Start the service again, after its end."""
        self.service = self._service()
        self.relay.target = self.service.port

    def start_agent(self) -> None:
        """Start the agent again, after its end."""
        self.agent = self._agent()

    @property
    def acknowledged(self) -> int:
        """The senders' reports that were acknowledged so far."""
        return sum(sender.acknowledged for sender in self.senders)

    def load(self, reports: int) -> None:
        """Wait until so many more reports are acknowledged."""
        least = self.acknowledged + reports
        wait_until(lambda: self.acknowledged >= least, "load", 120)

    def finish(self) -> tuple[int, int, int, int]:
        """Let everything come to rest, and count what was acknowledged, is lost, is there twice, was put aside."""
        self.disk.fail_writes("none")
        self.disk.shift_clock(0)
        self.service.kill()
        self.start_service()
        self.load(30)
        self.stopping.set()
        for sender in self.senders:
            sender.join()
        wait_until(self._agent_rests, "the agent's spool to empty", 300)
        lost = doubled = 0
        with self.service.client() as client:
            for sender in self.senders:
                span = {"start": T0, "end": T0 + 90_000_000, "resample_rate": "1s", "stat": "count"}
                found = entries(history(client, sender.user, **span))
                lost += max(0, sender.acknowledged - len(found))
                doubled += sum(value > 1 for _, value in found)
            made, missing, twice, aside = self._agents_windows(client)
        return self.acknowledged + made, lost + missing, doubled + twice, aside

    def _agent_rests(self) -> bool:
        """Whether the agent has sent all it had; it is stopped, and started again where it has more."""
        self.agent.terminate()
        self.agent.wait(60)
        if self._spooled("SELECT count(*) FROM report") == 0:
            return True
        self.start_agent()
        time.sleep(1)
        return False

    def _spooled(self, query: str) -> int:
        with contextlib.closing(sqlite3.connect(self.spool / "spool.db")) as db:
            return int(db.execute(query).fetchone()[0] or 0)

    def _agents_windows(self, client: httpx.Client) -> tuple[int, int, int, int]:
        """How many windows the agent has finished, the service lacks, the service has twice, the agent put aside.

        It puts aside what the service refuses by its clock, where an earlier attempt may have brought it there.
        """
        letters = self.spool / "refused.ndjson"
        aside = len(letters.read_bytes().splitlines()) if letters.exists() else 0
        made = self._spooled("SELECT max(number) FROM given_out") - aside
        moment = now_ms()
        # What was sampled while a clock was off may be filed as far off as the service's was.
        span = {"start": moment - 4 * DAY_MS, "end": moment + 4 * DAY_MS, "resample_rate": "raw"}
        rows = client.get(f"/api/v1/windows/byUser/{_AGENT}", params=span).raise_for_status().json()["windows"]
        times = [row["time"] for row in rows]
        return made, max(0, made - len(set(times))), len(times) - len(set(times)), aside

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for end in (self.relay.close, self.service.kill, self.agent.kill, self._agent_log.close):
            end()
        self.agent.wait()


# The faults


def kill_all(campaign: Campaign) -> None:
    """kill -9 of all processes of the service."""
    campaign.service.kill()
    campaign.start_service()


def kill_worker(campaign: Campaign) -> None:
    """kill -9 of the process that answers, where it is there; the other starts a new one."""
    with contextlib.suppress(ValueError):  # it has ended by itself
        campaign.service.worker().send_signal(signal.SIGKILL)


def stop_and_go_on(campaign: Campaign) -> None:
    """SIGSTOP for a while."""
    with contextlib.suppress(ValueError):
        worker = campaign.service.worker()
        worker.send_signal(signal.SIGSTOP)
        time.sleep(campaign.dice.uniform(0.1, 1.0))
        worker.send_signal(signal.SIGCONT)


def kill_agent(campaign: Campaign) -> None:
    """kill -9 of the agent."""
    campaign.agent.kill()
    campaign.agent.wait()
    campaign.start_agent()


def cut_connections(campaign: Campaign) -> None:
    """All connections end, some times in a row."""
    for _ in range(campaign.dice.randint(1, 10)):
        campaign.relay.cut()
        time.sleep(campaign.dice.uniform(0.0, 0.1))


def step_the_agents_clock(campaign: Campaign) -> None:
    """The agent's wall clock is minutes or years off from now on."""
    campaign.clock.shift_clock(campaign.dice.choice((-1, 1)) * campaign.dice.choice((600, 3 * DAY_S, 400 * DAY_S)))


def step_the_services_clock(campaign: Campaign) -> None:
    """The service's wall clock is minutes or days off from now on; it may be started again with it."""
    # Windows of which it is not known whether they were taken wait until they are no more than 300 s ahead.
    campaign.disk.shift_clock(campaign.dice.choice((-1, 1)) * campaign.dice.choice((30, 330, 3 * DAY_S)))
    if campaign.dice.random() < 0.5:
        kill_all(campaign)


def failing_writes(fault: Fault) -> Callable[[Campaign], None]:
    """Some or all writes of the service fail for a while; then it goes on, or is killed."""

    def inject(campaign: Campaign) -> None:
        campaign.disk.fail_writes(fault, campaign.dice.choice((20, 300, 1000)))
        time.sleep(campaign.dice.uniform(0.2, 1.5))
        campaign.disk.fail_writes("none")
        if campaign.dice.random() < 0.5:
            kill_all(campaign)

    return inject


def flip_a_bit(campaign: Campaign) -> None:
    """Down, one bit of what is kept is another: `verify` finds it; it is put right, as from a backup."""
    assert campaign.service.stop() == 0
    # Without checksums, which a service writes that ends in order, `verify` says itself that it finds no changed text.
    assert "the service has ended" in campaign.service.log[-400:], campaign.service.log
    chosen = [path for path in campaign.data_dir.rglob("*.parquet") if path.stat().st_size]
    chosen += [campaign.data_dir / name for name in ("loadlens.duckdb", "control.db")]
    path = campaign.dice.choice(sorted(chosen))
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[campaign.dice.randrange(len(damaged))] ^= 1 << campaign.dice.randrange(8)
    path.write_bytes(damaged)
    found = subprocess.run(
        [sys.executable, "-m", "service", "verify", str(campaign.data_dir)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert found.returncode == 1, f"a flipped bit in {path.name} was not found: {found.stdout}{found.stderr}"
    path.write_bytes(content)
    campaign.start_service()


FAULTS: dict[str, Callable[[Campaign], None]] = {
    "kill -9 of the service": kill_all,
    "kill -9 of its worker": kill_worker,
    "SIGSTOP": stop_and_go_on,
    "kill -9 of the agent": kill_agent,
    "cut connections": cut_connections,
    "a step of the agent's clock": step_the_agents_clock,
    "a step of the service's clock": step_the_services_clock,
    "ENOSPC": failing_writes("no space"),
    "EIO": failing_writes("device error"),
    "short writes": failing_writes("short writes"),
    "a flipped bit at rest": flip_a_bit,
}


def run(plan: Plan) -> Outcome:
    """Run a campaign."""
    folder = Path(tempfile.mkdtemp(prefix="loadlens-faults-"))
    with Campaign(plan.seed, folder) as campaign:
        campaign.load(30)
        for name in plan.faults:
            FAULTS[name](campaign)
            campaign.load(campaign.dice.choice((5, 50)))
        outcome = Outcome(Counter(plan.faults), *campaign.finish())
    if not outcome.lost and not outcome.doubled:
        shutil.rmtree(folder)  # what failed is kept
    return outcome


def _tried(plan: Plan) -> Outcome | None:
    """Run a campaign and say what came of it; its plan is kept where it failed. None where it came to no end."""
    try:
        outcome = run(plan)
    except Exception as error:  # noqa: BLE001 - the other seeds go on
        outcome, counts = None, f"{type(error).__name__}: {error}"
    else:
        counts = f"{outcome.acknowledged} acknowledged, {outcome.lost} lost, {outcome.doubled} doubled"
        counts += f", {outcome.aside} put aside"
    print(f"{plan}: {counts}", file=sys.stderr, flush=True)
    if (outcome is None or outcome.lost or outcome.doubled) and plan not in failed():
        with FAILED.open("a", encoding="utf-8") as file:
            file.write(f"{plan}\n")
        print(f"it is in {FAILED.name} now", file=sys.stderr, flush=True)
    return outcome


def main() -> int:
    """Run from the command line; returns 1 where something was lost or counted twice, or did not come to an end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--faults", type=int, default=_FAULTS_EACH, help="in each campaign")
    parser.add_argument("--beside", type=int, default=1, help="campaigns that run at once")
    parser.add_argument("--only", choices=sorted(FAULTS), help="this fault and no others")
    parser.add_argument("--failed", action="store_true", help="run those that failed once")
    chosen = parser.parse_args()
    plans: Sequence[Plan] = [Plan.of(seed, chosen.faults) for seed in range(chosen.first, chosen.first + chosen.seeds)]
    if chosen.only:
        plans = [Plan(plan.seed, (chosen.only,) * chosen.faults) for plan in plans]
    with ThreadPoolExecutor(chosen.beside) as pool:
        tried = [*pool.map(_tried, failed() if chosen.failed else plans)]
    outcomes = [one for one in tried if one is not None]
    print("| fault | tried | acknowledged | lost | doubled | put aside |\n| --- | --- | --- | --- | --- | --- |")
    for name in FAULTS:
        having = [one for one in outcomes if one.tried[name]]
        sums = [sum(column) for column in zip(*(one[1:] for one in having), strict=True)] or [0, 0, 0, 0]
        print(f"| {name} | {sum(one.tried[name] for one in having)} | {' | '.join(map(str, sums))} |")
    return int(len(outcomes) < len(tried) or any(one.lost or one.doubled for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
