"""A machine like this one, booted with systemd: its own processes, and its own files over those of this machine.

What it writes is in memory and goes with it: nothing of this machine is changed. It shares the network, so that it can
reach a service that a test runs. Needs root, overlayfs and a cgroup of version 2; it is skipped elsewhere.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.running import wait_until

_SYSTEMD = "/lib/systemd/systemd"
# Nothing that a machine starts by itself is started; neither the kernel's settings nor its devices can be written to.
_BOOT = f"""set -e
folder=$1
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/changed" "$folder/work" "$folder/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/changed,workdir=$folder/work" "$folder/root"
cd "$folder/root"
rm -f usr/sbin/policy-rc.d  # in a container's files it says that no package may start a service
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for place in run tmp dev; do mount -t tmpfs tmpfs $place; done
for device in null zero full random urandom tty ptmx; do cp -a /dev/$device dev/$device; done
mkdir -p dev/pts dev/shm run/old run/changed run/systemd/system
mount --bind "$folder/changed" run/changed
for unit in usr/lib/systemd/system/*.target.wants/* etc/systemd/system/*.target.wants/*; do
  ln -sf /dev/null "run/systemd/system/${{unit##*/}}"
done
printf '[Unit]\\nDefaultDependencies=no\\n' >run/systemd/system/bare.target
pivot_root . run/old
cd /
umount -l run/old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin {_SYSTEMD} --system --unit=bare.target \\
  --log-target=console --show-status=0
"""


class Booted:
    """A machine that runs."""

    def __init__(self, first: int) -> None:
        self._first = first
        """Its first process, as this machine counts."""

    def run(self, *command: str, given: bytes | None = None, check: bool = True) -> str:
        """What a command says there, on stdout and stderr. Fails where it fails, unless it may."""
        inside = ["nsenter", "--target", str(self._first), "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--root"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        done = subprocess.run(
            [*inside, "--wdns=/", *command], input=given, env=environment, cwd="/", stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        text = done.stdout.decode(errors="replace")
        assert done.returncode == 0 or not check, f"{command} ended with {done.returncode}:\n{text}"
        return text

    def write(self, path: str, content: bytes) -> None:
        """Write a file there, its owner and mode as they are."""
        self.run("sh", "-c", f"cat >{path}", given=content)

    def changed(self) -> set[str]:
        """Paths of what differs from this machine's files, with a `-` before them where one is gone."""
        listed = self.run("find", "/run/changed", "-mindepth", "1", "-printf", "%y %P\\n").splitlines()
        found = {(kind, f"/{path}") for kind, _, path in (line.partition(" ") for line in listed)}
        return {
            f"-{path}" if kind == "c" else path
            for kind, path in found
            if not (kind == "d" and os.path.isdir(path))
        }  # fmt: skip


@contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """A machine, with an empty folder of this one for what it writes; skips where there can be none."""
    cgroups = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line]
    if os.geteuid() or not cgroups or not os.path.exists(_SYSTEMD):
        pytest.skip("a machine is booted by root, where systemd and a cgroup of version 2 are")
    cgroup = Path(cgroups[0], f"loadlens-test-{os.getpid()}")
    try:
        cgroup.mkdir()
    except OSError as error:
        pytest.skip(f"a machine needs a cgroup of its own: {error}")
    apart = "unshare --mount --propagation private --pid --fork --kill-child --cgroup --ipc --uts"
    command = f'echo $$ >{cgroup}/cgroup.procs && exec {apart} sh -c "$2" boot "$1"'
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        holder = subprocess.Popen(
            ["sh", "-c", command, "sh", folder, _BOOT], cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        first = wait_until(lambda: holder.poll() is not None or _systemd_of(holder.pid), "a first process")
        if first is True:
            pytest.skip(f"a machine cannot be booted here: {log.read_text()[-500:]}")
        machine = Booted(first)
        wait_until(lambda: "running" in machine.run("systemctl", "is-system-running", check=False), "systemd")
        yield machine
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(holder.pid).children():
                child.kill()
        holder.kill()
        holder.wait()
        wait_until(lambda: _removed(cgroup), "the cgroup to be empty")


def _systemd_of(holder: int) -> int | None:
    """The process id of the systemd that a process has started, if it is that far."""
    for child in psutil.Process(holder).children():
        with suppress(psutil.Error):
            if child.exe() and child.cmdline()[:1] == [_SYSTEMD]:
                return child.pid
    return None


def _removed(cgroup: Path) -> bool:
    """Whether a cgroup and all in it are gone now."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    return not cgroup.exists()
