"""The agent as a whole: its threads, what passes between them, and how they end."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import FrameType

from agent.backoff import Backoff
from agent.clock import SystemClock
from agent.connection import Connection
from agent.identity import identity
from agent.outbox import Outbox, Printer, Service
from agent.places import default_spool_dir
from agent.probes import PROBES
from agent.refused import RefusedFile
from agent.reporter import Reporter
from agent.sampler import Plan, Sampler, Window
from agent.sender import Sender
from agent.settings import AgentSettings
from agent.spool import Spool
from agent.timeline import Timeline

__all__ = ["run"]

_log = logging.getLogger(__name__)

Inbox = SimpleQueue[Window | Exception | None]
"""What the threads tell the main one: a window, what ended a thread, or None at the end of the sampling."""


def run(settings: AgentSettings) -> None:
    """Be the agent until SIGTERM or SIGINT, or for one window.

    The sampling thread does nothing but sample, so that no slow disk or network makes it late. This thread
    summarises and spools; the sending thread sends.

    Raises SpoolInUse, NoIdentity, and whatever ended a thread.
    """
    me = identity(settings.user_id)
    inbox: Inbox = SimpleQueue()
    stop = Event()
    _stop_on_signals(stop)
    outbox, timeline = _outbox(settings, inbox)
    reporter = Reporter(me, timeline)
    plan = Plan(settings.interval, settings.samples, {name: PROBES[name]() for name in settings.metrics})
    sampler = Sampler(plan, SystemClock(stop), inbox.put)
    _log.info("sampling %s as %s", ", ".join(settings.metrics), me.user_id)
    # What is there now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    _start("sampler", sampler.run, inbox)
    try:
        while (window := _next(inbox)) is not None:
            outbox.put(reporter.report(window, **outbox.counts()))
            if settings.once:
                break
    finally:
        stop.set()
        outbox.close()


def _outbox(settings: AgentSettings, inbox: Inbox) -> tuple[Outbox, Timeline]:
    """Where reports go, and the timeline, which knows the windows of earlier runs where reports are kept."""
    if settings.once or settings.dry_run:
        return Printer(), Timeline()
    directory = settings.spool_dir or default_spool_dir(os.environ)
    spool = Spool(directory, settings.spool_bytes, settings.spool_age)
    connection = Connection(settings.url, settings.token)
    sender = Sender(spool, connection, RefusedFile(directory), Backoff())
    _log.info("reports go to %s; %d wait in %s", connection.url, spool.waiting, directory)
    thread = _start("sender", sender.run, inbox, says_end=False)
    return Service(spool, sender, thread), Timeline(spool.given_out())


def _start(name: str, target: Callable[[], None], inbox: Inbox, *, says_end: bool = True) -> Thread:
    """A thread whose failure ends the agent: half an agent would go unnoticed."""

    def guarded() -> None:
        try:
            target()
        except Exception as error:  # noqa: BLE001 - raised again in the main thread
            inbox.put(error)
        else:
            if says_end:
                inbox.put(None)

    # A daemon: the end of the agent does not wait for a service that hangs.
    thread = Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread


def _next(inbox: Inbox) -> Window | None:
    """The next window, None at the end; raises what ended a thread."""
    while True:
        try:
            # On Windows a wait without bound does not notice Ctrl-C.
            item = inbox.get(timeout=0.5 if sys.platform == "win32" else None)
        except Empty:
            continue
        if isinstance(item, Exception):
            raise item
        return item


def _stop_on_signals(stop: Event) -> None:
    """The first SIGTERM or SIGINT ends the agent in order; further ones do not cut that short."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
