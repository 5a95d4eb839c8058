"""The agent as a whole: its threads, what passes between them, and how they end."""

import gc
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Thread, current_thread
from types import FrameType
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.clock import ServiceTime, SystemClock, Timeline
from agent.connection import Connection
from agent.diagnostics import RecentProblems, diagnostics
from agent.enrolment import token_for
from agent.heartbeat import Heartbeat, HeartbeatFile
from agent.identity import HostIdentity, identity
from agent.listener import Listener
from agent.plan import CommandBox, SamplingPlan, sampling_plan
from agent.probes import OF_GROUP, PROBES, MetricName
from agent.processes import LEAST_S, ProcessWatch
from agent.remote_configuration import RemoteConfigurationClient, RemoteStateFile
from agent.reports import Outbox, PrintingOutbox, ReportBuilder, SpoolingOutbox
from agent.sampler import Sampler, Window
from agent.sender import DeadLetters, ReportSender
from agent.settings import AgentSettings
from agent.spool import Spool
from contract import times
from contract.agent_protocol import SettingsInForce
from contract.retry import Backoff
from contract.times import format_seconds

_log = logging.getLogger(__name__)

RESTART_S = 5.0
"""The longest wait before a thread that failed is started again; it doubles up to `RESTART_CAP_S`."""
RESTART_CAP_S = 300.0

_QUIET_BEAT_S, _BEAT_S = 30.0, 1.0
"""Least seconds between heartbeats while nothing is sent, and while reports are."""

Inbox = SimpleQueue[Window | Exception | None]
"""What the threads hand to the main one: a window, what ended a thread, or None at the end of the sampling."""


def run(settings: AgentSettings) -> None:
    """Be the agent until SIGTERM or SIGINT, or for one window.

    The sampling thread does nothing but sample, so that no slow disk or network makes it late. This thread
    summarises and spools; the sending thread sends.

    Raises SpoolInUse, NoIdentity, and whatever ended the sampling. Another thread that fails is started again.
    """
    me = identity(settings.user_id, settings.labels)
    inbox: Inbox = SimpleQueue()
    commands = CommandBox()
    closing = Event()
    _stop_on_signals(commands)
    failing: dict[MetricName, str] = {}
    deliver = _delivery(settings, me, commands, inbox, closing, failing)
    sampler = Sampler(deliver.plan, SystemClock(commands), inbox.put, commands, failing)
    period = format_seconds(deliver.plan.interval_s * deliver.plan.samples)
    whose = "" if settings.scope == "host" else " of its control group"
    _log.info("sampling %s%s as %s, a report every %s", ", ".join(deliver.plan.probes), whose, me.user_id, period)
    deliver.report_builder.watch.follow(deliver.plan)
    # What is there now stays: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    _start("sampler", partial(_reporting, sampler.run, inbox))
    for name, work in deliver.threads.items():
        _start(name, partial(supervised, work, closing))
    try:
        while (window := _next(inbox)) is not None:
            report = deliver.report_builder.report(window, **deliver.outbox.counts())
            deliver.outbox.put(report, window.ended_at)
            if deliver.heartbeat is not None:
                deliver.heartbeat.beat(_QUIET_BEAT_S)
            if settings.once:
                break
    finally:
        commands.stop()
        closing.set()
        deliver.outbox.close()


class _DeliveryStart(NamedTuple):
    """What becomes of windows, and what to sample at first."""

    outbox: Outbox
    report_builder: ReportBuilder
    plan: SamplingPlan
    threads: Mapping[str, Callable[[], None]]
    """The functions of further threads, by the threads' names."""
    heartbeat: HeartbeatFile | None = None


