"""The story of who did it: known programs burn, and the service names them with what the kernel says they used."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import analytics
from analytics.sources.service import Client
from analytics.sources.service_answers import OTHERS
from contract.times import DAY_MS
from tests.support.agents import RunningAgent
from tests.support.burners import BURN, DUTIES
from tests.support.running import RunningService, wait_until

pytestmark = [pytest.mark.server, pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with RunningService(tmp_path / "data") as service:
        yield service


def test_known_programs_are_named_with_what_the_kernel_says_they_used(service: RunningService, tmp_path: Path) -> None:
    options = ("--processes", "names", "--interval", "50ms", "--samples", "20")
    with (
        RunningAgent("--url", service.url, "--spool-dir", str(tmp_path / "spool"), *options),
        analytics.connect(service.url) as client,
    ):
        wait_until(lambda: "test" in client.users()["user"].tolist(), "the agent")
        burners: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for name, duty in DUTIES.items():
                # A program is called as the file that was run.
                (tmp_path / name).symlink_to(sys.executable)
                burners[name] = subprocess.Popen(
                    [str(tmp_path / name), "-S", "-c", BURN, str(duty)], env={"PYTHONHOME": sys.base_prefix}
                )
            wait_until(lambda: burners.keys() <= _named(client), "the burners", 300.0)
            for burner in burners.values():
                burner.send_signal(signal.SIGSTOP)
            # A window that ends from now on is told of by a look at what they had used by then.
            stopped_ms = time.time_ns() // 1_000_000 + 1
            wait_until(
                lambda: client.who_document("test", start=stopped_ms, end=stopped_ms + DAY_MS)["seconds"] > 0.0,
                "a look at all that they used", 300.0,
            )  # fmt: skip
        finally:
            used = {name: _ended(burner) for name, burner in burners.items()}
        whole = client.who("test", start=20_000_000_000, top=100).set_index("name")
        frame = client.who("test", start=time.time_ns() // 1_000_000 - DAY_MS, top=100, rate="1m")
    busy_s = whole["cpu_s"].sum()
    assert whole["share"].sum() == pytest.approx(1.0)
    assert whole.index[-1] == OTHERS
    for name, cpu_s in used.items():
        # To a tick at the end, and where a window did not name it within what is said of that.
        told_s, most_s = whole.loc[name, "cpu_s"], whole.loc[name, "at_most_s"]
        assert told_s <= cpu_s + 0.05
        assert most_s >= cpu_s - 0.05
        # Two points of what the kernel says, which is what pidstat reads, but for windows that did not name it.
        assert abs(told_s - cpu_s) / busy_s <= 0.02 + (most_s - told_s) / busy_s
    assert analytics.who(frame, top=100).set_index("name")["cpu_s"].to_dict() == pytest.approx(whole["cpu_s"].to_dict())


def _named(client: Client) -> set[str]:
    return {one["name"] for one in client.who_document("test", start=20_000_000_000, top=100)["top"]}


def _ended(burner: "subprocess.Popen[bytes]") -> float:
    """The CPU time that a process used in all its life, by the kernel."""
    burner.kill()
    _, status, usage = os.wait4(burner.pid, 0)
    burner.returncode = status
    return usage.ru_utime + usage.ru_stime
