"""Desired settings over HTTP: layers, versions, refusals, the audit trail."""

from typing import Any

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from tests.service.conftest import StartService
from tests.support.agent_states import agent, settings_of, state
from tests.support.running import RunningService

pytestmark = pytest.mark.server

FLEET = "/api/v1/settings"
FORCE = {"If-Match": "*"}


@pytest.fixture
def user(user: str) -> str:
    """A user id with all that makes paths difficult."""
    return f"{user}:6a/d6?100%#[x] é"


def report_state(client: httpx.Client, user: str, **members: Any) -> dict[str, Any]:
    answer = client.post(f"{agent(user)}/state", json=state(**members))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_an_agents_settings_are_put_patched_and_deleted(client: httpx.Client, user: str) -> None:
    path = f"{agent(user)}/settings"
    assert settings_of(client, path) == ({}, '"0"')
    put = client.put(path, json={"interval": 0.1, "samples": 50}, headers={"If-None-Match": "*"})
    assert (put.status_code, put.json()) == (200, {"interval": 0.1, "samples": 50})
    assert settings_of(client, path) == (put.json(), put.headers["ETag"])
    known = client.get(path, headers={"If-None-Match": put.headers["ETag"]})
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", put.headers["ETag"])
    assert client.get(path, headers={"If-None-Match": '"0"'}).status_code == 200
    patched = client.patch(
        path,
        content=b'{"samples": null, "paused": true}',
        headers={"If-Match": put.headers["ETag"], "Content-Type": "application/merge-patch+json"},
    )
    assert patched.json() == {"interval": 0.1, "paused": True}
    gone = client.delete(path, headers={"If-Match": patched.headers["ETag"]})
    assert (gone.status_code, gone.content) == (204, b"")
    assert settings_of(client, path) == ({}, '"0"')


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_change_says_which_version_it_is_meant_for(client: httpx.Client, user: str, method: str) -> None:
    path = f"{agent(user)}/settings"
    assert client.request(method, path, json={"samples": 10}).status_code == 428
    first = client.put(path, json={"samples": 5}, headers=FORCE).headers["ETag"]
    second = client.put(path, json={"samples": 6}, headers={"If-Match": first}).headers["ETag"]
    for stale in ({"If-Match": first}, {"If-Match": f"W/{second}"}, {"If-None-Match": "*"}):
        answer = client.request(method, path, json={"samples": 10}, headers=stale)
        assert answer.status_code == 412
        assert second in answer.json()["detail"]
    assert settings_of(client, path) == ({"samples": 6}, second)
    assert client.request(method, path, json={"samples": 10}, headers={"If-Match": second}).is_success


def test_of_two_who_change_the_same_at_once_one_is_told(client: httpx.Client, user: str) -> None:
    path = f"{agent(user)}/settings"
    _, tag = settings_of(client, path)
    codes = [client.put(path, json={"samples": n}, headers={"If-Match": tag}).status_code for n in (1, 2)]
    assert codes == [200, 412]


@pytest.mark.parametrize(
    ("body", "content_type", "code", "words"),
    [
        (b'{"interval": 0, "samples": "x"}', "application/json", 422, "/samples"),
        (b"[]", "application/json", 422, "object"),
        (b"{", "application/json", 400, "JSON"),
        (b"[" * 100_000, "application/json", 400, "JSON"),
        (b'{"log_level": "\xff"}', "application/json", 400, "UTF-8"),
        (b"{}", "text/plain", 415, "application/json"),
        (b"{}", "application/x-www-form-urlencoded", 415, "application/json"),
    ],
)
def test_what_is_wrong_changes_nothing_and_is_said(
    client: httpx.Client, user: str, body: bytes, content_type: str, code: int, words: str
) -> None:
    path = f"{agent(user)}/settings"
    for method in ("PUT", "PATCH"):
        answer = client.request(method, path, content=body, headers=FORCE | {"Content-Type": content_type})
        assert answer.status_code == code, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert words in answer.text
    assert settings_of(client, path) == ({}, '"0"')


def test_a_patch_is_checked_with_what_it_is_laid_over(client: httpx.Client, user: str) -> None:
    path = f"{agent(user)}/settings"
    client.put(path, json={"samples": 10_000}, headers=FORCE)
    answer = client.patch(path, json={"interval": 60}, headers=FORCE)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/samples"


@pytest.mark.parametrize(
    "selector", ["", "al", "os:", "os:Plan9", "user:", "user:\x00", f"user:{'x' * 129}", "agent:x"]
)
def test_a_selector_that_selects_nothing_is_refused(client: httpx.Client, selector: str) -> None:
    for method in ("PUT", "PATCH", "DELETE"):
        answer = client.request(method, FLEET, params={"selector": selector}, json={"samples": 9}, headers=FORCE)
        assert answer.status_code == 422
        assert "user:web-*" in answer.text


