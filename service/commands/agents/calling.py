"""Requests to the service, and its refusals as one line."""

import getpass
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx

from contract.settings import SettingsError, fail
from service.agents.layers import parse_selector
from service.commands.agents.settings import CallSettings

_PAGE = 1000
_TRIES = 5


class CallError(Exception):
    """The service cannot be reached, or refuses; the message says which."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """What it answered; 0 without an answer."""


def selector_of(target: str) -> str:
    """What a person calls a target, as the service wants it: selections as they are, anything else is a user id."""
    if target == "all" or target.startswith(("os:", "user:")):
        try:
            return parse_selector(target).text
        except ValueError as error:
            raise SettingsError(f"TARGET: {error}") from None
    return target if target.startswith("agent:") else f"agent:{target}"


class Caller:
    """A service; a context manager."""

    def __init__(self, settings: CallSettings) -> None:
        self.url = settings.url.rstrip("/")
        token = settings.operator_token or settings.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.url, headers=headers | {"X-Loadlens-Actor": _person()}, timeout=30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An answer of 2xx; raises CallError for any other, and for none."""
        try:
            answer = self._http.request(method, f"/api/v1{path}", **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CallError(f"{self.url} does not answer: {str(error) or type(error).__name__}") from None
        if not answer.is_success:
            raise CallError(_refusal(answer), answer.status_code)
        return answer

    def agents(self, target: str, **conditions: str) -> Iterator[dict[str, Any]]:
        """The agents that a target means, by user id."""
        query: dict[str, Any] = {"selector": selector_of(target), "limit": _PAGE} | conditions
        while True:
            page = self.ask("GET", "/agents", params=query).json()
            yield from page["agents"]
            if page["next"] is None:
                return
            query["after"] = page["next"]

    def change(self, target: str, send: Callable[[str, dict[str, Any]], httpx.Response]) -> httpx.Response:
        """Change a layer as it is now: `send` gets its path and options; once more where somebody was quicker."""
        path, query = _layer(selector_of(target))
        for _ in range(_TRIES):
            tag = self.ask("GET", path, params=query).headers["ETag"]
            try:
                return send(path, {"params": query, "headers": {"If-Match": tag}})
            except CallError as error:
                if error.status != 412:
                    raise
        raise CallError("it is changed again and again by somebody else; try later")


def agent_path(user_id: str) -> str:
    """The path of an agent."""
    return f"/agents/{quote(user_id, safe='')}"


@contextmanager
def guarded(program: str) -> Iterator[None]:
    """Ends the program with one line where the service refuses, and quietly where a person has seen enough."""
    try:
        yield
    except CallError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except SettingsError as error:
        fail(program, str(error))
    except BrokenPipeError:
        # Whoever read what was printed has enough. Nothing is left to flush at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise SystemExit(130) from None


def _layer(selector: str) -> tuple[str, dict[str, str]]:
    """The path and the query of a layer of settings."""
    if selector.startswith("agent:"):
        return f"{agent_path(selector.removeprefix('agent:'))}/settings", {}
    return "/settings", {"selector": selector}


def _refusal(answer: httpx.Response) -> str:
    try:
        document = answer.json()
    except ValueError:
        return f"{answer.request.url} answered {answer.status_code}; is --url right?"
    reasons = [f"{one['pointer'].lstrip('/')}: {one['detail']}" for one in document.get("errors", ())]
    text = "; ".join(reasons) or document.get("detail") or document.get("title") or f"answered {answer.status_code}"
    hint = " (--token, --operator-token or LOADLENS_OPERATOR_TOKEN)" if answer.status_code in (401, 403) else ""
    return f"{text}{hint}"


def _person() -> str:
    """Who calls, for the audit trail: nobody checks it."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"{name}@{socket.gethostname()}".encode("ascii", "replace").decode()[:100]
