"""The parts of a running service, from settings: made, started and ended together."""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from contract.logs import fields
from contract.report import Report
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.repository import RuleRepository
from service.alerts.runner import Runner
from service.annotations import Annotations
from service.backup.snapshots import Live, SnapshotMaker
from service.cluster import ClusterError
from service.control.audit import Audit
from service.control.data_lock import lock_data_folder
from service.control.database import ControlDatabase, ControlError
from service.control.replication import Replication
from service.control.sharing import Sharing
from service.credentials.identity import Identity
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.forgetting import Forgetting, Knowing
from service.http.request_log import RequestLog
from service.http.token_limits import TokenLimits
from service.http.versions import RangeVersions
from service.ingest.acknowledgement import Ingest
from service.ingest.admission import Admission
from service.ingest.changed_values import ChangedValues
from service.ingest.maintenance import Maintenance, replay
from service.journal.base import Log
from service.journal.files import Damage
from service.journal.journal import Journal
from service.notifications.delivery import deliver
from service.notifications.queue import NotificationQueue
from service.notifications.sender import NotificationSender
from service.reporting.maker import FinishedReport, ReportMaker
from service.reporting.scheduler import ReportScheduler
from service.reporting.schedules import Schedules
from service.reporting.worker import ReportRefused, ReportRequest
from service.settings import ServiceSettings
from service.stores.base import Store
from service.stores.opening import home_of, open_store
from service.stream.broker import Broker, BrokerLimits

if TYPE_CHECKING:
    from service.ingest.member import Member

_log = logging.getLogger("loadlens.service")
_SCHEDULED_MS = 3_600_000
"""Longer than a report of a schedule waits for its turn and is made."""
_CATCHES_UP_S = 5.0
"""Of a cluster: a process that follows its log comes to what others know already within some milliseconds."""
_MIN_LIVE_BYTES, _MAX_LIVE_BYTES = 1 << 20, 64 << 20
"""Bounds of what the live stream holds for consumers in memory."""


class Answers(Protocol):
    """What only questions need (`service.answers`)."""

    def read_ahead(self) -> None:
        """Read what is asked first, in a thread."""

    def note(self, reports: Sequence[Report]) -> None:
        """Take reports that the store answers already."""

    def clear(self) -> None:
        """Give no answer again that was made so far. Blocks."""

    def close(self) -> None:
        """Wait for what is being read."""


