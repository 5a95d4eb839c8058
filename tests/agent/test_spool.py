"""The spool: what waits is on disk, bounded, in order, and survives what happens to the file."""

import contextlib
import logging
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agent.spool
from agent.clock import ServiceTime, steady_s
from agent.mistimed import Mistimed
from agent.spool import IN_MEMORY, Spool
from agent.spool_file import SpooledReport, SpoolInUse
from contract.times import DAY_MS, DAY_S

MIB = 1024 * 1024
T = 1_800_000_000_000


def opened(directory: Path, max_bytes: int = 64 * MIB, max_age_s: float = DAY_S) -> Spool:
    return Spool(directory, max_bytes, max_age_s)


def bodies(spool: Spool, max_count: int = 10_000, max_bytes: int = 10**9) -> list[bytes]:
    return [entry.body for entry in spool.peek(max_count, max_bytes)]


def test_reports_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = opened(tmp_path / "new" / "directory")
    for number in range(5):
        spool.put(b"%d" % number, T + number)
    spool.close()
    again = opened(tmp_path / "new" / "directory")
    assert bodies(again) == [b"0", b"1", b"2", b"3", b"4"]
    assert again.waiting == 5
    assert again.given_out() == [T, T + 1, T + 2, T + 3, T + 4]
    again.close()


