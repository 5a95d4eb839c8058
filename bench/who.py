"""Who uses the CPU: what the agent says of three known programs, beside pidstat and the kernel, and what that costs.

    .venv/bin/python bench/who.py [--seconds 60]

Three programs burn known shares of a core while 500 more processes sleep. The agent (every metric, `--processes names`,
20 Hz) and pidstat (`pidstat -u -r 1`, Debian: sysstat), where it is installed, look at them at the same time. The
kernel's own count (/proc/<pid>/schedstat) says what is right. So does Netdata (Debian: netdata-core), where that is
installed, with its apps plugin alone; it keeps what it says in memory, and listens nowhere. Linux only.
"""

import getpass
import json
import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil
from agent_footprint import PROCESSES, cpu_ns, memory_mb, sleeping
from options import Options, scratch
from output import left_out, machine, number, table
from processes import Program, running, wait_until
from servers import installed

from contract.agent_protocol import METRIC_NAMES
from tests.support.burners import BURN, DUTIES

METRICS = ",".join(METRIC_NAMES)
_PIDSTAT = "pidstat -u -r, 1 Hz"
_AGENT = "loadlens-agent, 20 Hz, all metrics, names"
_APPS, _NETDATA = "Netdata's apps.plugin, 1 Hz", "the netdata that runs it, 1 Hz"
_NETDATA_CONF = """
[global]
  run as user = {user}
  hostname = bench
  process scheduling policy = keep
[directories]
  cache = {folder}
  lib = {folder}
  log = {folder}
[db]
  mode = ram
[web]
  mode = none
[health]
  enabled = no
[ml]
  enabled = no
[plugins]
  enable running new plugins = no
  apps = yes
  cgroups = no
  tc = no
  statsd = no
"""
"""It looks at the machine and its processes each second, and does nothing besides. By itself it runs only when nothing
else wants to, which is seldom beside programs that take what they can: `keep`."""


def said_by_agent(lines: Iterable[str]) -> dict[str, float]:
    """The share of a core that the reports of an agent say of each program."""
    used, seconds = dict.fromkeys(DUTIES, 0.0), 0.0
    for line in lines:
        use = json.loads(line).get("processes") if line.startswith("{") else None
        if use:
            seconds += use["seconds"]
            for one in use["processes"]:
                if one["name"] in used:
                    used[one["name"]] += one["cpu_s"]
    return {name: cpu_s / seconds for name, cpu_s in used.items()}


def said_by_pidstat(lines: Iterable[str]) -> dict[str, float]:
    """The share of a core that pidstat says of each program; `-h` writes a line for each process and second."""
    found: dict[str, list[float]] = {name: [] for name in DUTIES}
    columns: list[str] = []
    for line in lines:
        cells = line.split()
        if cells[:1] == ["#"]:
            columns = cells[1:]
        elif columns and len(cells) == len(columns) and cells[-1] in found:
            found[cells[-1]].append(float(cells[columns.index("%CPU")]) / 100)
    return {name: sum(shares) / len(shares) for name, shares in found.items() if shares}


def main() -> None:
    """Measure and print the tables."""
    parser = Options(__doc__)
    parser.size("--seconds", 60.0, tiny=3.0, help="how long they are looked at")
    parser.size("--settle", 12.0, tiny=1.0, help="seconds before")
    parser.shared("--folder")
    options = parser.parse()
    print(machine() + "\n")
    with scratch(options) as scratched, sleeping(PROCESSES):
        measure(Path(scratched), options.seconds, options.settle)


