"""Fleets on a cluster, simulated from what a report costs: how busy each process is, and who waits when one dies.

    .venv/bin/python bench/simulate.py [--draws 20] [--seed 1]

Hosts are in the partitions that the service would put them in, and report every 5 s. Each process does what it has to,
oldest first, at the speed of one core; costs are those that docs/scaling.md says were measured. Partitions are shared
by as many writers as a row names, each with some of the 64 (the service has one writer today), and groups of processes
that take reports follow a part of the log each (today each follows all of it). When a writer dies, a spare one has its
partitions as soon as it has the lease and has read the ledger. When the NATS node dies that leads the log, nothing is
acknowledged until another leads, and agents spool meanwhile. When exactly each happens is drawn, again and again, from
the same seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from options import Options
from output import number, table

from service.cluster.lease import RENEW_S, STALE_S
from service.cluster.partitions import PARTITIONS, partition_of

_INTERVAL_S = 5.0
_INGEST_S, _FOLLOW_S, _WRITE_S = 0.14e-3, 0.03e-3, 0.10e-3
"""Of a core a report: to take it, to follow it, to write it, with three nodes of NATS."""
_NATS_S = 0.05e-3
"""Of each of three nodes."""
_READ_LEDGER_S = (0.5, 2.0)
"""Of a writer that takes over, before it writes."""
_ELECTION_S = (4.0, 9.0)
"""Until another node of NATS 2.9 leads."""
_STEP_S = 0.05
_FAULT_S = 20.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setup:
    """A fleet, and who works for it."""

    name: str
    agents: int
    apis: int
    groups: int = 1
    """Into so many parts is the log split for those who follow it."""
    writers: int = 1

    @cached_property
    def rates(self) -> Floats:
        """The reports a second in each partition."""
        places = [partition_of(f"host-{number}") for number in range(self.agents)]
        return np.bincount(places, minlength=PARTITIONS) / _INTERVAL_S

    @property
    def taken(self) -> float:
        """Reports a second that the processes can take in all."""
        return 1 / (_INGEST_S / self.apis + _FOLLOW_S / self.groups)

    def writer_of(self) -> npt.NDArray[np.int64]:
        """The writer of each partition."""
        return np.arange(PARTITIONS) % self.writers


@dataclass(frozen=True)
class Outcome:
    """What a fault did."""

    waited_s: float
    """The longest that a report waited, until it was acknowledged or in the store."""
    after_s: float
    """Until nothing waited any more that did not before."""


def _busy(setup: Setup) -> tuple[float, float, float]:
    """The share of a core of the busiest process that takes reports, of the busiest writer, and of each NATS node."""
    rates = setup.rates
    writers = np.bincount(setup.writer_of(), weights=rates, minlength=setup.writers) * _WRITE_S
    return float(rates.sum() / setup.taken), float(writers.max()), float(rates.sum() * _NATS_S)


def _outcome(arrived: Floats, done: Floats, fault_s: float) -> Outcome:
    """From how many reports of each partition had come and were done at each step."""
    steps = len(arrived)
    time = np.arange(steps) * _STEP_S
    longest = 0.0
    for came, went in zip(arrived.T, done.T, strict=True):
        # What is done at a step had come when as many had.
        waits = time - np.interp(went, came, time)
        longest = max(longest, float(waits.max()))
    behind = (arrived - done).sum(axis=1)
    usual = behind[int(fault_s / _STEP_S) - 1] + arrived[1].sum()
    late = np.flatnonzero(behind > usual)
    return Outcome(longest, float(time[late[-1]] - fault_s) if late.size else 0.0)


def _writer_dies(setup: Setup, away_s: float, span_s: float) -> Outcome:
    """The first writer's partitions are written by nobody for a while, then by a spare one."""
    rates = setup.rates
    writer = setup.writer_of()
    waiting, steps = np.zeros(PARTITIONS), int(span_s / _STEP_S)
    arrived = np.cumsum(np.tile(rates * _STEP_S, (steps, 1)), axis=0)
    done = np.zeros_like(arrived)
    for step in range(steps):
        waiting += rates * _STEP_S
        each = np.bincount(writer, weights=waiting, minlength=setup.writers)
        share = np.minimum(1.0, np.divide(_STEP_S / _WRITE_S, each, out=np.ones_like(each), where=each > 0))
        if _FAULT_S <= step * _STEP_S < _FAULT_S + away_s:
            share[0] = 0.0
        written = waiting * share[writer]
        waiting -= written
        done[step] = written
    return _outcome(arrived, np.cumsum(done, axis=0), _FAULT_S)