def test_layers_are_laid_over_each_other_in_the_stated_order(start: StartService) -> None:
    with start().client() as client:

        def put(selector: str, settings: dict[str, Any], **rank: int) -> None:
            answer = client.put(FLEET, params={"selector": selector} | rank, json=settings, headers=FORCE)
            assert answer.status_code == 200, answer.text

        web = {"settings": report_state(client, "web-1")}
        assert web == {"settings": {"settings": {}}}
        put("user:web-*", {"samples": 30, "metrics": ["cpu"]})
        put("user:*-1", {"samples": 31}, rank=199)
        put("all", {"interval": 1.0, "samples": 10, "log_level": "error"})
        put("os:linux", {"samples": 20, "interval": 2.0})
        put("os:Windows", {"interval": 9.0})
        assert [layer["selector"] for layer in client.get(FLEET).json()["layers"]] == [
            "all", "os:Linux", "os:Windows", "user:*-1", "user:web-*",
        ]  # fmt: skip
        client.put(f"{agent('web-1')}/settings", json={"metrics": ["load"]}, headers=FORCE)
        expected = {"interval": 2.0, "samples": 30, "metrics": ["load"], "log_level": "error"}
        assert report_state(client, "web-1")["settings"] == expected
        shown = client.get(agent("web-1")).json()
        assert shown["desired"] == expected
        assert [layer["target"] for layer in shown["layers"]] == [
            "all", "os:Linux", "user:*-1", "user:web-*", "agent:web-1",
        ]  # fmt: skip
        put("user:*-1", {"samples": 31}, rank=201)
        assert report_state(client, "web-1")["settings"]["samples"] == 31
        assert report_state(client, "db-2", os_type="Windows")["settings"] == {
            "interval": 9.0, "samples": 10, "log_level": "error",
        }  # fmt: skip
        assert client.put(FLEET, params={"selector": "all", "rank": 5}, json={}, headers=FORCE).status_code == 422


def test_settings_reported_states_and_audit_trail_outlive_the_service(start: StartService, user: str) -> None:
    service = start()
    with service.client() as client:
        client.put(f"{agent(user)}/settings", json={"samples": 7}, headers=FORCE)
        client.put(FLEET, params={"selector": "all"}, json={"interval": 0.5}, headers=FORCE)
        version = report_state(client, user)["version"]
        report_state(client, user, settings_version=version)
        before = client.get(agent(user)).json()
        trail = client.get("/api/v1/audit").json()
    assert service.stop() == 0
    with start().client() as client:
        assert client.get(agent(user)).json() == before
        assert before["in_step"] is True
        assert client.get("/api/v1/audit").json() == trail
        assert report_state(client, user)["settings"] == {"interval": 0.5, "samples": 7}


def test_an_agent_is_in_step_when_it_has_in_force_what_is_asked_and_otherwise_it_is_said_why(
    client: httpx.Client, user: str
) -> None:
    def shown() -> tuple[bool, str]:
        answer = client.get(agent(user)).json()
        return answer["in_step"], answer["why"]

    assert client.get(agent(user)).status_code == 404
    assert report_state(client, user) == {"settings": {}}
    assert shown() == (True, None)
    client.put(f"{agent(user)}/settings", json={"samples": 10}, headers=FORCE)
    assert shown() == (False, "it will be told with the answer to its next report")
    version = report_state(client, user)["version"]
    report_state(client, user, settings_version=version)
    assert shown() == (True, None)
    client.put(f"{agent(user)}/settings", json={"metrics": ["swap"]}, headers=FORCE)
    refused = {
        "version": report_state(client, user)["version"],
        "problems": [{"pointer": "/metrics", "detail": "no swap"}],
    }
    report_state(client, user, settings_version=version, refused=refused)
    assert shown() == (False, "it refused: metrics: no swap")
    client.delete(f"{agent(user)}/settings", headers=FORCE)
    assert shown() == (False, "it will be told with the answer to its next report")
    report_state(client, user)
    assert shown() == (True, None)


def test_agents_are_listed_in_pages_and_by_condition(start: StartService) -> None:
    with start().client() as client:
        for number in range(7):
            report_state(client, f"web-{number}", os_type="Linux" if number % 2 else "MacOS")
        client.put(FLEET, params={"selector": "os:Linux"}, json={"samples": 10}, headers=FORCE)
        report_state(client, "web-1", settings_version=report_state(client, "web-1")["version"])

        def page(**parameters: Any) -> dict[str, Any]:
            return dict(client.get("/api/v1/agents", params=parameters).json())

        first = page(limit=4)
        rest = page(limit=4, after=first["next"])
        assert [one["user_id"] for one in first["agents"] + rest["agents"]] == [f"web-{n}" for n in range(7)]
        assert (first["total"], first["in_step"], rest["next"]) == (7, 5, None)
        behind = page(in_step="false")
        assert [one["user_id"] for one in behind["agents"]] == ["web-3", "web-5"]
        assert page(selector="user:web-[12]")["total"] == 2
        assert page(selector="agent:web-3")["agents"][0]["os_type"] == "Linux"
        assert page(connected="true")["total"] == 0
        assert client.get("/api/v1/agents", params={"selector": "nosuch"}).status_code == 422
        assert client.get("/api/v1/agents", params={"limit": 0}).status_code == 422


