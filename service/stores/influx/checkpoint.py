"""What this machine knows of a database, on its own disk: one SQLite file.

How far the journal was flushed, the users, and what is about to be written but for windows, which the journal has: rows
are noted here before they are written, so that after a crash the very same rows are written again, never others.
"""

import contextlib
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import zstandard

from service.control.database import seal, seal_fault, unseal
from service.stores.base import StoreError, StoreUnavailable
from service.stores.influx.lines import Lines, lines_of
from service.stores.influx.users import CatalogedUser

CHECKPOINT = "known.sqlite"
_WHAT_TO_DO = (
    "Put it back from a backup of the same time as the journal; or move the whole folder away: the service goes on "
    "from the database then, without the reports that only this journal has. Nothing was changed."
)
_DECODER = msgspec.json.Decoder(CatalogedUser)
_TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS user (id TEXT PRIMARY KEY, known BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owner (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS noted (id INTEGER PRIMARY KEY AUTOINCREMENT, lines BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS part (
    tier INTEGER NOT NULL, bucket INTEGER NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tier, bucket)
) WITHOUT ROWID;
"""


def refuse_without_checkpoint(folder: Path, *, has_reports: bool) -> None:
    """Raise StoreError where a folder has none though its journal has reports: all would be counted again."""
    path = folder / CHECKPOINT
    if has_reports and not (path.exists() and path.stat().st_size):
        raise StoreError(
            f"{path} is missing, but there are reports in {folder / 'journal'}, and it said which of them InfluxDB "
            f"has. {_WHAT_TO_DO}"
        )


class Checkpoint:
    """The file at `path`. Raises StoreError where it cannot be used; its methods StoreUnavailable, and that, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = seal_fault(path)
        """What is wrong with the file by its seal; None where nothing is, or there is none."""
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(_TABLES)
            ((answer,), *_) = self._connection.execute("PRAGMA quick_check(1)").fetchall()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            self.owner = self._owner()
            """A name of this folder, unlike any other."""
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's words may quote what is damaged
            raise self._unusable(error) from None
        unseal(path)

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(f"{self.path} cannot be used: {error}. It says which reports InfluxDB has. {_WHAT_TO_DO}")

    def _owner(self) -> str:
        row = self._connection.execute("SELECT name FROM owner").fetchone()
        if row is None:
            row = (uuid.uuid4().hex,)
            self._connection.execute("INSERT INTO owner VALUES (?)", row)
        return str(row[0])

    def value(self, name: str) -> int | None:
        """A number of the state, such as `flushed`, the journal offset through which InfluxDB has everything."""
        with self._understood():
            row = self._connection.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
            return None if row is None else int(row[0])

    def users(self) -> list[CatalogedUser]:
        """The users that were known when it was last put."""
        with self._understood():
            return [_DECODER.decode(known) for (known,) in self._connection.execute("SELECT known FROM user")]

    def put(
        self,
        values: Mapping[str, int],
        users: Iterable[CatalogedUser] = (),
        noted: Iterable[Lines] = (),
        parts: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """Keep numbers, users, rows to be written, and the numbers of parts (by tier and bucket), all or nothing.

        They are on disk when it returns.
        """
        compress = zstandard.ZstdCompressor(level=1).compress
        with self._written(), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("REPLACE INTO state VALUES (?, ?)", values.items())
            self._connection.executemany(
                "REPLACE INTO user VALUES (?, ?)", ((user.user_id, msgspec.json.encode(user)) for user in users)
            )
            self._connection.executemany(
                "INSERT INTO noted (lines) VALUES (?)",
                ((compress("".join(lines.text.to_pylist()).encode()),) for lines in noted),
            )
            self._connection.executemany("REPLACE INTO part VALUES (?, ?, ?)", parts)

    def begin(self, offset: int, noted: Iterable[Lines], batch: Callable[[], bytes]) -> None:
        """Keep that a flush begins, through a journal offset, which says of which windows it is."""
        self.put({"begun": offset}, (), noted)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise StoreError where what the block reads is not what was written: a changed bit may make it anything."""
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.DecodeError, zstandard.ZstdError, ValueError, TypeError) as error:
            raise self._unusable(error) from None

    @contextlib.contextmanager
    def _written(self) -> Iterator[None]:
        """Raise StoreUnavailable where the block cannot write, as on a full disk: it is tried again."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"{self.path} cannot be written: {error}") from None

    def forget(self, user_id: str) -> None:
        """Delete what is known of a user."""
        with self._written():
            self._connection.execute("DELETE FROM user WHERE id = ?", [user_id])

    def noted(self) -> Iterator[tuple[int, Lines]]:
        """What is noted and not done, oldest first, each with its number."""
        decompress = zstandard.ZstdDecompressor().decompress
        while row := self._connection.execute("SELECT id, lines FROM noted ORDER BY id LIMIT 1").fetchone():
            with self._understood():
                lines = decompress(row[1]).decode().split("\n")
            yield row[0], lines_of([f"{line}\n" for line in lines if line])

    def done(self, number: int) -> None:
        """Forget what was noted: InfluxDB has it."""
        with self._written():
            self._connection.execute("DELETE FROM noted WHERE id = ?", [number])

    @property
    def has_noted(self) -> bool:
        """Whether anything noted is not done."""
        return self._connection.execute("SELECT 1 FROM noted LIMIT 1").fetchone() is not None

    def forget_noted(self) -> None:
        """Write nothing of what was noted."""
        self._connection.execute("DELETE FROM noted")

    def next_parts(self, tier_ms: int, buckets: Sequence[int]) -> dict[int, int]:
        """The number of the next part of each of a tier's buckets, by their start."""
        least = self.value("base") or 0
        found = dict.fromkeys(buckets, least + 1)
        for start in range(0, len(buckets), _AT_ONCE):
            some = buckets[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            text = f"SELECT bucket, number FROM part WHERE tier = ? AND bucket IN ({marks})"
            with self._understood():
                for bucket, number in self._connection.execute(text, [tier_ms, *some]):
                    found[bucket] = max(number, least) + 1
        return found

    def forget_parts(self, tier_ms: int, before_ms: int) -> None:
        """Forget the numbers of a tier's parts whose buckets start before a time."""
        self._connection.execute("DELETE FROM part WHERE tier = ? AND bucket < ?", [tier_ms, before_ms])

    def close(self) -> None:
        """Let go of the file, and seal it."""
        self._connection.close()
        with contextlib.suppress(OSError):
            seal(self.path)


_AT_ONCE = 900
