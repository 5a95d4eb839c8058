"""What the commands of `loadlens-service agents` share."""

from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from contract.settings import Settings
from contract.times import format_seconds, parse_seconds

__all__ = ["PROGRAM", "TARGETS", "WAIT", "CallSettings"]

PROGRAM = "loadlens-service agents"
TARGETS = """\
TARGET is a user id, or a selection: all, os:Linux (also os:MacOS, os:Windows),
user:web-* (* anything, ? one character, [ab] one of these). agent:ID is the user
id ID, whatever it looks like."""
WAIT = {"metavar": "TIME", "parse": parse_seconds, "format": format_seconds, "expected": "1s to 1d"}


class CallSettings(Settings, frozen=True, kw_only=True):
    """Where to ask, and how to answer."""

    url: Annotated[str, Meta(description="The service.", extra={"metavar": "URL"})] = "http://localhost:8888"
    token: Annotated[
        str, Meta(description="Sent to the service, where it has only one.", extra={"metavar": "TOKEN", "secret": True})
    ] = ""
    operator_token: Annotated[
        str,
        Meta(
            description="Sent to the service, where it has one for operators.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    json: Annotated[bool, Meta(description="Print JSON instead of words and tables.")] = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--url: expected an address such as http://localhost:8888, got {self.url}")
