"""Who may ask what: the roles that each method of each route is for. What is not in the table is for nobody."""

from typing import Any, Final

import falcon
from falcon.asgi import Request

from service.credentials.identity import Identity, Role
from service.http.problems import HTTPProblem

OPEN: Final = frozenset(("/healthz", "/readyz", "/sign-in", "/sign-in/openid", "/sign-in/openid/callback"))
"""Paths that are answered without a token."""
_NOBODY: frozenset[Role] = frozenset()
_ALL: frozenset[Role] = frozenset(("agent", "reader", "operator", "admin", "enrolment"))
_AGENT: frozenset[Role] = frozenset(("agent", "admin"))
_REPORTS: frozenset[Role] = frozenset(("agent", "operator", "admin"))
_READ: frozenset[Role] = frozenset(("reader", "operator", "admin"))
_OPERATE: frozenset[Role] = frozenset(("operator", "admin"))
_ADMIN: frozenset[Role] = frozenset(("admin",))
_ENROLMENT: frozenset[Role] = frozenset(("enrolment",))

_ASK = {"GET": _READ}
_CHANGE = {"GET": _READ, "PUT": _OPERATE, "PATCH": _OPERATE, "DELETE": _OPERATE}

PERMISSIONS: dict[str, dict[str, frozenset[Role]]] = {
    "/": _ASK,
    "/host": _ASK,
    "/compare": _ASK,
    "/alerts": _ASK,
    "/agents": _ASK,
    "/reports": _ASK,
    "/machines": _ASK,
    "/static/{version}/{name:path}": _ASK,
    "/docs": _ASK,
    "/docs/style.css": _ASK,
    "/openapi.json": _ASK,
    "/healthz": {"GET": _ALL},
    "/readyz": {"GET": _ALL},
    "/sign-in": {"GET": _ALL, "POST": _ALL},
    "/sign-in/openid": {"GET": _ALL},
    "/sign-in/openid/callback": {"GET": _ALL},
    "/sign-out": {"POST": _READ},
    "/metrics": _ASK,
    "/reports/fleet": _ASK,
    "/reports/users/{user_id:path}": _ASK,
    "/api/v1/metrics": {"GET": _READ, "POST": _REPORTS},
    "/api/v1/otlp/v1/metrics": {"POST": _REPORTS},
    "/api/v1/prometheus/write": {"POST": _REPORTS},
    "/api/v1/metrics/{metric}/byUser/{user_id:path}": _ASK,
    "/api/v1/metrics/{metric}/fleet": _ASK,
    "/api/v1/query": _ASK,
    "/api/v1/windows/byUser/{user_id:path}": _ASK,
    "/api/v1/windows/fleet": _ASK,
    "/api/v1/fleet/picture": _ASK,
    "/api/v1/fleet/machines": _ASK,
    "/api/v1/analysis/{kind}/byUser/{user_id:path}": _ASK,
    "/api/v1/backtests": {"POST": _READ},
    "/api/v1/who": _ASK,
    "/api/v1/users": _ASK,
    "/api/v1/users/{user_id:path}": {"DELETE": _OPERATE},
    "/api/v1/stream": _ASK,
    "/api/v1/agents": _ASK,
    "/api/v1/agents/{user_id}": {"GET": _READ, "DELETE": _OPERATE},
    "/api/v1/agents/{user_id}/settings": _CHANGE,
    "/api/v1/agents/{user_id}/state": {"POST": _AGENT},
    "/api/v1/agents/{user_id}/commands": {"GET": _READ | _AGENT, "POST": _OPERATE},
    "/api/v1/commands/{command_id}": _ASK,
    "/api/v1/settings": _CHANGE,
    "/api/v1/rules": _ASK,
    "/api/v1/rules/{name}": {"GET": _READ, "PUT": _OPERATE, "DELETE": _OPERATE},
    "/api/v1/alerts": _ASK,
    "/api/v1/silences": {"GET": _READ, "POST": _OPERATE},
    "/api/v1/silences/{silence_id}": {"DELETE": _OPERATE},
    "/api/v1/notifications": _ASK,
    "/api/v1/notifications/{message_id}": _ASK,
    "/api/v1/notifications/{message_id}/redeliver": {"POST": _OPERATE},
    "/api/v1/targets/{name}/test": {"POST": _OPERATE},
    "/api/v1/annotations": {"GET": _READ, "POST": _OPERATE},
    "/api/v1/annotations/{annotation_id}": {"GET": _READ, "DELETE": _OPERATE},
    "/api/v1/audit": {"GET": _OPERATE},
    "/api/v1/schedules": {"GET": _READ, "POST": _OPERATE},
    "/api/v1/schedules/{schedule_id}": {"GET": _READ, "DELETE": _OPERATE},
    "/api/v1/schedules/{schedule_id}/report": _ASK,
    "/api/v1/identity": {"GET": _ALL},
    "/api/v1/sessions": _ASK,
    "/api/v1/sessions/{session_id}": {"DELETE": _READ},
    "/api/v1/enrolments": {"POST": _ENROLMENT},
    "/api/v1/tokens": {"GET": _ADMIN, "POST": _ADMIN},
    "/api/v1/tokens/{token_id}": {"GET": _ADMIN, "PATCH": _ADMIN, "DELETE": _ADMIN},
    "/api/v1/tokens/{token_id}/rotate": {"POST": _ADMIN},
}
"""The roles by route and method. HEAD is as GET, a WebSocket too."""
SLASH = "\ue000"
"""Stands for a slash inside a segment of a path. It is not printable, so no user id has it."""
ABOUT_NOBODY: Final = frozenset(
    (
        "/", "/host", "/compare", "/alerts", "/agents", "/reports", "/static/{version}/{name:path}", "/docs",
        "/docs/style.css", "/openapi.json", "/healthz", "/readyz", "/api/v1/metrics", "/api/v1/identity",
        "/api/v1/otlp/v1/metrics", "/api/v1/prometheus/write",
        "/sign-in", "/sign-in/openid", "/sign-in/openid/callback", "/sign-out", "/api/v1/sessions",
        "/api/v1/sessions/{session_id}", "/api/v1/enrolments",
    )
)  # fmt: skip
"""Routes whose answers say nothing of any host: pages without data, and what takes reports, each of which is
looked at by itself."""
FILTERED: Final = frozenset(("/api/v1/users", "/api/v1/query", "/api/v1/stream", "/api/v1/who"))
"""Routes that answer of the hosts in the scope of who asks, and of no others."""


