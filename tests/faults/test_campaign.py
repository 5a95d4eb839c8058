"""Every acknowledged report is answered exactly once, whatever happens to hosts, processes and disks meanwhile."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.campaign import FAULTS, Outcome, Plan, failed, run
from tests.faults.preload import can_build, library

pytestmark = [pytest.mark.server, pytest.mark.skipif(not can_build(), reason="there is no C compiler")]

SEEDS = range(1, 11)
PLANS = [*(Plan.of(seed, faults=3) for seed in SEEDS), *failed()]
AT_ONCE = 4
"""A campaign mostly waits: for a disk that is to be full, for a process that starts."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[Plan, Future[Outcome]]]:
    """What comes of every plan; they run beside each other."""
    library()
    pool = ThreadPoolExecutor(AT_ONCE)
    yield {plan: pool.submit(run, plan) for plan in PLANS}
    pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(1800)  # a machine that is ten times slower
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_nothing_acknowledged_is_lost_or_counted_twice(plan: Plan, outcomes: dict[Plan, Future[Outcome]]) -> None:
    outcome = outcomes[plan].result()
    assert (outcome.lost, outcome.doubled) == (0, 0), f"add to failed.txt: {plan}"
    assert outcome.acknowledged > 0


def test_every_fault_is_tried() -> None:
    assert {name for plan in PLANS for name in plan.faults} == {*FAULTS}


def test_a_plan_is_kept_as_a_line() -> None:
    assert [Plan.parse(str(plan)) for plan in PLANS] == PLANS
