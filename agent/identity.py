"""Who this host is: the user id and the operating system that its reports name."""

import platform
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psutil

from agent.interfaces import is_physical, is_virtual_by_name
from contract.report import OsType

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_COMMON = re.compile(
    r"(00:){5}00|(ff:){5}ff|02:00:00:00:00:00|fe:ff:ff:ff:ff:ff|ee:ee:ee:ee:ee:ee"
    r"|(02:42|0a:58)(:[0-9a-f]{2}){4}"
)
"""Addresses that many hosts have: none at all, broadcast, placeholders (privacy, Xen, Calico), those that Docker and
Kubernetes' bridges make of a container's network address (`02:42:ac:11:00:02` is the first container's on any host,
`0a:58:0a:f4:00:05` that of 10.244.0.5 in any cluster). A virtual machine alone has `52:54:00:12:34:56` of QEMU, and
is to report: where two of them do, the service tells of two under one name."""


class NoIdentity(Exception):
    """Nothing tells this host apart."""


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """What stays the same in all reports of a host."""

    user_id: str
    os_type: OsType
    os_version: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface."""

    name: str
    index: int
    """Its number in the system, given in the order of appearance."""
    address: str
    """Its MAC address, in any notation."""
    physical: bool | None = None
    """Whether hardware lies behind it; None where the system does not tell."""


def first_real_address(interfaces: Iterable[Interface]) -> str | None:
    """The MAC address of the first real interface, such as `6a:d6:96:d3:45:35`; None where there is none.

    Real is hardware, and else (in a container, on macOS and Windows) what has no name of a tunnel, a bridge
    and the like. First is the lowest index. An address that other hosts have too is passed over.
    """
    real = []
    for interface in interfaces:
        address = _normal(interface.address)
        usable = _MAC.fullmatch(address) and not _COMMON.fullmatch(address)
        if usable and (interface.physical or not is_virtual_by_name(interface.name)):
            real.append((not interface.physical, interface.index, address))
    return min(real)[2] if real else None


def identity(user_id: str | None, labels: Mapping[str, str] | None = None) -> HostIdentity:
    """The identity of this host with its labels, under `user_id` or the MAC address of its first real interface.

    Raises NoIdentity where no interface has one, and where the given one is an address that many hosts have.
    """
    if user_id and _COMMON.fullmatch(_normal(user_id)):
        raise NoIdentity(f"expected a user id that no other host has, got {user_id}, the address of many containers")
    user_id = user_id or first_real_address(_interfaces())
    if user_id is None:
        raise NoIdentity(
            "expected a network interface with a MAC address of its own to serve as the user id, got none "
            "(02:42:... and 0a:58:... are those of other hosts' containers too); set --user-id"
        )
    return HostIdentity(user_id, *_system(), labels or {})


def _normal(address: str) -> str:
    return address.lower().replace("-", ":")


def _interfaces() -> Iterable[Interface]:
    indices = {name: index for index, name in socket.if_nameindex()}
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family == psutil.AF_LINK:
                yield Interface(name, indices.get(name, len(indices)), address.address, is_physical(name))


def _system() -> tuple[OsType, str]:
    """The system's type and its version, without what changes with each update, so that a fleet can be grouped."""
    if sys.platform == "win32":
        return "Windows", platform.version()
    if sys.platform == "darwin":
        return "MacOS", platform.mac_ver()[0]
    return "Linux", _distribution()


def _distribution() -> str:
    """Such as `Debian GNU/Linux 12` or `Ubuntu 22.04` (os-release(5)); the kernel's release without one."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return platform.release()
    return f"{release['NAME']} {release.get('VERSION_ID', '')}".strip()[:256]
