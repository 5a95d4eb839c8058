"""Who uses the CPU: what a look at all processes finds, what it leaves to the others, and whose names it may show."""

import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from agent.plan import checked_plan
from agent.probes import NotMeasured
from agent.processes import ProcessTable, ProcessWatch, unit_of
from contract import times
from contract.agent_protocol import SettingsInForce
from contract.processes import Consumer, ProcessUse
from contract.report import Report, decode_report, encode
from contract.validation import check
from tests.support.reports import as_json, small

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
HOSTILE = b"a) R <b>\n\x1b[31m\xff \xe2\x80\xae("


class Proc:
    """A folder that looks as /proc does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.busy(0)

    def busy(self, ticks: int) -> None:
        """So much time was used by all since the start, on two cores."""
        (self.folder / "stat").write_text(f"cpu {ticks} 0 0 100000\ncpu0 1 0 0 1\ncpu1 1 0 0 1\nintr 0\n")

    def process(
        self, pid: int, ticks: int, name: bytes = b"job", *, started: int = 5,
        cgroup: str = "0::/system.slice/a.service", command: bytes = b"job\0--password=hunter2",
    ) -> None:  # fmt: skip
        """A process that has used so much time."""
        folder = self.folder / str(pid)
        folder.mkdir(exist_ok=True)
        numbers = f" S 1 1 1 0 -1 4194304 9 0 0 0 {ticks} 0 7 7 20 0 1 0 {started} 1000000 25 18446744073709551615"
        (folder / "stat").write_bytes(b"%d (%s)" % (pid, name) + numbers.encode())
        (folder / "status").write_text(f"Name:\tx\nUid:\t0\t{os.geteuid()}\t0\t0\n")
        (folder / "cgroup").write_text(cgroup + "\n")
        (folder / "cmdline").write_bytes(command)

    def end(self, pid: int) -> None:
        """A process is gone."""
        for file in (self.folder / str(pid)).iterdir():
            file.unlink()
        (self.folder / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def table(proc: Proc, detail: str = "names") -> ProcessTable:
    return ProcessTable(detail, str(proc.folder), least_s=0.0)  # type: ignore[arg-type]


def used(table: ProcessTable) -> ProcessUse:
    """What was used in a minute."""
    use = table.use(time.monotonic() + 60.0)
    assert use is not None
    return use


def test_what_was_used_before_the_first_look_is_left_out(proc: Proc) -> None:
    proc.process(1, 5000)
    looked = table(proc)
    proc.process(1, 5020)
    proc.busy(20)
    [one] = used(looked).processes
    assert one.cpu_s == pytest.approx(20 * TICK_S)
    assert used(looked).processes == []


def test_parts_add_up_to_the_whole_and_what_is_not_seen_is_said(proc: Proc) -> None:
    for pid in range(1, 10):
        proc.process(pid, 0, b"p%d" % pid)
    looked = table(proc)
    for pid in range(1, 10):
        proc.process(pid, 10 * pid, b"p%d" % pid)
    proc.busy(500)  # 450 of those that are there; what is left began and ended between the looks
    use = used(looked)
    assert [one.name for one in use.processes] == ["p9", "p8", "p7", "p6", "p5"]
    assert use.busy_s == pytest.approx(500 * TICK_S)
    assert use.unseen_s == pytest.approx(50 * TICK_S)
    assert use.processes_beyond_s == pytest.approx(40 * TICK_S)
    assert use.cores == 2
    [unit] = use.units
    assert (unit.name, unit.cpu_s) == ("a.service", pytest.approx(450 * TICK_S))


def test_parts_never_exceed_the_whole(proc: Proc) -> None:
    proc.process(1, 0)
    looked = table(proc)
    proc.process(1, 50)
    proc.busy(30)  # the kernel counts it by ticks
    use = used(looked)
    assert use.busy_s == use.processes[0].cpu_s == pytest.approx(50 * TICK_S)
    assert use.unseen_s == 0.0


def test_what_cannot_be_of_the_time_is_not_told(proc: Proc) -> None:
    looked = table(proc)
    proc.process(1, 1_000_000, b"there all along")
    assert looked.use(time.monotonic() + 60.0) is None
    proc.process(1, 1_000_050, b"there all along")
    [one] = used(looked).processes
    assert one.cpu_s == pytest.approx(50 * TICK_S)


def test_new_processes_count_and_one_with_a_number_that_was_used_before_is_another(proc: Proc) -> None:
    proc.process(1, 1000)
    looked = table(proc)
    proc.end(1)
    proc.process(1, 30, b"other", started=99)
    proc.process(2, 20, b"new", started=98)
    proc.busy(60)
    use = used(looked)
    assert {one.name: round(one.cpu_s / TICK_S) for one in use.processes} == {"other": 30, "new": 20}


def test_processes_of_one_name_and_unit_are_one_unless_their_commands_are_told(proc: Proc) -> None:
    for detail, names in (("names", 1), ("full", 2)):
        proc.process(1, 0)
        proc.process(2, 0, command=b"job\0--other")
        looked = table(proc, detail)
        proc.process(1, 5)
        proc.process(2, 6, command=b"job\0--other")
        proc.busy(100)
        use = used(looked)
        assert len(use.processes) == names
        assert ("hunter2" in str(msgspec.json.encode(use))) == (detail == "full")


def test_a_process_that_becomes_another_program_is_called_as_that(proc: Proc) -> None:
    proc.process(1, 0, b"sh")
    looked = table(proc)
    proc.process(1, 5, b"backup", cgroup="0::/system.slice/backup.service")
    [one] = used(looked).processes
    assert (one.name, one.unit) == ("backup", "backup.service")


def test_hostile_names_become_printable_and_short(proc: Proc) -> None:
    proc.process(1, 0, HOSTILE, command=b"\x00" + b"x" * 5000, cgroup="0::/" + "\x1b[2J" * 100)
    looked = table(proc, "full")
    proc.process(1, 7, HOSTILE, command=b"\x00" + b"x" * 5000)
    proc.busy(7)
    use = used(looked)
    [one] = use.processes
    assert one.name.startswith("a) R <b>")
    assert len(one.command) <= 256
    assert len(one.unit) <= 128
    report = msgspec.structs.replace(decode_report(as_json(small("a", times.now_ms()))), processes=use)
    assert check(decode_report(encode(report)), times.now_ms()) == []


def test_two_looks_within_a_millisecond_are_still_a_report_that_is_taken(proc: Proc) -> None:
    proc.process(1, 0)
    looked = table(proc)
    moment = time.monotonic() + 1.0
    assert looked.use(moment) is not None
    use = looked.use(moment + 1e-4)
    assert use is not None
    report = msgspec.structs.replace(decode_report(as_json(small("a", times.now_ms()))), processes=use)
    assert check(decode_report(encode(report)), times.now_ms()) == []


def test_looks_are_not_closer_together_than_their_cost_allows(proc: Proc) -> None:
    proc.process(1, 0)
    looked = ProcessTable("names", str(proc.folder), least_s=3600.0)
    assert looked.use() is None


def test_a_folder_that_is_no_proc_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="cannot be looked at"):
        ProcessTable("names", str(tmp_path))


@pytest.mark.parametrize(
    ("lines", "unit"),
    [
        (["0::/system.slice/backup.service"], "backup.service"),
        (["0::/"], ""),
        (["12:cpu:/x", "1:name=systemd:/system.slice/cron.service", "0::/"], "cron.service"),
        (["0::/user.slice/user-1000.slice/session-3.scope"], "user-1000.slice"),
        (["0::/system.slice/docker-" + "0123456789abcdef" * 4 + ".scope"], "docker-0123456789ab"),
        (["1:name=systemd:/docker/" + "0123456789abcdef" * 4], "0123456789ab"),
        ([], ""),
        (["rubbish"], ""),
    ],
)
def test_units_are_those_of_systemd_and_containers(lines: list[str], unit: str) -> None:
    assert unit_of(lines) == unit


def test_nothing_is_looked_at_unless_it_is_asked_for() -> None:
    off = SettingsInForce(interval=1.0, samples=1, metrics=["load"])
    watch = ProcessWatch(0.0)
    assert watch.use(checked_plan(off, off, "")) is None
    named = checked_plan(msgspec.structs.replace(off, processes="names"), off, "1")
    watch.follow(named)
    while (use := watch.use(named)) is None:
        pass
    assert use.seconds > 0.0
    assert watch.use(checked_plan(off, off, "")) is None


@pytest.mark.parametrize("wrong", [Consumer("evil\x1b[2J", 0.1), Consumer("x", 99.0)])
def test_a_report_with_processes_that_cannot_be_is_refused(wrong: Consumer) -> None:
    use = ProcessUse(seconds=5.0, cores=2, busy_s=1.0, processes=[wrong])
    report = msgspec.structs.replace(decode_report(as_json(small("a", times.now_ms()))), processes=use)
    assert check(report, times.now_ms())[0].pointer.startswith("/processes/processes")


def test_a_report_without_processes_is_as_it_was_before() -> None:
    report = decode_report(as_json(small("a", 1_531_402_665_626)))
    assert isinstance(report, Report)
    assert b"processes" not in encode(report)
