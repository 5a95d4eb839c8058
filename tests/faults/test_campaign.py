"""Every acknowledged report is answered exactly once, whatever happens to machines, processes and disks meanwhile."""

import pytest

from tests.faults.campaign import run
from tests.faults.preload import can_build

pytestmark = [pytest.mark.server, pytest.mark.skipif(not can_build(), reason="there is no C compiler")]


@pytest.mark.timeout(900)  # a machine that is ten times slower
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost_or_counted_twice(seed: int) -> None:
    outcome = run(seed, faults=4)
    assert (outcome.lost, outcome.doubled) == (0, 0), outcome
    assert outcome.acknowledged > 0
