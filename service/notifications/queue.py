"""The queue of notifications: tables of the control database, so that none is lost and each keeps its id."""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec

from contract.times import HOUR_MS, format_instant
from service.control.database import ControlDatabase, ReplicatedTable

_STEPS = [
    """
    CREATE TABLE notify_message (
        id TEXT PRIMARY KEY, rule TEXT NOT NULL, target TEXT NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, alerts TEXT NOT NULL, about TEXT NOT NULL,
        error TEXT NOT NULL
    ) STRICT;
    CREATE INDEX notify_message_by_state ON notify_message (state, due_ms);
    """,
    "ALTER TABLE notify_message ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0;",
]
STATES = ("gathering", "waiting", "delivered", "dead")
_MAX_WAITING = 10_000
_MAX_KEPT = 1000
"""Delivered ones, and dead ones, that can be looked at."""
_MAX_ALERTS = 1000
"""Of one message; further ones begin another."""
_MAX_LINES = 50
"""Changes that a text tells one by one; the webhook's body has them all."""
_COLUMNS = "id, rule, target, state, created_ms, due_ms, attempts, alerts, about, error, rejected"
MAX_PAUSE_MS = HOUR_MS
"""So long at most is a message postponed."""
_DUE = (
    "(due_ms <= :now OR (state = 'gathering' AND created_ms > :now)"
    f" OR (state = 'waiting' AND due_ms > :now + {MAX_PAUSE_MS}))"
)
"""Also what was to wait by a clock that has been set back since."""
TEST_RULE = "test"
"""What a test notification has in place of a rule's name."""


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


class QueuedNotification(NamedTuple):
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
    """JSON: the rule's severity and description, and what it looks at."""
    error: str
    rejected: int
    """1 where the receiver has said no to this very message: others of its target need not wait for it."""

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
        what = f"{firing} firing, {len(changes) - firing} resolved"
        if len(changes) == 1:
            what = f"{_whose(changes[0])} {changes[0]['state']}"
        lines = [about["description"]] if about["description"] else []
        lines += [line for change in changes[:_MAX_LINES] for line in _lines(change)]
        if len(changes) > _MAX_LINES:
            lines.append(f"and {len(changes) - _MAX_LINES} others")
        return f"[{about['severity']}] {self.rule}: {what}", "\n".join(lines)


