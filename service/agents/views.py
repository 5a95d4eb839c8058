"""An agent as JSON: its desired and its reported settings, and why the two differ."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from contract.agent_protocol import IntervalS, SamplesPerReport
from contract.problems import display
from contract.times import format_instant
from service.agents.layers import Layers
from service.agents.registry import Agent
from service.agents.shared_ids import SharedId, as_members

_KINDS: Final[dict[str, Any]] = {"interval": IntervalS, "samples": SamplesPerReport, "metrics": list[str]}
"""What people and programs calculate with, of all that an agent may call its settings."""


def in_sync(agent: Agent) -> bool:
    """Whether exactly what is asked of an agent is in force there."""
    return agent.version == agent.version_in_force


def overview(agent: Agent, shared: SharedId | None, layers: Layers) -> dict[str, Any]:
    """An entry of the list of agents; `shared` where several hosts report as this one."""
    status, why = agent.status, _why(agent)
    return {
        "user_id": agent.user_id,
        "os_type": agent.os_type,
        "os_version": display(agent.os_version),
        "labels": agent.labels,
        "version": _version(agent),
        "last_seen": format_instant(agent.seen_ms),
        "connected": agent.connected,
        # As the layers are now: a change reaches the agents of a large fleet one after the other.
        "desired": layers.desired(agent.user_id, agent.os_type, agent.labels)[0],
        "reported": agent.state.settings if agent.state else _told(status.settings) if status else None,
        "in_step": why is None,
        "why": why,
        "settled": why is None or not _may_change(agent),
        "overhead": {
            "cpu_share": _cpu_share(agent),
            "resident_bytes": status.resident_bytes if status else None,
        },
        "spool": None
        if status is None
        else {"waiting": status.spooled, "dropped": status.dropped, "refused": status.refused},
        "commands_waiting": len(agent.commands),
        "clock_ahead_s": agent.clock_ahead_s,
        **as_members(shared),
    }


def detail(agent: Agent, shared: SharedId | None, layers: Layers) -> dict[str, Any]:
    """One agent, with the layers that make up what is asked of it, the strongest last."""
    found = layers.of(agent.user_id, agent.os_type, agent.labels)
    return overview(agent, shared, layers) | {
        "desired_version": agent.version,
        "reported_version": agent.version_in_force,
        "refused": _refused(agent),
        "layers": [{"target": layer.target, "rank": layer.rank, "settings": layer.settings} for layer in found],
    }


def _version(agent: Agent) -> str | None:
    told = agent.state.agent_version if agent.state else agent.status.version if agent.status else None
    return None if told is None else display(told)


def _told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says is in force: texts steer no terminal, and what is not of its kind is left out."""
    shown: dict[str, Any] = {}
    for name, value in settings.items():
        told = (
            [*map(display, value)] if isinstance(value, list) else display(value) if isinstance(value, str) else value
        )
        try:
            shown[display(name)] = msgspec.convert(told, _KINDS.get(name, Any))
        except msgspec.ValidationError:
            continue
    return shown


def _why(agent: Agent) -> str | None:
    """Why an agent is not in sync; None where it is."""
    if in_sync(agent):
        return None
    if agent.remote is None:
        return "it takes no settings: its version knows of none"
    if agent.remote is False:
        return "it takes no settings: it was started with --no-remote"
    if agent.version and agent.version == agent.refused:
        problems = _refused(agent)
        reasons = "; ".join(f"{problem['pointer'].lstrip('/')}: {problem['detail']}" for problem in problems)
        return f"it refused: {reasons}" if reasons else "it refused; why, it has not said yet"
    if agent.connected:
        return "it was told, and has not answered yet"
    return "it will be told with the answer to its next report"


def _may_change(agent: Agent) -> bool:
    """Whether an agent that is not in sync may become so without anybody's doing."""
    return bool(agent.remote) and not (agent.version and agent.version == agent.refused)


def _refused(agent: Agent) -> list[dict[str, str]]:
    refusal = agent.state.refused if agent.state else UNSET
    if refusal is UNSET or refusal.version != agent.version:
        return []
    # An agent's own words, which must not steer the terminal of who reads them.
    return [{"pointer": display(one.pointer), "detail": display(one.detail)} for one in refusal.problems]


def _cpu_share(agent: Agent) -> float | None:
    """CPU time over time between its last two reports; None where there are no two of one run."""
    if agent.status is None or not agent.earlier_at_ms or agent.status_ms <= agent.earlier_at_ms:
        return None
    used_s = agent.status.cpu_seconds - agent.earlier_cpu_s
    return round(used_s * 1000 / (agent.status_ms - agent.earlier_at_ms), 6) if used_s >= 0.0 else None
