"""`loadlens-service rules notify`, `notifications` and `redeliver`: what is told to targets, tried and sent again."""

import time
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from contract.service_address import ServiceAddress
from contract.settings import fail, load
from service.commands import failed

_NOTIFY = "loadlens-service rules notify"
_NOTIFY_DESCRIPTION = """\
Has a running service send a target a notification that says that it is a test,
and waits for what becomes of it. The exit code is 0 where the target took it."""
_NOTIFY_EPILOG = """examples:
  loadlens-service rules notify ops
  loadlens-service rules notify ops --wait 5"""
_LIST = "loadlens-service rules notifications"
_LIST_DESCRIPTION = "Lists the notifications of a running service, the newest first."
_LIST_EPILOG = """examples:
  loadlens-service rules notifications
  loadlens-service rules notifications --state dead"""
_REDELIVER = "loadlens-service rules redeliver"
_REDELIVER_DESCRIPTION = "Has a running service send notifications again that were given up or delivered; ids stay."
_REDELIVER_EPILOG = """examples:
  loadlens-service rules redeliver msg_2f6c0a7be4d0a6c3
  loadlens-service rules redeliver --dead             all that were given up
  loadlens-service rules redeliver --dead --target ops"""
_TIMEOUT_S = 30.0
_LOOK_EVERY_S = 0.2
_TARGET = {"metavar": "NAME", "default": "all"}


class NotifySettings(ServiceAddress, frozen=True, kw_only=True):
    """The target that gets a test notification."""

    target: Annotated[str, Meta(description="The target, by its name.", extra={"positional": True})]
    wait: Annotated[
        float, Meta(ge=0.0, le=3600.0, description="Wait this long for the target's answer.",
                    extra={"metavar": "SECONDS"})
    ] = 40.0  # fmt: skip


class NotificationSettings(ServiceAddress, frozen=True, kw_only=True):
    """Which notifications to list."""

    state: Annotated[
        Literal["gathering", "waiting", "delivered", "dead"] | None,
        Meta(description="Those of one state.", extra={"metavar": "STATE", "default": "all"}),
    ] = None
    target: Annotated[str | None, Meta(description="Those to one target.", extra=_TARGET)] = None


class RedeliverSettings(ServiceAddress, frozen=True, kw_only=True):
    """The notifications that are sent again."""

    ids: Annotated[
        tuple[str, ...], Meta(description="Notifications, by their ids.", extra={"positional": True, "metavar": "ID"})
    ] = ()
    dead: Annotated[bool, Meta(description="All that were given up.")] = False
    target: Annotated[str | None, Meta(description="With --dead: those to one target.", extra=_TARGET)] = None


def notify(argv: Sequence[str]) -> int:
    """Run `notify`; returns the exit code."""
    settings = load(NotifySettings, argv, program=_NOTIFY, description=_NOTIFY_DESCRIPTION, epilog=_NOTIFY_EPILOG)
    from analytics.sources.operations import Operations
    from analytics.sources.service_api import ServiceError

    deadline = time.monotonic() + settings.wait
    try:
        with Operations(settings.url, settings.token, timeout_s=_TIMEOUT_S, ca_file=settings.ca_file) as api:
            identity = api.test_target(settings.target)
            while True:
                message = api.notification(identity)
                if message["state"] == "delivered":
                    print(f"{settings.target} took it ({identity}).")
                    return 0
                if message["error"] or time.monotonic() >= deadline:
                    break
                time.sleep(_LOOK_EVERY_S)
    except ServiceError as error:
        return failed(_NOTIFY, error)
    then = "It was given up." if message["state"] == "dead" else f"It is tried again at {message['due']}."
    reason = message["error"] or "it waits behind others, or for an answer"
    return failed(_NOTIFY, f"{settings.target} has not taken it: {reason}. {then}")


def list_notifications(argv: Sequence[str]) -> int:
    """Run `notifications`; returns the exit code."""
    settings = load(NotificationSettings, argv, program=_LIST, description=_LIST_DESCRIPTION, epilog=_LIST_EPILOG)
    from rich.console import Console

    from analytics.commands.tables import fitting_table, plain
    from analytics.sources.operations import Operations
    from analytics.sources.service_api import ServiceError

    try:
        with Operations(settings.url, settings.token, timeout_s=_TIMEOUT_S, ca_file=settings.ca_file) as api:
            found = api.notifications(settings.state)
    except ServiceError as error:
        return failed(_LIST, error)
    names = ("id", "rule", "target", "state", "created", "attempts", "error")
    table = fitting_table(*names, whole=("id",), numbers=("attempts",))
    for message in found:
        if settings.target in (None, message["target"]):
            table.add_row(*(plain(str(message[name])) for name in names))
    Console(highlight=False).print(table if table.row_count else "There are none.")
    return 0


def redeliver(argv: Sequence[str]) -> int:
    """Run `redeliver`; returns the exit code."""
    settings = load(
        RedeliverSettings, argv, program=_REDELIVER, description=_REDELIVER_DESCRIPTION, epilog=_REDELIVER_EPILOG
    )
    if bool(settings.ids) == settings.dead:
        fail(_REDELIVER, f"expected ids or --dead, got {'both' if settings.dead else 'neither'}")
    from analytics.sources.operations import Operations
    from analytics.sources.service_api import ServiceError

    try:
        with Operations(settings.url, settings.token, timeout_s=_TIMEOUT_S, ca_file=settings.ca_file) as api:
            ids = list(settings.ids)
            if settings.dead:
                # The oldest first, so that they come in the order in which they were made.
                dead = reversed(api.notifications("dead"))
                ids = [one["id"] for one in dead if settings.target in (None, one["target"])]
            for identity in ids:
                api.redeliver(identity)
    except ServiceError as error:
        return failed(_REDELIVER, error)
    print(f"{len(ids)} sent again." if ids else "There are none.")
    return 0
