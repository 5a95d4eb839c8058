"""What this machine knows of a database, on its own disk: one SQLite file.

How far the journal was flushed, the users, and what is about to be written but for windows, which the journal has: rows
are noted here before they are written, so that after a crash the very same rows are written again, never others.
"""

import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import zstandard

from service.stores.influx.lines import Lines, lines_of
from service.stores.influx.users import CatalogedUser

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


class Checkpoint:
    """The file at `path`. Raises sqlite3.Error where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)
        self.owner = self._owner()
        """A name of this folder, unlike any other."""

    def _owner(self) -> str:
        row = self._connection.execute("SELECT name FROM owner").fetchone()
        if row is None:
            row = (uuid.uuid4().hex,)
            self._connection.execute("INSERT INTO owner VALUES (?)", row)
        return str(row[0])

    def value(self, name: str) -> int | None:
        """A number of the state, such as `flushed`, the journal offset through which InfluxDB has everything."""
        row = self._connection.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
        return None if row is None else int(row[0])

    def users(self) -> list[CatalogedUser]:
        """The users that were known when it was last put."""
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
        with self._connection:
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

    def forget(self, user_id: str) -> None:
        """Forget a user."""
        self._connection.execute("DELETE FROM user WHERE id = ?", [user_id])

    def noted(self) -> Iterator[tuple[int, Lines]]:
        """What is noted and not done, oldest first, each with its number."""
        decompress = zstandard.ZstdDecompressor().decompress
        while row := self._connection.execute("SELECT id, lines FROM noted ORDER BY id LIMIT 1").fetchone():
            yield row[0], lines_of([f"{line}\n" for line in decompress(row[1]).decode().split("\n") if line])

    def done(self, number: int) -> None:
        """Forget what was noted: InfluxDB has it."""
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
            for bucket, number in self._connection.execute(text, [tier_ms, *some]):
                found[bucket] = max(number, least) + 1
        return found

    def forget_parts(self, tier_ms: int, before_ms: int) -> None:
        """Forget the numbers of a tier's parts whose buckets start before a time."""
        self._connection.execute("DELETE FROM part WHERE tier = ? AND bucket < ?", [tier_ms, before_ms])

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


_AT_ONCE = 900
