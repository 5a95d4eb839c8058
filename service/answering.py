"""The routes of everything but ingest, health and the page itself.

Nothing that takes reports imports this module: questions stand on pandas, DuckDB, protobuf and more, which are two
thirds of a start. `service.app` imports it when reports are taken already, and what is read ahead is under way.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from service.answers import Answering
from service.credentials.openid import CALLBACK, OpenId
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.http.authentication import Authentication
from service.http.listing import alerting_users
from service.http.resources.agent_settings import FleetSettings, OneAgentsSettings
from service.http.resources.agents import AgentList, OneAgent, OneAgentsCommands, OneAgentsState, OneCommand
from service.http.resources.alerts import Alerts, OneSilence, Silences
from service.http.resources.annotations import AnnotationList, OneAnnotation
from service.http.resources.dashboard import FleetPicture, HostAnalysis, RuleBacktest
from service.http.resources.documentation import Docs, DocsStyle, OpenApi
from service.http.resources.hosts import HostTable
from service.http.resources.ingest import Metrics
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
from service.http.routing import REPORTS
from service.parts import Service
from service.settings import ServiceSettings


def later_routes(
    service: Service,
    answering: Answering,
    settings: ServiceSettings,
    authentication: Authentication | None,
    early: Mapping[str, object],
) -> dict[str, object]:
    """The resource at each path that is not among the `early` ones."""
    openid = OpenId(settings, settings.public_url) if settings.openid_issuer else None
    begun = FailedAttempts(settings.failed_sign_ins)
    metrics = early[REPORTS]
    assert isinstance(metrics, Metrics)
    routes = _routes(service, answering, metrics) | _sign_in(service.sessions, authentication, openid, begun)
    # It describes its own route too.
    described = OpenApi(lambda: _described({**early, **routes}, f"{settings.path_prefix}/"))
    routes |= {
        "/openapi.json": described,
        "/docs": Docs(described, settings.path_prefix),
        "/docs/style.css": DocsStyle(),
    }
    return routes


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


def _routes(service: Service, answering: Answering, metrics: Metrics) -> dict[str, object]:
    """The resource at each path."""
    store, remote, queue = service.store, service.remote_configuration, service.queue
    repository, rules = service.rule_repository, service.rules
    alerting = partial(alerting_users, repository)
    sending = Sending(store)
    numbers = Numbers(
        ingest=service.ingest, changed_values=service.changed_values,
        journal=service.journal, store=store, maintenance=service.maintenance,
        broker=service.broker, rules=rules, queue=queue, sender=service.sender, report_maker=service.report_maker,
        remote_configuration=remote, control=service.control, lost=service.lost_for_certain,
        requests=service.requests, cluster_sizes=service.member.sizes if service.member else tuple,
        partitions=service.member.lag if service.member else tuple,
        picture_bytes=lambda: answering.fleet_cache.bytes,
    )  # fmt: skip
    return {
        "/machines": Index(store),
        "/api/v1/fleet/picture": FleetPicture(answering.fleet_cache, repository),
        "/api/v1/analysis/{kind}/byUser/{user_id:path}": HostAnalysis(store, answering.analyst),
        "/api/v1/backtests": RuleBacktest(store, rules, repository, answering.analyst),
        "/reports/fleet": FleetReport(service.report_maker, store, service.tokens),
        "/reports/users/{user_id:path}": UserReport(service.report_maker, store, service.tokens),
        "/api/v1/schedules": ScheduleList(service.schedules, store),
        "/api/v1/schedules/{schedule_id}": OneSchedule(service.schedules),
        "/api/v1/schedules/{schedule_id}/report": ScheduledReport(service.schedules),
        "/api/v1/otlp/v1/metrics": OpenTelemetryMetrics(metrics, store, service.token_limits),
        "/api/v1/prometheus/write": RemoteWrite(metrics, store, service.token_limits),
        "/api/v1/metrics/{metric}/byUser/{user_id:path}": History(store, service.versions),
        "/api/v1/metrics/{metric}/fleet": Fleet(store, service.versions),
        "/api/v1/query": QueryTables(service.versions, answering.fleet_cache, alerting),
        "/api/v1/windows/byUser/{user_id:path}": UserWindows(store, sending),
        "/api/v1/windows/fleet": FleetWindows(store, sending, answering.fleet_cache, alerting),
        "/api/v1/fleet/machines": HostTable(answering.fleet_cache, alerting),
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
        "/metrics": Prometheus(numbers),
    }
