"""E-mail, Slack and the rest, by apprise. Its URLs hold secrets and are never printed."""

import logging
import re
from typing import Any

from service.notifications.addresses import ForbiddenAddress, check_host
from service.notifications.targets import Target
from service.notifications.webhooks import Refused

__all__ = ["tell"]

_FIXED = ("discord", "mailgun", "opsgenie", "pagerduty", "pbul", "pover", "sendgrid", "slack", "tgram")
"""Services whose hosts stand in apprise's own code, and which heed `redirects`; a test looks whom they call."""
_TEAMS = ("workflow", "workflows")
_TEAMS_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(logic\.azure\.com|api\.powerplatform\.com)", re.IGNORECASE)
_MAIL = "mailtos"
_FETCHING = ("template", "pgp_key", "pgp_privkey", "use_wkd")
"""Options that name files or addresses, which apprise would open."""


def tell(target: Target, title: str, text: str, *, private: bool) -> None:
    """Send a text; raises Refused."""
    import apprise

    # It logs what it calls, with the secrets that are in the address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    service: Any = apprise.Apprise.instantiate(target.url, suppress_exceptions=True)
    if service is None:
        raise Refused(f"{target.name} is no address that apprise knows", for_good=True)
    if not private:
        _check(service, target)
    service.redirects = False
    service.socket_connect_timeout = service.socket_read_timeout = target.timeout_s
    # As a warning: of an information apprise makes a mere note on Opsgenie's alerts, and nothing where there are none.
    if not service.notify(title=title, body=text, notify_type=apprise.NotifyType.WARNING):
        raise Refused(f"{target.shown} did not take it")


def _check(service: Any, target: Target) -> None:
    """Let pass what calls public addresses only; apprise looks names up by itself, so few services do for certain."""
    options = [name for name in _FETCHING if getattr(service, name, None)]
    if options:
        raise Refused(f"the option {options[0]} is for --notify-private only: it opens what it names", for_good=True)
    # Of the class that was made, not of the URL: apprise reads these in its own way.
    kind = service.secure_protocol
    if kind == _MAIL:
        try:
            check_host(service.smtp_host, service.port or 0, private=False)
        except ForbiddenAddress as error:
            raise Refused(str(error)) from None
    elif kind == _TEAMS:
        if not _TEAMS_HOST.fullmatch(service.host):
            raise Refused("workflows:// to other hosts than Microsoft's is for --notify-private only", for_good=True)
    elif kind not in _FIXED:
        raise Refused(
            f"{target.shown} is for --notify-private only: whom it calls is not certain; a webhook, mailtos, "
            f"workflows, {', '.join(_FIXED)} are right without",
            for_good=True,
        )