def _leader_dies(setup: Setup, away_s: float, span_s: float) -> Outcome:
    """Nobody acknowledges anything for a while; then what agents have spooled is taken with what is new."""
    rates = setup.rates
    waiting, steps = np.zeros(PARTITIONS), int(span_s / _STEP_S)
    arrived = np.cumsum(np.tile(rates * _STEP_S, (steps, 1)), axis=0)
    done = np.zeros_like(arrived)
    for step in range(steps):
        waiting += rates * _STEP_S
        is_away = _FAULT_S <= step * _STEP_S < _FAULT_S + away_s
        taken = waiting * (0.0 if is_away else min(1.0, setup.taken * _STEP_S / waiting.sum()))
        waiting -= taken
        done[step] = taken
    return _outcome(arrived, np.cumsum(done, axis=0), _FAULT_S)


def _shown(outcomes: Sequence[Outcome], span_s: float) -> list[str]:
    """The longest wait of the median draw and of the worst, and the time until all is as before."""
    waited = [outcome.waited_s for outcome in outcomes]
    after = max(outcome.after_s for outcome in outcomes)
    ends = after < span_s - _FAULT_S - 2 * _STEP_S
    return [f"{np.median(waited):.1f}, {max(waited):.1f}", number(after) if ends else "never"]


def _row(setup: Setup, draws: int, seed: int, span_s: float) -> list[str]:
    rng = np.random.default_rng(seed)
    api, writer, nats = _busy(setup)
    shown = [setup.name, f"{setup.agents / _INTERVAL_S:,.0f}", number(api), number(writer), number(nats)]
    if max(api, writer, nats) >= 1:
        return [*shown, *["more than a core"] * 4]
    leases = STALE_S - rng.uniform(0, RENEW_S, draws) + rng.uniform(0, RENEW_S, draws)
    away = leases + rng.uniform(*_READ_LEDGER_S, draws)
    written = [_writer_dies(setup, one, span_s) for one in away]
    taken = [_leader_dies(setup, one, span_s) for one in rng.uniform(*_ELECTION_S, draws)]
    return [*shown, *_shown(written, span_s), *_shown(taken, span_s)]


def main() -> None:
    """Simulate each fleet."""
    options = Options(__doc__)
    options.size("--draws", 20, tiny=2, help="how often each fault happens")
    options.size("--seed", 1, tiny=1, help="what is drawn")
    options.size("--span", 120.0, tiny=60.0, help="seconds that each fault is looked at")
    asked = options.parse()
    setups = [
        Setup("10,000 agents, as it is", 10_000, apis=2),
        Setup("25,000 agents, as it is", 25_000, apis=2),
        Setup("35,000 agents, as it is", 35_000, apis=3),
        Setup("50,000 agents, as it is", 50_000, apis=4),
        Setup("50,000 agents, two writers", 50_000, apis=4, writers=2),
        Setup("80,000 agents, four writers, two groups", 80_000, apis=8, groups=2, writers=4),
        Setup("1,000,000 agents, 64 writers, 64 groups", 1_000_000, apis=128, groups=64, writers=64),
    ]
    print("Of a core, what the busiest process of each kind uses; seconds, of the median draw and of the worst.\n")
    headers = (
        "One log", "reports/s", "api", "writer", "NATS node", "a writer dies: store behind", "as before after",
        "the log's leader dies: reports wait", "as before after",
    )  # fmt: skip
    print(table(headers, [_row(one, asked.draws, asked.seed, asked.span) for one in setups]))


if __name__ == "__main__":
    main()
