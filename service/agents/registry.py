"""The agents that have been heard of: what each was asked, what it says is in force, and when; kept over restarts."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, UnsetType

from contract import times
from contract.agent_protocol import AgentCommand, AgentState, DesiredSettings, Instructions, Refusal
from contract.problems import Problem, decode_json, shortened
from contract.report import FUTURE_MS, AgentStatus, OsType, Report
from service.agents.layers import Layers
from service.control.database import ControlDatabase

MAX_AGENTS = 200_000
"""Agents beyond these are not configured, and not listed; their reports are taken as ever."""


CLOCK_LIMIT_S = 60.0
"""A clock that is off by more is said; agents do not stamp windows by such a clock either (`agent.clock`)."""

_PROBLEMS, _LONGEST = 8, 400
"""Of what an agent refuses so many reasons of so many characters are kept: it is held in memory of each agent."""


class Agent:
    """One agent. Read and changed on the event loop only."""

    __slots__ = (
        "at_ms", "commands", "connected", "desired", "earlier_at_ms", "earlier_cpu_s", "labels", "os_type",
        "os_version", "refused", "remote", "seen_ms", "state", "status", "status_ms", "user_id", "version",
        "version_in_force",
    )  # fmt: skip

    def __init__(self, user_id: str, os_type: OsType, os_version: str) -> None:
        self.user_id = user_id
        self.os_type: OsType = os_type
        self.os_version = os_version
        self.labels: dict[str, str] = {}
        self.desired = DesiredSettings()
        self.version = ""
        """The version of the settings that are asked of it."""
        self.version_in_force = ""
        self.refused = ""
        """The version that it refused."""
        self.remote: bool | None = None
        """Whether it takes settings; None where it never said."""
        self.seen_ms = 0
        """When it was heard, by the service's clock."""
        self.at_ms = 0
        """The agent's own time of what it said last."""
        self.status: AgentStatus | None = None
        """What its last report said of it."""
        self.status_ms = 0
        """The end of that report's window."""
        self.earlier_cpu_s = 0.0
        self.earlier_at_ms = 0
        self.state: AgentState | None = None
        self.commands: dict[str, AgentCommand] = {}
        """What it has not said to have done."""
        self.connected = False
        """Whether it has a stream open."""

    @property
    def clock_ahead_s(self) -> float | None:
        """How far its host's clock is ahead of ours, seconds; None where it has not said."""
        return None if self.status is None or self.status.clock_ahead_s is UNSET else self.status.clock_ahead_s

    @property
    def settings_due(self) -> bool:
        """Whether it is to be told its settings: it has others, and has not refused these."""
        return self.version != self.version_in_force and not (self.version and self.version == self.refused)

    @property
    def paused(self) -> bool:
        """Whether it says that it is paused, and has not reported since."""
        return self.state is not None and self.state.settings.paused and self.status_ms <= self.state.at

    def instructions(self) -> Instructions:
        """Everything that is asked of it."""
        settings = msgspec.Raw(msgspec.json.encode(self.desired))
        return Instructions(self.version, settings, list(self.commands.values()))


