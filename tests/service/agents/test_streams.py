"""Streams of instructions: what is asked comes at once and once, and nothing is held for those that do not listen."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from contract import times
from contract.report import AgentStatus
from contract.server_sent_events import EventStreamParser, ServerSentEvent
from service.agents.registry import Agent
from service.agents.streams import InstructionStreams
from tests.service.conftest import StartService
from tests.support.agent_states import agent, state
from tests.support.reports import original, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

FORCE = {"If-Match": "*"}
YEAR_9999_MS = 253_402_300_799_999


@contextmanager
def listening(service: RunningService, user: str, **headers: str) -> Iterator[Iterator[ServerSentEvent]]:
    """The events of an agent's stream, as they come."""
    parser = EventStreamParser(256 * 1024)
    accept = {"Accept": "text/event-stream"}
    with service.client(headers=accept | headers) as client, client.stream("GET", f"{agent(user)}/commands") as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield (event for content in answer.iter_raw() for event in parser.feed(content))


def put(client: httpx.Client, user: str, **settings: Any) -> None:
    assert client.put(f"{agent(user)}/settings", json=settings, headers=FORCE).status_code == 200


def introduce(client: httpx.Client, user: str, **members: Any) -> str:
    """Say a state; the version that is asked."""
    answer = client.post(f"{agent(user)}/state", json=state(**members))
    return str(answer.json().get("version", ""))


