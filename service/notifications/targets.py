"""Where notifications go, and whom the service may call. Addresses and keys are secrets."""

import base64
import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from contract.problems import Problem, problem_of

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


_LONGEST_SECRET = 4096


class InvalidTarget(ValueError):
    """A target that cannot be used, with what is wrong; the message holds no secret."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.pointer}: {problem.detail}")
        self.problem = problem


class Target(Struct, frozen=True, kw_only=True):
    """Where notifications are sent. What `repr` shows of it is no secret."""

    name: str
    url: str
    """Of a webhook, or an apprise URL."""
    is_webhook: bool
    key: bytes = b""
    """What webhooks are signed with."""
    timeout_s: float = 10.0

    def __repr__(self) -> str:
        return f"Target({self.name!r}, {self.shown!r})"

    @property
    def shown(self) -> str:
        """What may be printed of its address: for a webhook the host, for others the kind."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}/..." if self.is_webhook else f"{parts.scheme}://..."


class _Written(Struct, frozen=True, forbid_unknown_fields=True):
    webhook: str | None = None
    secret: str | None = None
    apprise: str | None = None
    timeout: Annotated[float, Meta(ge=0.1, le=30.0)] = 10.0


def parse_target(name: str, document: Any, folder: Path) -> Target:
    """The target of a table in a rules file; texts `env:NAME` and `file:PATH` stand for what is there.

    A relative path is looked for in `folder`. Raises InvalidTarget.
    """
    try:
        written = msgspec.convert(document, _Written)
    except msgspec.ValidationError as error:
        raise InvalidTarget(problem_of(error, _Written)) from None
    if (written.webhook is None) == (written.apprise is None):
        raise InvalidTarget(
            Problem(
                "/webhook", f"expected one of webhook and apprise, got {'none' if written.webhook is None else 'both'}"
            )
        )
    if written.webhook is not None:
        return _webhook(name, written, folder)
    url = _looked_up("/apprise", written.apprise or "", folder)
    if "://" not in url:
        raise InvalidTarget(Problem("/apprise", "expected a URL such as mailto://user:password@example.org, got none"))
    if written.secret is not None:
        raise InvalidTarget(Problem("/secret", "expected none beside apprise, which has its secrets in the URL"))
    return Target(name=name, url=url, is_webhook=False, timeout_s=written.timeout)


def _webhook(name: str, written: _Written, folder: Path) -> Target:
    url = _looked_up("/webhook", written.webhook or "", folder)
    if not _is_address(url):
        raise InvalidTarget(
            Problem("/webhook", "expected an address such as https://example.org/hook, without a password")
        )
    if written.secret is None:
        raise InvalidTarget(
            Problem(
                "/secret",
                "expected env:NAME or file:PATH, got nothing; the receiver checks with the secret who has sent",
            )
        )
    return Target(
        name=name,
        url=url,
        is_webhook=True,
        key=_key(_looked_up("/secret", written.secret, folder)),
        timeout_s=written.timeout,
    )


def _is_address(text: str) -> bool:
    """Whether this can be called: what is seen here need not fail with each notification."""
    import httpx  # only where there are targets: it takes a tenth of the service's start

    try:
        url = httpx.URL(text)
        port = urlsplit(text).port
    except (httpx.InvalidURL, ValueError):
        return False
    return url.scheme in ("http", "https") and bool(url.host) and "@" not in urlsplit(text).netloc and port != 0


def _key(text: str) -> bytes:
    """The key of a Standard Webhooks secret, `whsec_` and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidTarget(Problem("/secret", "expected whsec_ and 24 to 64 random bytes in base64"))
    return key


def _looked_up(pointer: str, text: str, folder: Path) -> str:
    looks: dict[str, Callable[[str], str | None]] = {
        "env:": os.environ.get,
        "file:": lambda path: _content(folder / path),
    }
    for prefix, look in looks.items():
        if text.startswith(prefix):
            found = look(text.removeprefix(prefix))
            if not found:
                raise InvalidTarget(Problem(pointer, f"expected a text at {text}, got nothing: it is missing or empty"))
            return found
    if pointer == "/secret":
        raise InvalidTarget(Problem(pointer, "expected env:NAME or file:PATH, got a secret in the rules file itself"))
    return text


def _content(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_SECRET).decode().strip()
    except (OSError, ValueError):
        return None
