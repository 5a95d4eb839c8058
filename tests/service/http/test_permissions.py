"""Who may ask what: every role at every method of every route."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from falcon import inspect

from service.app import create_app
from service.http.openapi.document import path_of
from service.http.permissions import PERMISSIONS
from service.settings import ServiceSettings
from tests.support.access import bearer, make_tokens
from tests.support.reports import METRICS, original, post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

OWN, OTHER = "web-1", "db-1"
ROLES = ("agent", "reader", "operator", "admin", "enrolment")
ANYBODY, ALL = "anybody", " ".join(ROLES)
READ, OPERATE, ADMIN = "reader operator admin", "operator admin", "admin"
MATRIX = {
    "GET /": READ,
    "GET /host": READ,
    "GET /compare": READ,
    "GET /alerts": READ,
    "GET /agents": READ,
    "GET /reports": READ,
    "GET /machines": READ,
    "GET /static/{version}/{name}": READ,
    "GET /docs": READ,
    "GET /docs/style.css": READ,
    "GET /openapi.json": READ,
    "GET /sign-in": ANYBODY,
    "POST /sign-in": ANYBODY,
    "GET /sign-in/openid": ANYBODY,
    "GET /sign-in/openid/callback": ANYBODY,
    "POST /sign-out": READ,
    "GET /healthz": ANYBODY,
    "GET /readyz": ANYBODY,
    "GET /metrics": READ,
    "GET /reports/fleet": READ,
    "GET /reports/users/{user_id}": READ,
    "GET /api/v1/metrics": READ,
    "POST /api/v1/metrics": "agent operator admin",
    "POST /api/v1/otlp/v1/metrics": "agent operator admin",
    "POST /api/v1/prometheus/write": "agent operator admin",
    "GET /api/v1/metrics/{metric}/byUser/{user_id}": READ,
    "GET /api/v1/metrics/{metric}/fleet": READ,
    "GET /api/v1/query": READ,
    "GET /api/v1/windows/byUser/{user_id}": READ,
    "GET /api/v1/windows/fleet": READ,
    "GET /api/v1/fleet/picture": READ,
    "GET /api/v1/fleet/machines": READ,
    "GET /api/v1/analysis/{kind}/byUser/{user_id}": READ,
    "POST /api/v1/backtests": READ,
    "GET /api/v1/who": READ,
    "GET /api/v1/users": READ,
    "DELETE /api/v1/users/{user_id}": OPERATE,
    "GET /api/v1/stream": READ,
    "GET /api/v1/agents": READ,
    "GET /api/v1/agents/{user_id}": READ,
    "DELETE /api/v1/agents/{user_id}": OPERATE,
    "GET /api/v1/agents/{user_id}/settings": READ,
    "PUT /api/v1/agents/{user_id}/settings": OPERATE,
    "PATCH /api/v1/agents/{user_id}/settings": OPERATE,
    "DELETE /api/v1/agents/{user_id}/settings": OPERATE,
    "POST /api/v1/agents/{user_id}/state": "agent admin",
    "GET /api/v1/agents/{user_id}/commands": READ,
    "GET /api/v1/agents/{user_id}/commands (events)": "agent admin",
    "POST /api/v1/agents/{user_id}/commands": OPERATE,
    "GET /api/v1/commands/{command_id}": READ,
    "GET /api/v1/settings": READ,
    "PUT /api/v1/settings": OPERATE,
    "PATCH /api/v1/settings": OPERATE,
    "DELETE /api/v1/settings": OPERATE,
    "GET /api/v1/rules": READ,
    "GET /api/v1/rules/{name}": READ,
    "PUT /api/v1/rules/{name}": OPERATE,
    "DELETE /api/v1/rules/{name}": OPERATE,
    "GET /api/v1/alerts": READ,
    "GET /api/v1/silences": READ,
    "POST /api/v1/silences": OPERATE,
    "DELETE /api/v1/silences/{silence_id}": OPERATE,
    "GET /api/v1/notifications": READ,
    "GET /api/v1/notifications/{message_id}": READ,
    "POST /api/v1/notifications/{message_id}/redeliver": OPERATE,
    "POST /api/v1/targets/{name}/test": OPERATE,
    "GET /api/v1/annotations": READ,
    "POST /api/v1/annotations": OPERATE,
    "GET /api/v1/annotations/{annotation_id}": READ,
    "DELETE /api/v1/annotations/{annotation_id}": OPERATE,
    "GET /api/v1/audit": OPERATE,
    "GET /api/v1/schedules": READ,
    "POST /api/v1/schedules": OPERATE,
    "GET /api/v1/schedules/{schedule_id}": READ,
    "DELETE /api/v1/schedules/{schedule_id}": OPERATE,
    "GET /api/v1/schedules/{schedule_id}/report": READ,
    "GET /api/v1/identity": ALL,
    "GET /api/v1/sessions": READ,
    "DELETE /api/v1/sessions/{session_id}": READ,
    "POST /api/v1/enrolments": "enrolment",
    "GET /api/v1/tokens": ADMIN,
    "POST /api/v1/tokens": ADMIN,
    "GET /api/v1/tokens/{token_id}": ADMIN,
    "PATCH /api/v1/tokens/{token_id}": ADMIN,
    "DELETE /api/v1/tokens/{token_id}": ADMIN,
    "POST /api/v1/tokens/{token_id}/rotate": ADMIN,
}
"""The roles that each method is for, written a second time: a change of who may ask what is a change here too."""
ABOUT_NO_HOST = {
    "GET /", "GET /host", "GET /compare", "GET /alerts", "GET /agents", "GET /reports",
    "GET /static/{version}/{name}", "GET /docs", "GET /docs/style.css", "GET /openapi.json", "GET /healthz",
    "GET /readyz", "GET /api/v1/metrics", "GET /api/v1/identity", "GET /sign-in", "POST /sign-in",
    "GET /sign-in/openid", "GET /sign-in/openid/callback", "POST /sign-out",
    "GET /api/v1/sessions", "DELETE /api/v1/sessions/{session_id}",
}  # fmt: skip
OF_THE_SCOPE = {"GET /api/v1/users", "GET /api/v1/query", "GET /api/v1/stream", "GET /api/v1/who"}
EVENTS = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("permissions") / "data"
    made = make_tokens(
        folder, ("admin", "admin", "*"), ("operator", "operator", "*"), ("reader", "reader", "*"),
        ("scoped", "reader", "web-*"), ("agent", "agent", OWN), ("enrolment", "enrolment", "*"),
    )  # fmt: skip
    return folder, made


@pytest.fixture(scope="module")
def client(tokens: tuple[Path, dict[str, str]]) -> Iterator[httpx.Client]:
    with RunningService(tokens[0]) as service, service.client() as client:
        for user in (OWN, OTHER):
            assert post(client, original(user), **bearer(tokens[1]["admin"])).status_code == 202
        yield client
        assert "Traceback" not in service.log


def test_every_route_and_method_has_a_row_and_no_other(tmp_path: Path) -> None:
    app = create_app(ServiceSettings(data_dir=str(tmp_path)))
    try:
        routes = {
            route.path: {method.method for method in route.methods if not method.internal} - {"HEAD", "WEBSOCKET"}
            for route in inspect.inspect_routes(app)
        }
    finally:
        app.service.close()
    assert {path: {*methods} for path, methods in PERMISSIONS.items()} == routes
    asked = {f"{method} {path_of(path)}" for path, methods in routes.items() for method in methods}
    assert {row for row in MATRIX if not row.endswith("(events)")} == asked


@pytest.mark.parametrize("row", MATRIX)
def test_each_role_may_ask_what_it_is_for_and_nothing_else(
    client: httpx.Client, tokens: tuple[Path, dict[str, str]], row: str
) -> None:
    allowed = MATRIX[row].split()
    assert status(client, row, {}) == 401 or allowed == [ANYBODY]
    for role in ROLES:
        # Others still ask about the one that is known.
        user = "web-nobody" if row.startswith("DELETE /api/v1/users") else OWN
        answered = status(client, row, bearer(tokens[1][role]), user=user)
        if role in allowed or allowed == [ANYBODY]:
            assert answered not in (401, 403), role
        else:
            assert answered == 403, role


@pytest.mark.parametrize("row", [row for row, roles in MATRIX.items() if "reader" in roles])
def test_a_reader_of_some_hosts_learns_nothing_of_others(
    client: httpx.Client, tokens: tuple[Path, dict[str, str]], row: str
) -> None:
    headers = bearer(tokens[1]["scoped"])
    if "{user_id}" in row:
        assert status(client, row, headers) not in (401, 403)
        assert status(client, row, headers, user=OTHER) == 403
    elif row in ABOUT_NO_HOST or row in OF_THE_SCOPE:
        assert status(client, row, headers) not in (401, 403)
    else:
        assert status(client, row, headers) == 403


def test_lists_and_tables_of_a_reader_have_the_hosts_of_its_scope(
    client: httpx.Client, tokens: tuple[Path, dict[str, str]]
) -> None:
    headers = bearer(tokens[1]["scoped"])
    users = client.get("/api/v1/users", headers=headers).json()["users"]
    assert [user["user_id"] for user in users] == [OWN]
    asked = {"by": "user", "resample_rate": "all", "start": "2018-07-12", "end": "2018-07-13"}
    table = client.get("/api/v1/query", params=asked, headers=headers).text
    assert OWN in table
    assert OTHER not in table
    patterns = client.get("/api/v1/query", params=asked | {"user": "*"}, headers=headers).text
    assert OWN in patterns
    assert OTHER not in patterns
    for named in (OTHER, "db-unknown"):
        assert client.get("/api/v1/query", params=asked | {"user": named}, headers=headers).status_code == 403
    other = client.get("/api/v1/query", params=asked | {"user": "db-*"}, headers=headers).text
    assert OTHER not in other
    together = {"by": "all", "resample_rate": "all", "start": "2018-07-12", "end": "2018-07-13", "stat": "count"}
    of_all = client.get("/api/v1/query", params=together, headers=bearer(tokens[1]["reader"])).json()
    of_some = client.get("/api/v1/query", params=together, headers=headers).json()
    assert of_all != of_some


def test_the_stream_of_a_reader_has_the_hosts_of_its_scope(
    client: httpx.Client, tokens: tuple[Path, dict[str, str]]
) -> None:
    asked = {"fields": "user_id", "after": "0", "user": ["web-*", OTHER]}
    with client.stream("GET", "/api/v1/stream", params=asked, headers=bearer(tokens[1]["scoped"])) as answer:
        lines = answer.iter_lines()
        for number in range(3):
            report = original(OTHER, start_timestamp=1531402660605, end_timestamp=1531402665700 + number)
            assert post(client, report, **bearer(tokens[1]["admin"])).status_code == 202
        report = original(OWN, start_timestamp=1531402660605, end_timestamp=1531402665800)
        assert post(client, report, **bearer(tokens[1]["admin"])).status_code == 202
        heard: list[str] = []
        while len(heard) < 2:
            line = next(lines)
            if line.startswith("data:"):
                heard.append(line)
    assert all(OWN in line for line in heard), heard


def test_a_method_that_a_route_lacks_is_said_to_be_lacking(
    client: httpx.Client, tokens: tuple[Path, dict[str, str]]
) -> None:
    assert client.delete("/api/v1/users", headers=bearer(tokens[1]["reader"])).status_code == 405
    assert client.delete("/api/v1/users", headers=bearer(tokens[1]["agent"])).status_code == 403


def status(client: httpx.Client, row: str, headers: dict[str, str], *, user: str = OWN) -> int:
    """The status that a request of this row is answered with; what it may change is not there or not valid."""
    method, path = row.removesuffix(" (events)").split()
    if row.endswith("(events)"):
        headers = headers | EVENTS
    for name, value in {
        "metric": "cpuLoadAvg",
        "user_id": user,
        "kind": "week",
        "version": "0",
        "name": "x.js",
    }.items():
        path = path.replace(f"{{{name}}}", value)
    path = (
        path.replace("{annotation_id}", "999999999")
        .replace("{schedule_id}", "999999999")
        .replace("{command_id}", "x")
        .replace("{token_id}", "x")
        .replace("{session_id}", "x")
    )
    path = path.replace("{silence_id}", "x").replace("{message_id}", "x")
    asked = {"url": path, "headers": headers, "follow_redirects": False}
    if method != "GET" and path != METRICS:
        asked["json"] = {"unknown": 1}
    elif method != "GET":
        asked["json"] = original(user, start_timestamp=1531402660605, end_timestamp=1531402665626)
    if path.startswith("/reports/"):
        asked["params"] = {"last": "wrong"}
    with client.stream(method, **asked) as answer:  # type: ignore[arg-type]
        return answer.status_code
