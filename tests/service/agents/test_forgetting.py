"""Agents that are gone leave the lists: at once when somebody says so, by themselves after a time of choice."""

import asyncio
from pathlib import Path

import httpx
import msgspec
import pytest

from contract.agent_protocol import AgentState
from service.agents.remote_configuration import RemoteConfiguration
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from tests.service.conftest import StartService
from tests.support.agent_states import agent, settings_of, state
from tests.support.reports import END_MS, post, small
from tests.support.running import wait_until

ABSENT = """
[[rules]]
name = "silent"
kind = "absence"
after = "1s"
"""
FORCE = {"If-Match": "*"}


def listed(client: httpx.Client) -> list[str]:
    return [one["user_id"] for one in client.get("/api/v1/agents").json()["agents"]]


@pytest.mark.server
def test_a_forgotten_agent_is_gone_with_its_settings_over_restarts(start: StartService) -> None:
    service = start()
    with service.client() as client:
        for user in ("web-1", "web-2"):
            assert client.post(f"{agent(user)}/state", json=state()).status_code == 200
            assert client.put(f"{agent(user)}/settings", json={"samples": 50}, headers=FORCE).status_code == 200
            assert client.post(f"{agent(user)}/commands", json={"command": "report_now"}).status_code == 202
        wait_until(lambda: listed(client) == ["web-1", "web-2"], "both")
        assert client.delete(agent("web-1"), headers={"X-Loadlens-Actor": "carol"}).status_code == 204
        assert client.delete(agent("web-1")).status_code == 404
        assert client.get(agent("web-1")).status_code == 404
        entry = client.get("/api/v1/audit").json()["entries"][0]
        assert (entry["action"], entry["target"], entry["actor"]) == ("forget", "agent:web-1", "carol")
    service.stop()
    service = start()
    with service.client() as client:
        assert listed(client) == ["web-2"]
        assert settings_of(client, f"{agent('web-1')}/settings") == ({}, '"0"')
        assert client.post(f"{agent('web-1')}/state", json=state()).status_code == 200
        assert listed(client) == ["web-1", "web-2"], "it still runs"
        assert client.get(f"{agent('web-1')}/commands").json() == {"commands": []}


@pytest.mark.server
def test_alerts_of_a_forgotten_agent_are_resolved(start: StartService, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(ABSENT)
    with start("--rules", str(tmp_path / "rules.toml")).client() as client:
        client.post(f"{agent('gone')}/state", json=state())
        post(client, small("gone", END_MS))
        wait_until(lambda: client.get("/api/v1/alerts?state=firing").json()["total"] == 1, "the alert")
        assert client.delete(agent("gone")).status_code == 204
        wait_until(lambda: client.get("/api/v1/alerts?state=resolved").json()["total"] == 1, "its end")
        assert client.get("/api/v1/alerts?state=firing").json()["total"] == 0
        assert len(client.get("/api/v1/users").json()["users"]) == 1, "its windows stay"


def test_agents_that_are_silent_for_long_are_listed_no_more(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")
    keep_ms = 3_600_000

    async def left() -> list[str]:
        remote = RemoteConfiguration(control, Audit(control), 10, keep_ms)
        for user in ("old", "new"):
            assert await remote.exchange(user, _state()) is not None
        old = remote.registry.get("old")
        assert old is not None
        old.seen_ms -= 2 * keep_ms
        remote._looked_s = float("-inf")
        await remote._leave_out_silent()
        await remote.stop()
        return [one.user_id for one in remote.registry]

    assert asyncio.run(left()) == ["new"]
    assert [one.user_id for one in RemoteConfiguration(control, Audit(control), 10).registry] == ["new"]
    control.close()


def test_what_was_noted_of_an_agent_is_not_written_after_it_was_forgotten(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")

    async def forget() -> None:
        remote = RemoteConfiguration(control, Audit(control), 10)
        await remote.exchange("web-1", _state())
        assert await remote.forget("web-1", Actor("none", "127.0.0.1"))
        assert not await remote.forget("web-1", Actor("none", "127.0.0.1"))
        await remote.stop()

    asyncio.run(forget())
    assert len(RemoteConfiguration(control, Audit(control), 10).registry) == 0
    control.close()


def _state() -> AgentState:
    return msgspec.convert(state(), AgentState)
