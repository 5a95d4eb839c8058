"""Where a service is, and what opens it: the settings that all programs that talk to one share."""

import ipaddress
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from contract.settings import Settings, SettingsError

if TYPE_CHECKING:
    import ssl

SERVICE_URL = "http://localhost:8888"
_VISIBLE = re.compile("[!-~]+")


class ServiceAddress(Settings, frozen=True, kw_only=True):
    """Where to ask. A program that does something else with the service describes the members anew."""

    url: Annotated[str, Meta(description="The service to ask.")] = SERVICE_URL
    token: Annotated[
        str | None, Meta(description="Sent to the service, where it asks for one.", extra={"secret": True})
    ] = None
    ca_file: Annotated[
        Path | None,
        Meta(
            description="Trust the certificates in this PEM file, and no others.",
            extra={"metavar": "FILE", "default": "those that the system trusts"},
        ),
    ] = None

    def __post_init__(self) -> None:
        """Raise ValueError for what is no address of a service, and for a token that no header can hold."""
        try:
            check_service_url(self.url)
        except ValueError as error:
            raise ValueError(f"--url: {error}") from None
        if self.token is not None and not _VISIBLE.fullmatch(self.token):
            raise ValueError("--token: expected printable ASCII characters without a space")


def check_service_url(url: str) -> None:
    """Raise ValueError where `url` is not http(s) with a host, or has a query, a fragment or blanks."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment or not _VISIBLE.fullmatch(url):
        raise ValueError(f"expected an address such as {SERVICE_URL}, got {url}")


def tls_context(
    ca_file: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> "ssl.SSLContext":
    """What a client checks the service's certificate with: TLS 1.2 or newer, the name, and who has signed it.

    With `ca_file` its certificates alone are trusted, which may be the service's own. `certificate` and `key` are what
    the client shows. Raises SettingsError, which names the file, for what cannot be used.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"{ca_file}: expected certificates in PEM: {error.strerror or error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        # The service's own certificate may stand there, though somebody else has signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except OSError as error:
            files = " and ".join(str(file) for file in (certificate, key) if file)
            reason = error.strerror or error
            raise SettingsError(f"{files}: expected a certificate and its key in PEM: {reason}") from None
    return context


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The proxy on the way to `url` by the usual variables (`https_proxy`, `http_proxy`, `all_proxy`, `no_proxy`).

    None where there is none. To this machine itself nothing ever goes through a proxy: it would not find the way
    back, and would see the token.
    """
    environ = os.environ if environ is None else environ
    parts = urlsplit(url)
    given = {name.lower(): value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    # Where both are given the lower case counts, as for curl.
    given |= {name: environ[name] for name in given if environ.get(name)}
    proxy = given.get(f"{parts.scheme}_proxy") or given.get("all_proxy")
    host = parts.hostname or ""
    if not proxy or is_loopback(host):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if "no_proxy" in given and _is_bypassed(host, port, given["no_proxy"]):
        return None
    return proxy if "//" in proxy else f"http://{proxy}"


def _is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy` names a host: itself, a domain above it, either with the port, or a network that it is in."""
    # Imported where it is needed: it would be a tenth of the agent's memory.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    if proxy_bypass_environment(host if ":" in host else f"{host}:{port}", {"no": no_proxy}):
        return True
    for network in (name.strip() for name in no_proxy.split(",") if "/" in name):
        with suppress(ValueError):  # a name of a host, or what is no network
            if ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False):
                return True
    return False