def _delivery(
    settings: AgentSettings,
    me: HostIdentity,
    commands: CommandBox,
    inbox: Inbox,
    closing: Event,
    failing: Mapping[MetricName, str],
) -> _DeliveryStart:
    """Reports printed, or sent by way of a spool, which also remembers the windows of earlier runs."""
    own = settings.in_force()
    probes = OF_GROUP if settings.scope == "cgroup" else PROBES
    if settings.once or settings.dry_run:
        # Who asks for one window waits for it, however short it is.
        watch = ProcessWatch(0.0 if settings.once else LEAST_S)
        return _DeliveryStart(
            PrintingOutbox(),
            ReportBuilder(me, Timeline(), watch=watch, scope=settings.scope),
            sampling_plan(own, probes=probes),
            {},
        )
    directory = settings.directory
    spool = Spool(directory, settings.spool_bytes, settings.spool_age)
    token = token_for(settings, me.user_id)
    proxy = settings.proxy_to(settings.url)
    connect = partial(Connection, settings.url, token, proxy, settings.tls(settings.url))
    connection = connect()
    service_time = ServiceTime()
    timeline = Timeline(spool.given_out())
    sender = ReportSender(
        spool, connection, DeadLetters(directory), Backoff(), service_time=service_time, timeline=timeline
    )
    _log.info("reports go to %s; %d wait in %s", connection.url, spool.waiting, directory)
    if not settings.remote:
        heartbeat = HeartbeatFile(directory, partial(_heartbeat, settings, me, spool, sender, failing, lambda: own))
        sender.on_attempt = partial(heartbeat.beat, _BEAT_S)
        heartbeat.beat()
        outbox = SpoolingOutbox(spool, sender, _start("sender", partial(supervised, sender.run, closing)), service_time)
        return _DeliveryStart(
            outbox,
            ReportBuilder(me, timeline, service_time=service_time, scope=settings.scope),
            sampling_plan(own, probes=probes),
            {},
            heartbeat,
        )
    remote = RemoteConfigurationClient(
        own, me, RemoteStateFile(directory, connection.url), connect(), commands, probes=probes
    )
    sender.on_instructions = remote.receive
    heartbeat = HeartbeatFile(
        directory, partial(_heartbeat, settings, me, spool, sender, failing, lambda: remote.in_force)
    )
    sender.on_attempt, remote.on_change = partial(heartbeat.beat, _BEAT_S), heartbeat.beat
    outbox = SpoolingOutbox(spool, sender, _start("sender", partial(supervised, sender.run, closing)), service_time)
    recent_problems = RecentProblems(
        [token or "", settings.enrolment_token, *_credentials(settings.url), *_credentials(proxy or "")]
    )
    logging.getLogger().addHandler(recent_problems)
    remote.diagnose = partial(diagnostics, me, remote, outbox.counts, lambda: outbox.problem, recent_problems, failing)
    listener = Listener(me.user_id, connect(), remote, closing)
    report_builder = ReportBuilder(me, timeline, lambda: remote.refused_version, service_time, scope=settings.scope)
    plan = remote.first_plan()
    heartbeat.beat()
    threads = {"remote": remote.run, "listener": listener.run}
    return _DeliveryStart(outbox, report_builder, plan, threads, heartbeat)


def _heartbeat(
    settings: AgentSettings,
    me: HostIdentity,
    spool: Spool,
    sender: ReportSender,
    failing: Mapping[MetricName, str],
    in_force: Callable[[], SettingsInForce],
    pid: int,
    process_started: float,
) -> Heartbeat:
    """How the agent is now."""
    parts = urlsplit(settings.url)
    return Heartbeat(
        at=times.now_ms(), pid=pid, process_started=process_started, user_id=me.user_id,
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), settings=in_force(),
        spool_limit_bytes=settings.spool_bytes, waiting=spool.waiting, waiting_bytes=spool.waiting_bytes,
        dropped=spool.dropped, refused=sender.refused, problem=sender.problem, not_sampled=dict(failing),
    )  # fmt: skip


def _credentials(url: str) -> list[str]:
    """The parts of an address that are secret."""
    parts = urlsplit(url)
    return [parts.password or "", parts.netloc.rpartition("@")[0]]


def _start(name: str, target: Callable[[], None]) -> Thread:
    # A daemon: the end of the agent does not wait for a service that hangs.
    thread = Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _reporting(work: Callable[[], None], inbox: Inbox) -> None:
    """Do the work and tell the main thread how it ended: without samples there is no agent."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - raised again in the main thread
        inbox.put(error)
    else:
        inbox.put(None)


def supervised(work: Callable[[], None], closing: Event, backoff: Backoff | None = None) -> None:
    """Do the work; where it fails say so and, unless the agent ends, do it again, ever later while it goes on failing.

    A fault in what sends or listens must not end the sampling. It is logged, so it is among the recent problems
    that `diagnostics` answers.
    """
    backoff = backoff or Backoff(first_s=RESTART_S, cap_s=RESTART_CAP_S, least=0.5)
    while True:
        try:
            work()
        except Exception:  # noqa: BLE001 - whatever it is, the agent goes on
            wait_s = backoff.next_s()
            name = current_thread().name
            _log.exception("a fault of the agent has stopped its %s; it starts again in %.0f s", name, wait_s)
            if closing.wait(wait_s):
                return
        else:
            return


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
