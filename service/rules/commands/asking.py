"""What the commands that ask a running service share."""

import sys
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from contract.decoding import decode_json
from contract.settings import Settings

__all__ = ["AskError", "AskSettings", "ask", "failed"]


class AskSettings(Settings, frozen=True, kw_only=True):
    """Where to ask."""

    url: Annotated[str, Meta(description="The service to ask.", extra={"metavar": "URL"})] = "http://localhost:8888"
    token: Annotated[
        str | None, Meta(description="Sent to the service, where it asks for one.", extra={"secret": True})
    ] = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--url: expected an address such as http://localhost:8888, got {self.url}")


class AskError(Exception):
    """The service does not answer, or refuses; the message says why."""


def ask(settings: AskSettings, method: str, path: str, document: Any = None) -> Any:
    """The JSON that the service answers, None for nothing; raises AskError."""
    import httpx

    headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
    try:
        with httpx.Client(base_url=settings.url, headers=headers, timeout=30) as client:
            answer = client.request(method, f"/api/v1/{path}", json=document)
    except httpx.HTTPError as error:
        raise AskError(f"{settings.url} cannot be reached: {error}") from None
    if answer.status_code == 204:
        return None
    try:
        content = decode_json(answer.content)
    except msgspec.DecodeError:
        raise AskError(f"{settings.url} answered {answer.status_code} without JSON: is it Loadlens?") from None
    if answer.status_code // 100 != 2:
        wrong = "".join(f"\n  {one['pointer']}: {one['detail']}" for one in content.get("errors", ()))
        raise AskError(f"{content.get('detail', answer.status_code)}{wrong}")
    return content


def failed(program: str, error: Exception) -> int:
    """Say what went wrong; the exit code."""
    print(f"{program}: error: {error}", file=sys.stderr)
    return 1