_WHATEVER_THE_SCOPE: Final = frozenset(
    (route, method, role)
    for route, methods in PERMISSIONS.items()
    if route in ABOUT_NOBODY or route in FILTERED
    for method, roles in methods.items()
    for role in roles
)
"""What is allowed without a look at the scope: most requests are such, and pass by one look-up."""


def is_plain(route: str, method: str, role: Role) -> bool:
    """Whether a role may ask this, whatever its scope."""
    return (route, method, role) in _WHATEVER_THE_SCOPE


def check(req: Request, params: dict[str, Any]) -> None:
    """Raise ProblemError 403 where the role is not for this route, or the scope not for this host."""
    route = req.uri_template or ""
    if route in OPEN:
        return
    identity: Identity = req.context.identity
    if is_plain(route, req.method, identity.role) or req.method == "OPTIONS":
        return
    method = "GET" if req.method == "HEAD" else req.method
    roles = PERMISSIONS.get(route, {}).get(method, _NOBODY)
    if identity.role not in roles:
        # A method that the route does not have is answered by the route, to whom it is for at all.
        if method not in PERMISSIONS.get(route, {}) and _may_ask_anything(identity, route):
            return
        raise HTTPProblem(falcon.HTTP_403, f"A token with the role {identity.role} is not good for this.")
    if identity.is_scoped:
        _check_scope(identity, route, params)


def _may_ask_anything(identity: Identity, route: str) -> bool:
    return any(identity.role in roles for roles in PERMISSIONS.get(route, {}).values())


def _check_scope(identity: Identity, route: str, params: dict[str, Any]) -> None:
    if "user_id" in params:
        if not identity.covers(params["user_id"].replace(SLASH, "/")):
            raise HTTPProblem(falcon.HTTP_403, "The scope of this token does not have this user id.")
    elif route not in ABOUT_NOBODY and route not in FILTERED:
        raise HTTPProblem(falcon.HTTP_403, "This is about all hosts, and the scope of this token is some of them only.")
