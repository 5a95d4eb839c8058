"""Readings of the CPU counters."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from agent.probes.cpu import ProcStat, PsutilTimes, UnreadableCounters, cpu_source

TICKS = os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 1
ROUNDING = 0.06


def test_a_line_is_work_steal_idle_and_iowait(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_bytes(b"cpu  1 2 4 8 16 32 64 128 256 512\ncpu7 1 2 4 8 16 32 64 128 256 512\nintr 5 1\n")
    source = ProcStat(str(file))
    cores, counters = source.read()
    assert [int(core) for core in cores] == [7]
    assert source.times(counters) == [(1 + 2 + 4 + 32 + 64, 128, 8 + 16)] * 2
    source.close()


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got none"),
        (b"intr 5 1\n", "got none"),
        (b"cpu  1 2 3\n", "got `cpu  1 2 3`"),
        (b"cpu  1 2 3 x\n", "got `cpu  1 2 3 x`"),
        (b"cpu  1 2 3 4\ncpu0 ?\n", "got `cpu0 \\?`"),
    ],
)
def test_what_is_no_line_of_counters_is_said(tmp_path: Path, content: bytes, got: str) -> None:
    file = tmp_path / "stat"
    file.write_bytes(content)
    source = ProcStat(str(file))
    with pytest.raises(UnreadableCounters, match=f"expected .*`cpu 10 0 5 90` in {file}, {got}"):
        source.times(source.read().counters)
    source.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_reading_of_this_host_agrees_with_psutil() -> None:
    source = cpu_source()
    before = psutil.cpu_times(percpu=True)
    cores, counters = source.read()
    after = psutil.cpu_times(percpu=True)
    assert len(cores) == len(before) == len(after)
    for low, times, high in zip(before, source.times(counters)[1:], after, strict=True):
        for place, fields in enumerate(("user nice system irq softirq", "steal", "idle iowait")):
            least, most = (sum(getattr(core, field) for field in fields.split()) for core in (low, high))
            assert least - ROUNDING <= times[place] / TICKS <= most + ROUNDING


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_open_file_gives_new_counters_each_time() -> None:
    source = ProcStat()
    first = source.read()
    while source.read() == first:
        pass
    source.close()


def test_any_number_of_cores_is_read_whole(tmp_path: Path) -> None:
    cores = 300
    lines = [f"cpu{core} 1000000 0 1000000 100000000 0 0 0 0 0 0" for core in range(cores)]
    file = tmp_path / "stat"
    file.write_text("\n".join(["cpu  1 2 3 4 5 6 7 8 9 10", *lines, "intr " + "0 " * 5000, "ctxt 1\n"]))
    source = ProcStat(str(file))
    reading = source.read()
    assert [int(core) for core in reading.cores] == list(range(cores))
    assert len(source.times(reading.counters)) == cores + 1
    source.close()


def test_the_way_of_macos_and_windows_gives_the_same_cores_here() -> None:
    source = PsutilTimes()
    cores, counters = source.read()
    times = source.times(counters)
    assert list(cores) == list(range(psutil.cpu_count() or 0))
    assert len(times) == len(cores) + 1
    assert times[0][2] == pytest.approx(sum(core[2] for core in times[1:]))