class NotificationQueue:
    """Messages that collect changes (state `gathering`), wait, were delivered, or are given up (`dead`)."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        control.migrate("notify", _STEPS)
        # Any process may be asked to send one again, and note what has become of what it delivered.
        control.replicated.append(ReplicatedTable("notify_message", ("id",), guarded=False))

    def add(
        self,
        rule: AlertRule,
        changes: Sequence[Mapping[str, Any]],
        now_ms: int,
        facts: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Tell a rule's targets of changes of its alerts, together with others of the next `group_ms`.

        A change has `user` (empty for the fleet), `state` (`firing` or `resolved`), `since`, `at` and `value`; it may
        have `summary`, a sentence of what was seen, and `link`, where to look. `facts` are further members on the rule.
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
                    self._begin(db, rule, facts, (target, part), now_ms)

    def _begin(
        self, db: Any, rule: AlertRule, facts: Mapping[str, Any], addressed: tuple[str, str], now_ms: int
    ) -> None:
        target, alerts = addressed
        (waiting,) = db.execute(
            "SELECT count(*) FROM notify_message WHERE state IN ('gathering', 'waiting')"
        ).fetchone()
        is_full = waiting >= _MAX_WAITING
        about = {"severity": rule.severity, "description": rule.description, **facts}
        message = QueuedNotification(
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
            rejected=0,
        )
        self._put(message)
        if is_full:
            self._trim(db, "dead")

    def add_test(self, target: str, now_ms: int) -> str:
        """Send a target a message that says that it is a test; returns its id."""
        change = {
            "user": "", "state": "firing", "since": format_instant(now_ms), "at": format_instant(now_ms), "value": 0.0,
            "summary": "this is a test", "link": None, "repeated": False,
        }  # fmt: skip
        about = {"severity": "info", "description": "A test notification: nothing is wrong."}
        message = QueuedNotification(
            id=f"msg_{secrets.token_hex(16)}",
            rule=TEST_RULE,
            target=target,
            state="waiting",
            created_ms=now_ms,
            due_ms=now_ms,
            attempts=0,
            alerts=msgspec.json.encode({_key(change): change}).decode(),
            about=msgspec.json.encode(about).decode(),
            error="",
            rejected=0,
        )
        self._control.attempt(lambda: self._put(message))
        return message.id

    def _put(self, message: QueuedNotification) -> None:
        with self._control.transaction() as db:
            db.execute(f"INSERT INTO notify_message ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", message)

    def due(self, now_ms: int, busy: set[str]) -> list[QueuedNotification]:
        """The oldest waiting message of each target that is not busy, where that one is due; it collects no more.

        Younger ones of the target wait for it, so that none overtakes another; one that is to be delivered again has
        its old place. For one that its receiver has rejected none waits: it is handed out where no other is due.
        """
        # As it is now: a target that is done a moment later has done what is read here.
        busy = set(busy)
        found = self._control.attempt(lambda: self._due(now_ms))
        return [message for message in found.values() if message.target not in busy]

    def _due(self, now_ms: int) -> dict[str, QueuedNotification]:
        with self._control.transaction() as db:
            db.execute(
                "UPDATE notify_message SET state = 'waiting', due_ms = min(due_ms, :now)"
                f" WHERE state IN ('gathering', 'waiting') AND {_DUE}",
                {"now": now_ms},
            )
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM notify_message WHERE due_ms <= :now AND rowid IN"
                " (SELECT min(rowid) FROM notify_message WHERE state = 'waiting' AND NOT rejected GROUP BY target"
                " UNION ALL SELECT min(rowid) FROM notify_message"
                " WHERE state = 'waiting' AND rejected AND due_ms <= :now GROUP BY target) ORDER BY rejected DESC",
                {"now": now_ms},
            ).fetchall()
        # Of one target the last is taken, which is none that was rejected where there are both.
        return {message.target: message for message in map(QueuedNotification._make, rows)}

    def has_due(self, now_ms: int) -> bool:
        """Whether a message is due at `now_ms`."""
        return bool(
            self._control.read(
                f"SELECT 1 FROM notify_message WHERE state IN ('gathering', 'waiting') AND {_DUE} LIMIT 1",
                {"now": now_ms},
            )
        )

    def finish(self, message: QueuedNotification, state: str, error: str = "") -> None:
        """Note that a message was delivered, or is given up."""

        def note() -> None:
            with self._control.transaction() as db:
                db.execute(
                    "UPDATE notify_message SET state = ?, attempts = attempts + 1, error = ? WHERE id = ?",
                    (state, error, message.id),
                )
                self._trim(db, state)

        self._control.attempt(note)

    def postpone(self, message: QueuedNotification, due_ms: int, error: str, *, rejected: bool = False) -> None:
        """Note that a message is to be tried again; `rejected` where its receiver has said no to this very one."""

        def note() -> None:
            with self._control.transaction() as db:
                db.execute(
                    "UPDATE notify_message SET attempts = attempts + 1, due_ms = ?, error = ?, rejected = ?"
                    " WHERE id = ?",
                    (due_ms, error, rejected, message.id),
                )

        self._control.attempt(note)

    def redeliver(self, identity: str, now_ms: int) -> bool:
        """Try a message again that was given up or delivered; False where there is none. Its id stays."""
        return self._control.attempt(lambda: self._redeliver(identity, now_ms))

    def _redeliver(self, identity: str, now_ms: int) -> bool:
        with self._control.transaction() as db:
            return (
                db.execute(
                    "UPDATE notify_message SET state = 'waiting', attempts = 0, due_ms = ?, rejected = 0"
                    " WHERE id = ? AND state IN ('dead', 'delivered')",
                    (now_ms, identity),
                ).rowcount
                > 0
            )

    def messages(self, state: str | None, limit: int, after: tuple[int, str] | None = None) -> list[QueuedNotification]:
        """Messages, newest first, behind the one of a time (epoch ms) and an id."""
        created_ms, identity = after or (None, None)
        rows = self._control.read(
            f"SELECT {_COLUMNS} FROM notify_message WHERE (:state IS NULL OR state = :state) AND (:created IS NULL OR"
            " created_ms < :created OR (created_ms = :created AND id > :id)) ORDER BY created_ms DESC, id LIMIT :limit",
            {"state": state, "created": created_ms, "id": identity, "limit": limit},
        )
        return [QueuedNotification(*row) for row in rows]

    def message(self, identity: str) -> QueuedNotification | None:
        """One message by its id; None where there is none."""
        rows = self._control.read(f"SELECT {_COLUMNS} FROM notify_message WHERE id = ?", (identity,))
        return QueuedNotification(*rows[0]) if rows else None

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


def _whose(change: Mapping[str, Any]) -> str:
    return str(change["user"] or "the fleet")


def _lines(change: Mapping[str, Any]) -> list[str]:
    """What a text says of one change."""
    when = f"since {change['since']}" if change["state"] == "firing" else f"at {change['at']}, began {change['since']}"
    still = "still " if change.get("repeated") else ""
    line = f"{_whose(change)}: {still}{change['state']} {when}"
    if change.get("summary"):
        line += f": {change['summary']}"
    return [line, f"  {change['link']}"] if change.get("link") else [line]


def _key(change: Mapping[str, Any]) -> str:
    return f"{change['state']} {change['user']}"


def _parts(collected: Mapping[str, Any]) -> list[str]:
    """The JSON of as many messages as are needed."""
    entries = list(collected.items())
    pieces = [dict(entries[start : start + _MAX_ALERTS]) for start in range(0, len(entries), _MAX_ALERTS)]
    return [msgspec.json.encode(piece).decode() for piece in pieces]
