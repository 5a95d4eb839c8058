"""Schedules: which reports are made by themselves, when, and what came of it, kept in the control database.

The last report that was made is kept with its schedule, compressed. A run that fails is said, and leaves it as it was.
The processes of a cluster have the same schedules and reports. A report is kept in pieces, each a record of its own, as
a message of NATS holds no more than 1 MiB: the new ones are put beside those of the report before, then the schedule
says which to read, then the old ones go.
"""

import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta, Struct

from contract import times
from contract.selectors import MAX_USER_ID
from contract.times import MINUTE_MS
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, RecordKey, SharedRecords

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
MOST: Final = 50
"""Schedules that are kept."""
MAX_BYTES: Final = 8 << 20
"""Of a kept report, compressed: a report of ten thousand hosts is a tenth of it."""
RETRY_MS: Final = 10 * MINUTE_MS
RETRIES: Final = 3
"""A run that fails is tried again so often, so long after; then it waits for its next day."""
_PIECE_BYTES = 256 << 10
_STEPS = [
    """
    CREATE TABLE reporting_schedule (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user TEXT,
        definition TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        next_ms INTEGER NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        ran_ms INTEGER,
        failure TEXT,
        made_ms INTEGER,
        policy TEXT,
        content BLOB
    ) STRICT;
    """,
    f"""
    CREATE TABLE reporting_piece (
        id TEXT PRIMARY KEY,
        schedule INTEGER NOT NULL,
        side INTEGER NOT NULL,
        part INTEGER NOT NULL,
        content BLOB NOT NULL
    ) STRICT;
    CREATE INDEX reporting_piece_by_schedule ON reporting_piece (schedule, side, part);
    ALTER TABLE reporting_schedule ADD COLUMN side INTEGER;
    WITH RECURSIVE piece (schedule, part) AS (
        SELECT id, 0 FROM reporting_schedule WHERE content IS NOT NULL
        UNION ALL
        SELECT schedule, part + 1 FROM piece
        WHERE (part + 1) * {_PIECE_BYTES} < (SELECT length(content) FROM reporting_schedule WHERE id = schedule)
    )
    INSERT INTO reporting_piece
    SELECT schedule || '.0.' || part, schedule, 0, part,
        (SELECT substr(content, part * {_PIECE_BYTES} + 1, {_PIECE_BYTES}) FROM reporting_schedule WHERE id = schedule)
    FROM piece;
    UPDATE reporting_schedule SET side = 0 WHERE content IS NOT NULL;
    ALTER TABLE reporting_schedule DROP COLUMN content;
    """,
]
_COLUMNS = "id, definition, created_ms, next_ms, tries, ran_ms, failure, made_ms"


class TooManySchedules(Exception):
    """As many schedules are kept as may be."""


