"""The composition root: settings in, application out."""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import falcon
import falcon.asgi
from falcon.asgi import Request, Response
from falcon.routing import CompiledRouter

from contract.logs import fields
from contract.report import Report
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.repository import RuleRepository
from service.alerts.runner import Runner
from service.annotations import Annotations
from service.backup.snapshots import Live, SnapshotMaker
from service.cluster.errors import ClusterError
from service.control.audit import Audit
from service.control.data_lock import lock_data_folder
from service.control.database import ControlDatabase, ControlError
from service.credentials.identity import Identity
from service.credentials.openid import CALLBACK, OpenId
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.dashboard.analysis import Analyst
from service.dashboard.matrix import FleetCache
from service.forgetting import Forgetting, Knowing
from service.http.access import OnlyEncrypted, RefuseForeignPages, RequireOwnHost
from service.http.authentication import Authentication
from service.http.cors import AllowOrigins
from service.http.encoding import Compress, add_head
from service.http.openapi.document import openapi
from service.http.problems import serialize, unavailable, uncontrolled, unexpected
from service.http.request_log import NameRoute, RequestLog
from service.http.resources.agent_settings import FleetSettings, OneAgentsSettings
from service.http.resources.agents import AgentList, OneAgent, OneAgentsCommands, OneAgentsState, OneCommand
from service.http.resources.alerts import Alerts, OneSilence, Silences
from service.http.resources.annotations import AnnotationList, OneAnnotation
from service.http.resources.dashboard import VIEWS, Dashboard, FleetPicture, HostAnalysis, RuleBacktest, StaticFile
from service.http.resources.documentation import Docs, DocsStyle, OpenApi
from service.http.resources.health import Health, Ready, member_looks, other_looks, refusing_looks
from service.http.resources.ingest import Metrics
from service.http.resources.notifications import Notifications, OneNotification, Redelivery, TargetTest
from service.http.resources.openid import OpenIdBegin, OpenIdEnd
from service.http.resources.operations import AuditTrail, Numbers, Prometheus
from service.http.resources.otlp import OpenTelemetryMetrics
from service.http.resources.pages import FleetReport, Index, UserReport
from service.http.resources.process_use import TopProcesses
from service.http.resources.query import Fleet, FleetWindows, History, OneUser, QueryTables, Sending, Users, UserWindows
from service.http.resources.rules import OneRule, Rules
from service.http.resources.schedules import OneSchedule, ScheduledReport, ScheduleList
from service.http.resources.sign_in import OneSession, SessionList, SignIn, SignOut
from service.http.resources.stream import LiveStream
from service.http.resources.tokens import Enrolments, NewSecret, OneToken, TokenList, Who
from service.http.routing import Slashes, elsewhere, under
from service.http.token_limits import AddressLimit, TokenLimits
from service.http.versions import RangeVersions
from service.ingest.acknowledgement import Ingest
from service.ingest.admission import Admission
from service.ingest.maintenance import Maintenance, replay
from service.journal.base import Log
from service.journal.files import Damage
from service.journal.journal import Journal
from service.notifications.delivery import deliver
from service.notifications.queue import NotificationQueue
from service.notifications.sender import NotificationSender
from service.reporting.maker import FinishedReport, ReportMaker
from service.reporting.scheduler import Scheduler
from service.reporting.schedules import Schedules
from service.reporting.worker import ReportRefused, ReportRequest
from service.settings import ServiceSettings
from service.stores.base import Store, StoreUnavailable
from service.stores.opening import home_of, open_store
from service.stream.broker import Broker, BrokerLimits
from service.tls import Tls

if TYPE_CHECKING:
    from service.ingest.member import Member

_log = logging.getLogger("loadlens.service")
_SCHEDULED_MS = 3_600_000
"""Longer than a report of a schedule waits for its turn and is made."""
_MIN_LIVE_BYTES, _MAX_LIVE_BYTES = 1 << 20, 64 << 20
"""Bounds of what the live stream holds for consumers in memory."""


