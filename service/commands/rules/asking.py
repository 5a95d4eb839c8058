"""What the commands that ask a running service share."""

import sys
from typing import Any

import msgspec

from contract.problems import decode_json
from contract.service_address import ServiceAddress


class AskError(Exception):
    """The service does not answer, or refuses; the message says why."""


def ask(settings: ServiceAddress, method: str, path: str, document: Any = None) -> Any:
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