def test_what_is_done_does_not_come_back_but_its_end_is_remembered(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(5):
        spool.put(b"%d" % number, T + number)
    spool.done(spool.peek(3, MIB))
    assert (spool.waiting, bodies(spool)) == (2, [b"3", b"4"])
    spool.close()
    again = opened(tmp_path)
    assert (again.waiting, bodies(again)) == (2, [b"3", b"4"])
    assert len(again.given_out()) == 5
    again.close()


def test_a_look_is_bounded_by_count_and_bytes_but_never_empty(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for _ in range(5):
        spool.put(b"x" * 100, T)
    assert len(spool.peek(2, MIB)) == 2
    assert len(spool.peek(10, 350)) == 3
    assert len(spool.peek(10, 1)) == 1
    spool.close()


def test_the_oldest_are_dropped_for_room_and_the_count_survives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = opened(tmp_path, max_bytes=1000)
    for number in range(14):
        spool.put(b"%03d" % number + b"x" * 97, T + number)
    assert (spool.waiting, spool.dropped) == (10, 4)
    assert bodies(spool)[0].startswith(b"004")
    assert "reports dropped: 1, as the spool is full" in caplog.text
    spool.close()
    again = opened(tmp_path, max_bytes=1000)
    assert (again.waiting, again.dropped) == (10, 4)
    again.close()


def test_reports_that_are_too_old_are_dropped(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_age_s=60.0)
    for number in range(10):
        spool.put(b"x", T, 1000.0 + number * 10)
    assert (spool.waiting, spool.dropped) == (7, 3)
    spool.put(b"y", T, 1000.0 + DAY_S)
    assert (bodies(spool), spool.dropped) == ([b"y"], 10)
    spool.close()


def test_a_wall_clock_that_is_wrong_drops_nothing(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_age_s=60.0)
    for number, days in enumerate((0, 14, 400, 0, -14, 0)):
        spool.put(b"x", T + days * DAY_MS, 1000.0 + number)
    assert (spool.waiting, spool.dropped) == (6, 0)
    spool.close()
    again = opened(tmp_path, max_age_s=60.0)
    assert (again.waiting, again.dropped) == (6, 0)
    again.close()


def test_while_the_host_is_off_reports_do_not_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(agent.spool, "steady_s", lambda: now)
    for boot in range(3):
        monkeypatch.setattr(agent.spool, "boot_id", lambda: f"boot {boot}")  # noqa: B023
        for _run in range(2):
            spool = opened(tmp_path, max_age_s=60.0)
            for _ in range(5):
                now += 1.0
                spool.put(b"x", T)
            spool.close()
        now = 10.0 if boot == 1 else now + 1_000_000.0 * (boot == 0)
    spool = opened(tmp_path, max_age_s=60.0)
    assert (spool.waiting, spool.dropped) == (30, 0)
    now += 50.0
    spool.put(b"y", T)
    assert (spool.waiting, spool.dropped) == (11, 20)
    spool.close()


def test_times_are_settled_once_and_over_restarts(tmp_path: Path) -> None:
    now = steady_s()
    spool = opened(tmp_path)
    spool.put(b"placed", T, now + 100)
    spool.put(b"not placed", T, now + 101, is_placed=False)
    asked = []

    def placed(entry: SpooledReport, ended_at: float | None) -> SpooledReport:
        asked.append((entry.body, ended_at))
        return entry._replace(body=b"settled now", end_ms=T + 5)

    spool.close()
    for _ in range(2):
        again = opened(tmp_path)
        entries = again.place(again.peek(10, MIB), placed)
        assert [(entry.body, entry.end_ms) for entry in entries] == [(b"placed", T), (b"settled now", T + 5)]
        assert again.place(again.peek(10, MIB), placed) == entries
        assert again.given_out() == [T, T + 5]
        again.close()
    assert asked == [(b"not placed", pytest.approx(now + 101, abs=0.01))]


def test_the_spool_of_an_older_agent_is_taken_over(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as db:
        db.executescript("""
            CREATE TABLE report (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL, body BLOB NOT NULL);
            CREATE TABLE given_out (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL);
            CREATE TABLE tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
            INSERT INTO tally VALUES ('dropped', 2);
            INSERT INTO report VALUES (7, 1000, CAST('old' AS BLOB));
            INSERT INTO given_out VALUES (7, 1000);
            PRAGMA user_version = 1;
        """)
    spool = opened(tmp_path)
    spool.put(b"new", T)
    assert (bodies(spool), spool.dropped) == ([b"old", b"new"], 2)
    assert spool.place(spool.peek(1, MIB), lambda entry, ended_at: entry._replace(body=b"moved"))[0].body == b"old"
    spool.close()


def test_a_report_dropped_while_it_is_sent_is_counted_once(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=300)
    for number in range(3):
        spool.put(b"%d" % number + b"x" * 99, T)
    under_way = spool.peek(2, MIB)
    spool.put(b"3" + b"x" * 99, T)
    spool.done(under_way)
    assert [body[:1] for body in bodies(spool)] == [b"2", b"3"]
    assert spool.waiting == 2
    spool.close()


def test_a_second_user_is_refused_as_long_as_the_first_is_there(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    with pytest.raises(SpoolInUse, match="--spool-dir"):
        opened(tmp_path)
    spool.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("content", [b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8176, b"no database " * 1000])
def test_a_file_that_is_no_spool_is_put_aside(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool.db").write_bytes(content)
    spool = opened(tmp_path)
    spool.put(b"x", T)
    spool.close()
    again = opened(tmp_path)
    assert bodies(again) == [b"x"]
    again.close()
    assert (tmp_path / "spool.db.damaged").read_bytes() == content
    assert "is damaged" in caplog.text


def test_the_spool_of_a_newer_agent_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path).close()
    db = sqlite3.connect(tmp_path / "spool.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    opened(tmp_path).close()
    assert "its format is version 99; this agent knows version 2" in caplog.text
    assert (tmp_path / "spool.db.damaged").exists()


def test_a_spool_that_is_damaged_while_in_use_is_put_aside_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(1000):
        spool.put(b"x" * 2000, T + number)
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 1_500_000)
    spool.peek(10_000, 10**9)
    # What the write-ahead log still has is sent.
    lost = spool.dropped
    assert 0 < lost <= 1000 - spool.waiting == lost
    spool.put(b"y", T + 2000)
    assert bodies(spool) == [b"x" * 2000] * (1000 - lost) + [b"y"]
    spool.close()
    again = opened(tmp_path)
    assert (again.waiting, again.dropped) == (1001 - lost, lost)
    again.close()


def test_without_a_disk_a_bounded_number_waits_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    spool = opened(tmp_path / "file")
    for number in range(IN_MEMORY + 5):
        spool.put(b"%d" % number, T + number)
    assert (spool.waiting, spool.dropped) == (IN_MEMORY, 5)
    assert bodies(spool)[0] == b"5"
    spool.done(spool.peek(10, MIB))
    assert bodies(spool)[0] == b"15"
    spool.put(b"last", T)
    assert (spool.waiting, spool.dropped) == (IN_MEMORY - 9, 5)
    assert caplog.records[0].levelno == logging.WARNING
    spool.close()


def test_a_backlog_gives_its_disk_space_back(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    for number in range(500):
        spool.put(b"x" * 10_000, T + number)
    spool.done(spool.peek(500, 10**9))
    spool.put(b"y", T + 500)
    spool.done(spool.peek(1, MIB))
    spool.put(b"z", T + 501)
    spool.done(spool.peek(1, MIB))
    spool.close()
    assert (tmp_path / "spool.db").stat().st_size < 1_500_000


STEPS = st.one_of(st.just(("put", 0)), st.tuples(st.just("done"), st.integers(1, 4)), st.just(("reopen", 0)))


@given(steps=st.lists(STEPS, max_size=40))
def test_it_is_a_queue_whatever_the_order_of_puts_takes_and_restarts(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = opened(directory)
    model: list[bytes] = []
    number = 0
    for step, count in steps:
        if step == "put":
            number += 1
            spool.put(b"%d" % number, T + number)
            model.append(b"%d" % number)
        elif step == "done":
            spool.done(spool.peek(count, MIB))
            del model[:count]
        else:
            spool.close()
            spool = opened(directory)
            assert spool.given_out() == [T + place for place in range(1, number + 1)]
        assert (bodies(spool), spool.waiting) == (model, len(model))
    spool.close()


def test_dropped_reports_are_said_once_with_their_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = opened(tmp_path, max_bytes=MIB)
    for number in range(50):
        spool.put(b"x" * (MIB // 4), T + number)
    assert spool.dropped == 46
    spool.close()
    assert [record.getMessage() for record in caplog.records] == [
        "reports dropped: 1, as the spool is full or they are too old; 1 in all"
    ]


@pytest.mark.parametrize("running", [False, True])
def test_of_a_damaged_spool_what_is_on_other_pages_is_sent(tmp_path: Path, running: bool) -> None:
    """A page of 4 KiB in turn is another, at rest or while the agent runs."""
    whole = tmp_path / "whole"
    spool = Spool(whole, 1 << 30, 1e9)
    for number in range(200):
        spool.put(b'{"n": %d, "x": "%s"}' % (number, b"x" * 500), number)
    spool.close()
    content = (whole / "spool.db").read_bytes()
    most = 0
    for page in range(1, len(content) // 4096):
        folder = tmp_path / f"{page}"
        folder.mkdir()
        (folder / "spool.db").write_bytes(content)
        spool = Spool(folder, 1 << 30, 1e9) if running else None
        with (folder / "spool.db").open("r+b") as file:
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)
        spool = spool or Spool(folder, 1 << 30, 1e9)
        sent = []
        while batch := spool.peek(50, 1 << 20):
            sent += [entry.number for entry in batch]
            spool.done(batch)
        assert sent == sorted(set(sent)) and set(sent) <= {*range(1, 201)}
        spool.put(b"{}", 201)
        assert [entry.number > max(sent, default=0) for entry in spool.peek(2, 1 << 20)] == [True]
        assert spool.waiting == 1
        most += len(sent) > 180
        spool.close()
    assert most > 20


def test_rows_that_are_not_what_was_written_hold_nothing_up(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 30, 1e9)
    for number in range(3):
        spool.put(b'{"n": %d}' % number, number, is_placed=False)
    spool.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as db, db:
        db.execute("UPDATE report SET body = 5, end_ms = 'x' WHERE number = 2")
    spool = Spool(tmp_path, 1 << 30, 1e9)
    batch = Mistimed(spool, ServiceTime()).place(spool.peek(3, 1 << 20))
    assert [(entry.number, entry.body) for entry in batch] == [(1, b'{"n": 0}'), (2, b""), (3, b'{"n": 2}')]
    spool.done(batch)
    assert spool.waiting == 0
    spool.close()
