"""One-shot commands: each waits until its agent says what has become of it, or until it is too old."""

import asyncio
import heapq
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from contract import times
from contract.agent_protocol import MAX_DOCUMENT, MAX_OUTCOMES, AgentCommand, Outcome
from contract.problems import display
from contract.times import format_instant
from service.agents.layers import AGENT
from service.agents.registry import Agent, Registry
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, RecordKey, SharedRecords

KEPT = 10_000
"""Commands that are remembered; the oldest go first."""
RESULTS_KEPT = 1_000
"""Commands that are remembered with their results."""
_STEPS = [
    """
    CREATE TABLE agents_command (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        command TEXT NOT NULL,
        status TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        finished_ms INTEGER,
        detail TEXT NOT NULL DEFAULT '',
        document BLOB
    ) STRICT;
    CREATE INDEX agents_command_by_user ON agents_command (user_id, number);
    """
]
_COLUMNS = "id, user_id, command, status, created_ms, expires_ms, finished_ms, detail"


class TooManyCommands(Exception):
    """So many wait for an agent that no more are taken."""


class Change(NamedTuple):
    """What another process has done to a command: made it, or heard or given up what becomes of it."""

    id: str
    user_id: str
    command: str
    is_waiting: bool
    expires_ms: int


class Commands:
    """Commands in the control database, and those that wait with their agents. Used on the event loop.

    The processes of a cluster have the same commands.
    """

    def __init__(self, control: ControlDatabase, audit: Audit, registry: Registry) -> None:
        self._control = control
        self._audit = audit
        self._registry = registry
        self._expiring: list[tuple[int, str, str]] = []
        control.migrate("agents.commands", _STEPS)
        local = frozenset(("number",))
        control.shared.append(SharedRecords("agents_command", "id", self._changed_elsewhere, local=local))
        self.on_change: Callable[[list[Change]], object] = self.take
        """Called in a thread with what other processes have done; has `take` called on the event loop."""

    def load(self) -> None:
        """Give the agents what waits for them since before the service was started."""
        rows = self._control.read(
            "SELECT id, user_id, command, expires_ms FROM agents_command WHERE status = 'waiting'"
        )
        for id_, user_id, command, expires_ms in rows:
            agent = self._registry.get(user_id)
            if agent is not None:
                agent.commands[id_] = AgentCommand(id_, command)
            heapq.heappush(self._expiring, (expires_ms, id_, user_id))

    def give(self, agent: Agent) -> None:
        """Give an agent that was not known here what waits for it since others were told."""
        rows = self._control.read(
            "SELECT id, command FROM agents_command WHERE status = 'waiting' AND user_id = ?", (agent.user_id,)
        )
        agent.commands |= {id_: AgentCommand(id_, command) for id_, command in rows}

    def take(self, changes: Iterable[Change]) -> set[Agent]:
        """Take what other processes have done; the agents that are to be told."""
        told = set()
        for one in changes:
            agent = self._registry.get(one.user_id)
            if one.is_waiting:
                heapq.heappush(self._expiring, (one.expires_ms, one.id, one.user_id))
            if agent is not None and one.is_waiting:
                agent.commands[one.id] = AgentCommand(one.id, one.command)
                told.add(agent)
            elif agent is not None:
                agent.commands.pop(one.id, None)
        return told

    def _changed_elsewhere(self, keys: Iterable[RecordKey]) -> None:
        changes = []
        for key in keys:
            rows = self._control.read(f"SELECT {_COLUMNS} FROM agents_command WHERE id = ?", (key,))
            # Of one that was deleted nothing waits any more: it was the oldest of very many, or its agent is forgotten.
            for id_, user_id, command, status, _, expires_ms, *_ in rows:
                changes.append(Change(id_, user_id, command, status == "waiting", expires_ms))
        self.on_change(changes)

    async def add(self, agent: Agent, command: str, expires_s: float, actor: Actor) -> str:
        """Have an agent do something once, if it fetches it within `expires_s`; the command's id.

        Raises TooManyCommands, and ControlError where it cannot be kept.
        """
        if len(agent.commands) >= MAX_OUTCOMES:
            raise TooManyCommands(f"{len(agent.commands)} commands wait for {agent.user_id!r} already; no more fit")
        id_ = secrets.token_hex(8)
        now_ms = times.now_ms()
        expires_ms = now_ms + round(expires_s * 1000)
        await self._change(self._insert, id_, agent.user_id, command, now_ms, expires_ms, actor)
        agent.commands[id_] = AgentCommand(id_, command)
        heapq.heappush(self._expiring, (expires_ms, id_, agent.user_id))
        return id_

    async def finish(self, agent: Agent, outcomes: list[Outcome]) -> None:
        """Note what an agent says has become of its commands. What it says of others is left out."""
        known = [outcome for outcome in outcomes if outcome.id in agent.commands]
        if known:
            await self._change(self._update, agent.user_id, known)
            for outcome in known:
                agent.commands.pop(outcome.id, None)

    def drop(self, user_id: str) -> None:
        """Forget an agent's commands. Called in a thread."""
        self._control.attempt(lambda: self._drop(user_id))

    def _drop(self, user_id: str) -> None:
        with self._control.transaction() as db:
            db.execute("DELETE FROM agents_command WHERE user_id = ?", (user_id,))

    async def expire(self) -> None:
        """Give up what was not done in time."""
        now_ms = times.now_ms()
        expired = []
        while self._expiring and self._expiring[0][0] <= now_ms:
            _, id_, user_id = heapq.heappop(self._expiring)
            agent = self._registry.get(user_id)
            if agent is not None:
                agent.commands.pop(id_, None)
            expired.append((now_ms, id_))
        if expired:
            await self._change(self._expire, expired)

    def get(self, id_: str) -> dict[str, Any] | None:
        """A command with its result; None where it is not known, or not any more."""
        rows = self._control.read(f"SELECT {_COLUMNS}, document FROM agents_command WHERE id = ?", (id_,))
        if not rows:
            return None
        *columns, document = rows[0]
        return _shown(columns) | {"document": None if document is None else msgspec.Raw(document)}

    def of(self, user_id: str, limit: int) -> list[dict[str, Any]]:
        """An agent's commands without their results, newest first."""
        rows = self._control.read(
            f"SELECT {_COLUMNS} FROM agents_command WHERE user_id = ? ORDER BY number DESC LIMIT ?", (user_id, limit)
        )
        return [_shown(row) for row in rows]

    async def _change(self, change: Callable[..., None], *arguments: Any) -> None:
        await asyncio.to_thread(self._control.attempt, partial(change, *arguments))

    def _insert(self, id_: str, user_id: str, command: str, now_ms: int, expires_ms: int, actor: Actor) -> None:
        with self._control.transaction() as db:
            after = msgspec.json.encode({"id": id_, "command": command})
            self._audit.note(db, actor, "command", AGENT + user_id, after=after)
            cursor = db.execute(
                "INSERT INTO agents_command (id, user_id, command, status, created_ms, expires_ms)"
                " VALUES (?, ?, ?, 'waiting', ?, ?)",
                (id_, user_id, command, now_ms, expires_ms),
            )
            number = cursor.lastrowid or 0
            db.execute("DELETE FROM agents_command WHERE number <= ?", (number - KEPT,))
            db.execute("UPDATE agents_command SET document = NULL WHERE number = ?", (number - RESULTS_KEPT,))

    def _update(self, user_id: str, outcomes: list[Outcome]) -> None:
        with self._control.transaction() as db:
            for outcome in outcomes:
                document = b"" if outcome.document is UNSET else bytes(outcome.document)
                detail = display(outcome.detail)
                if len(document) > MAX_DOCUMENT:
                    document, detail = b"", f"its result of {len(document)} bytes is too large to be kept"
                db.execute(
                    "UPDATE agents_command SET status = ?, finished_ms = ?, detail = ?, document = ?"
                    " WHERE id = ? AND user_id = ? AND status = 'waiting'",
                    (outcome.status, times.now_ms(), detail, document or None, outcome.id, user_id),
                )

    def _expire(self, expired: list[tuple[int, str]]) -> None:
        with self._control.transaction() as db:
            db.executemany(
                "UPDATE agents_command SET status = 'expired', finished_ms = ?,"
                " detail = 'the agent did not answer in time' WHERE id = ? AND status = 'waiting'",
                expired,
            )


def _shown(row: Any) -> dict[str, Any]:
    id_, user_id, command, status, created_ms, expires_ms, finished_ms, detail = row
    return {
        "id": id_,
        "user_id": user_id,
        "command": command,
        "status": status,
        "created": format_instant(created_ms),
        "expires": format_instant(expires_ms),
        "finished": None if finished_ms is None else format_instant(finished_ms),
        "detail": detail,
    }
