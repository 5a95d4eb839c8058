"""The queue of notifications: tables of the control database, so that none is lost and each keeps its id."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from contract.times import format_instant
from service.control.database import ControlDatabase

_STEPS = [
    """
    CREATE TABLE notify_message (
        id TEXT PRIMARY KEY, rule TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, alerts TEXT NOT NULL, about TEXT NOT NULL,
        error TEXT NOT NULL
    ) STRICT;
    CREATE INDEX notify_message_by_state ON notify_message (state, due_ms);
    """,
]
STATES = ("gathering", "waiting", "delivered", "dead")
_MAX_WAITING = 10_000
_MAX_KEPT = 1000
"""Delivered ones, and dead ones, that can be looked at."""
_MAX_ALERTS = 1000
"""Of one message; further ones begin another."""
_COLUMNS = "id, rule, target, state, created_ms, due_ms, attempts, alerts, about, error"


class AlertRule(Protocol):
    """What notifications need to know of the rule whose alerts they tell of."""

    @property
    def name(self) -> str:
        """The rule's name, which is in each of its notifications."""

    @property
    def severity(self) -> str:
        """`info`, `warning` or `critical`."""

    @property
    def description(self) -> str:
        """What people are to read, or nothing."""

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets that get its notifications."""

    @property
    def group_ms(self) -> int:
        """For so long changes are collected into one notification, in ms."""


class Message(NamedTuple):
    """One notification to one target."""

    id: str
    rule: str
    target: str
    state: str
    created_ms: int
    due_ms: int
    attempts: int
    alerts: str
    """JSON: what happened; of each user, when its alarm last began to fire, and when it was last resolved."""
    about: str
    """JSON: the rule's description and severity."""
    error: str

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        content: dict[str, dict[str, Any]] = msgspec.json.decode(self.alerts)
        return list(content.values())

    def body(self) -> str:
        """The JSON that a webhook gets; the same each time it is tried."""
        document = {
            "type": "loadlens.alerts",
            "timestamp": format_instant(self.created_ms),
            "data": {"rule": self.rule, **msgspec.json.decode(self.about), "alerts": self.changes},
        }
        return msgspec.json.encode(document).decode()

    def text(self) -> tuple[str, str]:
        """Title and text, for e-mail and chats."""
        changes = self.changes
        firing = sum(change["state"] == "firing" for change in changes)
        about = msgspec.json.decode(self.about)
        title = f"[{about['severity']}] {self.rule}: {firing} firing, {len(changes) - firing} resolved"
        lines = [f"{change['user'] or 'the fleet'}: {change['state']} at {change['at']}" for change in changes]
        return title, "\n".join(([about["description"]] if about["description"] else []) + lines)


