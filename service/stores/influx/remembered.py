"""What the store knows on this machine, so that it can go on while InfluxDB is away: one SQLite file.

The windows are in InfluxDB, and so is what is known of users; only the journal's offset has no place there, because the
journal is on this machine. The copy of the users here tells new reports from known ones when InfluxDB is away.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

__all__ = ["KnownUser", "Remembered"]


class KnownUser(Struct):
    """What is known of a machine."""

    user_id: str
    os_type: str
    os_version: str
    cores: int
    core_numbers: list[int]
    """Every core that was ever reported."""
    first_seen: int
    last_seen: int
    newest: dict[str, int]
    """The end of the newest window of each metric type, by its name in JSON, epoch ms."""

    def merged(self, other: "KnownUser") -> "KnownUser":
        """What both know."""
        later = self if self.last_seen >= other.last_seen else other
        types = self.newest.keys() | other.newest.keys()
        return KnownUser(
            self.user_id, later.os_type, later.os_version, later.cores,
            sorted({*self.core_numbers, *other.core_numbers}),
            min(self.first_seen, other.first_seen),
            max(self.last_seen, other.last_seen),
            {kind: max(self.newest.get(kind, -1), other.newest.get(kind, -1)) for kind in types},
        )  # fmt: skip


_DECODER = msgspec.json.Decoder(KnownUser)
_TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS user (id TEXT PRIMARY KEY, known BLOB NOT NULL) WITHOUT ROWID;
"""


class Remembered:
    """The file at `path`. Raises sqlite3.Error where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_TABLES)

    def value(self, name: str) -> int | None:
        """A number of the state: `flushed`, the journal offset through which InfluxDB has everything, or `since`."""
        row = self._connection.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
        return None if row is None else int(row[0])

    def users(self) -> list[KnownUser]:
        """The users that were known when it was last put."""
        return [_DECODER.decode(known) for (known,) in self._connection.execute("SELECT known FROM user")]

    def put(self, values: dict[str, int], users: Iterable[KnownUser] = ()) -> None:
        """Keep numbers and users, all or nothing; they are on disk when it returns."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("REPLACE INTO state VALUES (?, ?)", values.items())
            self._connection.executemany(
                "REPLACE INTO user VALUES (?, ?)", ((user.user_id, msgspec.json.encode(user)) for user in users)
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