class Service:
    """The parts of a running service; `open` and `close` are what starts and ends them."""

    def __init__(self, settings: ServiceSettings, own_address: str = "") -> None:
        """`own_address` is where this process alone answers, if others share the service's port."""
        # First of all: nothing in a folder that another process uses is so much as read.
        self._lock = lock_data_folder(Path(settings.data_dir))
        try:
            self._build(settings, own_address)
        except BaseException:
            self._lock.release()
            raise

    def _build(self, settings: ServiceSettings, own_address: str) -> None:
        folder = Path(settings.data_dir)
        home = home_of(settings)
        self.member = _join(settings) if settings.is_clustered else None
        """What this process is in a cluster; None where it is alone."""
        self.lost: Sequence[Damage] = ()
        """Reports that were acknowledged and are lost."""
        self.journal: Log
        self.store: Store
        if self.member is not None:
            self.journal, self.store = self.member.log, self.member.store
        else:
            self._open_alone(settings, home)
        _log.info("windows are kept in %s", self.store.description)
        self.versions = RangeVersions(self.store)
        self.requests = RequestLog(settings.requests_logged)
        live_bytes = min(max(settings.stream_keep, _MIN_LIVE_BYTES), _MAX_LIVE_BYTES)
        limits = BrokerLimits(
            consumers=settings.stream_consumers,
            live_bytes=live_bytes,
            catches_up_s=0.0 if self.member is None else _CATCHES_UP_S,
        )
        self.broker = Broker(self.journal, limits)
        self.changed_values = ChangedValues(self.store.answer)
        self.ingest = self._new_ingest()
        self.admission = Admission(self.store, settings.max_users, settings.max_series)
        self.control = ControlDatabase(folder / "control.db")
        self.audit = Audit(self.control)
        self.tokens = Tokens(self.control, self.audit)
        self.sessions = Sessions(self.control, self.audit, self.tokens)
        self.token_limits = TokenLimits(settings)
        # Offsets are those of the cluster's log, wherever this process has its files.
        log = str(home.relative_to(folder)) if self.member is None else self.member.log.stream
        self.rule_repository = RuleRepository(self.control, self.audit, log)
        self.annotations = Annotations(self.control, self.audit)
        self.queue = NotificationQueue(self.control)
        self.remote_configuration = RemoteConfiguration(
            self.control, self.audit, settings.agent_streams, settings.keep_agents_ms
        )
        self.rules = Runner(
            self.journal, self.rule_repository, self.queue, settings.rules,
            public_url=settings.public_url, is_paused=self.remote_configuration.is_paused,
            is_mine=self._evaluates_rules, take_over=self._take_over_rules, labels_of=self.store.labels_of,
        )  # fmt: skip
        self.sender = NotificationSender(
            self.queue, lambda: self.rules.targets, partial(deliver, private=settings.notify_private),
            is_mine=self._evaluates_rules,
        )  # fmt: skip
        self.report_maker = ReportMaker(settings.tls_certificate, own_address)
        self.schedules = Schedules(self.control, self.audit)
        self.scheduler = ReportScheduler(
            self.schedules, partial(self._make_scheduled, _own_address(settings)), is_mine=self._evaluates_rules
        )
        self.answering: Answers | None = None
        """What only questions need; set when it is imported (`service.app`)."""
        self.is_open = False
        self._reads_ahead = self.member is None and settings.store == "embedded"
        self.snapshots = SnapshotMaker(folder, Live(home, self.journal, self.store))
        self.maintenance = Maintenance(self.journal, self.store, settings.flush_seconds)
        self.sharing = None if self.member is None else Sharing(self.control, self.audit, self.member.bucket)
        """Keeps what the processes of a cluster have alike; None where this one is alone."""
        self.replication = None if self.member is None else Replication(self.control, self.member.changes)
        """Keeps what one of them evaluates and delivers; None where this one is alone."""
        self.forgetting = self._new_forgetting(str(home.relative_to(folder))) if self.member is None else None
        """Forgets users; None in a cluster, whose log keeps what it has."""

    def _evaluates_rules(self) -> bool:
        """Whether this process evaluates the rules, and delivers what they tell."""
        return self.member is None or self.member.evaluates_rules()

    def _take_over_rules(self) -> None:
        if self.replication is not None:
            self.replication.take_over()

    def _new_forgetting(self, journal: str) -> Forgetting:
        knowing = Knowing(
            store=self.store, journal=self._own_journal, ingest=self.ingest, agents=self.remote_configuration,
            rules=self.rules, alerts=self.rule_repository, annotations=self.annotations, schedules=self.schedules,
            clear=self._clear_answers,
        )  # fmt: skip
        return Forgetting(self.control, self.audit, knowing, journal)

    async def _make_scheduled(
        self, address: str, request: ReportRequest, schedule: int
    ) -> FinishedReport | ReportRefused:
        """Have a report made of a schedule, as a reader asks for it who may see all hosts."""
        reader = Identity("reader", token=f"schedule:{schedule}")
        return await self.report_maker.report(
            request, address, lambda: self.tokens.pass_on(reader, _SCHEDULED_MS), reader.scope
        )

    async def _clear_answers(self) -> None:
        """Give no answer again that was made so far."""
        if self.answering is not None:
            await asyncio.to_thread(self.answering.clear)
        self.versions.renew()
        self.report_maker.clear()

    def _open_alone(self, settings: ServiceSettings, home: Path) -> None:
        """Open the journal and the store of a process that shares them with nobody."""
        self._own_journal = journal = Journal(home / "journal", settings.journal_bytes, settings.stream_keep)
        store = open_store(settings, journal.holds, has_reports=not journal.is_empty)
        journal.advance_to(store.flushed)
        self.lost = journal.missing(store.flushed)
        for lost in self.lost:
            _log.error("%s (%s)", lost.words, lost.path)
        journal.prune(store.flushed)
        replayed = replay(journal, store)
        if replayed:
            _log.info("%d reports replayed from the journal", replayed)
        self.journal, self.store = journal, store

    @property
    def lost_for_certain(self) -> int:
        """How many reports that were acknowledged are lost, as far as they can be counted."""
        return sum(one.reports for one in self.lost if not one.is_bound)

    def _new_ingest(self) -> Ingest:
        if self.member is not None:
            # What is acknowledged comes back by the log, with what others acknowledged.
            return Ingest(
                self.member.log.append, self.member.followed, lambda last, texts, reports: None,
                self.changed_values.look_at,
            )  # fmt: skip
        journal = self._own_journal
        return Ingest(
            lambda texts, reports: journal.append(texts), self.store, self._publish, self.changed_values.look_at
        )

    def _deliver(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Take what the log of a cluster brings."""
        self.store.add(last, reports)
        self.ingest.hear(reports)
        self.remote_configuration.follow(reports)
        self._publish(last, texts, reports)

    def _publish(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Hand on the reports of one commit, which the store answers already."""
        self.versions.take(reports)
        self.remote_configuration.observe(reports)
        self.rules.publish(last, reports)
        self.broker.publish(last, texts, reports)
        if self.answering is not None:
            self.answering.note(reports)

    def open(self) -> None:
        """Start the work in the background; called on the event loop."""
        if self.member is not None:
            self.member.start(self._deliver)
        self.rules.start()
        self.sender.start()
        self.maintenance.start()
        self.snapshots.start()
        self.remote_configuration.start()
        self.tokens.start()
        self.scheduler.start()
        if self.forgetting is not None:
            self.forgetting.start()
        self.is_open = True
        self.read_ahead()

    def read_ahead(self) -> None:
        """Read what the dashboard shows first, in a thread, where this process does and can do so already."""
        if self._reads_ahead and self.answering is not None:
            self.answering.read_ahead()

    def reload(self) -> None:
        """Read the files of the rules again."""
        self.rules.reload()

    def end_streams(self) -> None:
        """Let answers end that would go on for ever: the server waits for them before it closes the service."""
        self.broker.close()
        self.remote_configuration.streams.close()

    def close(self) -> None:
        """Put everything on the store's disk and let go of the files."""
        self.is_open = False
        self.broker.end()
        self.changed_values.close()
        self.ingest.close()
        self.rules.stop()
        # Before another process has the lease: what is under way is not to be delivered there, too.
        self.sender.stop()
        if self.member is not None:
            self.member.stop()
        self.maintenance.stop()
        self.snapshots.stop()
        if self.answering is not None:
            self.answering.close()
        self.store.close()
        with contextlib.suppress(ControlError):
            self.tokens.write_uses()
        # In this order: the file that is written to is pruned only once it is closed.
        self.journal.close()
        for shared in (self.sharing, self.replication):
            if shared is not None:
                shared.close()
        if self.member is None:
            self.journal.prune(self.store.flushed)
        else:
            self.member.close()
        self.control.close()
        self._lock.release()
        waiting = self.journal.waiting(self.store.flushed)
        _log.info(
            "the service has ended; it took %d reports and refused %d, and %d wait in the journal",
            self.ingest.accepted, self.ingest.rejected, waiting,
            extra=fields(accepted=self.ingest.accepted, rejected=self.ingest.rejected, waiting=waiting),
        )  # fmt: skip


def _own_address(settings: ServiceSettings) -> str:
    """The host, port and prefix where this process reaches its own service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"{f'[{host}]' if ':' in host else host}:{settings.port}{settings.path_prefix}"


def _join(settings: ServiceSettings) -> "Member":
    """Become a process of a cluster."""
    # Only these need the client of NATS.
    if importlib.util.find_spec("nats") is None:
        raise ClusterError("a journal in NATS needs nats-py: pip install 'loadlens[service,cluster]'")
    from service.ingest.member import Member

    return Member(settings)