def test_the_audit_trail_says_who_changed_what(client: httpx.Client, user: str) -> None:
    path, target = f"{agent(user)}/settings", f"agent:{user}"
    client.put(path, json={"samples": 1}, headers=FORCE | {"X-Loadlens-Actor": "ada"})
    client.patch(path, json={"samples": 2}, headers=FORCE)
    client.put(path, json={"samples": 0}, headers=FORCE)
    client.delete(path, headers=FORCE)
    answer = client.get("/api/v1/audit", params={"target": target, "limit": 2}).json()
    last, patched = answer["entries"]
    assert (last["action"], last["before"], last["after"]) == ("settings", {"samples": 2}, None)
    assert (patched["before"], patched["after"]) == ({"samples": 1}, {"samples": 2})
    [first] = client.get("/api/v1/audit", params={"target": target, "before": answer["next"]}).json()["entries"]
    assert (first["actor"], first["address"], first["token"], first["before"]) == ("ada", "127.0.0.1", "none", None)
    assert first["at"] <= patched["at"] <= last["at"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 422),
        (b"nothing", 400),
        (b"[" * 10_000, 422),
        (b" " * 200_000, 413),
        (b'{"at":1,"os_type":"Plan9","os_version":"","agent_version":"","settings":{}}', 422),
    ],
)
def test_a_state_that_is_wrong_is_refused(client: httpx.Client, user: str, body: bytes, code: int) -> None:
    assert client.post(f"{agent(user)}/state", content=body).status_code == code
    assert client.get(agent(user)).status_code == 404


@pytest.mark.parametrize("bad", ["x" * 129, "a\nb"])
def test_a_user_id_that_cannot_be_one_is_not_taken(client: httpx.Client, bad: str) -> None:
    assert client.post(f"{agent(bad)}/state", json=state()).status_code == 404
    assert client.put(f"{agent(bad)}/settings", json={}, headers=FORCE).status_code == 404


def test_a_websocket_to_an_agent_is_refused_without_a_fault(start: StartService) -> None:
    service = start()
    for path in ("a%2Fb/settings", "a%2Fb", "a/b/c"):
        with (
            pytest.raises(websockets.WebSocketException),
            connect(f"ws://127.0.0.1:{service.port}/api/v1/agents/{path}", open_timeout=60),
        ):
            pass
    assert "Traceback" not in service.log and "Closing with code 3404" in service.log


def test_paths_that_lead_nowhere_say_so(client: httpx.Client) -> None:
    for path in ("/api/v1/agents/a%2Fb/nosuch", "/api/v1/agents/a/b/c", "/api/v1/agents/a/settings/x"):
        assert client.get(path).status_code == 404
    assert client.post("/api/v1/agents/a%2Fb/settings").status_code == 405


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with a token for agents and another for operators."""
    folder = tmp_path_factory.mktemp("guarded")
    with RunningService(folder / "data", "--token", "for-agents", "--operator-token", "for-operators") as service:
        yield service


def test_the_agents_token_is_good_for_what_agents_do_and_no_more(guarded: RunningService) -> None:
    from tests.support.reports import original

    with guarded.client(headers={"Authorization": "Bearer for-agents"}) as client:
        assert client.post("/api/v1/metrics", json=original("one")).status_code == 202
        assert client.post(f"{agent('one')}/state", json=state()).status_code == 200
        forbidden = [
            ("GET", "/api/v1/metrics"), ("GET", "/api/v1/users"), ("GET", "/api/v1/agents"), ("GET", agent("one")),
            ("GET", f"{agent('one')}/settings"), ("PUT", f"{agent('one')}/settings"), ("PUT", "/api/v1/settings"),
            ("POST", f"{agent('one')}/commands"), ("GET", f"{agent('one')}/commands"),
            ("GET", "/api/v1/audit"), ("GET", "/metrics"),
            ("GET", "/api/v1/metrics/cpuLoadAvg/byUser/one"), ("GET", "/api/v1/commands/1"),
        ]  # fmt: skip
        assert {client.request(method, path).status_code for method, path in forbidden} == {403}
    with guarded.client(headers={"Authorization": "Bearer for-operators"}) as client:
        assert client.put(f"{agent('one')}/settings", json={"samples": 9}, headers=FORCE).status_code == 200
        assert client.get("/api/v1/audit").json()["entries"][0]["token"] == "operator"
        assert client.post("/api/v1/metrics", json=original("two")).status_code == 202
    with guarded.client(headers={"Authorization": "Bearer neither"}) as client:
        assert client.get("/api/v1/audit").status_code == 401
        assert client.post("/api/v1/metrics", json=original("one")).status_code == 401
