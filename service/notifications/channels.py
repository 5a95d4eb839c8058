"""E-mail, Slack and the rest, by apprise. Its URLs hold secrets and are never printed."""

import logging
from typing import Any
from urllib.parse import urlsplit

from service.notifications.addresses import ForbiddenAddress, check_host
from service.notifications.targets import Target
from service.notifications.webhooks import Refused

__all__ = ["tell"]

_PLAIN = ("json", "jsons", "xml", "xmls", "form", "forms", "apprise", "apprises")
"""Any address could be called with these, and redirects are followed; webhooks do that with care."""
_LOCAL = ("dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows")


def tell(target: Target, title: str, text: str, *, private: bool) -> None:
    """Send a text; raises Refused."""
    import apprise

    # It logs what it calls, with the secrets that are in the address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    scheme = urlsplit(target.url).scheme.lower()
    if not private and scheme in (*_PLAIN, *_LOCAL):
        raise Refused(f"{scheme}:// is for --notify-private only; a webhook is right", for_good=True)
    service: Any = apprise.Apprise.instantiate(target.url, suppress_exceptions=True)
    if service is None:
        raise Refused(f"{target.name} is no address that apprise knows", for_good=True)
    _check(service, private=private)
    service.socket_connect_timeout = service.socket_read_timeout = target.timeout_s
    if not service.notify(title=title, body=text):
        raise Refused(f"{scheme}:// did not take it")


def _check(service: Any, *, private: bool) -> None:
    """Look at the hosts that the address names; services with a host of their own name none."""
    for host in filter(None, (getattr(service, "host", None), getattr(service, "smtp_host", None))):
        if "." in host or host == "localhost" or ":" in host:
            try:
                check_host(host, service.port or 0, private=private)
            except ForbiddenAddress as error:
                raise Refused(str(error)) from None
