"""What is known of agents survives a clock that was ahead, and is little of each."""

from pathlib import Path

import msgspec

from contract.agent_protocol import AgentState, Refusal, SettingsInForce
from contract.problems import Problem
from contract.times import DAY_MS
from service.agents.layers import Layers
from service.agents.registry import Registry
from service.control.audit import Audit
from service.control.database import ControlDatabase

NOW_MS = 1_800_000_000_000


def test_who_was_heard_by_a_clock_that_was_ahead_is_silent_in_its_time(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")
    registry = Registry(Layers(control, Audit(control)))
    for name, heard_ms in (("ahead", NOW_MS + 400 * DAY_MS), ("old", NOW_MS - DAY_MS)):
        agent = registry.add(name, "Linux", "12")
        assert agent is not None
        agent.seen_ms = heard_ms
    registry.settle(NOW_MS)
    assert {agent.user_id: agent.seen_ms for agent in registry} == {"ahead": NOW_MS, "old": NOW_MS - DAY_MS}
    assert registry.silent(NOW_MS) == ["old"]
    assert set(registry.silent(NOW_MS + 1)) == {"ahead", "old"}
    control.close()


def test_little_is_kept_of_what_an_agent_refuses(tmp_path: Path) -> None:
    """Whoever may send states could have very much held in memory otherwise."""
    control = ControlDatabase(tmp_path / "control.db")
    registry = Registry(Layers(control, Audit(control)))
    agent = registry.add("one", "Linux", "12")
    assert agent is not None
    problems = [Problem("/" + "p" * 4000, "d" * 4000) for _ in range(32)]
    state = AgentState(
        at=1, os_type="Linux", os_version="12", agent_version="1", refused=Refusal("v", problems),
        settings=SettingsInForce(interval=0.05, samples=100, metrics=["cpu"]),
    )  # fmt: skip
    registry.heard_state(agent, state)
    assert len(msgspec.json.encode(agent.state)) < 8000
    assert agent.refused == "v"
    control.close()
