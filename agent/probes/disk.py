"""DISK: bytes and operations per second over all physical disks."""

import os
import sys
from functools import cache

import psutil

from agent.probes.periodic import Counters, Rates
from contract.metrics.disk import Disk

__all__ = ["disk_probe"]


def disk_probe() -> Rates:
    """The probe of disk traffic."""
    return Rates(Disk, _read)


def _read() -> Counters:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {
        name: (disk.read_bytes, disk.write_bytes, disk.read_count, disk.write_count)
        for name, disk in counters.items()
        if _is_physical(name)
    }


@cache
def _is_physical(name: str) -> bool:
    """False for partitions and for what is laid over disks (dm, md, loop, zram): their bytes would count twice."""
    return sys.platform != "linux" or os.path.exists(f"/sys/block/{name.replace('/', '!')}/device")
