"""Where a service is, and what opens it: the settings that all programs that talk to one share."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from contract.settings import Settings

SERVICE_URL = "http://localhost:8888"
_VISIBLE = re.compile("[!-~]+")


class ServiceAddress(Settings, frozen=True, kw_only=True):
    """Where to ask. A program that does something else with the service describes the members anew."""

    url: Annotated[str, Meta(description="The service to ask.")] = SERVICE_URL
    token: Annotated[
        str | None, Meta(description="Sent to the service, where it asks for one.", extra={"secret": True})
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
