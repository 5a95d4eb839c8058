"""The agent as a whole: its threads, what passes between them, and how they end."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread
from types import FrameType
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.clock import SystemClock, Timeline
from agent.connection import Connection
from agent.diagnostics import RecentProblems, diagnostics
from agent.identity import Identity, identity
from agent.listener import Listener
from agent.plan import CommandBox, SamplingPlan, sampling_plan
from agent.probes import MetricName
from agent.remote_configuration import RemoteConfiguration, RemoteStateFile
from agent.reports import Outbox, PrintingOutbox, ReportBuilder, SpoolingOutbox
from agent.sampler import Sampler, Window
from agent.sender import DeadLetters, ReportSender
from agent.settings import AgentSettings, default_spool_dir
from agent.spool import Spool
from contract.retry import Backoff

_log = logging.getLogger(__name__)

Inbox = SimpleQueue[Window | Exception | None]
"""What the threads hand to the main one: a window, what ended a thread, or None at the end of the sampling."""


def run(settings: AgentSettings) -> None:
    """Be the agent until SIGTERM or SIGINT, or for one window.

    The sampling thread does nothing but sample, so that no slow disk or network makes it late. This thread
    summarises and spools; the sending thread sends.

    Raises SpoolInUse, NoIdentity, and whatever ended a thread.
    """
    me = identity(settings.user_id)
    inbox: Inbox = SimpleQueue()
    commands = CommandBox()
    closing = Event()
    _stop_on_signals(commands)
    failing: dict[MetricName, str] = {}
    deliver = _delivery(settings, me, commands, inbox, closing, failing)
    sampler = Sampler(deliver.plan, SystemClock(commands), inbox.put, commands, failing)
    _log.info("sampling %s as %s", ", ".join(deliver.plan.probes), me.user_id)
    # What is there now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    _start("sampler", sampler.run, inbox)
    for name, work in deliver.threads.items():
        _start(name, work, inbox, says_end=False)
    try:
        while (window := _next(inbox)) is not None:
            deliver.outbox.put(deliver.report_builder.report(window, **deliver.outbox.counts()))
            if settings.once:
                break
    finally:
        commands.stop()
        closing.set()
        deliver.outbox.close()


class _Delivery(NamedTuple):
    """What becomes of windows, and what to sample at first."""

    outbox: Outbox
    report_builder: ReportBuilder
    plan: SamplingPlan
    threads: Mapping[str, Callable[[], None]]
    """The functions of further threads, by the threads' names."""


def _delivery(
    settings: AgentSettings,
    me: Identity,
    commands: CommandBox,
    inbox: Inbox,
    closing: Event,
    failing: Mapping[MetricName, str],
) -> _Delivery:
    """Reports printed, or sent by way of a spool, which also remembers the windows of earlier runs."""
    own = settings.in_force()
    if settings.once or settings.dry_run:
        return _Delivery(PrintingOutbox(), ReportBuilder(me, Timeline()), sampling_plan(own), {})
    directory = settings.spool_dir or default_spool_dir(os.environ)
    spool = Spool(directory, settings.spool_bytes, settings.spool_age)
    connection = Connection(settings.url, settings.token)
    sender = ReportSender(spool, connection, DeadLetters(directory), Backoff())
    _log.info("reports go to %s; %d wait in %s", connection.url, spool.waiting, directory)
    timeline = Timeline(spool.given_out())
    if not settings.remote:
        outbox = SpoolingOutbox(spool, sender, _start("sender", sender.run, inbox, says_end=False))
        return _Delivery(outbox, ReportBuilder(me, timeline), sampling_plan(own), {})
    remote = RemoteConfiguration(
        own, me, RemoteStateFile(directory, connection.url), Connection(settings.url, settings.token), commands
    )
    sender.on_instructions = remote.receive
    outbox = SpoolingOutbox(spool, sender, _start("sender", sender.run, inbox, says_end=False))
    recent_problems = RecentProblems([settings.token or "", *_credentials(settings.url)])
    logging.getLogger().addHandler(recent_problems)
    remote.diagnose = partial(diagnostics, me, remote, outbox.counts, lambda: outbox.problem, recent_problems, failing)
    listener = Listener(me.user_id, Connection(settings.url, settings.token), remote, closing)
    report_builder = ReportBuilder(me, timeline, lambda: remote.refused_version)
    return _Delivery(outbox, report_builder, remote.first_plan(), {"remote": remote.run, "listener": listener.run})


def _credentials(url: str) -> list[str]:
    """The parts of an address that are secret."""
    parts = urlsplit(url)
    return [parts.password or "", parts.netloc.rpartition("@")[0]]


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


def _stop_on_signals(commands: CommandBox) -> None:
    """The first SIGTERM or SIGINT ends the agent in order; further ones do not cut that short."""

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        commands.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
