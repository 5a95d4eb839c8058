"""What the commands of `loadlens-service agents` share: their settings, calls of the service, words for a person."""

import getpass
import io
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from analytics.commands.answering import in_commands
from analytics.sources.service_api import ApiResponse, ProblemError, ServiceApi, ServiceError, path_segment
from contract.service_address import SERVICE_URL, ServiceAddress
from contract.settings import SettingsError
from contract.times import format_seconds, parse_seconds
from service.agents.layers import parse_selector
from service.commands import failed

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "loadlens-service agents"
TARGETS = """\
TARGET is a user id, or a selection: all, os:Linux (also os:MacOS, os:Windows),
label:role=web, user:web-* or web-* (* anything, ? one character, [ab] one of these).
agent:ID is the user id ID, whatever it looks like."""
_SELECTIONS = ("os:", "label:", "user:")
WAIT = {"metavar": "TIME", "parse": parse_seconds, "format": format_seconds, "expected": "1s to 1d"}
_PAGE = 1000
_MAX_TRIES = 5
_TIMEOUT_S = 30.0
_PIPE_WIDTH = 200
"""Characters of a line where there is no terminal to fit into."""


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


def selector_of(target: str) -> str:
    """What a person calls a target, as the service wants it: selections as they are, anything else is a user id.

    What has the marks of a pattern is one, as everywhere.
    """
    if not target.startswith((*_SELECTIONS, "agent:")) and any(mark in target for mark in "*?["):
        target = f"user:{target}"
    if target == "all" or target.startswith(_SELECTIONS):
        try:
            return parse_selector(target).text
        except ValueError as error:
            raise SettingsError(f"TARGET: {error}") from None
    return target if target.startswith("agent:") else f"agent:{target}"


def agent_path(user_id: str) -> str:
    """The path of an agent."""
    return f"agents/{path_segment(user_id)}"


def user_path(user_id: str) -> str:
    """The path of a user, with windows and all."""
    return f"users/{path_segment(user_id)}"


class PersonalApi(ServiceApi):
    """The service's API as the person calls it whom the settings name. A context manager."""

    def __init__(self, settings: CallSettings) -> None:
        super().__init__(
            settings.url,
            settings.operator_token or settings.token,
            headers={"X-Loadlens-Actor": person()},
            timeout_s=_TIMEOUT_S,
            ca_file=settings.ca_file,
        )


class AgentsApi(PersonalApi):
    """What the commands ask of agents and their settings."""

    def agents(self, target: str, **conditions: str) -> Iterator[dict[str, Any]]:
        """The agents that a target means, by user id."""
        query: dict[str, Any] = {"selector": selector_of(target), "limit": _PAGE} | conditions
        while True:
            page = self.call("GET", "agents", params=query).document()
            yield from page["agents"]
            if page["next"] is None:
                return
            query["after"] = page["next"]

    def change_settings(self, target: str, send: Callable[[str, dict[str, str], str], ApiResponse]) -> ApiResponse:
        """Change a layer of settings as it is now, once more where somebody was quicker.

        `send` gets the layer's path, its query and its ETag, and makes the call. Raises ServiceError.
        """
        path, query = _layer(selector_of(target))
        for _ in range(_MAX_TRIES):
            etag = self.call("GET", path, params=query).headers["ETag"]
            try:
                return send(path, query, etag)
            except ProblemError as error:
                if error.status != 412:
                    raise
        raise ServiceError("it is changed again and again by somebody else; try later")


def _layer(selector: str) -> tuple[str, dict[str, str]]:
    """The path and the query of a layer of settings."""
    if selector.startswith("agent:"):
        return f"{agent_path(selector.removeprefix('agent:'))}/settings", {}
    return "settings", {"selector": selector}


def person() -> str:
    """Who calls, for the audit trail: nobody checks it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"{name}@{socket.gethostname()}".encode("ascii", "replace").decode()[:100]


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Ends the program with one line where the service refuses, and quietly where a person stops it."""
    try:
        yield
    except ServiceError as error:
        raise SystemExit(failed(program, one_line(error))) from None
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise SystemExit(130) from None


def one_line(error: ServiceError) -> str:
    """What the service refused: the members that are wrong, where it named some."""
    if not isinstance(error, ProblemError):
        return str(error)
    text = "; ".join(f"{one.pointer.lstrip('/')}: {one.detail}" for one in error.problems) or error.detail
    hint = " (--token, --operator-token or LOADLENS_OPERATOR_TOKEN)" if error.status in (401, 403) else ""
    return f"{in_commands(text)}{hint}"


def console() -> "Console":
    """Standard output; a name that the terminal has no characters for is no reason to show nothing."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, soft_wrap=width is not None, width=width)


def agents_in_words(count: int) -> str:
    """`1 agent`, `2 agents`."""
    return f"{count} agent{'' if count == 1 else 's'}"


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings as they are typed: `interval=100ms samples=50`."""
    return " ".join(f"{name}={_typed(name, value)}" for name, value in settings.items()) or "nothing"


def _typed(name: str, value: Any) -> str:
    if name == "interval":
        return format_seconds(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list) else str(value)