class NotificationQueue:
    """Messages that collect changes (state `gathering`), wait, were delivered, or are given up (`dead`)."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        control.migrate("notify", _STEPS)

    def add(self, rule: AlertRule, changes: Sequence[Mapping[str, Any]], now_ms: int) -> None:
        """Tell a rule's targets of changes of its alerts, together with others of the next `group_ms`.

        A change has `user` (empty for the fleet), `state` (`firing` or `resolved`), `since`, `at` and `value`.
        """
        with self._control.transaction() as db:
            for target in rule.targets:
                row = db.execute(
                    "SELECT id, alerts FROM notify_message WHERE state = 'gathering' AND rule = ? AND target = ?",
                    (rule.name, target),
                ).fetchone()
                collected: dict[str, Any] = msgspec.json.decode(row[1]) if row else {}
                for change in changes:
                    # What a user's alarm did last comes last.
                    collected.pop(_key(change), None)
                    collected[_key(change)] = change
                parts = _parts(collected)
                if row:
                    db.execute("UPDATE notify_message SET alerts = ? WHERE id = ?", (parts.pop(0), row[0]))
                for part in parts:
                    # What does not fit into one message goes into others, of which the last collects on.
                    db.execute(
                        "UPDATE notify_message SET state = 'waiting'"
                        " WHERE state = 'gathering' AND rule = ? AND target = ?",
                        (rule.name, target),
                    )
                    self._begin(db, rule, target, part, now_ms)

    def _begin(self, db: Any, rule: AlertRule, target: str, alerts: str, now_ms: int) -> None:
        (waiting,) = db.execute(
            "SELECT count(*) FROM notify_message WHERE state IN ('gathering', 'waiting')"
        ).fetchone()
        is_full = waiting >= _MAX_WAITING
        about = {"severity": rule.severity, "description": rule.description}
        message = Message(
            id=f"msg_{secrets.token_hex(16)}",
            rule=rule.name,
            target=target,
            state="dead" if is_full else "gathering",
            created_ms=now_ms,
            due_ms=now_ms + rule.group_ms,
            attempts=0,
            alerts=alerts,
            about=msgspec.json.encode(about).decode(),
            error=f"{waiting} others waited already" if is_full else "",
        )
        db.execute("INSERT INTO notify_message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", message)
        if is_full:
            self._trim(db, "dead")

    def due(self, now_ms: int, busy: set[str]) -> list[Message]:
        """The oldest waiting message of each target that is not busy, where that one is due; it collects no more.

        Younger ones of the target wait for it, so that none overtakes another; one that is to be delivered again has
        its old place.
        """
        # As it is now: a target that is done a moment later has done what is read here.
        busy = set(busy)
        with self._control.transaction() as db:
            db.execute(
                "UPDATE notify_message SET state = 'waiting' WHERE state = 'gathering' AND due_ms <= ?", (now_ms,)
            )
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM notify_message WHERE due_ms <= ? AND rowid IN"
                " (SELECT min(rowid) FROM notify_message WHERE state = 'waiting' GROUP BY target)",
                (now_ms,),
            ).fetchall()
        return [message for row in rows if (message := Message(*row)).target not in busy]

    def has_due(self, now_ms: int) -> bool:
        """Whether a message is due at `now_ms`."""
        return bool(
            self._control.read(
                "SELECT 1 FROM notify_message WHERE state IN ('gathering', 'waiting') AND due_ms <= ? LIMIT 1",
                (now_ms,),
            )
        )

    def finish(self, message: Message, state: str, error: str = "") -> None:
        """Note that a message was delivered, or is given up."""
        with self._control.transaction() as db:
            db.execute(
                "UPDATE notify_message SET state = ?, attempts = attempts + 1, error = ? WHERE id = ?",
                (state, error, message.id),
            )
            self._trim(db, state)

    def postpone(self, message: Message, due_ms: int, error: str) -> None:
        """Note that a message is to be tried again."""
        with self._control.transaction() as db:
            db.execute(
                "UPDATE notify_message SET attempts = attempts + 1, due_ms = ?, error = ? WHERE id = ?",
                (due_ms, error, message.id),
            )

    def redeliver(self, identity: str, now_ms: int) -> bool:
        """Try a message again that was given up or delivered; False where there is none. Its id stays."""
        with self._control.transaction() as db:
            return (
                db.execute(
                    "UPDATE notify_message SET state = 'waiting', attempts = 0, due_ms = ?"
                    " WHERE id = ? AND state IN ('dead', 'delivered')",
                    (now_ms, identity),
                ).rowcount
                > 0
            )

    def messages(self, state: str | None, limit: int, after: tuple[int, str] | None = None) -> list[Message]:
        """Messages, newest first, behind the one of a time (epoch ms) and an id."""
        created_ms, identity = after or (None, None)
        rows = self._control.read(
            f"SELECT {_COLUMNS} FROM notify_message WHERE (:state IS NULL OR state = :state) AND (:created IS NULL OR"
            " created_ms < :created OR (created_ms = :created AND id > :id)) ORDER BY created_ms DESC, id LIMIT :limit",
            {"state": state, "created": created_ms, "id": identity, "limit": limit},
        )
        return [Message(*row) for row in rows]

    @property
    def waiting(self) -> int:
        """How many messages collect changes or wait."""
        counts = self.counts()
        return counts["gathering"] + counts["waiting"]

    def counts(self) -> dict[str, int]:
        """How many messages are in each state."""
        rows = self._control.read("SELECT state, count(*) FROM notify_message GROUP BY state")
        return dict.fromkeys(STATES, 0) | {str(state): int(count) for state, count in rows}

    def _trim(self, db: Any, state: str) -> None:
        db.execute(
            "DELETE FROM notify_message WHERE state = ? AND id NOT IN"
            " (SELECT id FROM notify_message WHERE state = ? ORDER BY created_ms DESC LIMIT ?)",
            (state, state, _MAX_KEPT),
        )


def _key(change: Mapping[str, Any]) -> str:
    return f"{change['state']} {change['user']}"


def _parts(collected: Mapping[str, Any]) -> list[str]:
    """The JSON of as many messages as are needed."""
    entries = list(collected.items())
    pieces = [dict(entries[start : start + _MAX_ALERTS]) for start in range(0, len(entries), _MAX_ALERTS)]
    return [msgspec.json.encode(piece).decode() for piece in pieces]