def measure(folder: Path, seconds: float, settle_s: float) -> None:
    """Let all of them run, and print what they said and cost."""
    samples = 100 if seconds >= 30 else 10
    agent = [sys.executable, "-m", "agent", "--dry-run", "--samples", str(samples), "--metrics", METRICS]
    agent += ["--processes", "names", "--spool-dir", str(folder / "spool"), "--user-id", "bench"]
    with ExitStack() as stack:
        burners = {}
        for name, duty in DUTIES.items():
            # A program is called as the file that was run.
            (folder / name).symlink_to(sys.executable)
            command = [str(folder / name), "-S", "-c", BURN, str(duty)]
            environment = {"PYTHONHOME": sys.base_prefix}
            burners[name] = stack.enter_context(running(command, folder / f"{name}.log", environment=environment))
        contestants: dict[str, Program | psutil.Process] = {
            _AGENT: stack.enter_context(running(agent, folder / "agent.log"))
        }
        if installed("pidstat"):
            environment = {**os.environ, "LC_ALL": "C", "S_COLORS": "never"}
            command = ["pidstat", "-u", "-r", "-h", "1"]
            contestants[_PIDSTAT] = stack.enter_context(
                running(command, folder / "pidstat.log", environment=environment)
            )
        if installed("netdata"):
            contestants |= _netdata(folder, stack)
        time.sleep(settle_s)
        before = {name: _read(program) for name, program in (burners | contestants).items()}
        began, skipped = time.monotonic(), _lengths(folder)
        time.sleep(seconds)
        # The look that has the last of it comes with the end of a window.
        wait_until(lambda: bool(_reports(folder, skipped)), 120.0, "a report with processes")
        elapsed = time.monotonic() - began
        shares = {name: (_read(program) - before[name]) / elapsed / 1e9 for name, program in burners.items()}
        costs = {name: (_read(program) - before[name]) / elapsed / 1e7 for name, program in contestants.items()}
        memory = {name: memory_mb(program.pid, "VmRSS") for name, program in contestants.items()}
    told = said_by_agent(_reports(folder, skipped))
    beside = said_by_pidstat(_lines(folder / "pidstat.log", skipped.get("pidstat.log", 0)))
    headers = ["% of a core", "the kernel", "the agent", "pidstat"]
    rows = [
        [name, *(f"{100 * share:.2f}" for share in (shares[name], told[name])),
         f"{100 * beside[name]:.2f}" if name in beside else "-"]
        for name in DUTIES
    ]  # fmt: skip
    print(table(headers, rows) + "\n")
    headers = [f"cost, {PROCESSES} more processes asleep", "% of a core", "MB resident"]
    print(
        table(
            headers,
            [
                [name, f"{costs[name]:.2f}", number(memory[name])] if name in costs else left_out(name, len(headers))
                for name in (_AGENT, _PIDSTAT, _APPS, _NETDATA)
            ],
        )
    )


def _netdata(folder: Path, stack: ExitStack) -> dict[str, Program | psutil.Process]:
    """Netdata and its plugin, which does not run without it; empty, with a word, where they do not run here."""
    home = folder / "netdata"
    home.mkdir()
    configuration = home / "netdata.conf"
    configuration.write_text(_NETDATA_CONF.format(folder=home, user=getpass.getuser()))
    daemon = stack.enter_context(
        running(["netdata", "-D", "-c", str(configuration), "-P", str(home / "pid")], folder / "netdata.log")
    )
    plugins: list[psutil.Process] = []

    def started() -> bool:
        if daemon.process.poll() is None:
            plugins.extend(
                child for child in psutil.Process(daemon.pid).children() if child.name() == "apps.plugin"
            )  # fmt: skip
        return bool(plugins) or daemon.process.poll() is not None

    try:
        wait_until(started, 60.0, "Netdata's apps.plugin")
    except TimeoutError:
        print("Netdata's apps.plugin did not start: it is left out", file=sys.stderr)
    return {_APPS: plugins[0], _NETDATA: daemon} if plugins else {}


def _read(program: Program | psutil.Process) -> int:
    if isinstance(program, Program):
        program.check()
    return cpu_ns(program.pid)


def _lengths(folder: Path) -> dict[str, int]:
    """How much programs have said so far."""
    return {file.name: file.stat().st_size for file in folder.glob("*.log")}


def _lines(file: Path, skipped: int) -> list[str]:
    """What a program has said since, but for the columns' names, which are told anew each time."""
    if not file.exists():
        return []
    text = file.read_text(errors="replace")
    return text[skipped:].splitlines()


def _reports(folder: Path, skipped: dict[str, int]) -> list[str]:
    """The agent's reports since that have processes, whole ones."""
    return [line for line in _lines(folder / "agent.log", skipped["agent.log"])
            if line.startswith("{") and line.endswith("}") and '"processes":{' in line]  # fmt: skip


if __name__ == "__main__":
    main()