def test_each_change_comes_once_with_its_version_as_id(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    introduce(client, user)
    with listening(service, user) as events:
        for samples in (10, 20):
            put(client, user, samples=samples)
            event = next(events)
            told = json.loads(event.data)
            assert (event.type, event.id, told["settings"]) == ("instructions", told["version"], {"samples": samples})
        client.delete(f"{agent(user)}/settings", headers=FORCE)
        event = next(events)
        assert (event.id, json.loads(event.data)) == ("none", {"settings": {}})


def test_who_comes_back_hears_only_what_is_new(service: RunningService, client: httpx.Client, user: str) -> None:
    introduce(client, user)
    put(client, user, samples=10)
    with listening(service, user) as events:
        first = next(events)
    with listening(service, user, **{"Last-Event-ID": first.id}) as events:
        put(client, user, samples=11)
        assert json.loads(next(events).data)["settings"] == {"samples": 11}
    with listening(service, user, **{"Last-Event-ID": first.id}) as events:
        assert json.loads(next(events).data)["settings"] == {"samples": 11}


def test_an_agent_that_has_it_in_force_or_refused_it_is_not_told_again(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    introduce(client, user)
    put(client, user, samples=10)
    version = introduce(client, user)
    for said in ({"settings_version": version}, {"refused": {"version": version, "problems": []}}):
        introduce(client, user, **said)
        with listening(service, user) as events:
            client.post(f"{agent(user)}/commands", json={"command": "report_now"})
            told = json.loads(next(events).data)
            assert [one["command"] for one in told["commands"]] == ["report_now"]
            outcome = {"id": told["commands"][0]["id"], "status": "done"}
            introduce(client, user, outcomes=[outcome], **said)


def test_a_selections_change_reaches_those_it_means_and_no_others(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    for name in (f"{user}-in", f"{user}-out"):
        introduce(client, name)
    with listening(service, f"{user}-in") as inside, listening(service, f"{user}-out") as outside:
        query = {"selector": f"user:{user}-i*"}
        assert client.put("/api/v1/settings", params=query, json={"samples": 3}, headers=FORCE).status_code == 200
        assert json.loads(next(inside).data)["settings"] == {"samples": 3}
        put(client, f"{user}-out", samples=4)
        assert json.loads(next(outside).data)["settings"] == {"samples": 4}
    client.delete("/api/v1/settings", params=query, headers=FORCE)


def test_a_new_stream_takes_the_place_of_the_old_one(service: RunningService, client: httpx.Client, user: str) -> None:
    introduce(client, user)
    with listening(service, user) as old, listening(service, user) as new:
        assert next(old) == ServerSentEvent("end", "replaced", "")
        put(client, user, samples=5)
        assert json.loads(next(new).data)["settings"] == {"samples": 5}
        assert client.get(agent(user)).json()["connected"] is True


def test_an_agent_that_was_never_heard_of_says_its_state_first(service: RunningService, user: str) -> None:
    with service.client(headers={"Accept": "text/event-stream"}) as client:
        assert client.get(f"{agent(user)}/commands").status_code == 404


def test_streams_beyond_the_limit_get_503_and_are_told_when_to_come_again(start: StartService) -> None:
    service = start("--agent-streams", "1")
    with service.client() as client:
        for name in ("one", "two"):
            introduce(client, name)
        with listening(service, "one"):
            answer = client.get(f"{agent('two')}/commands", headers={"Accept": "text/event-stream"})
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "300")
            numbers = client.get("/metrics").text
            assert "loadlens_agent_streams 1.0" in numbers
            assert "loadlens_agent_streams_refused_total 1.0" in numbers


def test_open_streams_do_not_keep_the_service_from_ending(start: StartService, user: str) -> None:
    service = start()
    with service.client() as client:
        introduce(client, user)
    with listening(service, user) as events:
        service.process.terminate()
        assert next(events) == ServerSentEvent("end", "the service ends", "")
        assert service.process.wait(30.0) == 0
    assert "Traceback" not in service.log


def test_a_silent_stream_is_kept_alive_and_one_that_hung_up_is_noticed(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    kept = InstructionStreams(limit=1, heartbeat_s=0.0)
    one = kept.open(Agent("one", "Linux", "x"), "none")
    assert one is not None

    # With no time to wait, every turn of its loop is due for a heartbeat.
    async def said() -> list[str]:
        events = kept.serve(one)
        texts = [(await anext(events)).serialize().decode() for _ in range(3)]
        await events.aclose()  # type: ignore[attr-defined]
        return texts

    first, *rest = asyncio.run(said())
    assert "retry: 2000" in first
    assert set(rest) == {": still here\n\n"}
    assert len(kept) == 0 and one.agent.connected is False


def test_the_answer_to_a_report_tells_what_is_asked_until_it_is_in_force(client: httpx.Client, user: str) -> None:
    status = {"version": "0.1.0", "cpu_seconds": 1.0, "resident_bytes": 1, "remote": True}
    ends = iter(range(times.now_ms() - 60_000, 10**15, 1000))

    def post(**said: str) -> dict[str, Any]:
        end = next(ends)
        report = original(user, start_timestamp=end - 1000, end_timestamp=end, agent=status | said)
        answer = client.post("/api/v1/metrics", json=report)
        assert answer.status_code == 202
        return dict(answer.json())

    assert post() == {"accepted": 1, "duplicates": 0}
    put(client, user, samples=12)
    told = post()["instructions"]
    assert told["settings"] == {"samples": 12}
    assert post()["instructions"] == told
    assert post(settings_version=told["version"]) == {"accepted": 1, "duplicates": 0}
    put(client, user, samples=13)
    refused = post(settings_version=told["version"])["instructions"]["version"]
    assert post(settings_version=told["version"], settings_refused=refused) == {"accepted": 1, "duplicates": 0}
    client.delete(f"{agent(user)}/settings", headers=FORCE)
    assert post(settings_version=told["version"], settings_refused=refused)["instructions"] == {"settings": {}}
    assert post(settings_refused=refused) == {"accepted": 1, "duplicates": 0}


def test_reports_that_waited_in_a_spool_do_not_undo_what_was_said_since(client: httpx.Client, user: str) -> None:
    introduce(client, user)
    put(client, user, samples=12)
    version = introduce(client, user)
    introduce(client, user, settings_version=version)
    status = {"version": "0.1.0", "cpu_seconds": 1.0, "resident_bytes": 1, "remote": True}
    now = times.now_ms()
    old = [
        original(user, start_timestamp=end - 1000, end_timestamp=end, agent=status) for end in (now - 9000, now - 8000)
    ]
    answer = client.post("/api/v1/metrics", json=old)
    assert answer.json() == {"accepted": 2, "duplicates": 0}
    assert client.get(agent(user)).json()["in_step"] is True


def test_an_agents_clock_that_was_far_ahead_does_not_keep_what_it_says_later_from_counting(
    start: StartService, user: str
) -> None:
    service = start()
    with service.client() as client:
        put(client, user, samples=5)
        version = introduce(client, user, at=YEAR_9999_MS)
        assert said_in_a_report(client, user, settings_version=version) == version
        assert introduce(client, user, at=YEAR_9999_MS) == version
    service.stop()
    with start().client() as client:
        assert said_in_a_report(client, user, settings_version=version) == version


def said_in_a_report(client: httpx.Client, user: str, **status: Any) -> str:
    """The version that is in force for the service after a report says so."""
    now_ms = times.now_ms()
    said = {"version": "0.1.0", "cpu_seconds": 1.0, "resident_bytes": 1, "remote": True} | status
    assert post(client, small(user, now_ms, agent=said)).status_code == 202
    return str(client.get(agent(user)).json()["reported_version"])


def test_many_reports_of_one_agent_are_answered_like_one(client: httpx.Client, user: str) -> None:
    status = {"version": "0.1.0", "cpu_seconds": 1.0, "resident_bytes": 1, "remote": True}
    put(client, user, samples=12)
    now = times.now_ms()
    mine, other = (
        [
            original(name, start_timestamp=end - 1000, end_timestamp=end, agent=status)
            for end in (now - 2000, now - 1000)
        ]
        for name in (user, f"{user}-other")
    )
    assert client.post("/api/v1/metrics", json=mine).json()["instructions"]["settings"] == {"samples": 12}
    assert "instructions" not in client.post("/api/v1/metrics", json=[*mine, *other]).json()


def test_members_of_the_status_that_are_not_said_cost_no_byte() -> None:
    status = AgentStatus(version="1", cpu_seconds=0.0, resident_bytes=0)
    assert msgspec.json.encode(status) == b'{"version":"1","cpu_seconds":0.0,"resident_bytes":0}'


def test_how_far_behind_a_roll_out_is_can_be_watched(start: StartService) -> None:
    with start().client() as client:
        for number in range(30):
            introduce(client, f"m-{number}")
        client.put("/api/v1/settings", params={"selector": "all"}, json={"samples": 3}, headers=FORCE)

        def in_step() -> tuple[int, int]:
            page = client.get("/api/v1/agents", params={"limit": 1}).json()
            return page["in_step"], page["total"]

        wait_until(lambda: in_step() == (0, 30), "the change to be worked out")
        for number in range(30):
            introduce(client, f"m-{number}", settings_version=introduce(client, f"m-{number}"))
        assert in_step() == (30, 30)
