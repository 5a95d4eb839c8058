"""What each method of each path takes and answers."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from contract.agent_protocol import AgentState, DesiredSettings
from contract.report import Report
from service.alerts.rules import AnyRule
from service.http import operation_parameters as asked
from service.http import parameters
from service.http.answers import ARROW, CSV, JSON, PARQUET
from service.http.openapi import control_documents as control
from service.http.openapi import documents
from service.http.requests import MERGE_PATCH
from service.http.resources.agents import NewCommand
from service.http.resources.alerts import NewSilence
from service.http.resources.annotations import AnnotationDocument, AnnotationPage, NewAnnotation
from service.http.resources.dashboard import NewBacktest
from service.http.resources.otlp import PROTOBUF
from service.http.resources.page import VIEWS
from service.http.resources.process_use import WhoDocument
from service.http.resources.schedules import ScheduleDocument, SchedulePage
from service.http.resources.tokens import ChangedToken, NewEnrolment, NewToken, Rotation
from service.http.table_forms import Table
from service.reporting.schedules import Timing

Tag = Literal["values", "reports", "agents", "alerts", "annotations", "schedules", "operations", "access"]
PROBLEM = "application/problem+json"
_TEXT = "text/plain"
_EVENTS = "text/event-stream"


class Operation(Struct, frozen=True, kw_only=True):
    """A method of a path."""

    tag: Tag
    query: type[Struct] | None = None
    body: Any = None
    """The type of a JSON body."""
    body_types: tuple[str, ...] = (JSON,)
    answer: Any = None
    """The type of the JSON answer; None where there is none, or no JSON."""
    status: int = 200
    forms: tuple[str, ...] = (JSON,)
    """The media types of the answer."""
    refusals: tuple[int, ...] = ()
    """Statuses of errors, besides those that every operation may have."""
    conditional: Literal["change", "read"] | None = None
    """Whether it takes If-Match, or If-None-Match."""
    also: Mapping[int, str] = {}
    """Other statuses that are no errors, with what they mean."""


_FORMS = (JSON, CSV, ARROW, PARQUET)
_REPORTS = ("text/html; charset=utf-8", "text/markdown; charset=utf-8", "application/json; charset=utf-8")
_QUERY = (404, 406, 413, 415, 422, 503)
_CHANGE = (400, 404, 409, 412, 413, 415, 422, 428, 503)


def _changes(
    query: type[Struct] | None, ranked: type[Struct] | None, read: type[Struct] | None, answer: Any
) -> dict[str, Operation]:
    """The methods of a layer of settings."""
    return {
        "GET": Operation(
            tag="agents",
            query=read,
            answer=answer,
            refusals=(404, 422),
            conditional="read",
            also={304: "Not modified."},
        ),
        "PUT": Operation(
            tag="agents",
            query=ranked,
            body=DesiredSettings,
            answer=DesiredSettings,
            refusals=_CHANGE,
            conditional="change",
        ),
        "PATCH": Operation(
            tag="agents",
            query=ranked,
            body=dict[str, Any],
            body_types=(JSON, MERGE_PATCH),
            answer=DesiredSettings,
            refusals=_CHANGE,
            conditional="change",
        ),
        "DELETE": Operation(tag="agents", query=query, status=204, refusals=_CHANGE, conditional="change"),
    }


def _question(query: type[Struct], answer: Any, *, versioned: bool = True) -> dict[str, Operation]:
    """A GET of values in each form; a `versioned` answer has an ETag, and may be 304."""
    operation = Operation(tag="values", query=query, answer=answer, forms=_FORMS, refusals=_QUERY)
    if versioned:
        operation = replace(operation, conditional="read", also={304: "Not modified."})
    return {"GET": operation}


OPERATIONS: dict[str, dict[str, Operation]] = {
    "/api/v1/metrics": {
        "GET": Operation(tag="values", answer=documents.Catalogue),
        "POST": Operation(
            tag="reports",
            body=Report | list[Report],
            body_types=(JSON, "application/x-ndjson"),
            answer=documents.Taken,
            status=202,
            refusals=(400, 413, 415, 422, 503),
        ),
    },
    "/api/v1/otlp/v1/metrics": {
        "POST": Operation(
            tag="reports",
            body=dict[str, Any],
            body_types=(JSON, PROTOBUF),
            answer=dict[str, Any],
            forms=(JSON, PROTOBUF),
            refusals=(400, 413, 415, 422, 503),
        )
    },
    "/api/v1/prometheus/write": {
        "POST": Operation(
            tag="reports", body=Any, body_types=(PROTOBUF,), status=204, refusals=(400, 413, 415, 422, 503)
        )
    },
    "/api/v1/metrics/{metric}/byUser/{user_id}": _question(parameters.HistoryParameters, documents.Entries),
    "/api/v1/metrics/{metric}/fleet": _question(parameters.FleetParameters, documents.Entries),
    "/api/v1/query": _question(parameters.TableParameters, Table),
    "/api/v1/windows/byUser/{user_id}": _question(
        parameters.UserWindowsParameters, documents.WindowsDocument, versioned=False
    ),
    "/api/v1/windows/fleet": _question(parameters.FleetWindowsParameters, documents.WindowsDocument, versioned=False),
    "/api/v1/fleet/picture": {
        "GET": Operation(
            tag="values",
            query=asked.PictureParameters,
            forms=("application/octet-stream",),
            refusals=(400, 404, 413, 422, 503),
        )
    },
    "/api/v1/fleet/machines": {
        "GET": Operation(
            tag="values",
            query=parameters.HostsParameters,
            answer=documents.MachinePage,
            forms=(JSON, CSV, ARROW),
            refusals=(400, 404, 406, 413, 415, 422, 503),
        )
    },
    "/api/v1/analysis/{kind}/byUser/{user_id}": {
        "GET": Operation(
            tag="values", query=asked.AnalysisParameters, answer=dict[str, Any], refusals=(400, 404, 413, 422, 503)
        )
    },
    "/api/v1/backtests": {
        "POST": Operation(
            tag="alerts", body=NewBacktest, answer=dict[str, Any], refusals=(400, 404, 413, 415, 422, 503)
        )
    },
    "/api/v1/who": {
        "GET": Operation(
            tag="values", query=parameters.WhoParameters, answer=WhoDocument, refusals=(400, 404, 413, 422, 503)
        )
    },
    "/api/v1/users": {
        "GET": Operation(tag="values", query=asked.UsersParameters, answer=documents.UserPage, refusals=(422,))
    },
    "/api/v1/users/{user_id}": {"DELETE": Operation(tag="values", status=204, refusals=(404, 501, 503))},
    "/api/v1/stream": {
        "GET": Operation(tag="values", query=asked.StreamParameters, forms=(_EVENTS,), refusals=(422, 503))
    },
    "/api/v1/agents": {
        "GET": Operation(tag="agents", query=asked.AgentsParameters, answer=control.AgentPage, refusals=(422,))
    },
    "/api/v1/agents/{user_id}": {
        "GET": Operation(tag="agents", answer=control.AgentDetail, refusals=(404,)),
        "DELETE": Operation(tag="agents", status=204, refusals=(404, 503)),
    },
    "/api/v1/agents/{user_id}/settings": _changes(None, None, None, DesiredSettings),
    "/api/v1/agents/{user_id}/state": {
        "POST": Operation(
            tag="agents",
            body=AgentState,
            answer=documents.InstructionsDocument,
            refusals=(400, 404, 413, 415, 422, 503),
        )
    },
    "/api/v1/agents/{user_id}/commands": {
        "GET": Operation(tag="agents", answer=control.CommandList, forms=(JSON, _EVENTS), refusals=(404, 503)),
        "POST": Operation(
            tag="agents",
            body=NewCommand,
            answer=control.Created,
            status=202,
            refusals=(400, 404, 409, 413, 415, 422, 429, 503),
        ),
    },
    "/api/v1/commands/{command_id}": {"GET": Operation(tag="agents", answer=control.CommandResult, refusals=(404,))},
    "/api/v1/settings": _changes(
        asked.SettingsParameters,
        asked.RankedSettingsParameters,
        asked.ListedSettingsParameters,
        dict[str, Any],
    ),
    "/api/v1/rules": {
        "GET": Operation(tag="alerts", query=asked.PageParameters, answer=control.RulePage, refusals=(422,))
    },
    "/api/v1/rules/{name}": {
        "GET": Operation(tag="alerts", answer=control.RuleDocument, refusals=(404,)),
        "PUT": Operation(
            tag="alerts",
            body=AnyRule,
            answer=control.RuleDocument,
            refusals=_CHANGE,
            conditional="change",
            also={201: "The rule was made."},
        ),
        "DELETE": Operation(tag="alerts", status=204, refusals=_CHANGE, conditional="change"),
    },
    "/api/v1/alerts": {
        "GET": Operation(tag="alerts", query=asked.AlertsParameters, answer=control.AlertPage, refusals=(422,))
    },
    "/api/v1/silences": {
        "GET": Operation(tag="alerts", query=asked.PageParameters, answer=control.SilencePage, refusals=(422,)),
        "POST": Operation(
            tag="alerts",
            body=NewSilence,
            answer=control.SilenceDocument,
            status=201,
            refusals=(400, 409, 413, 415, 422, 503),
        ),
    },
    "/api/v1/silences/{silence_id}": {"DELETE": Operation(tag="alerts", status=204, refusals=(404, 503))},
    "/api/v1/notifications": {
        "GET": Operation(
            tag="alerts",
            query=asked.NotificationsParameters,
            answer=control.NotificationPage,
            refusals=(422,),
        )
    },
    "/api/v1/notifications/{message_id}": {
        "GET": Operation(tag="alerts", answer=control.NotificationDocument, refusals=(404,))
    },
    "/api/v1/targets/{name}/test": {
        "POST": Operation(tag="alerts", answer=control.Created, status=202, refusals=(404, 503))
    },
    "/api/v1/notifications/{message_id}/redeliver": {"POST": Operation(tag="alerts", status=202, refusals=(404, 503))},
    "/api/v1/annotations": {
        "GET": Operation(tag="annotations", query=asked.AnnotationsParameters, answer=AnnotationPage, refusals=(422,)),
        "POST": Operation(
            tag="annotations",
            body=NewAnnotation,
            answer=AnnotationDocument,
            status=201,
            refusals=(400, 413, 415, 422, 503),
        ),
    },
    "/api/v1/annotations/{annotation_id}": {
        "GET": Operation(tag="annotations", answer=AnnotationDocument, refusals=(404,)),
        "DELETE": Operation(tag="annotations", status=204, refusals=(404, 503)),
    },
    "/api/v1/schedules": {
        "GET": Operation(tag="schedules", query=asked.PageParameters, answer=SchedulePage, refusals=(422,)),
        "POST": Operation(
            tag="schedules",
            body=Timing,
            answer=ScheduleDocument,
            status=201,
            refusals=(400, 409, 413, 415, 422, 503),
        ),
    },
    "/api/v1/schedules/{schedule_id}": {
        "GET": Operation(tag="schedules", answer=ScheduleDocument, refusals=(404,)),
        "DELETE": Operation(tag="schedules", status=204, refusals=(404, 503)),
    },
    "/api/v1/schedules/{schedule_id}/report": {
        "GET": Operation(tag="schedules", forms=(_REPORTS[0],), refusals=(404,))
    },
    "/api/v1/identity": {"GET": Operation(tag="access", answer=control.IdentityDocument)},
    "/api/v1/sessions": {
        "GET": Operation(tag="access", query=asked.PageParameters, answer=control.SessionPage, refusals=(422,))
    },
    "/api/v1/sessions/{session_id}": {"DELETE": Operation(tag="access", status=204, refusals=(404, 503))},
    "/api/v1/enrolments": {
        "POST": Operation(
            tag="access",
            body=NewEnrolment,
            answer=control.NewTokenDocument,
            status=201,
            refusals=(400, 409, 413, 415, 422, 503),
        )
    },
    "/api/v1/tokens": {
        "GET": Operation(tag="access", query=asked.PageParameters, answer=control.TokenPage, refusals=(422,)),
        "POST": Operation(
            tag="access",
            body=NewToken,
            answer=control.NewTokenDocument,
            status=201,
            refusals=(400, 409, 413, 415, 422, 503),
        ),
    },
    "/api/v1/tokens/{token_id}": {
        "GET": Operation(tag="access", answer=control.TokenDocument, refusals=(404,)),
        "PATCH": Operation(
            tag="access",
            body=ChangedToken,
            body_types=(JSON, MERGE_PATCH),
            answer=control.TokenDocument,
            refusals=(400, 404, 409, 413, 415, 422, 503),
        ),
        "DELETE": Operation(tag="access", status=204, refusals=(404, 409, 503)),
    },
    "/api/v1/tokens/{token_id}/rotate": {
        "POST": Operation(
            tag="access",
            body=Rotation,
            answer=control.NewTokenDocument,
            status=201,
            refusals=(400, 404, 409, 413, 415, 422, 503),
        )
    },
    "/api/v1/audit": {
        "GET": Operation(tag="operations", query=asked.AuditParameters, answer=control.AuditPage, refusals=(422,))
    },
    "/reports/fleet": {
        "GET": Operation(
            tag="values",
            query=asked.ReportParameters,
            answer=dict[str, Any],
            forms=_REPORTS,
            refusals=_QUERY,
            conditional="read",
            also={304: "Not modified."},
        )
    },
    "/reports/users/{user_id}": {
        "GET": Operation(
            tag="values",
            query=asked.ReportParameters,
            answer=dict[str, Any],
            forms=_REPORTS,
            refusals=_QUERY,
            conditional="read",
            also={304: "Not modified."},
        )
    },
    "/healthz": {"GET": Operation(tag="operations", answer=documents.Status)},
    "/readyz": {"GET": Operation(tag="operations", answer=documents.Readiness, also={503: "The journal is full."})},
    "/metrics": {"GET": Operation(tag="operations", forms=(_TEXT,))},
    "/openapi.json": {"GET": Operation(tag="operations", answer=dict[str, Any])},
}
"""By path, as in OpenAPI, and method."""
FOR_PEOPLE = (
    *VIEWS,
    "/machines",
    "/static/{version}/{name}",
    "/docs",
    "/docs/style.css",
    "/sign-in",
    "/sign-in/openid",
    "/sign-in/openid/callback",
    "/sign-out",
)
"""Paths of pages, which no program asks."""
