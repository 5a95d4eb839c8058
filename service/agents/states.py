"""What agents said last of themselves, over restarts of the service."""

import msgspec

from contract.steering import AgentState
from service.agents.registry import MOST_AGENTS, Agent, Registry
from service.control import Control

__all__ = ["States"]

_STEPS = [
    """
    CREATE TABLE agents_state (
        user_id TEXT PRIMARY KEY,
        seen_ms INTEGER NOT NULL,
        state BLOB NOT NULL
    ) STRICT;
    CREATE INDEX agents_state_by_seen ON agents_state (seen_ms);
    """
]


class States:
    """States in the control database, written together once a second: an agent that connects anew says its own again.

    `note` is called on the event loop, `write` in a thread.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._unwritten: dict[str, tuple[int, AgentState]] = {}
        control.migrate("agents.states", _STEPS)

    def load(self, registry: Registry) -> None:
        """Make the agents known that are remembered."""
        query = "SELECT user_id, seen_ms, state FROM agents_state ORDER BY seen_ms DESC LIMIT ?"
        for user_id, seen_ms, body in self._control.read(query, (MOST_AGENTS,)):
            state = msgspec.json.decode(body, type=AgentState)
            agent = registry.add(user_id, state.os_type, state.os_version)
            if agent is not None:
                agent.seen_ms = seen_ms
                registry.restore(agent, state)

    def note(self, agent: Agent) -> None:
        """Have an agent's state written soon."""
        if agent.state is not None:
            self._unwritten[agent.user_id] = (agent.seen_ms, agent.state)

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._unwritten)

    def write(self) -> None:
        """Put what was noted on disk."""
        noted = dict(self._unwritten)
        rows = [(user_id, seen_ms, msgspec.json.encode(state)) for user_id, (seen_ms, state) in noted.items()]
        with self._control.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO agents_state VALUES (?, ?, ?)", rows)
            db.execute(
                "DELETE FROM agents_state WHERE user_id IN"
                " (SELECT user_id FROM agents_state ORDER BY seen_ms DESC LIMIT -1 OFFSET ?)",
                (MOST_AGENTS,),
            )
        for user_id, entry in noted.items():
            if self._unwritten.get(user_id) is entry:
                del self._unwritten[user_id]
