"""Webhooks as https://www.standardwebhooks.com describes them: an id, a time, a signature."""

from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
from standardwebhooks.webhooks import Webhook

from service.notifications.addresses import ForbiddenAddress, check_host
from service.notifications.targets import Target

__all__ = ["Refused", "post"]

_GONE = 410
_LONGEST_WAIT_S = 3600.0


class Refused(Exception):
    """A message was not taken. The text holds no secret."""

    def __init__(self, message: str, *, for_good: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.for_good = for_good
        """Whether trying again would be wrong."""
        self.wait_s = wait_s
        """The receiver asks for so much time."""


def post(client: httpx.Client, target: Target, message_id: str, body: str, *, private: bool) -> None:
    """Send a message; raises Refused.

    The host's address is looked up here, checked and connected to; redirects are not followed.
    """
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = check_host(host, port, private=private)
    except ForbiddenAddress as error:
        raise Refused(str(error)) from None
    sent_at = datetime.now(UTC)
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "loadlens-service",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(target.key).sign(message_id, sent_at, body),
    }
    pinned = httpx.URL(target.url).copy_with(host=address)
    try:
        with client.stream(
            "POST", pinned, content=body, headers=headers, timeout=target.timeout_s, extensions={"sni_hostname": host}
        ) as response:
            _check(response)
    except httpx.TimeoutException:
        raise Refused(f"{host} did not answer within {target.timeout_s:g} s") from None
    except httpx.HTTPError as error:
        raise Refused(f"{host} cannot be reached: {type(error).__name__}") from None


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status // 100 == 2:
        return
    if status // 100 == 3:
        raise Refused(f"the receiver answered {status}; redirects are not followed")
    if status == _GONE:
        raise Refused("the receiver answered 410: it wants no more", for_good=True)
    wait = response.headers.get("Retry-After", "")
    raise Refused(
        f"the receiver answered {status}",
        wait_s=min(float(wait), _LONGEST_WAIT_S) if wait.isascii() and wait.isdigit() and len(wait) < 9 else 0.0,
    )
