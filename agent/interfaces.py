"""Which network interfaces are real, and which carry what others carry already."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

_SYSFS = Path("/sys/class/net")
_VIRTUAL = re.compile(
    # Linux
    r"(lo\d*|docker|br-|veth|virbr|vnet|tun|tap|wg|ifb|dummy|cni|flannel|cali|zt|tailscale)"
    # macOS: link-local peers, hot spots, tunnels, bridges
    r"|(awdl|llw|anpi|ap\d|utun|gif|stf|bridge|vmnet|vmenet)"
    # Windows, and hypervisors anywhere
    r"|(loopback|vethernet|isatap|teredo|vbox|.*(virtual|vmware|hyper-v|bluetooth|wi-fi direct))",
    re.IGNORECASE,
)


def is_virtual_by_name(name: str) -> bool:
    """Whether the name is one of a tunnel, a bridge and the like, on Linux, macOS or Windows."""
    return _VIRTUAL.match(name) is not None


def is_physical(name: str, sysfs: Path = _SYSFS) -> bool | None:
    """Whether hardware lies behind an interface, a hypervisor's too; None where the system does not tell."""
    return (sysfs / name / "device").exists() if sys.platform == "linux" else None


def counted_interfaces(names: Iterable[str], sysfs: Path = _SYSFS) -> frozenset[str]:
    """The interfaces of which the bytes add up to the host's traffic, each byte once.

    Bonds, bridges, VLANs, virtual pairs and tunnels pass on what an interface beneath them carries, so the physical
    ones count; of two that stand above each other (an accelerated interface of Azure and its virtual function, a switch
    port and its conduit) one does. In a container, which has none, its own interfaces count: those that stand on no
    other one there, and have no name of a bridge or tunnel unless all have.
    """
    given = frozenset(name for name in names if not _is_loopback(name))
    if sys.platform != "linux":
        rules: tuple[Callable[[str], bool], ...] = (lambda name: not is_virtual_by_name(name),)
    else:
        rules = (
            lambda name: _carries_alone(name, sysfs),
            lambda name: not is_virtual_by_name(name) and not _stands_on_others(name, sysfs),
            lambda name: not _stands_on_others(name, sysfs),
        )
    for rule in rules:
        if found := frozenset(filter(rule, given)):
            return found
    return given


def _carries_alone(name: str, sysfs: Path) -> bool:
    """Whether it is physical, and no other physical one counts the same bytes."""
    if not is_physical(name, sysfs):
        return False
    master = _master(name, sysfs)
    if master is not None and is_physical(master, sysfs):
        return False
    return not any(is_physical(lower, sysfs) and _master(lower, sysfs) != name for lower in _lower(name, sysfs))


def _stands_on_others(name: str, sysfs: Path) -> bool:
    return (sysfs / name / "bridge").exists() or bool(_lower(name, sysfs))


def _master(name: str, sysfs: Path) -> str | None:
    """The interface that an interface is a part of, such as its bond."""
    try:
        return os.path.basename(os.readlink(sysfs / name / "master"))
    except OSError:
        return None


def _lower(name: str, sysfs: Path) -> list[str]:
    try:
        return [entry.removeprefix("lower_") for entry in os.listdir(sysfs / name) if entry.startswith("lower_")]
    except OSError:
        return []


def _is_loopback(name: str) -> bool:
    """By its name on Linux, macOS and Windows."""
    return name in ("lo", "lo0") or name.startswith("Loopback")
