"""What the commands of `loadlens-service agents` share."""

from typing import Annotated

from msgspec import Meta

from contract.service_address import SERVICE_URL, ServiceAddress
from contract.times import format_seconds, parse_seconds

PROGRAM = "loadlens-service agents"
TARGETS = """\
TARGET is a user id, or a selection: all, os:Linux (also os:MacOS, os:Windows),
user:web-* (* anything, ? one character, [ab] one of these). agent:ID is the user
id ID, whatever it looks like."""
WAIT = {"metavar": "TIME", "parse": parse_seconds, "format": format_seconds, "expected": "1s to 1d"}


class CallSettings(ServiceAddress, frozen=True, kw_only=True):
    """Where to ask, and how to answer."""

    url: Annotated[str, Meta(description="The service.")] = SERVICE_URL
    token: Annotated[
        str | None, Meta(description="Sent to the service, where it has only one.", extra={"secret": True})
    ] = None
    operator_token: Annotated[
        str,
        Meta(
            description="Sent to the service, where it has one for operators.",
            extra={"metavar": "TOKEN", "secret": True},
        ),
    ] = ""
    json: Annotated[bool, Meta(description="Print JSON instead of words and tables.")] = False