class Timing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which report is made, on which days of the week, at what time of a place."""

    user: Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)] | None = None
    """The host that it is on; None for the fleet."""
    last: Annotated[str, Meta(extra_json_schema={"examples": ["7d"]})] = "7d"
    """The length of its range, which ends when it is made."""
    target: Annotated[float, Meta(gt=0, le=1)] = 0.8
    """The utilization that sizes aim at."""
    days: Annotated[tuple[Day, ...], Meta(min_length=1, max_length=7)] = DAYS
    at: Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", max_length=5)] = "06:00"
    tz: str = "UTC"
    """The place whose clock `at` is of: a zone of the IANA database."""

    def next_after(self, now_ms: int) -> int:
        """The first moment behind `now_ms` (epoch milliseconds) at which the report is due."""
        zone, at = ZoneInfo(self.tz), time.fromisoformat(self.at)
        today = datetime.fromtimestamp(now_ms / 1000, zone).date()
        # What is due today may be over, and its day comes again in a week.
        moments = (_moment(today + timedelta(days=ahead), at, zone) for ahead in range(9) if self._is_due(today, ahead))
        return next(moment for moment in moments if moment > now_ms)

    def _is_due(self, today: date, ahead: int) -> bool:
        return DAYS[(today + timedelta(days=ahead)).weekday()] in self.days


def _moment(day: date, at: time, zone: ZoneInfo) -> int:
    """Where a clock is put forward over `at`, as long after midnight as it would have been."""
    return int(datetime.combine(day, at, zone).astimezone(UTC).timestamp()) * 1000


class Schedule(NamedTuple):
    """A schedule, and what came of it so far."""

    id: int
    timing: Timing
    created_ms: int
    next_ms: int
    """When it is made next; in the past while that is being done."""
    tries: int
    """Runs since it was due that have failed."""
    ran_ms: int | None
    """When the last run ended; None before the first."""
    failure: str | None
    """Why the last run made no report; None where it did."""
    made_ms: int | None
    """When the report that is kept was made; None where there is none."""


class KeptReport(NamedTuple):
    """The last report that a schedule has made."""

    content: bytes
    policy: str
    """Its Content-Security-Policy."""


class Schedules:
    """Reads and writes; what people change is in the audit trail, in the same transaction. Used in any thread."""

    def __init__(self, control: ControlDatabase, audit: Audit) -> None:
        self._control = control
        self._audit = audit
        self.forgotten = 0
        """How often hosts were forgotten: a report that was begun before may still name one."""
        control.migrate("reporting", _STEPS)
        for table in ("reporting_piece", "reporting_schedule"):
            control.shared.append(SharedRecords(table, "id", _heard))

    def add(self, timing: Timing, actor: Actor) -> Schedule:
        """Keep one; raises TooManySchedules."""
        return self._control.attempt(lambda: self._add(timing, actor))

    def _add(self, timing: Timing, actor: Actor) -> Schedule:
        now_ms = times.now_ms()
        with self._control.transaction() as db:
            (count,) = db.execute("SELECT count(*) FROM reporting_schedule").fetchone()
            if count >= MOST:
                raise TooManySchedules(f"There are {count} schedules; no more are kept.")
            definition = msgspec.json.encode(timing)
            row = db.execute(
                "INSERT INTO reporting_schedule (user, definition, created_ms, next_ms) VALUES (?, ?, ?, ?)"
                f" RETURNING {_COLUMNS}",
                (timing.user, definition.decode(), now_ms, timing.next_after(now_ms)),
            ).fetchone()
            schedule = _schedule(row)
            self._audit.note(db, actor, "schedule", _target(schedule.id), after=definition)
        return schedule

    def get(self, number: int) -> Schedule | None:
        """One by its id; None where there is none."""
        rows = self._control.read(f"SELECT {_COLUMNS} FROM reporting_schedule WHERE id = ?", (number,))
        return next(self._understood(rows), None)

    def all(self) -> list[Schedule]:
        """All of them, in the order in which they were made."""
        return [*self._understood(self._control.read(f"SELECT {_COLUMNS} FROM reporting_schedule ORDER BY id"))]

    def _understood(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Schedule]:
        """The schedules of rows; one that cannot be read is left out, and said."""
        for row in rows:
            try:
                yield _schedule(row)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._control.note_wrong("a schedule cannot be read, and is left out")

    def due(self, now_ms: int) -> list[Schedule]:
        """Those whose time has come, the longest due first.

        Where the clock was set back since a schedule's next time was worked out, that is worked out anew.
        """
        query = f"SELECT {_COLUMNS} FROM reporting_schedule WHERE ran_ms > ? OR created_ms > ?"
        for schedule in self._understood(self._control.read(query, (now_ms, now_ms))):
            self._control.attempt(partial(self._set_back, schedule, now_ms))
        query = f"SELECT {_COLUMNS} FROM reporting_schedule WHERE next_ms <= ? ORDER BY next_ms, id"
        return [*self._understood(self._control.read(query, (now_ms,)))]

    def _set_back(self, schedule: Schedule, now_ms: int) -> None:
        next_ms = min(schedule.next_ms, schedule.timing.next_after(now_ms))
        with self._control.transaction() as db:
            db.execute(
                "UPDATE reporting_schedule SET created_ms = min(created_ms, ?), ran_ms = min(ran_ms, ?),"
                " next_ms = ? WHERE id = ?",
                (now_ms, now_ms, next_ms, schedule.id),
            )

    def report(self, number: int) -> KeptReport | None:
        """The last report that a schedule has made; None where there is none."""
        rows = self._control.read(
            "SELECT policy, content FROM reporting_schedule AS schedule JOIN reporting_piece AS piece"
            " ON piece.schedule = schedule.id AND piece.side = schedule.side WHERE schedule.id = ? ORDER BY part",
            (number,),
        )
        if not rows:
            return None
        return KeptReport(zlib.decompress(b"".join(content for _, content in rows)), rows[0][0])

    def delete(self, number: int, actor: Actor) -> bool:
        """Forget one with its report; False where there is none."""
        return self._control.attempt(lambda: self._delete(number, actor))

    def _delete(self, number: int, actor: Actor) -> bool:
        with self._control.transaction() as db:
            row = db.execute("DELETE FROM reporting_schedule WHERE id = ? RETURNING definition", (number,)).fetchone()
            if row is not None:
                self._audit.note(db, actor, "schedule", _target(number), before=row[0].encode())
                db.execute("DELETE FROM reporting_piece WHERE schedule = ?", (number,))
            return row is not None

    def drop(self, user: str) -> None:
        """Forget what is about this host: its schedules, and reports that may name it, which are made anew."""
        self.forgotten += 1
        self._control.attempt(lambda: self._drop(user))

    def _drop(self, user: str) -> None:
        with self._control.transaction() as db:
            db.execute("DELETE FROM reporting_schedule WHERE user = ?", (user,))
            db.execute(
                "UPDATE reporting_schedule SET side = NULL, policy = NULL, made_ms = NULL, next_ms = ?, tries = 0"
                " WHERE side IS NOT NULL",
                (times.now_ms(),),
            )
            db.execute("DELETE FROM reporting_piece")

    def note_made(self, schedule: Schedule, report: KeptReport, forgotten: int) -> None:
        """Keep what a run has made that began when `self.forgotten` was `forgotten`; else it is made again."""
        packed = zlib.compress(report.content, 6)
        if len(packed) > MAX_BYTES:
            failure = f"The report is too large to be kept: {len(packed) >> 20} MB, compressed, of {MAX_BYTES >> 20} MB"
            self.note_failed(schedule, f"{failure}. Choose a shorter range, or one host.", again=False)
            return
        self._control.attempt(lambda: self._note_made(schedule, packed, report.policy, forgotten))

    def _note_made(self, schedule: Schedule, packed: bytes, policy: str, forgotten: int) -> None:
        with self._control.transaction() as db:
            row = db.execute("SELECT side FROM reporting_schedule WHERE id = ?", (schedule.id,)).fetchone()
            # It may have been deleted meanwhile, by another process too.
            if forgotten != self.forgotten or row is None:
                return
            side = 0 if row[0] is None else 1 - row[0]
            db.execute("DELETE FROM reporting_piece WHERE schedule = ? AND side = ?", (schedule.id, side))
            for part, start in enumerate(range(0, len(packed), _PIECE_BYTES)):
                db.execute(
                    "INSERT INTO reporting_piece VALUES (?, ?, ?, ?, ?)",
                    (f"{schedule.id}.{side}.{part}", schedule.id, side, part, packed[start : start + _PIECE_BYTES]),
                )
            now_ms = times.now_ms()
            _end(db, schedule, now_ms, schedule.timing.next_after(now_ms), 0, None)
            db.execute(
                "UPDATE reporting_schedule SET made_ms = ?, policy = ?, side = ? WHERE id = ?",
                (now_ms, policy, side, schedule.id),
            )
            db.execute("DELETE FROM reporting_piece WHERE schedule = ? AND side <> ?", (schedule.id, side))

    def note_failed(self, schedule: Schedule, failure: str, *, again: bool) -> None:
        """Say why a run made no report; `again` where it may help to try once more soon."""
        now_ms = times.now_ms()
        again = again and schedule.tries < RETRIES
        next_ms = now_ms + RETRY_MS if again else schedule.timing.next_after(now_ms)

        def note() -> None:
            with self._control.transaction() as db:
                _end(db, schedule, now_ms, next_ms, schedule.tries + 1 if again else 0, failure)

        self._control.attempt(note)


def _end(
    db: sqlite3.Connection, schedule: Schedule, now_ms: int, next_ms: int, tries: int, failure: str | None
) -> None:
    db.execute(
        "UPDATE reporting_schedule SET ran_ms = ?, next_ms = ?, tries = ?, failure = ? WHERE id = ?",
        (now_ms, next_ms, tries, failure, schedule.id),
    )


def _schedule(row: tuple[Any, ...]) -> Schedule:
    number, definition, *rest = row
    return Schedule(number, msgspec.json.decode(definition, type=Timing), *rest)


def _heard(keys: Collection[RecordKey]) -> None:
    """Nothing: all of it is read from the tables."""


def _target(number: int) -> str:
    return f"schedule:{number}"
