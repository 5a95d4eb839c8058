"""What somebody may try who has no token, an old one, or one that is good for something else; and what it comes to."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.access import bearer, make_tokens
from tests.support.reports import METRICS, JsonObject, original
from tests.support.running import RunningService

pytestmark = pytest.mark.server

OWN, OTHER = "web-1", "db-1"
OLD = {"start_timestamp": 1531402660605, "end_timestamp": 1531402665626}
EVENTS = {"Accept": "text/event-stream", "X-Loadlens-Instance": "attacker"}
STATE = {"version": "1", "os_type": "Linux", "os_version": "1", "applied": None, "remote": True}
VALUES = "/api/v1/metrics/cpuLoadAvg/byUser"


@dataclass(frozen=True)
class Attack:
    """A request, whose token it shows, and what it is answered with."""

    who: str
    method: str
    path: str
    answered: int | tuple[int, ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: Any = None

    def __str__(self) -> str:
        shown = ",".join(f"{name}={value}"[:30] for name, value in self.headers)
        return f"{self.who}-{self.method}-{self.path}-{shown}-{str(self.body)[:40]}"


def report(user: str) -> JsonObject:
    return original(user, **OLD)


def forged() -> Iterator[Attack]:
    """An agent that speaks for another, hears another, or does what operators do."""
    for user in (
        OTHER,
        "",
        "WEB-1",
        "web-1 ",
        " web-1",
        "web-10",
        "web-*",
        "*",
        "web-1\u200b",
        "w\u0435b-1",
        "web-1/../db-1",
        "web-1%00",
        "web-1;db-1",
        "web-1,db-1",
        '{"$ne":1}',
        "web-[1]",
        "../web-1",
    ):
        yield Attack("agent", "POST", METRICS, (403, 422), body=report(user))
    yield Attack("agent", "POST", METRICS, 403, body=[report(OTHER), report("db-2")])
    yield Attack("agent", "POST", f"{METRICS}?user_id={OWN}", 403, body=report(OTHER))
    yield Attack("agent", "POST", METRICS, 403, (("X-User-Id", OWN),), report(OTHER))
    for user in (
        OTHER,
        "web-10",
        "web-%2A",
        "*",
        "WEB-1",
        quote("web-1/../db-1", safe=""),
        "web-1%20",
        f"{OWN}%2F..%2F{OTHER}",
    ):
        yield Attack("agent", "POST", f"/api/v1/agents/{user}/state", 403, body=STATE)
        yield Attack("agent", "GET", f"/api/v1/agents/{user}/commands", 403, tuple(EVENTS.items()))
    for path in (f"/api/v1/agents/{OWN}/../{OTHER}/state", f"/api/v1/agents/{OWN}/%2e%2e/{OTHER}/state"):
        yield Attack("agent", "POST", path, (403, 404), body=STATE)
    yield Attack("agent", "GET", f"/api/v1/agents/{OWN}/commands", 403)
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/machines",
        "/reports/fleet",
        f"/reports/users/{OWN}",
        "/api/v1/users",
        "/api/v1/agents",
        f"/api/v1/agents/{OWN}",
        f"/api/v1/agents/{OWN}/settings",
        "/api/v1/settings",
        "/api/v1/rules",
        "/api/v1/alerts",
        "/api/v1/silences",
        "/api/v1/audit",
        "/api/v1/tokens",
        "/api/v1/stream",
        "/api/v1/query",
        f"{VALUES}/{OWN}",
        "/api/v1/notifications",
        "/api/v1/annotations",
        "/api/v1/windows/fleet",
        METRICS,
    ):
        yield Attack("agent", "GET", path, 403)
        yield Attack("agent", "HEAD", path, 403)
    yield Attack("agent", "PUT", "/api/v1/settings", 403, (("If-Match", "*"),), {"paused": True})
    yield Attack("agent", "POST", f"/api/v1/agents/{OWN}/commands", 403, body={"command": "diagnostics"})


def promoted() -> Iterator[Attack]:
    """A role that is not enough, and tricks to have another."""
    for who in ("reader", "enrolment", "agent"):
        yield Attack(who, "PUT", "/api/v1/settings", 403, (("If-Match", "*"),), {"paused": True})
        yield Attack(who, "PATCH", "/api/v1/settings", 403, (("If-Match", "*"),), {"paused": True})
        yield Attack(who, "DELETE", "/api/v1/settings", 403, (("If-Match", "*"),))
        yield Attack(who, "PUT", "/api/v1/rules/hot", 403, (("If-Match", "*"),), {})
        yield Attack(who, "POST", "/api/v1/silences", 403, body={"duration": "2h"})
        yield Attack(who, "POST", "/api/v1/annotations", 403, body={"text": "x"})
        yield Attack(who, "POST", "/api/v1/tokens", 403, body={"name": "x", "role": "admin"})
        yield Attack(who, "GET", "/api/v1/audit", 403)
    for who in ("reader", "enrolment"):
        yield Attack(who, "POST", METRICS, 403, body=report(OWN))
        yield Attack(who, "GET", f"/api/v1/agents/{OWN}/commands", 403, tuple(EVENTS.items()))
    yield Attack("operator", "POST", "/api/v1/tokens", 403, body={"name": "x", "role": "admin"})
    yield Attack("operator", "GET", "/api/v1/tokens", 403)
    yield Attack("operator", "DELETE", "/api/v1/tokens/001122334455", 403)
    yield Attack("operator", "POST", "/api/v1/tokens/001122334455/rotate", 403, body={})
    yield Attack("operator", "GET", f"/api/v1/agents/{OWN}/commands", 403, tuple(EVENTS.items()))
    yield Attack("operator", "POST", f"/api/v1/agents/{OWN}/state", 403, body=STATE)
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        yield Attack("reader", "POST", "/api/v1/settings", 405, ((header, "PUT"),), {"paused": True})
        yield Attack("reader", "GET", "/api/v1/tokens", 403, ((header, "POST"),))
    for header in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"):
        yield Attack("agent", "GET", "/api/v1/users", 403, ((header, "/healthz"),))
        yield Attack("nobody", "GET", "/api/v1/users", 401, ((header, "/healthz"),))
    for header, value in (
        ("X-Forwarded-User", "admin"),
        ("X-Remote-User", "admin"),
        ("X-Loadlens-Actor", "admin"),
        ("X-Role", "admin"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Client-Cert", "CN=admin"),
        ("X-SSL-Client-S-DN", "CN=admin"),
        ("Cookie", "loadlens=admin"),
    ):
        yield Attack("nobody", "GET", "/api/v1/tokens", 401, ((header, value),))
        yield Attack("reader", "GET", "/api/v1/tokens", 403, ((header, value),))


def unknown() -> Iterator[Attack]:
    """No token, or one that is not good (any more)."""
    for who in ("nobody", "expired", "revoked", "expired agent", "revoked agent"):
        yield Attack(who, "GET", "/api/v1/users", 401)
        yield Attack(who, "POST", METRICS, 401, body=report(OWN))
        yield Attack(who, "GET", "/api/v1/tokens", 401)
        yield Attack(who, "POST", f"/api/v1/agents/{OWN}/state", 401, body=STATE)
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "Bearer null",
        "Bearer undefined",
        "Bearer loadlens_",
        "bearer x",
        "Token x",
        "Digest x",
        "Basic",
        "Basic =",
        "Basic Og==",
        "Basic OmFkbWlu",
        "Negotiate x",
        f"Bearer loadlens_{'0' * 12}_{'0' * 64}",
        f"Bearer loadlens_{'g' * 12}_{'0' * 64}",
        f"Bearer loadlens_{'0' * 11}_{'0' * 65}",
        "Bearer " + "a" * 10_000,
        "Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.",
        "Bearer ' OR 1=1 --",
        "Bearer %00",
        "Bearer *",
    ):
        yield Attack("nobody", "GET", "/api/v1/users", 401, (("Authorization", value),))
    for path in (
        "//api/v1/users",
        "/api//v1/users",
        "/api/v1/users/",
        "/API/V1/USERS",
        "/healthz/../api/v1/users",
        "/healthz/",
        "/./healthz",
        "/healthz%2f..%2fapi/v1/users",
        "/healthz;/api/v1/users",
        "/%68ealthz/x",
        "/static/../api/v1/users",
        "/readyz/%2e%2e/metrics",
        "/api/v1/users?token=x",
        "/api/v1/users?access_token=x",
        "/api/v1/users#/healthz",
        "/nothing",
    ):
        yield Attack("nobody", "GET", path, 401)
    for method in ("HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND"):
        yield Attack("nobody", method, "/api/v1/users", (400, 401, 405, 501))


def near_misses() -> Iterator[Attack]:
    """Texts that differ from a good token in little."""
    for change in ("one digit", "other id", "cut", "longer", "upper", "spaced", "twice", "old scheme", "secret alone"):
        yield Attack(f"admin, {change}", "GET", "/api/v1/tokens", 401)


def scoped() -> Iterator[Attack]:
    """A reader of web-* that wants to know of others."""
    for path in (
        f"{VALUES}/{OTHER}",
        f"{VALUES}/web-1/../{OTHER}",
        f"{VALUES}/{quote('web-1/../db-1', safe='')}x/../../{OTHER}",
        f"/api/v1/windows/byUser/{OTHER}",
        f"/api/v1/analysis/week/byUser/{OTHER}",
        f"/reports/users/{OTHER}",
        f"/api/v1/agents/{OTHER}",
        f"/api/v1/agents/{OTHER}/settings",
        f"/api/v1/agents/{OTHER}/commands",
        "/api/v1/agents",
        f"/api/v1/query?user={OTHER}",
        f"/api/v1/query?user=web-1&user={OTHER}",
        "/api/v1/metrics/cpuLoadAvg/fleet",
        "/api/v1/metrics/cpuLoadAvg/fleet?by=user",
        "/api/v1/windows/fleet",
        "/api/v1/fleet/picture",
        "/reports/fleet",
        "/machines",
        "/api/v1/alerts",
        "/api/v1/annotations",
        "/api/v1/audit",
        "/api/v1/rules",
        "/api/v1/settings",
        "/metrics",
        "/api/v1/commands/001122",
        "/api/v1/notifications",
        "/api/v1/silences",
    ):
        yield Attack("scoped", "GET", path, (403, 404) if ".." in path else 403)
    yield Attack(
        "scoped", "POST", "/api/v1/backtests", 403, body={"rule": "hot", "start": "2018-07-12", "end": "2018-07-13"}
    )


def foreign_pages() -> Iterator[Attack]:
    """Pages of other sites in the browser of somebody who has a token."""
    for headers in (
        (("Sec-Fetch-Site", "cross-site"),),
        (("Sec-Fetch-Site", "same-site"),),
        (("Origin", "https://evil.example"),),
        (("Origin", "null"),),
        (("Origin", "http://127.0.0.1.evil.example"),),
        (("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost")),
    ):
        yield Attack("admin", "POST", "/api/v1/tokens", 403, headers, {"name": "x", "role": "admin"})
        yield Attack("admin", "PUT", "/api/v1/settings", 403, (*headers, ("If-Match", "*")), {"paused": True})
        yield Attack("admin", "POST", METRICS, 403, headers, report(OWN))
        yield Attack("agent", "GET", f"/api/v1/agents/{OWN}/commands", 403, (*headers, *EVENTS.items()))
    for host in ("evil.example", "evil.example:8888", "localhost.evil.example"):
        yield Attack("nobody", "GET", "/api/v1/users", 401, (("Host", host), ("Origin", f"http://{host}")))


ATTACKS = [*forged(), *promoted(), *unknown(), *near_misses(), *scoped(), *foreign_pages()]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, dict[str, dict[str, str]]]]:
    folder = tmp_path_factory.mktemp("attacked") / "data"
    tokens = make_tokens(
        folder,
        ("admin", "admin", "*"),
        ("operator", "operator", "*"),
        ("reader", "reader", "*"),
        ("scoped", "reader", "web-*"),
        ("agent", "agent", OWN),
        ("enrolment", "enrolment", "*"),
        ("expired", "admin", "*"),
        ("revoked", "admin", "*"),
        ("expired agent", "agent", OWN),
        ("revoked agent", "agent", OWN),
    )
    headers = {name: bearer(token) for name, token in tokens.items()} | {"nobody": {}}
    good = tokens["admin"]
    last = "0" if good[-1] != "0" else "1"
    for change, text in {
        "one digit": good[:-1] + last,
        "other id": tokens["reader"][:21] + good[21:],
        "cut": good[:-1],
        "longer": good + "0",
        "upper": good.upper(),
        "spaced": good.replace("_", " "),
        "twice": f"{good} {good}",
        "secret alone": good[22:],
    }.items():
        headers[f"admin, {change}"] = bearer(text)
    headers["admin, old scheme"] = {"Authorization": f"Token {good}"}
    with RunningService(folder, "--failed-sign-ins", "100000") as service, service.client() as client:
        for user in (OWN, OTHER):
            assert client.post(METRICS, json=report(user), headers=headers["operator"]).status_code == 202
        yield client, headers
        assert client.get("/api/v1/settings", headers=headers["admin"]).json()["layers"] == []
        assert len(client.get("/api/v1/tokens", headers=headers["admin"]).json()["tokens"]) == len(tokens)
        users = client.get("/api/v1/users", headers=headers["admin"]).json()["users"]
        assert {user["user_id"] for user in users} == {OWN, OTHER}
        assert good[22:] not in service.log
        assert "Traceback" not in service.log


def test_the_list_is_long() -> None:
    assert len({str(attack) for attack in ATTACKS}) >= 250


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_comes_to_nothing(attacked: tuple[httpx.Client, dict[str, dict[str, str]]], attack: Attack) -> None:
    client, headers = attacked
    given = {"Content-Type": "application/json"} | headers[attack.who] | dict(attack.headers)
    body = None if attack.body is None else json.dumps(attack.body).encode()
    # http.client sends the path as it is; others tidy it.
    with contextlib.closing(HTTPConnection(client.base_url.host, client.base_url.port or 80, timeout=60)) as connection:
        connection.request(attack.method, attack.path.partition("#")[0], body, given)
        answered = connection.getresponse().status
    expected = (attack.answered,) if isinstance(attack.answered, int) else attack.answered
    assert answered in expected


def test_of_a_batch_an_agents_own_reports_are_taken_and_others_named(
    attacked: tuple[httpx.Client, dict[str, dict[str, str]]],
) -> None:
    client, headers = attacked
    answer = client.post(METRICS, json=[report(OTHER), report(OWN)], headers=headers["agent"])
    assert answer.status_code == 202
    assert answer.json()["accepted"] + answer.json()["duplicates"] == 1
    assert [one["index"] for one in answer.json()["rejected"]] == [0]


def test_who_guesses_waits_and_who_has_a_token_does_not(tmp_path: Path) -> None:
    token = make_tokens(tmp_path / "data", ("me", "reader", "*"))["me"]
    arguments = ("--failed-sign-ins", "1", "--token", "weak", "--operator-token", "weaker")
    with RunningService(tmp_path / "data", *arguments) as service, service.client() as client:
        first, second = (client.get("/api/v1/users", headers=bearer(f"guess {number}")) for number in range(2))
        assert (first.status_code, second.status_code) == (401, 429)
        assert 1 <= int(second.headers["Retry-After"]) <= 60
        assert second.headers["RateLimit"].startswith('"wrong tokens";r=0;t=')
        assert second.headers["RateLimit-Policy"] == '"wrong tokens";q=1;w=60'
        assert client.post("/sign-in", data={"token": "weaker"}).status_code == 429
        assert client.get("/api/v1/users", headers=bearer(token)).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("shared", ["weak", "0123456789abcdef" * 2])
def test_a_fleet_that_shares_a_token_and_an_address_is_not_slowed_by_who_guesses_there(
    tmp_path: Path, shared: str
) -> None:
    arguments = ("--failed-sign-ins", "1", "--token", shared, "--operator-token", "other")
    with RunningService(tmp_path / "data", *arguments) as service, service.client() as client:
        if shared == "weak":  # an agent of the fleet was let in before somebody guesses
            assert client.post(METRICS, json=report("host-0"), headers=bearer(shared)).status_code == 202
        answers = {client.get("/api/v1/users", headers=bearer(f"guess {number}")).status_code for number in range(10)}
        assert answers == {401, 429}
        for number in range(1, 40):
            sent = client.post(METRICS, json=report(f"host-{number}"), headers=bearer(shared))
            assert sent.status_code == 202, sent.text
            assert client.get("/api/v1/users", headers=bearer(f"more {number}")).status_code in (401, 429)
        # From where it was never right, a short one waits with the wrong ones.
        other = httpx.Client(base_url=service.url, transport=httpx.HTTPTransport(local_address="127.0.0.2"), timeout=60)
        with other:
            for number in range(10):
                other.get("/api/v1/users", headers=bearer(f"guess {number}"))
            last = other.post(METRICS, json=report("host-1"), headers=bearer(shared))
            assert last.status_code == (429 if shared == "weak" else 202)


def test_two_tokens_in_one_request_are_no_way_in(
    attacked: tuple[httpx.Client, dict[str, dict[str, str]]],
) -> None:
    client, headers = attacked
    reader, admin = headers["reader"]["Authorization"], headers["admin, one digit"]["Authorization"]
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=60) as connection:
        lines = (
            "GET /api/v1/tokens HTTP/1.1",
            "Host: localhost",
            f"Authorization: {reader}",
            f"Authorization: {admin}",
        )
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(64).split()[1] in (b"401", b"403")


def test_a_token_as_the_password_of_basic_is_as_good_and_no_better(
    attacked: tuple[httpx.Client, dict[str, dict[str, str]]],
) -> None:
    client, headers = attacked
    for who, status in (("reader", 403), ("admin", 200)):
        text = headers[who]["Authorization"].removeprefix("Bearer ")
        value = base64.b64encode(f"admin:{text}".encode()).decode()
        assert client.get("/api/v1/tokens", headers={"Authorization": f"Basic {value}"}).status_code == status
