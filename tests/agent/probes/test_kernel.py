"""What only Linux tells: kinds of CPU time that add up, context switches, run queue, pressure."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.probes import NotMeasured
from agent.probes.base import QuantitySamples
from agent.probes.kernel import TimesProbe, pressure_of, scheduler_of, times_of
from contract.metrics import Times

#        user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = "cpu  1000 10 500 8000 300 5 6 70 200 2"
AFTER = "cpu  1090 10 540 8040 290 8 9 80 220 2"


def sampled(*lines: str) -> Times:
    readings = iter(times_of([line]) for line in lines)
    probe = TimesProbe(0.05, lambda: next(readings))
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
    # 70 of programs, 20 of guests, 40 of the kernel, 6 of interrupts, 10 stolen; of 30 idle 10 had been waiting before.
    shares = {name: getattr(told, name).mean for name in ("user", "guest", "system", "irq", "steal", "iowait", "work")}
    assert shares == pytest.approx(
        {"user": 70 / 176, "guest": 20 / 176, "system": 40 / 176, "irq": 6 / 176, "steal": 10 / 176, "iowait": 0.0,
         "work": 136 / 176}
    )  # fmt: skip


def test_work_and_steal_are_what_counts_as_busy() -> None:
    told = sampled(BEFORE, AFTER)
    kinds = (told.user, told.system, told.irq, told.steal, told.guest)
    assert sum(kind.mean for kind in kinds) == pytest.approx(told.work.mean + told.steal.mean)


def test_a_reading_that_has_not_moved_is_left_to_the_next() -> None:
    told = sampled(BEFORE, BEFORE, AFTER)
    assert told.user.mean == pytest.approx(70 / 176)
    assert told.user.observations == 2


def line(work: int, idle: int, iowait: int = 0, steal: int = 0) -> str:
    return f"cpu  {work} 0 0 {idle} {iowait} 0 0 {steal} 0 0"


def test_time_moved_between_idle_and_waiting_is_no_time() -> None:
    """As the CPU's own probe has it: 25 of 100 ticks a second are work, whatever the kernel calls the rest."""
    told = sampled(line(0, 1000, 500), line(25, 1125, 450), line(50, 1200, 450), line(75, 1200, 525))
    assert told.work.mean == pytest.approx(0.25, abs=1e-12)
    assert (told.work.minimum, told.work.maximum) == pytest.approx((0.25, 0.25))
    assert told.iowait.mean == pytest.approx(0.25)


def test_a_counter_that_goes_back_for_a_moment_is_joined_to_the_next_reading() -> None:
    told = sampled(*(line(20 * second, 80 * second - 90 * (second == 5)) for second in range(11)))
    assert told.work.mean == pytest.approx(0.2, abs=1e-12)
    assert (told.work.minimum, told.work.maximum) == pytest.approx((0.2, 0.2))
    assert told.work.observations == 10


def test_stolen_time_that_is_set_back_for_good_is_counted_from_there() -> None:
    told = sampled(line(0, 0, 0, 900), line(20, 80, 0, 0), line(40, 160, 0, 0), line(60, 240, 0, 0))
    assert (told.work.minimum, told.work.maximum) == pytest.approx((0.2, 0.2))
    assert told.steal.maximum == 0.0


def test_times_that_never_move_are_no_measurement() -> None:
    probe = TimesProbe(0.05, lambda: [0] * 7)
    probe.restart(0.0)
    assert probe.sample(1.0)
    with pytest.raises(NotMeasured, match="do not move"):
        probe.sample(11.0)


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
