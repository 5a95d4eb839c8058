"""Annotations: what people or their tools say of moments (a deploy, an incident), kept in the control database."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from contract import times
from contract.selectors import exact_names, matcher
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, SharedRecords

KEPT = 100_000
"""Annotations that are kept; those of the oldest times go first."""
_STEPS = [
    """
    CREATE TABLE annotations_annotation (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time_ms INTEGER NOT NULL,
        end_ms INTEGER NOT NULL,
        text TEXT NOT NULL,
        tags TEXT NOT NULL,
        user TEXT NOT NULL,
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX annotations_by_time ON annotations_annotation (time_ms, id);
    """
]


class Annotation(NamedTuple):
    """What is said of a moment, or of a stretch of time."""

    id: int
    time_ms: int
    end_ms: int
    """Where the stretch ends; `time_ms` for a moment."""
    text: str
    tags: tuple[str, ...]
    user: str
    """A pattern: the hosts that it is about."""
    created_ms: int


class ListPosition(NamedTuple):
    """A place in the order of all annotations."""

    time_ms: int
    id: int


class AnnotationFilter(NamedTuple):
    """Which annotations are asked for; all conditions hold."""

    start_ms: int | None = None
    end_ms: int | None = None
    """Those that touch [start, end)."""
    tags: tuple[str, ...] = ()
    """Those that have all of these tags."""
    user: str | None = None
    """Those about this host."""


class Annotations:
    """Reads and writes; each change is in the audit trail, in the same transaction."""

    def __init__(self, control: ControlDatabase, audit: Audit) -> None:
        self._control = control
        self._audit = audit
        control.migrate("annotations", _STEPS)
        control.shared.append(SharedRecords("annotations_annotation", "id", lambda numbers: None))

    def add(self, time_ms: int, end_ms: int, text: str, tags: Sequence[str], user: str, actor: Actor) -> Annotation:
        """Keep one; where there are more than `KEPT`, the oldest goes."""
        return self._control.attempt(lambda: self._add(time_ms, end_ms, text, tags, user, actor))

    def _add(self, time_ms: int, end_ms: int, text: str, tags: Sequence[str], user: str, actor: Actor) -> Annotation:
        created_ms = times.now_ms()
        with self._control.transaction() as db:
            cursor = db.execute(
                "INSERT INTO annotations_annotation (time_ms, end_ms, text, tags, user, created_ms)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (time_ms, end_ms, text, json.dumps(tags), user, created_ms),
            )
            number = cursor.lastrowid
            assert number is not None
            annotation = Annotation(number, time_ms, end_ms, text, tuple(tags), user, created_ms)
            self._audit.note(db, actor, "annotation", _target(number), after=_document(annotation))
            db.execute(
                "DELETE FROM annotations_annotation WHERE id IN"
                " (SELECT id FROM annotations_annotation ORDER BY time_ms DESC, id DESC LIMIT -1 OFFSET ?)",
                (KEPT,),
            )
        return annotation

    def get(self, number: int) -> Annotation | None:
        """One by its id; None where there is none."""
        rows = self._control.read("SELECT * FROM annotations_annotation WHERE id = ?", (number,))
        return _annotation(rows[0]) if rows else None

    def delete(self, number: int, actor: Actor) -> bool:
        """Forget one; False where there is none."""
        return self._control.attempt(lambda: self._delete(number, actor))

    def _delete(self, number: int, actor: Actor) -> bool:
        with self._control.transaction() as db:
            row = db.execute("DELETE FROM annotations_annotation WHERE id = ? RETURNING *", (number,)).fetchone()
            if row is not None:
                self._audit.note(db, actor, "annotation", _target(number), before=_document(_annotation(row)))
            return row is not None

    def drop(self, user: str) -> None:
        """Forget those about this host and no other."""
        if exact_names([user]) is not None:
            with self._control.transaction() as db:
                db.execute("DELETE FROM annotations_annotation WHERE user = ?", (user,))

    def page(
        self, wanted: AnnotationFilter, *, after: ListPosition | None, limit: int, newest_first: bool
    ) -> list[Annotation]:
        """At most `limit` of those wanted, in order of time and id, behind the place `after`."""
        direction, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        rows = self._control.read(
            "SELECT * FROM annotations_annotation"
            " WHERE (:start IS NULL OR end_ms >= :start) AND (:end IS NULL OR time_ms < :end)"
            f" AND (:time IS NULL OR (time_ms, id) {beyond} (:time, :id))"
            f" ORDER BY time_ms {direction}, id {direction} LIMIT :limit",
            {
                "start": wanted.start_ms, "end": wanted.end_ms,
                "time": after.time_ms if after else None, "id": after.id if after else None,
                # Tags and patterns are looked at here: then any number of rows may have to be read.
                "limit": -1 if wanted.tags or wanted.user is not None else limit,
            },
        )  # fmt: skip
        matching = (annotation for annotation in map(_annotation, rows) if _holds(wanted, annotation))
        return [*islice(matching, limit)]


def _holds(wanted: AnnotationFilter, annotation: Annotation) -> bool:
    if not set(wanted.tags) <= set(annotation.tags):
        return False
    return wanted.user is None or matcher([annotation.user])(wanted.user)


def _annotation(row: tuple[int, int, int, str, str, str, int]) -> Annotation:
    number, time_ms, end_ms, text, tags, user, created_ms = row
    try:
        told = msgspec.json.decode(tags, type=tuple[str, ...])
    except msgspec.DecodeError:  # of a file that is damaged; what is said is whole
        told = ()
    return Annotation(number, time_ms, end_ms, text, told, user, created_ms)


def _target(number: int) -> str:
    return f"annotation:{number}"


def _document(annotation: Annotation) -> bytes:
    return msgspec.json.encode(annotation._asdict())