class Registry:
    """The agents by user id, each with what its layers ask of it."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._agents: dict[str, Agent] = {}
        self.clocks_off: dict[str, float] = {}
        """By user id how far clocks are ahead of ours, seconds, those that are off by more than `CLOCK_LIMIT_S`."""
        self.turned_away = 0
        """Times that an agent was not taken up because there are too many."""

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    @property
    def clock_problem(self) -> str | None:
        """How many clocks are off, in words that name nobody: they are told without a token. None where none is."""
        off = list(self.clocks_off.values())
        if not off:
            return None
        most_s = max(off, key=abs)
        return (
            f"Clocks of hosts are off by more than {CLOCK_LIMIT_S:.0f} s: {len(off)}, one by {most_s:+.0f} s"
            " (clock_ahead_s of GET /api/v1/users says whose); their windows are stamped by the time of this service"
        )

    def get(self, user_id: str) -> Agent | None:
        """The agent of a user id, if it was heard of."""
        return self._agents.get(user_id)

    def add(self, user_id: str, os_type: OsType, os_version: str) -> Agent | None:
        """The agent of a user id, made where there is none; None where there are too many."""
        agent = self._agents.get(user_id)
        if agent is None:
            if len(self._agents) >= MAX_AGENTS:
                self.turned_away += 1
                return None
            agent = self._agents[user_id] = Agent(user_id, os_type, os_version)
            self.refresh(agent)
        return agent

    def remove(self, user_id: str) -> bool:
        """Know an agent no more; False where it was not known."""
        self.clocks_off.pop(user_id, None)
        return self._agents.pop(user_id, None) is not None

    def settle(self, now_ms: int) -> None:
        """Take who was heard at a time that has not come, as the clock was set back since, for heard now."""
        for agent in self:
            agent.seen_ms = min(agent.seen_ms, now_ms)

    def silent(self, since_ms: int) -> list[str]:
        """The agents that were not heard since a moment, and do not listen."""
        return [agent.user_id for agent in self if agent.seen_ms < since_ms and not agent.connected]

    def heard(self, report: Report, status: AgentStatus, now_ms: int) -> Agent | None:
        """Note what a report's `status` says of its agent; the agent, where the answer is to tell it something.

        This is on the way of every report of ours, so it does the least that can be done.
        """
        agent = self._agents.get(report.user_id) or self.add(report.user_id, report.os_type, report.os_version)
        if agent is None:
            return None
        agent.seen_ms = now_ms
        # A report that waited in a spool says nothing new; unless what is known is of a time that our clock, which was
        # set back, has not reached.
        if report.end_timestamp >= agent.at_ms or agent.at_ms > now_ms + FUTURE_MS:
            before = agent.status
            # In a cluster a report comes by the log too.
            if before is not None and report.end_timestamp != agent.status_ms:
                agent.earlier_cpu_s, agent.earlier_at_ms = before.cpu_seconds, agent.status_ms
            agent.at_ms = agent.status_ms = report.end_timestamp
            agent.status = status
            if report.labels is not UNSET and report.labels != agent.labels:
                agent.labels = report.labels
                self.refresh(agent)
            ahead_s = status.clock_ahead_s
            if ahead_s is not UNSET and not -CLOCK_LIMIT_S <= ahead_s <= CLOCK_LIMIT_S:
                self.clocks_off[report.user_id] = ahead_s
            elif self.clocks_off:
                self.clocks_off.pop(report.user_id, None)
            if status.settings_version != agent.version_in_force or status.remote is not agent.remote:
                self._reported(agent, status)
            if status.settings_refused:
                agent.refused = status.settings_refused
        if agent.version == agent.version_in_force and not agent.commands:
            return None
        return agent if agent.remote and (agent.settings_due or agent.commands) else None

    def _reported(self, agent: Agent, status: AgentStatus) -> None:
        agent.version_in_force = status.settings_version
        agent.remote = None if status.remote is UNSET else status.remote

    def heard_state(self, agent: Agent, state: AgentState) -> None:
        """Note what an agent says of its state: newer than any report that came before."""
        agent.seen_ms = times.now_ms()
        self.restore(agent, state)

    def restore(self, agent: Agent, state: AgentState) -> None:
        """Take a state for what is in force, as of when it was heard at the latest."""
        agent.os_type, agent.os_version, agent.labels = state.os_type, state.os_version, state.labels
        # A clock that is ahead would keep all that the agent says later from counting.
        agent.at_ms = min(state.at, agent.seen_ms)
        agent.remote = True
        agent.state = msgspec.structs.replace(state, outcomes=[], refused=_shortened(state.refused))
        agent.version_in_force = state.settings_version
        agent.refused = "" if state.refused is UNSET else state.refused.version

    def refresh(self, agent: Agent) -> bool:
        """Work out anew what is asked of an agent; whether that is another thing than before."""
        desired, version = self._layers.desired(agent.user_id, agent.os_type, agent.labels)
        changed = version != agent.version
        agent.desired, agent.version = desired, version
        return changed


def _shortened(refused: Refusal | UnsetType) -> Refusal | UnsetType:
    if refused is UNSET:
        return UNSET
    problems = [
        Problem(shortened(one.pointer, _LONGEST), shortened(one.detail, _LONGEST))
        for one in refused.problems[:_PROBLEMS]
    ]
    return Refusal(refused.version, problems)


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


class AgentStateRepository:
    """The states of agents in the control database, written once a second: an agent that connects anew repeats its own.

    `note` is called on the event loop, `write` in a thread.
    """

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._unwritten: dict[str, tuple[int, AgentState]] = {}
        control.migrate("agents.states", _STEPS)

    def load(self, registry: Registry) -> None:
        """Make the agents known that are remembered."""
        query = "SELECT user_id, seen_ms, state FROM agents_state ORDER BY seen_ms DESC LIMIT ?"
        for user_id, seen_ms, body in self._control.read(query, (MAX_AGENTS,)):
            try:
                state = decode_json(body, AgentState)
            except msgspec.DecodeError:
                # The agent says it again.
                self._control.note_wrong("what an agent said of itself cannot be read")
                continue
            agent = registry.add(user_id, state.os_type, state.os_version)
            if agent is not None:
                agent.seen_ms = seen_ms
                registry.restore(agent, state)
                registry.refresh(agent)

    def note(self, agent: Agent) -> None:
        """Have an agent's state written soon."""
        if agent.state is not None:
            self._unwritten[agent.user_id] = (agent.seen_ms, agent.state)

    def drop(self, user_ids: Iterable[str]) -> None:
        """Forget states, on disk too. Called in a thread."""
        users = [*user_ids]
        for user_id in users:
            self._unwritten.pop(user_id, None)
        with self._control.transaction() as db:
            db.executemany("DELETE FROM agents_state WHERE user_id = ?", ((user_id,) for user_id in users))

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._unwritten)

    def write(self) -> None:
        """Put the states that were noted on disk."""
        with self._control.transaction() as db:
            # Here, and not before: what is dropped meanwhile must not be written again.
            noted = dict(self._unwritten)
            rows = [(user_id, seen_ms, msgspec.json.encode(state)) for user_id, (seen_ms, state) in noted.items()]
            db.executemany("INSERT OR REPLACE INTO agents_state VALUES (?, ?, ?)", rows)
            db.execute(
                "DELETE FROM agents_state WHERE user_id IN"
                " (SELECT user_id FROM agents_state ORDER BY seen_ms DESC LIMIT -1 OFFSET ?)",
                (MAX_AGENTS,),
            )
        for user_id, entry in noted.items():
            if self._unwritten.get(user_id) is entry:
                del self._unwritten[user_id]
