"""The composition root: settings in, application out."""

import asyncio
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import falcon
import falcon.asgi
from falcon.asgi import Request, Response
from falcon.routing import CompiledRouter

from service.control.database import ControlError
from service.credentials.openid import CALLBACK, OpenId
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.http.access import OnlyEncrypted, RefuseForeignPages, RequireOwnHost
from service.http.authentication import Authentication
from service.http.cors import AllowOrigins
from service.http.encoding import Compress, add_head
from service.http.problems import serialize, unavailable, uncontrolled, unexpected
from service.http.query_strings import RefuseUnknownParameters
from service.http.request_log import NameRoute, RequestLog
from service.http.resources.agent_settings import FleetSettings, OneAgentsSettings
from service.http.resources.agents import AgentList, OneAgent, OneAgentsCommands, OneAgentsState, OneCommand
from service.http.resources.alerts import Alerts, OneSilence, Silences
from service.http.resources.annotations import AnnotationList, OneAnnotation
from service.http.resources.dashboard import VIEWS, Dashboard, FleetPicture, HostAnalysis, RuleBacktest, StaticFile
from service.http.resources.documentation import Docs, DocsStyle, OpenApi
from service.http.resources.health import Health, Ready, member_looks, other_looks, refusing_looks, unasked_tokens_look
from service.http.resources.ingest import Metrics
from service.http.resources.machines import Machines
from service.http.resources.notifications import Notifications, OneNotification, Redelivery, TargetTest
from service.http.resources.openid import OpenIdBegin, OpenIdEnd
from service.http.resources.operations import AuditTrail, Numbers, Prometheus
from service.http.resources.otlp import OpenTelemetryMetrics
from service.http.resources.pages import FleetReport, Index, UserReport
from service.http.resources.process_use import TopProcesses
from service.http.resources.query import Fleet, FleetWindows, History, OneUser, QueryTables, Sending, Users, UserWindows
from service.http.resources.remote_write import RemoteWrite
from service.http.resources.rules import OneRule, Rules
from service.http.resources.schedules import OneSchedule, ScheduledReport, ScheduleList
from service.http.resources.sign_in import OneSession, SessionList, SignIn, SignOut
from service.http.resources.stream import LiveStream
from service.http.resources.tokens import Enrolments, NewSecret, OneToken, TokenList, Who
from service.http.routing import Slashes, elsewhere, under
from service.http.selecting import alerting_users
from service.http.token_limits import AddressLimit
from service.parts import Service
from service.settings import ServiceSettings
from service.stores.base import StoreUnavailable
from service.tls import Tls


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
    own_socket: socket.socket | None = None
    """Where this process alone listens, where others listen at the service's port."""

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


def create_app(settings: ServiceSettings, own_address: str = "") -> Application:
    """The application, with its store open.

    `own_address` is where this process alone answers, if others share the service's port. Raises StoreError where the
    store cannot be used.
    """
    service = Service(settings, own_address)
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
        RefuseUnknownParameters(),
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
    routes = _routes(service, authentication is not None) | _sign_in(service.sessions, authentication, openid, begun)
    described = OpenApi(lambda: _described(routes, f"{settings.path_prefix}/"))
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


def _described(routes: Mapping[str, object], server: str) -> dict[str, Any]:
    """The OpenAPI document; what it is made of is imported for the first who asks, and no start waits for it."""
    from service.http.openapi.document import openapi

    return openapi(routes, server)


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


def _routes(service: Service, asks_for_token: bool) -> dict[str, object]:
    """The resource at each path."""
    store, remote, queue = service.store, service.remote_configuration, service.queue
    repository, rules = service.rule_repository, service.rules
    alerting = partial(alerting_users, repository)
    sending = Sending(store)
    numbers = Numbers(
        ingest=service.ingest, journal=service.journal, store=store, maintenance=service.maintenance,
        broker=service.broker, rules=rules, queue=queue, sender=service.sender, report_maker=service.report_maker,
        remote_configuration=remote, control=service.control, lost=service.lost_for_certain,
        requests=service.requests, cluster_sizes=service.member.sizes if service.member else tuple,
        partitions=service.member.lag if service.member else tuple,
        picture_bytes=lambda: service.fleet_cache.bytes,
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
        "/api/v1/otlp/v1/metrics": OpenTelemetryMetrics(metrics, store, service.token_limits),
        "/api/v1/prometheus/write": RemoteWrite(metrics, store, service.token_limits),
        "/api/v1/metrics/{metric}/byUser/{user_id:path}": History(store, service.versions),
        "/api/v1/metrics/{metric}/fleet": Fleet(store, service.versions),
        "/api/v1/query": QueryTables(service.versions, service.fleet_cache, alerting),
        "/api/v1/windows/byUser/{user_id:path}": UserWindows(store, sending),
        "/api/v1/windows/fleet": FleetWindows(store, sending, service.fleet_cache, alerting),
        "/api/v1/fleet/machines": Machines(service.fleet_cache, alerting),
        "/api/v1/who": TopProcesses(store),
        "/api/v1/users": Users(store, remote.shared_ids, remote.registry),
        "/api/v1/users/{user_id:path}": OneUser(service.forgetting),
        "/api/v1/stream": LiveStream(service.broker, service.sessions, service.token_limits),
        "/api/v1/agents": AgentList(remote),
        "/api/v1/agents/{user_id}": OneAgent(remote, rules),
        "/api/v1/agents/{user_id}/settings": OneAgentsSettings(remote),
        "/api/v1/agents/{user_id}/state": OneAgentsState(remote, service.admission),
        "/api/v1/agents/{user_id}/commands": OneAgentsCommands(remote, service.tokens),
        "/api/v1/commands/{command_id}": OneCommand(remote),
        "/api/v1/settings": FleetSettings(remote),
        "/api/v1/rules": Rules(repository, rules),
        "/api/v1/rules/{name}": OneRule(repository, rules),
        "/api/v1/alerts": Alerts(repository, rules, store.labels_of),
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
                unasked_tokens_look(service.tokens, asks_for_token),
                lambda: service.forgetting.problem if service.forgetting else None,
            ],
            service.member.lag if service.member else None,
        ),
        "/metrics": Prometheus(numbers),
    }
