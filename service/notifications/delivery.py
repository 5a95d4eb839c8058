"""One attempt: a signed webhook (https://www.standardwebhooks.com), or e-mail, Slack and the rest by apprise."""

import asyncio
import functools
import logging
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook

from contract.retry import retry_after_s
from service.notifications.queue import QueuedNotification
from service.notifications.targets import ForbiddenAddress, Target, check_host

if TYPE_CHECKING:
    import httpx

_GONE = 410
_LATER = (408, 425, 429)
"""Statuses of the 400s that say nothing against the message (RFC 9110, 8470, 6585)."""
_LONGEST_WAIT_S = 3600.0


class DeliveryFailed(Exception):
    """A message was not delivered. The text holds no secret."""

    def __init__(self, message: str, *, permanent: bool = False, rejected: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.rejected = rejected
        """Whether the receiver said no to this very message, and may well take others."""
        self.permanent = permanent
        """Whether trying again would be wrong."""
        self.wait_s = wait_s
        """The receiver asks for so much time."""


def deliver(target: Target, message: QueuedNotification, *, private: bool) -> None:
    """Send a message to its target, to an address that is not public only where `private` allows it.

    Raises DeliveryFailed.
    """
    if target.is_webhook:
        post_webhook(target, message.id, message.body(), private=private)
    else:
        send_by_apprise(target, *message.text(), private=private)


def post_webhook(target: Target, message_id: str, body: str, *, private: bool) -> None:
    """POST a message, signed as Standard Webhooks says; raises DeliveryFailed.

    The host's address is looked up here, checked and connected to; redirects are not followed. The target's timeout is
    that of the whole attempt, whatever the receiver does meanwhile.
    """
    import httpx  # as in `targets`: only where there is somebody to tell

    url = httpx.URL(target.url)
    host = url.raw_host.decode()
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        address = check_host(host, port, private=private)
    except ForbiddenAddress as error:
        raise DeliveryFailed(str(error)) from None
    sent_at = datetime.now(UTC)
    headers = {
        "Host": url.netloc.decode(),
        "Content-Type": "application/json",
        "User-Agent": "loadlens-service",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(target.key).sign(message_id, sent_at, body),
    }
    request = httpx.Request(
        "POST", url.copy_with(host=address), content=body, headers=headers, extensions={"sni_hostname": host}
    )
    try:
        asyncio.run(_send(request, target.timeout_s))
    except (TimeoutError, httpx.TimeoutException):
        raise DeliveryFailed(f"{host} did not answer within {target.timeout_s:g} s") from None
    except httpx.HTTPError as error:
        raise DeliveryFailed(f"{host} cannot be reached: {type(error).__name__}") from None


async def _send(request: "httpx.Request", timeout_s: float) -> None:
    """Send a request over a connection of its own.

    None is used twice: it was made for one host, whatever address others share with it. httpx limits single waits only.
    """
    import httpx

    async with (
        asyncio.timeout(timeout_s),
        httpx.AsyncClient(verify=_tls(), trust_env=False, timeout=timeout_s) as client,
    ):
        response = await client.send(request, stream=True)
        try:
            check_answer(response)
        finally:
            await response.aclose()


@functools.cache
def _tls() -> ssl.SSLContext:
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def check_answer(response: "httpx.Response") -> None:
    """Raise DeliveryFailed unless a receiver has taken the message."""
    status = response.status_code
    if status // 100 == 2:
        return
    if status // 100 == 3:
        raise DeliveryFailed(f"the receiver answered {status}; redirects are not followed")
    if status == _GONE:
        raise DeliveryFailed("the receiver answered 410: it wants no more", permanent=True)
    wait_s = retry_after_s(response.headers.get("Retry-After")) or 0.0
    raise DeliveryFailed(
        f"the receiver answered {status}",
        rejected=status // 100 == 4 and status not in _LATER,
        wait_s=min(wait_s, _LONGEST_WAIT_S),
    )


_FIXED = ("discord", "mailgun", "opsgenie", "pagerduty", "pbul", "pover", "sendgrid", "slack", "tgram")
"""Services whose hosts stand in apprise's own code, and which heed `redirects`; a test looks whom they call."""
_TEAMS = ("workflow", "workflows")
_TEAMS_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(logic\.azure\.com|api\.powerplatform\.com)", re.IGNORECASE)
_MAIL = "mailtos"
_FETCHING = ("template", "pgp_key", "pgp_privkey", "use_wkd")
"""Options that name files or addresses, which apprise would open."""


def send_by_apprise(target: Target, title: str, text: str, *, private: bool) -> None:
    """Send a text to an apprise URL; raises DeliveryFailed."""
    import apprise

    # It logs what it calls, with the secrets that are in the address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service: Any = apprise.Apprise.instantiate(target.url, suppress_exceptions=True)
    if service is None:
        raise DeliveryFailed(f"{target.name}: expected an address that apprise knows", permanent=True)
    if not private:
        _check_addresses(service, target)
    service.redirects = False
    service.socket_connect_timeout = service.socket_read_timeout = target.timeout_s
    # As a warning: of an information apprise makes a mere note on Opsgenie's alerts, and nothing where there are none.
    if not service.notify(title=title, body=text, notify_type=apprise.NotifyType.WARNING):
        raise DeliveryFailed(f"{target.shown} did not take it")


def _check_addresses(service: Any, target: Target) -> None:
    """Let pass what calls public addresses only; apprise looks names up by itself, so few services do for certain."""
    options = [name for name in _FETCHING if getattr(service, name, None)]
    if options:
        raise DeliveryFailed(
            f"the option {options[0]} is for --notify-private only: it opens what it names", permanent=True
        )
    # Of the class that was made, not of the URL: apprise reads these in its own way.
    kind = service.secure_protocol
    if kind == _MAIL:
        try:
            check_host(service.smtp_host, service.port or 0, private=False)
        except ForbiddenAddress as error:
            raise DeliveryFailed(str(error)) from None
    elif kind == _TEAMS:
        if not _TEAMS_HOST.fullmatch(service.host):
            raise DeliveryFailed(
                "workflows:// to other hosts than Microsoft's is for --notify-private only", permanent=True
            )
    elif kind not in _FIXED:
        raise DeliveryFailed(
            f"{target.shown} is for --notify-private only: whom it calls is not certain; without it, expected "
            f"a webhook, mailtos, workflows, {', '.join(_FIXED[:-1])} or {_FIXED[-1]}",
            permanent=True,
        )
