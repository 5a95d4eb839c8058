"""Whom the service may call: public addresses, and others only where the operator allows them."""

import ipaddress
import socket

__all__ = ["ForbiddenAddress", "check_host"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = [ipaddress.IPv6Network(text) for text in ("64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96", "fec0::/10")]
"""Local NAT64, IPv4 in IPv6 as it was once written, site-local: ipaddress takes some of these for global."""


class ForbiddenAddress(Exception):
    """A name that leads to an address that must not be called, or to none."""


def check_host(host: str, port: int, *, private: bool) -> str:
    """The address to connect to for a host, an IPv4 or IPv6 address as text.

    The caller connects to this address and to no other, so that a name cannot mean another one a moment later (DNS
    rebinding). Raises ForbiddenAddress where one of the host's addresses is not public, unless `private` allows that.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ForbiddenAddress(f"{host} has no address: {error}") from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not private and not _is_public(address):
            raise ForbiddenAddress(f"{host} is {address}, which is not public; --notify-private allows it")
    return addresses[0]


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _NOT_PUBLIC):
            return False
        if address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        else:
            address = address.ipv4_mapped or address.sixtofour or address
    return address.is_global and not address.is_multicast
