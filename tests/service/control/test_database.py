"""The control database: what is committed stays, in any thread, over crashes and versions."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.control.database import ControlDatabase, ControlError, ControlFull
from tests.support.running import ROOT, clean_environment

STEPS = [
    "CREATE TABLE room_thing (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;",
    "ALTER TABLE room_thing ADD COLUMN note TEXT NOT NULL DEFAULT '';\nCREATE INDEX room_by_note ON room_thing (note);",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "control.db"


@pytest.fixture
def control(path: Path) -> Iterator[ControlDatabase]:
    control = ControlDatabase(path)
    control.migrate("room", STEPS[:1])
    yield control
    control.close()


def test_what_was_committed_is_there_at_the_next_opening(control: ControlDatabase, path: Path) -> None:
    with control.transaction() as db:
        db.execute("INSERT INTO room_thing VALUES ('a', 1)")
    control.close()
    again = ControlDatabase(path)
    again.migrate("room", STEPS[:1])
    assert again.read("SELECT name, value FROM room_thing") == [("a", 1)]
    again.close()


def test_a_transaction_that_fails_leaves_nothing(control: ControlDatabase) -> None:
    def fail() -> None:
        with control.transaction() as db:
            db.execute("INSERT INTO room_thing VALUES ('a', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert control.read("SELECT * FROM room_thing") == []
    with control.transaction() as db:
        db.execute("INSERT INTO room_thing VALUES ('b', 2)")
    assert control.read("SELECT name FROM room_thing") == [("b",)]


def test_a_transaction_inside_another_belongs_to_it(control: ControlDatabase) -> None:
    def fail() -> None:
        with control.transaction():
            with control.transaction() as db:
                db.execute("INSERT INTO room_thing VALUES ('a', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert control.read("SELECT * FROM room_thing") == []


def test_newer_steps_are_added_to_what_is_there_and_rooms_do_not_know_each_other(
    control: ControlDatabase, path: Path
) -> None:
    with control.transaction() as db:
        db.execute("INSERT INTO room_thing VALUES ('a', 1)")
    control.migrate("another", ["CREATE TABLE another_thing (name TEXT) STRICT;"])
    control.close()
    again = ControlDatabase(path)
    again.migrate("room", STEPS)
    again.migrate("room", STEPS)
    assert again.read("SELECT * FROM room_thing") == [("a", 1, "")]
    assert again.read("SELECT * FROM control_schema ORDER BY room") == [("another", 1), ("room", 2)]
    again.close()


def test_a_step_that_fails_changes_nothing(control: ControlDatabase) -> None:
    with pytest.raises(ControlError):
        control.migrate("room", [STEPS[0], "CREATE TABLE room_new (name TEXT); INSERT INTO nosuch VALUES (1);"])
    assert control.read("SELECT version FROM control_schema WHERE room = 'room'") == [(1,)]
    control.migrate("room", STEPS)


def test_a_file_of_a_newer_version_is_not_touched(control: ControlDatabase, path: Path) -> None:
    control.migrate("room", STEPS)
    with pytest.raises(ControlError, match="newer"):
        control.migrate("room", STEPS[:1])
    control.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ControlError, match="newer"):
        ControlDatabase(path)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, by far" * 500)
    with pytest.raises(ControlError, match=r"control\.db"):
        ControlDatabase(path)


def test_a_bit_that_flipped_while_it_was_closed_is_told(path: Path) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    control = ControlDatabase(path)
    assert re.search(r"control\.db: its checksum is not that of when it was closed", control.problem or "")
    control.close()


def test_pages_that_are_overwritten_while_it_is_open_are_told_for_good(path: Path) -> None:
    filled(path)
    control = ControlDatabase(path)
    assert control.problem is None
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * (path.stat().st_size // 4))
    with pytest.raises(ControlError, match="cannot be read"):
        control.read("SELECT sum(length(body)) FROM room_blob")
    with pytest.raises(ControlError, match="cannot be read"), control.transaction() as db:
        db.execute("DELETE FROM room_blob")
    with control.transaction() as db:
        db.execute("CREATE TABLE room_other (name TEXT) STRICT")
    assert re.search(r"control\.db: .*malformed; put back a copy", control.problem or "")
    control.close()


def filled(path: Path) -> None:
    """A database of some hundred pages, closed."""
    control = ControlDatabase(path)
    control.migrate("room", ["CREATE TABLE room_blob (body BLOB NOT NULL) STRICT;"])
    with control.transaction() as db:
        db.executemany("INSERT INTO room_blob VALUES (?)", [(bytes([number]) * 1000,) for number in range(250)] * 4)
    control.close()


def test_it_does_not_grow_beyond_its_limit_and_goes_on_when_there_is_room(path: Path) -> None:
    control = ControlDatabase(path, limit_bytes=256 * 1024)
    control.migrate("room", ["CREATE TABLE room_blob (body BLOB NOT NULL) STRICT;"])

    def fill() -> None:
        for _ in range(100):
            with control.transaction() as db:
                db.execute("INSERT INTO room_blob VALUES (?)", (os.urandom(10_000),))

    with pytest.raises(ControlFull):
        fill()
    assert "takes no more" in (control.problem or "")
    kept = control.read("SELECT count(*) FROM room_blob")[0][0]
    assert 0 < kept < 30
    assert 0 < control.size <= 256 * 1024
    with control.transaction() as db:
        db.execute("DELETE FROM room_blob")
    assert control.problem is None
    with control.transaction() as db:
        db.execute("INSERT INTO room_blob VALUES (?)", (os.urandom(10_000),))
    control.close()


def test_readers_are_not_held_up_by_a_transaction_under_way(control: ControlDatabase) -> None:
    with control.transaction() as db:
        db.execute("INSERT INTO room_thing VALUES ('a', 1)")
        seen: list[object] = []
        reader = threading.Thread(target=lambda: seen.append(control.read("SELECT * FROM room_thing")))
        reader.start()
        reader.join(60.0)
        assert seen == [[]]


def test_threads_take_turns(control: ControlDatabase) -> None:
    def add() -> None:
        for _ in range(20):
            with control.transaction() as db:
                db.execute("INSERT INTO room_thing VALUES ('a', 1) ON CONFLICT DO UPDATE SET value = value + 1")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert control.read("SELECT value FROM room_thing") == [(80,)]


def test_a_process_that_is_killed_loses_nothing_that_was_committed(control: ControlDatabase, path: Path) -> None:
    control.close()
    script = f"""
import os, pathlib
from service.control.database import ControlDatabase
control = ControlDatabase(pathlib.Path({str(path)!r}))
for value in range(20):
    with control.transaction() as db:
        db.execute("INSERT INTO room_thing VALUES (?, ?)", (str(value), value))
with control.transaction() as db:
    db.execute("INSERT INTO room_thing VALUES ('half', 0)")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 9
    again = ControlDatabase(path)
    assert again.read("SELECT count(*), max(value) FROM room_thing") == [(20, 19)]
    again.close()


@pytest.mark.server
def test_a_service_whose_control_database_is_damaged_says_what_to_do(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database, by far" * 500)
    ended = subprocess.run(
        [sys.executable, "-m", "service", "--port", "0", "--data-dir", str(path.parent)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "put it aside" in ended.stderr and "Traceback" not in ended.stderr
