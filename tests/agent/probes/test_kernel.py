"""What only Linux tells: kinds of CPU time that add up, context switches, run queue, pressure."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.probes import NotMeasured
from agent.probes.base import QuantitySamples
from agent.probes.kernel import Shares, kinds_of_time, pressure_of, scheduler_of, times_of
from contract.metrics import Times

#        user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = "cpu  1000 10 500 8000 300 5 6 70 200 2"
AFTER = "cpu  1090 10 540 8040 290 8 9 80 220 2"


def sampled(*lines: str) -> Times:
    readings = iter(times_of([line]) for line in lines)
    probe = Shares(Times, 0.05, lambda: next(readings), kinds_of_time)
    probe.restart(0.0)
    for second in range(1, len(lines)):
        assert probe.sample(float(second))
    samples = probe.collect()
    assert isinstance(samples, QuantitySamples)
    metric = samples.metric(1)
    assert isinstance(metric, Times)
    return metric


def test_kinds_are_shares_of_all_time_and_guests_count_once() -> None:
    told = sampled(BEFORE, AFTER)
    # 70 of programs, 20 of guests, 40 of the kernel, 6 of interrupts, 10 stolen, 40 idle; iowait went back.
    shares = {name: getattr(told, name).mean for name in ("user", "guest", "system", "irq", "steal", "iowait", "work")}
    assert shares == pytest.approx(
        {"user": 70 / 186, "guest": 20 / 186, "system": 40 / 186, "irq": 6 / 186, "steal": 10 / 186, "iowait": 0.0,
         "work": 136 / 186}
    )  # fmt: skip


def test_work_and_steal_are_what_counts_as_busy() -> None:
    told = sampled(BEFORE, AFTER)
    kinds = (told.user, told.system, told.irq, told.steal, told.guest)
    assert sum(kind.mean for kind in kinds) == pytest.approx(told.work.mean + told.steal.mean)


def test_a_reading_that_has_not_moved_is_left_to_the_next() -> None:
    told = sampled(BEFORE, BEFORE, AFTER)
    assert told.user.mean == pytest.approx(70 / 186)
    assert told.user.observations == 2


@pytest.mark.parametrize("lines", [[], ["cpu 1 2 3 4"], ["intr 5"]])
def test_a_system_that_does_not_tell_its_kinds_says_so(lines: Sequence[str]) -> None:
    with pytest.raises(NotMeasured):
        times_of(lines)


def test_of_several_lines_the_one_that_counts_is_taken() -> None:
    assert times_of(["cpu  0 0 0 0 0 0 0 0 0 0", BEFORE]) == times_of([BEFORE])


def test_the_run_queue_is_without_who_asks() -> None:
    assert scheduler_of(["cpu 1", "ctxt 12345", "procs_running 3", "procs_blocked 1"]) == (12345, 2, 1)
    with pytest.raises(NotMeasured, match="procs_blocked"):
        scheduler_of(["ctxt 12345", "procs_running 3"])


def test_pressure_is_the_time_in_which_some_or_all_waited(tmp_path: Path) -> None:
    for place, resource in enumerate(("cpu", "memory", "io"), 1):
        averages = "avg10=0.00 avg60=0.00 avg300=0.00"
        (tmp_path / resource).write_text(f"some {averages} total={place}00\nfull {averages} total={place}\n")
    assert pressure_of(str(tmp_path)) == (100, 200, 2, 300, 3)


def test_a_kernel_without_pressure_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match=r"Linux 4\.20"):
        pressure_of(str(tmp_path / "pressure"))