class Service:
    """The parts of a running service; `open` and `close` are what starts and ends them."""

    def __init__(self, settings: ServiceSettings) -> None:
        # First of all: nothing in a folder that another process uses is so much as read.
        self._lock = lock_data_folder(Path(settings.data_dir))
        try:
            self._build(settings)
        except BaseException:
            self._lock.release()
            raise

    def _build(self, settings: ServiceSettings) -> None:
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
        limits = BrokerLimits(consumers=settings.stream_consumers, live_bytes=live_bytes)
        self.broker = Broker(self.journal, limits)
        self.ingest = self._new_ingest()
        self.admission = Admission(self.store, settings.max_users)
        self.control = ControlDatabase(folder / "control.db")
        self.audit = Audit(self.control)
        self.tokens = Tokens(self.control, self.audit)
        self.sessions = Sessions(self.control, self.audit, self.tokens)
        self.token_limits = TokenLimits(settings)
        self.rule_repository = RuleRepository(self.control, self.audit, str(home.relative_to(folder)))
        self.annotations = Annotations(self.control, self.audit)
        self.queue = NotificationQueue(self.control)
        self.remote_configuration = RemoteConfiguration(
            self.control, self.audit, settings.agent_streams, settings.keep_agents_ms
        )
        self.rules = Runner(
            self.journal, self.rule_repository, self.queue, settings.rules,
            public_url=settings.public_url, is_paused=self.remote_configuration.is_paused,
            is_mine=self.member.evaluates_rules if self.member else lambda: True,
        )  # fmt: skip
        self.sender = NotificationSender(
            self.queue, lambda: self.rules.targets, partial(deliver, private=settings.notify_private)
        )
        self.report_maker = ReportMaker(settings.tls_certificate)
        self.schedules = Schedules(self.control, self.audit)
        self.scheduler = Scheduler(self.schedules, partial(self._make_scheduled, _own_address(settings)))
        self.fleet_cache = FleetCache(self.store)
        self.analyst = Analyst(self.store, self.annotations)
        self.snapshots = SnapshotMaker(folder, Live(home, self.journal, self.store))
        self.maintenance = Maintenance(self.journal, self.store, settings.flush_seconds)
        self.forgetting = self._new_forgetting(str(home.relative_to(folder))) if self.member is None else None
        """Forgets users; None in a cluster, whose log keeps what it has."""

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
        """Have a report made of a schedule, as a reader asks for it who may see all machines."""
        reader = Identity("reader", token=f"schedule:{schedule}")
        return await self.report_maker.report(
            request, address, lambda: self.tokens.pass_on(reader, _SCHEDULED_MS), reader.scope
        )

    async def _clear_answers(self) -> None:
        """Give no answer again that was made so far."""
        await asyncio.to_thread(self.fleet_cache.clear)
        self.versions.renew()
        self.analyst.clear()
        self.report_maker.clear()

    def _open_alone(self, settings: ServiceSettings, home: Path) -> None:
        """Open the journal and the store of a process that shares them with nobody."""
        self._own_journal = journal = Journal(home / "journal", settings.journal_bytes, settings.stream_keep)
        store = open_store(settings, journal.holds)
        journal.advance_to(store.flushed)
        self.lost = journal.missing(store.flushed)
        for lost in self.lost:
            _log.error(
                "%d acknowledged reports (offsets %d to %d) are lost: %s is damaged",
                lost.reports, lost.first, lost.last, lost.path,
            )  # fmt: skip
        journal.prune(store.flushed)
        replayed = replay(journal, store)
        if replayed:
            _log.info("%d reports replayed from the journal", replayed)
        self.journal, self.store = journal, store

    def _new_ingest(self) -> Ingest:
        if self.member is not None:
            # What is acknowledged comes back by the log, with what others acknowledged.
            return Ingest(self.member.log.append, self.member.followed, lambda last, texts, reports: None)
        journal = self._own_journal
        return Ingest(lambda texts, reports: journal.append(texts), self.store, self._publish)

    def _deliver(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Take what the log of a cluster brings."""
        self.store.add(last, reports)
        self.ingest.hear(reports)
        self._publish(last, texts, reports)

    def _publish(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Hand on the reports of one commit, which the store answers already."""
        self.versions.take(reports)
        self.remote_configuration.observe(reports)
        self.rules.publish(last, reports)
        self.broker.publish(last, texts, reports)
        self.fleet_cache.note(reports)

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

    def reload(self) -> None:
        """Read the files of the rules again."""
        self.rules.reload()

    def end_streams(self) -> None:
        """Let answers end that would go on for ever: the server waits for them before it closes the service."""
        _log.info("the service ends: requests under way go on for a moment")
        self.broker.close()
        self.remote_configuration.streams.close()

    def close(self) -> None:
        """Put everything on the store's disk and let go of the files."""
        self.broker.end()
        self.ingest.close()
        self.rules.stop()
        if self.member is not None:
            self.member.stop()
        self.sender.stop()
        self.maintenance.stop()
        self.snapshots.stop()
        self.store.close()
        with contextlib.suppress(ControlError):
            self.tokens.write_uses()
        # In this order: the file that is written to is pruned only once it is closed.
        self.journal.close()
        if self.member is None:
            self.journal.prune(self.store.flushed)
        else:
            self.member.close()
        self.control.close()
        self._lock.release()
        _log.info(
            "the service has ended; it took %d reports and refused %d, and %d wait in the journal",
            self.ingest.accepted, self.ingest.rejected, self.journal.last - self.store.flushed,
            extra=fields(
                accepted=self.ingest.accepted, rejected=self.ingest.rejected,
                waiting=self.journal.last - self.store.flushed,
            ),
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


class _Lifespan:
    """Opens and closes the service with the server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._service.open()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._service.end_streams()
        await self._service.scheduler.stop()
        await self._service.remote_configuration.stop()
        await self._service.tokens.stop()
        if self._service.forgetting is not None:
            await self._service.forgetting.stop()
        await asyncio.to_thread(self._service.close)


class Serving(Protocol):
    """What the server needs of what it serves."""

    requests: RequestLog

    def end_streams(self) -> None:
        """Let answers end that would go on for ever."""

    def reload(self) -> None:
        """Read rules again, where there are any."""


class Application(falcon.asgi.App[Request, Response]):
    """The application, and the service behind it."""

    service: "Serving"
    path_prefix: str = ""
    trusted_proxies: tuple[str, ...] = ()
    tls: Tls | None = None
    """What the server encrypts with, where it does."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # type: ignore[override]  # as falcon's own
        """Answer a request, as ASGI asks for it; those of HTTP are counted and logged."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        below = under(self.path_prefix, scope)
        app, scope = (elsewhere, scope) if below is None else (super().__call__, below)
        if scope["type"] == "http":
            await self.service.requests.answer(app, scope, receive, send)
        else:
            await app(scope, receive, send)


def create_app(settings: ServiceSettings) -> Application:
    """The application, with its store open.

    Raises StoreError where the store cannot be used.
    """
    service = Service(settings)
    authentication = None
    if settings.token or len(service.tokens) or settings.tls_client_ca or settings.openid_issuer:
        authentication = Authentication(
            service.tokens, service.sessions, FailedAttempts(settings.failed_sign_ins), service.token_limits,
            settings.token, settings.operator_token,
        )  # fmt: skip
    access = authentication or RequireOwnHost(settings.host)
    cors = AllowOrigins(settings.cors_origins)
    middleware: list[Any] = [
        _Lifespan(service),
        NameRoute(),
        Compress(),
        cors,
        access,
        RefuseForeignPages(cors.may_change),
    ]
    if settings.address_requests:
        middleware.insert(middleware.index(access), AddressLimit(settings.address_requests))
    if settings.tls_certificate or settings.trusted_proxies:
        middleware.insert(0, OnlyEncrypted())
    router = CompiledRouter()
    app = Application(middleware=middleware, router=router)
    app.service = service
    app.path_prefix = settings.path_prefix
    app.trusted_proxies = settings.trusted_proxies
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, unexpected)
    app.add_error_handler(StoreUnavailable, unavailable)
    app.add_error_handler(ControlError, uncontrolled)
    openid = OpenId(settings, settings.public_url) if settings.openid_issuer else None
    begun = FailedAttempts(settings.failed_sign_ins)
    routes = _routes(service) | _sign_in(service.sessions, authentication, openid, begun)
    described = OpenApi(lambda: openapi(routes, f"{settings.path_prefix}/"))
    routes |= {
        "/openapi.json": described,
        "/docs": Docs(described, settings.path_prefix),
        "/docs/style.css": DocsStyle(),
    }
    for path, resource in routes.items():
        add_head(resource)
        app.add_route(path, resource)
    app.add_sink(Slashes(router), "/api/v1/agents/")
    return app


def _sign_in(
    sessions: Sessions, authentication: Authentication | None, openid: OpenId | None, begun: FailedAttempts
) -> dict[str, object]:
    """What concerns browsers that sign in, by path."""
    sign_in = SignIn(sessions, authentication, openid)
    return {
        "/sign-in": sign_in,
        "/sign-in/openid": OpenIdBegin(sign_in, begun),
        CALLBACK: OpenIdEnd(sign_in),
        "/sign-out": SignOut(sessions),
        "/api/v1/sessions": SessionList(sessions),
        "/api/v1/sessions/{session_id}": OneSession(sessions),
    }


def _routes(service: Service) -> dict[str, object]:
    """The resource at each path."""
    store, remote, queue = service.store, service.remote_configuration, service.queue
    repository, rules = service.rule_repository, service.rules
    sending = Sending(store)
    numbers = Numbers(
        ingest=service.ingest, journal=service.journal, store=store, maintenance=service.maintenance,
        broker=service.broker, rules=rules, queue=queue, sender=service.sender, report_maker=service.report_maker,
        remote_configuration=remote, control=service.control, lost=sum(one.reports for one in service.lost),
        requests=service.requests, cluster_sizes=service.member.sizes if service.member else tuple,
    )  # fmt: skip
    metrics = Metrics(service.ingest, service.admission, store, remote, service.token_limits)
    return {
        **dict.fromkeys(VIEWS, Dashboard()),
        "/machines": Index(store),
        "/static/{version}/{name:path}": StaticFile(),
        "/api/v1/fleet/picture": FleetPicture(service.fleet_cache, repository),
        "/api/v1/analysis/{kind}/byUser/{user_id:path}": HostAnalysis(store, service.analyst),
        "/api/v1/backtests": RuleBacktest(store, rules, repository, service.analyst),
        "/reports/fleet": FleetReport(service.report_maker, store, service.tokens),
        "/reports/users/{user_id:path}": UserReport(service.report_maker, store, service.tokens),
        "/api/v1/schedules": ScheduleList(service.schedules, store),
        "/api/v1/schedules/{schedule_id}": OneSchedule(service.schedules),
        "/api/v1/schedules/{schedule_id}/report": ScheduledReport(service.schedules),
        "/api/v1/metrics": metrics,
        "/api/v1/otlp/v1/metrics": OpenTelemetryMetrics(metrics, service.token_limits),
        "/api/v1/metrics/{metric}/byUser/{user_id:path}": History(store, service.versions),
        "/api/v1/metrics/{metric}/fleet": Fleet(store, service.versions),
        "/api/v1/query": QueryTables(store, service.versions),
        "/api/v1/windows/byUser/{user_id:path}": UserWindows(store, sending),
        "/api/v1/windows/fleet": FleetWindows(store, sending),
        "/api/v1/who": TopProcesses(store),
        "/api/v1/users": Users(store, remote.shared_ids, remote.registry),
        "/api/v1/users/{user_id:path}": OneUser(service.forgetting),
        "/api/v1/stream": LiveStream(service.broker, service.sessions, service.token_limits),
        "/api/v1/agents": AgentList(remote),
        "/api/v1/agents/{user_id}": OneAgent(remote, rules),
        "/api/v1/agents/{user_id}/settings": OneAgentsSettings(remote),
        "/api/v1/agents/{user_id}/state": OneAgentsState(remote),
        "/api/v1/agents/{user_id}/commands": OneAgentsCommands(remote, service.tokens),
        "/api/v1/commands/{command_id}": OneCommand(remote),
        "/api/v1/settings": FleetSettings(remote),
        "/api/v1/rules": Rules(repository, rules),
        "/api/v1/rules/{name}": OneRule(repository, rules),
        "/api/v1/alerts": Alerts(repository, rules),
        "/api/v1/silences": Silences(repository, rules),
        "/api/v1/silences/{silence_id}": OneSilence(repository),
        "/api/v1/annotations": AnnotationList(service.annotations),
        "/api/v1/annotations/{annotation_id}": OneAnnotation(service.annotations),
        "/api/v1/notifications": Notifications(queue),
        "/api/v1/notifications/{message_id}": OneNotification(queue),
        "/api/v1/notifications/{message_id}/redeliver": Redelivery(queue),
        "/api/v1/identity": Who(),
        "/api/v1/enrolments": Enrolments(service.tokens),
        "/api/v1/tokens": TokenList(service.tokens),
        "/api/v1/tokens/{token_id}": OneToken(service.tokens),
        "/api/v1/tokens/{token_id}/rotate": NewSecret(service.tokens),
        "/api/v1/targets/{name}/test": TargetTest(queue, rules),
        "/api/v1/audit": AuditTrail(service.audit),
        "/healthz": Health(),
        "/readyz": Ready(
            store,
            refusing_looks(service.journal),
            [
                *other_looks(
                    store, service.admission, service.maintenance, rules, remote.registry, service.control, service.lost
                ),
                *member_looks(service.member),
                lambda: service.forgetting.problem if service.forgetting else None,
            ],
        ),
        "/metrics": Prometheus(numbers),
    }
