"""What one process of a cluster keeps for all, such as alarms and notifications: tables, by a log of their changes.

The log has the truth, and the control database of each process a copy. A transaction that changes such tables is put
into the log as one entry before it is committed here, and only behind the newest entry that this process knows: so
alarms, alerts, notifications and how far the rules have come change together, or not at all. Who evaluates the rules
begins a term in the log. A process whose term is over can change nothing of what is guarded, however late it wakes up.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import zstandard

from service.control.database import ControlDatabase, ControlError, ControlSuperseded, ReplicatedTable
from service.control.sharing import BucketEntry

_log = logging.getLogger("loadlens.service")
_JOIN_S = 120.0
_CATCH_UP_S = 5.0
_PIECE_BYTES = 500_000
"""Of rows in an entry: JetStream takes messages of 1 MB."""
_ENTRIES, _BYTES = 1000, 64 << 20
"""After so many entries, or bytes of them, they are summed up."""
_STEPS = [
    """
    CREATE TABLE replicated (
        one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL, sequence INTEGER NOT NULL,
        term INTEGER NOT NULL
    ) STRICT;
    """
]
_NOTES = "CREATE TEMP TABLE replicated_change (place TEXT NOT NULL, first ANY NOT NULL, second ANY) STRICT"
_Row = dict[str, Any]


class ChangeLog(Protocol):
    """Entries that all processes see in one order."""

    @property
    def identity(self) -> str:
        """Another one where the log was made anew, and sequences begin again."""

    def put(self, payload: bytes, after: int) -> int:
        """Put an entry where the newest is at sequence `after`, 0 for none; its sequence.

        Raises ControlOutdated where it is not, and ControlError where the log cannot be reached: the entry may be there
        then.
        """

    def newest(self) -> int:
        """The sequence of the newest entry. Raises ControlError."""

    def forget(self, before: int) -> None:
        """Forget the entries before a sequence."""

    def follow(self, take: Callable[[Sequence[BucketEntry]], None], anew: Callable[[], None], after: int = 0) -> None:
        """Have `take` called in a thread with the entries behind a sequence, as they come.

        `anew` is called there too, before they come again from the first on, with other sequences.
        """

    def close(self) -> None:
        """Stop following the log."""


class _Piece(msgspec.Struct, omit_defaults=True):
    """Part of a step, all of which counts, or nothing."""

    term: int
    begins: bool = False
    """Whether a step begins with it: what was left of one before that was cut short does not count."""
    goes_on: bool = False
    """Whether the next piece belongs to the same step."""
    afresh: bool = False
    """Whether the step has all there is."""
    rows: dict[str, list[_Row]] = {}
    """By table, rows as they are now."""
    gone: dict[str, list[list[Any]]] = {}
    """By table, the keys of rows that are gone."""


class _Place(NamedTuple):
    """Up to where the tables have what the log has."""

    sequence: int
    term: int


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(_Piece)


class Replication:
    """Keeps the replicated tables of a control database as the log has them."""

    def __init__(self, control: ControlDatabase, log: ChangeLog) -> None:
        """Take up what the log has, or begin it with what is here, and replicate from now on. Raises ControlError."""
        self._control = control
        self._log = log
        self._tables = {one.table: one for one in control.replicated}
        self._columns = {table: _columns(control, table) for table in self._tables}
        self._taken = threading.Condition()
        self._step: list[_Piece] = []
        self._term: int | None = None
        self._entries = self._bytes = 0
        """Since they were summed up last, as far as this process knows."""
        control.migrate("control.replication", _STEPS)
        self._known = self._prepare()
        """The newest entry of the log that this process has seen."""
        log.follow(self._take, self._begin_anew, self._known)
        try:
            self._wait_for(log.newest(), _JOIN_S)
            control.sharers.append(self)
            control.attempt(self._begin_log)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop following the log."""
        self._log.close()
        if self in self._control.sharers:
            self._control.sharers.remove(self)

    def take_over(self) -> None:
        """Begin a term: from now on this process alone writes what is guarded. Raises ControlError."""
        self._term = self._control.attempt(self._begin_term)

    def catch_up(self) -> None:
        """Return when all that others have changed so far is in the tables. Raises ControlError."""
        self._wait_for(self._log.newest(), _CATCH_UP_S)

    def _wait_for(self, sequence: int, timeout_s: float) -> None:
        with self._taken:
            if not self._taken.wait_for(lambda: self._known >= sequence, timeout_s):
                raise ControlError("what the process that evaluates the rules has changed is not known here yet")

    # What this process changes

    def publish(self, db: sqlite3.Connection) -> None:
        """Put what the transaction under way has changed into the log. Raises as `ControlDatabase.transaction`."""
        changed = [table for (table,) in db.execute("SELECT DISTINCT place FROM replicated_change")]
        if not changed:
            return
        term = _place(db).term
        if term != self._term and any(self._tables[table].guarded for table in changed):
            raise ControlSuperseded("another process evaluates the rules now")
        rows = ((table, row) for table in changed for row in self._changed(db, self._tables[table]))
        gone = {table: self._gone(db, self._tables[table]) for table in changed}
        self._put(db, [*_pieces(_Piece(term, gone={table: keys for table, keys in gone.items() if keys}), rows)])
        if self._entries > _ENTRIES or self._bytes > _BYTES:
            self._sum_up(db, term)
        _forget_notes(db)

    def _begin_log(self) -> None:
        with self._control.transaction(published=False) as db:
            if not self._known:
                self._sum_up(db, _place(db).term)

    def _begin_term(self) -> int:
        with self._control.transaction(published=False) as db:
            # Whoever was first meanwhile is known when it is done again.
            term = _place(db).term + 1
            self._put(db, [_Piece(term)])
        return term

    def _sum_up(self, db: sqlite3.Connection, term: int) -> None:
        """Put all there is into the log, and forget what was before."""
        before = self._known
        rows = ((table, row) for table, one in self._tables.items() for row in self._rows(db, one))
        self._put(db, [*_pieces(_Piece(term, afresh=True), rows)])
        self._entries = self._bytes = 0
        if before:
            self._log.forget(before + 1)

    def _put(self, db: sqlite3.Connection, pieces: Sequence[_Piece]) -> None:
        compress = zstandard.ZstdCompressor(level=1).compress
        for number, piece in enumerate(pieces):
            piece.begins, piece.goes_on = number == 0, number < len(pieces) - 1
            payload = compress(_ENCODE(piece))
            self._known = self._log.put(payload, self._known)
            self._count(payload)
        _note(db, _Place(self._known, pieces[-1].term))

    def _count(self, payload: bytes) -> None:
        self._entries += 1
        self._bytes += len(payload)

    def _rows(self, db: sqlite3.Connection, table: ReplicatedTable, where: str = "") -> Iterator[_Row]:
        names = self._columns[table.table]
        for row in db.execute(f"SELECT {', '.join(names)} FROM {table.table} {where} ORDER BY {table.order}"):
            yield dict(zip(names, row, strict=True))

    def _changed(self, db: sqlite3.Connection, table: ReplicatedTable) -> Iterator[_Row]:
        noted = f"SELECT {_noted(table)} FROM replicated_change WHERE place = '{table.table}'"
        return self._rows(db, table, f"WHERE ({', '.join(table.key)}) IN ({noted})")

    def _gone(self, db: sqlite3.Connection, table: ReplicatedTable) -> list[list[Any]]:
        same = " AND ".join(f"{key} = {noted}" for key, noted in zip(table.key, ("first", "second"), strict=False))
        found = db.execute(
            f"SELECT DISTINCT {_noted(table)} FROM replicated_change WHERE place = '{table.table}'"
            f" AND NOT EXISTS (SELECT 1 FROM {table.table} WHERE {same})"
        )
        return [list(row) for row in found]

    # What another process changes

    def _take(self, entries: Sequence[BucketEntry]) -> None:
        """Write what the log has into the tables."""
        with self._control.alone():
            if not self._has(entries[-1].revision):
                self._write(entries)
            self._known = max(self._known, entries[-1].revision)
        with self._taken:
            self._taken.notify_all()

    def _begin_anew(self) -> None:
        """Take that the tables have nothing of the log: its first entry has all there was before."""
        with self._control.alone(), self._control.transaction(published=False) as db:
            _note(db, _Place(0, _place(db).term))
            self._step = []
            self._known = 0

    def _has(self, sequence: int) -> bool:
        """Whether the tables have what the log has up to a sequence; so they have what this process has put there."""
        ((taken,),) = self._control.read("SELECT sequence FROM replicated")
        return bool(taken >= sequence)

    def _write(self, entries: Sequence[BucketEntry]) -> None:
        step = [*self._step]
        with self._control.transaction(published=False) as db:
            place = _place(db)
            for entry in entries:
                if entry.revision <= place.sequence:
                    # This process has put it there.
                    continue
                self._count(entry.value)
                piece = _DECODER.decode(zstandard.ZstdDecompressor().decompress(entry.value))
                step = [piece] if piece.begins else [*step, piece]
                if not piece.goes_on:
                    self._apply(db, step)
                    place = _Place(entry.revision, piece.term)
                    step = []
            _note(db, place)
            _forget_notes(db)
        self._step = step

    def _apply(self, db: sqlite3.Connection, step: Sequence[_Piece]) -> None:
        if step[0].afresh:
            self._entries = self._bytes = 0
            for table in self._tables:
                db.execute(f"DELETE FROM {table}")
        for piece in step:
            for table, keys in piece.gone.items():
                if table in self._tables:
                    same = " AND ".join(f"{key} = ?" for key in self._tables[table].key)
                    db.executemany(f"DELETE FROM {table} WHERE {same}", keys)
            for table, rows in piece.rows.items():
                if table in self._tables:
                    self._replace(db, self._tables[table], rows)

    def _replace(self, db: sqlite3.Connection, table: ReplicatedTable, rows: Sequence[_Row]) -> None:
        # A process of another release may have columns that are not here, and the other way round.
        names = [name for name in self._columns[table.table] if name in rows[0]]
        kept = ", ".join(f"{name} = excluded.{name}" for name in names)
        db.executemany(
            f"INSERT INTO {table.table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
            f" ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {kept}",
            ([row[name] for name in names] for row in rows),
        )

    def _prepare(self) -> int:
        """Note from now on which rows are changed; up to where the tables have what the log has."""
        with self._control.transaction(published=False) as db:
            db.execute(_NOTES)
            for one in self._tables.values():
                for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                    key = ", ".join(f"{row}.{name}" for name in one.key)
                    db.execute(
                        f"CREATE TEMP TRIGGER replicated_{one.table}_{event} AFTER {event} ON main.{one.table} BEGIN"
                        f" INSERT INTO replicated_change ({_noted(one)}, place) VALUES ({key}, '{one.table}'); END"
                    )
            found = db.execute("SELECT identity FROM replicated").fetchone()
            if found != (self._log.identity,):
                # What is here gives way to what the log has, if it has anything.
                db.execute("INSERT OR REPLACE INTO replicated VALUES (1, ?, 0, 0)", (self._log.identity,))
            return _place(db).sequence


def _pieces(first: _Piece, rows: Iterator[tuple[str, _Row]]) -> Iterator[_Piece]:
    """The first piece of a step with rows, and as many more as it takes, none of them too large."""
    piece, size = first, 0
    for table, row in rows:
        length = len(_ENCODE(row))
        if size and size + length > _PIECE_BYTES:
            yield piece
            piece, size = _Piece(first.term), 0
        piece.rows.setdefault(table, []).append(row)
        size += length
    yield piece


def _columns(control: ControlDatabase, table: str) -> list[str]:
    return [name for (name,) in control.read("SELECT name FROM pragma_table_info(?)", (table,))]


def _noted(table: ReplicatedTable) -> str:
    """The columns in which a row's key is noted."""
    return ", ".join(("first", "second")[: len(table.key)])


def _place(db: sqlite3.Connection) -> _Place:
    return _Place(*db.execute("SELECT sequence, term FROM replicated").fetchone())


def _note(db: sqlite3.Connection, place: _Place) -> None:
    db.execute("UPDATE replicated SET sequence = ?, term = ?", place)


def _forget_notes(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM replicated_change")
