"""The audit trail: who changed what, when, from what to what."""

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from contract import times
from contract.times import format_instant
from service.control.database import ControlDatabase

KEPT = 100_000
"""Entries that are kept; the oldest go first."""
_STEPS = [
    """
    CREATE TABLE audit_entry (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL,
        token TEXT NOT NULL,
        address TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        before BLOB,
        after BLOB
    ) STRICT;
    CREATE INDEX audit_by_target ON audit_entry (target, id);
    """
]
_COLUMNS = "at_ms, token, address, actor, action, target, before, after"


class Actor(NamedTuple):
    """Who asked for a change."""

    token: str
    """The id of the token that was shown; `operator` or `token` for those of the settings, or `none`."""
    address: str
    """Where the request came from: the nearest proxy's address where there is one."""
    name: str = ""
    """Who it says it is (the header X-Loadlens-Actor); nobody checks that."""


class Audit:
    """Entries in the control database, numbered for good. Called in transactions of those who change something."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        control.migrate("audit", _STEPS)

    def note(
        self,
        db: sqlite3.Connection,
        actor: Actor,
        action: str,
        target: str,
        *,
        before: bytes | None = None,
        after: bytes | None = None,
    ) -> int:
        """Add an entry to the transaction under way; its number, which no other entry ever has."""
        cursor = db.execute(
            f"INSERT INTO audit_entry ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (times.now_ms(), *actor, action, target, before, after),
        )
        number = cursor.lastrowid
        assert number is not None
        db.execute("DELETE FROM audit_entry WHERE id <= ?", (number - KEPT,))
        return number

    def copy(self, db: sqlite3.Connection, number: int) -> list[Any]:
        """An entry for the trails of other processes."""
        return list(db.execute(f"SELECT id, {_COLUMNS} FROM audit_entry WHERE id = ?", (number,)).fetchone())

    def take(self, db: sqlite3.Connection, entry: Sequence[Any]) -> None:
        """Add the copy of an entry of another process, whose number it keeps where nothing later is here."""
        number, *columns = entry
        db.execute(
            f"INSERT INTO audit_entry (id, {_COLUMNS}) VALUES"
            " (max(?, 1 + ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'audit_entry'), 0)),"
            " ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, *columns),
        )

    def has(self, db: sqlite3.Connection, entry: Sequence[Any]) -> bool:
        """Whether the copy of an entry of another process is here, under whatever number."""
        same = " AND ".join(f"{name} IS ?" for name in _COLUMNS.split(", "))
        return db.execute(f"SELECT 1 FROM audit_entry WHERE {same} LIMIT 1", entry[1:]).fetchone() is not None

    def entries(self, *, target: str | None, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Entries, newest first: of one `target`, and older than number `before`, where they are given."""
        rows = self._control.read(
            f"SELECT id, {_COLUMNS} FROM audit_entry"
            " WHERE (:target IS NULL OR target = :target) AND (:before IS NULL OR id < :before)"
            " ORDER BY id DESC LIMIT :limit",
            {"target": target, "before": before, "limit": limit},
        )
        return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    names = ("id", "at", "token", "address", "actor", "action", "target", "before", "after")
    entry = dict(zip(names, row, strict=True))
    entry["at"] = format_instant(entry["at"])
    for side in ("before", "after"):
        entry[side] = None if entry[side] is None else msgspec.Raw(entry[side])
    return entry
