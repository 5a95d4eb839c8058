"""The journal keeps what it was given, in order, whatever happens to the process."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from service.journal.journal import FILE_BYTES, Journal, JournalFull
from tests.service.journal.conftest import LIMIT, files_of
from tests.support.journal_writer import report
from tests.support.running import ROOT


def content(journal: Journal, after: int = 0) -> list[int]:
    """The reports behind an offset; each is a number."""
    return [number for record in journal.read(after) for number in msgspec.json.decode(record.body)]


def test_a_new_journal_is_empty(journal: Journal) -> None:
    assert journal.last == 0
    assert journal.size == 0
    assert content(journal) == []


def test_reports_come_back_in_order_with_their_offsets(journal: Journal) -> None:
    assert journal.append([b"1"]) == 1
    assert journal.append([b"2", b"3", b"4"]) == 4
    assert journal.append([b"5"]) == 5
    assert [(record.last, bytes(record.body)) for record in journal.read(0)] == [
        (1, b"[1]"),
        (4, b"[2,3,4]"),
        (5, b"[5]"),
    ]
    assert journal.last == 5


def test_reading_goes_on_behind_an_offset(journal: Journal) -> None:
    for number in range(1, 251):
        journal.append([b"%d" % number])
    assert content(journal, after=100) == [*range(101, 251)]
    assert content(journal, after=250) == []
    assert content(journal) == [*range(1, 251)]


def test_a_reopened_journal_goes_on(path: Path) -> None:
    for number in range(1, 6):
        journal = Journal(path, LIMIT)
        assert journal.last == number - 1
        assert content(journal) == [*range(1, number)]
        assert journal.append([b"%d" % number]) == number
        journal.close()


def test_pruning_keeps_what_lies_behind(journal: Journal) -> None:
    for number in range(1, 21):
        journal.append([b"%d" % number])
    journal.prune(7)
    assert content(journal, after=7) == [*range(8, 21)]
    assert journal.append([b"21"]) == 21
    journal.prune(0)
    assert content(journal, after=7) == [*range(8, 22)]


def test_offsets_go_on_after_everything_was_pruned(path: Path) -> None:
    """What the store has flushed is counted by the store: it tells the journal where to go on."""
    journal = Journal(path, LIMIT)
    journal.append([b"1", b"2", b"3"])
    journal.close()
    journal = Journal(path, LIMIT)
    journal.prune(3)
    journal.close()
    journal = Journal(path, LIMIT)
    journal.advance_to(3)
    assert journal.append([b"4"]) == 4
    assert content(journal, after=3) == [4]
    journal.advance_to(2)
    assert journal.last == 4
    journal.close()
    journal = Journal(path, LIMIT)
    assert content(journal, after=3) == [4]
    journal.close()


def test_at_its_limit_it_takes_nothing_until_it_is_pruned(path: Path) -> None:
    journal = Journal(path, 10_000)
    half = b'"%s"' % (b"x" * 4900)
    for last in range(2, 20, 2):
        journal.append([half])
        journal.append([half])
        with pytest.raises(JournalFull, match="10000"):
            journal.append([half])
        assert journal.last == last
        assert [record.last for record in journal.read(last - 2)] == [last - 1, last]
        journal.prune(last)
    journal.close()


def test_a_journal_at_its_limit_is_so_after_it_is_reopened(path: Path) -> None:
    half = b'"%s"' % (b"x" * 4900)
    journal = Journal(path, 10_000)
    journal.append([half, half])
    journal.close()
    journal = Journal(path, 10_000)
    with pytest.raises(JournalFull):
        journal.append([half])
    journal.prune(2)
    assert journal.append([half]) == 3
    assert [record.last for record in journal.read(2)] == [3]
    journal.close()


def test_a_report_larger_than_the_limit_is_refused_and_others_are_taken(path: Path) -> None:
    journal = Journal(path, 10_000)
    with pytest.raises(JournalFull):
        journal.append([b'"%s"' % (b"x" * 10_000)])
    assert journal.append([b"1"]) == 1
    assert content(journal) == [1]
    journal.close()


@pytest.fixture
def no_room() -> Iterator[Callable[[bool], None]]:
    """Lets the kernel refuse writes of this process beyond a quarter of a megabyte, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def set_limit(on: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, before[1]) if on else before)

    yield set_limit
    set_limit(False)


def test_without_room_on_the_disk_it_takes_nothing_and_leaves_nothing_behind(
    path: Path, no_room: Callable[[bool], None]
) -> None:
    journal = Journal(path, LIMIT)
    no_room(True)
    for _ in range(3):
        with pytest.raises(OSError, match="too large"):
            journal.append([b"1"])
    assert journal.last == 0
    assert files_of(path) == {}
    no_room(False)
    assert journal.append([b"1"]) == 1
    # The file in use is past its first quarter, so that the next should be made ready.
    journal.append([b'"%s"' % (b"x" * (FILE_BYTES // 2))])
    before = {*files_of(path)}
    no_room(True)
    for _ in range(3):
        with pytest.raises(OSError, match="too large"):
            journal.prepare()
    with pytest.raises(OSError, match="too large"):
        journal.append([b"3"])
    assert {*files_of(path)} == before
    no_room(False)
    assert journal.append([b"3"]) == 3
    assert [record.last for record in journal.read(0)] == [1, 2, 3]
    journal.close()


def test_a_file_made_ready_is_used_next(path: Path) -> None:
    journal = Journal(path, LIMIT)
    body = b'"%s"' % (b"x" * (FILE_BYTES * 2 // 3))
    journal.append([body])
    for _ in range(3):
        journal.prepare()
    ready = {*files_of(path)}
    assert len(ready) == 2
    journal.append([body])
    assert len(files_of(path)) == 2
    assert [record.last for record in journal.read(0)] == [1, 2]
    journal.close()


@pytest.mark.parametrize("size", [1 << 20, 20 << 20])
def test_large_records_come_back_whole(journal: Journal, path: Path, size: int) -> None:
    bodies = [b'"%s"' % (bytes([letter]) * size) for letter in b"abc"]
    for body in bodies:
        journal.append([body])
    journal.close()
    again = Journal(path, LIMIT)
    assert [bytes(record.body) for record in again.read(0)] == [b"[" + body + b"]" for body in bodies]
    again.close()


def test_pruned_space_is_used_again(path: Path) -> None:
    """A hundred megabytes pass through; the disk holds a fraction of them."""
    journal = Journal(path, LIMIT)
    body = b'"%s"' % (b"x" * (1 << 20))
    largest = 0
    for _ in range(100):
        journal.prune(journal.append([body]) - 5)
        largest = max(largest, sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file()))
    journal.close()
    assert largest < 90 << 20


def test_what_a_file_held_in_an_earlier_use_is_not_read_again(path: Path) -> None:
    journal = Journal(path, LIMIT, file_bytes=300)
    for last in range(101, 191):
        # All of one size: what is left of earlier ones lies where the next would be looked for.
        journal.advance_to(last - 1)
        journal.append([b"%d" % last])
        if last % 7 == 0:
            journal.prune(last)
    journal.close()
    again = Journal(path, LIMIT)
    assert content(again, after=189) == [190]
    assert again.last == 190
    records = [record.last for record in again.read(0)]
    assert records == [*range(records[0], 191)]
    again.close()


def test_what_is_pruned_while_another_thread_appends_is_only_what_was_asked(path: Path) -> None:
    journal = Journal(path, LIMIT, file_bytes=1000)

    def prune() -> int:
        pruned = 0
        while journal.last < 2000:
            through = journal.last - 100
            journal.prune(through)
            assert content(journal, after=through)[:1] == [through + 1]
            pruned += 1
        return pruned

    for number in range(1, 200):
        journal.append([b"%d" % number])
    with ThreadPoolExecutor(1) as pool:
        pruning = pool.submit(prune)
        for number in range(200, 2001):
            journal.append([b"%d" % number])
        assert pruning.result() > 3
    assert content(journal, after=1900) == [*range(1901, 2001)]
    journal.close()


@pytest.mark.slow
def test_a_killed_process_loses_nothing_it_had_acknowledged(tmp_path: Path) -> None:
    """Killed five times, each time in the middle of a write; each goes on where the one before ended."""
    path = tmp_path / "journal"
    acknowledged = 0
    for lines in (1, 10, 100, 7, 300):
        command = [sys.executable, "-m", "tests.support.journal_writer", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            process.kill()
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
        journal = Journal(path, LIMIT)
        assert journal.last >= acknowledged
        records = [*journal.read(0)]
        assert b",".join(bytes(record.body)[1:-1] for record in records) == b",".join(
            report(number) for number in range(1, journal.last + 1)
        )
        assert records[-1].last == journal.last
        journal.close()


def test_what_is_pruned_last_can_still_be_read(path: Path) -> None:
    journal = Journal(path, LIMIT, keep_bytes=1000, file_bytes=300)
    for number in range(101, 201):
        journal.advance_to(number - 1)
        journal.append([b"%d" % number])
    journal.prune(200)
    kept = content(journal, after=100)
    assert kept == [*range(kept[0], 201)]
    assert kept[0] == journal.first
    assert 1000 // 21 <= len(kept) < 1300 // 21 + 1
    assert content(journal, after=195) == [*range(196, 201)]
    journal.close()
    again = Journal(path, LIMIT, keep_bytes=1000)
    again.prune(200)
    assert content(again, after=195) == [*range(196, 201)]
    assert again.size == 0
    assert again.append([b"201"]) == 201
    again.close()


def test_what_is_kept_for_readers_does_not_count_for_the_limit(path: Path) -> None:
    journal = Journal(path, 10_000, keep_bytes=1 << 30)
    half = b'"%s"' % (b"x" * 4900)
    for last in range(2, 20, 2):
        journal.append([half])
        journal.append([half])
        with pytest.raises(JournalFull):
            journal.append([half])
        journal.prune(last)
        assert journal.size == 0
        assert journal.kept > 4900 * last
        assert [record.last for record in journal.read(0)] == [*range(1, last + 1)]
    journal.close()


def test_restarts_do_not_fill_the_disk_with_kept_files(path: Path) -> None:
    for number in range(1, 30):
        journal = Journal(path, LIMIT, keep_bytes=1 << 20)
        journal.prune(number - 1)
        assert journal.append([b"%d" % number]) == number
        journal.close()
    assert len(files_of(path)) < 30
    assert content(Journal(path, LIMIT), after=25) == [26, 27, 28, 29]


def test_reading_begins_near_what_is_asked_for(journal: Journal, path: Path) -> None:
    """Damage in front of the place does not matter to who reads behind it."""
    for number in range(1, 101):
        journal.append([b'[%d, "%s"]' % (number, b"x" * 50_000)])
    journal.prune(0)
    (file,) = [file for file in path.iterdir() if file.suffix == ".journal"]
    with file.open("r+b") as damaged:
        damaged.seek(20)
        damaged.write(b"!")
    assert [record.last for record in journal.read(0)] == [*range(2, 101)]
    assert [record.last for record in journal.read(50)] == [*range(51, 101)]


class AnyOrder(RuleBasedStateMachine):
    """A journal beside a list of what it was given."""

    def __init__(self, folder: Path, file_bytes: int, keep_bytes: int) -> None:
        super().__init__()
        self.folder = folder
        self.file_bytes = file_bytes
        self.keep_bytes = keep_bytes
        self.journal = self._opened()
        self.given = 0
        self.pruned = 0

    def _opened(self) -> Journal:
        return Journal(self.folder / "journal", LIMIT, self.keep_bytes, file_bytes=self.file_bytes)

    def _append(self, reports: int, length: int) -> None:
        numbers = range(self.given + 1, self.given + reports + 1)
        last = self.journal.append([b"%d" % number + b" " * length for number in numbers])
        assert last == self.given + reports

    @rule(reports=st.integers(1, 4), length=st.sampled_from([0, 10, 150, 300]))
    def append(self, reports: int, length: int) -> None:
        self._append(reports, length)
        self.given += reports

    @rule(share=st.floats(0, 1))
    def prune(self, share: float) -> None:
        self.pruned = max(self.pruned, int(self.given * share))
        self.journal.prune(self.pruned)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self._opened()
        self.journal.advance_to(self.pruned)
        self.journal.prune(self.pruned)

    @rule(reports=st.integers(1, 4), length=st.sampled_from([0, 10, 150, 300]), cut=st.floats(0, 1))
    def power_fails_during_a_write(self, reports: int, length: int, cut: float) -> None:
        """The disk has the beginning of the write, and behind it what was there before."""
        before = files_of(self.folder)
        self._append(reports, length)
        self.journal.close()
        for path, content in files_of(self.folder).items():
            old = before.get(path, bytes(len(content)))
            if content != old:
                written = [
                    place for place in range(len(content)) if content[place : place + 1] != old[place : place + 1]
                ]
                end = written[0] + int(cut * (written[-1] - written[0]))
                path.write_bytes(content[:end] + old[end:])
        self.reopen()
        assert self.journal.last in (self.given, self.given + reports)
        self.given = self.journal.last

    @invariant()
    def holds_what_is_not_pruned(self) -> None:
        assert self.journal.last == self.given
        records = [*self.journal.read(self.pruned)]
        numbers = [number for record in records for number in msgspec.json.decode(record.body)]
        # A record stays whole until all of it is pruned.
        least = self.given - self.pruned
        assert numbers[len(numbers) - least :] == [*range(self.pruned + 1, self.given + 1)]
        assert bool(numbers) == bool(least)
        if self.keep_bytes:
            kept = [number for record in self.journal.read(0) for number in msgspec.json.decode(record.body)]
            assert kept == [*range(self.journal.first, self.given + 1)]
        assert all(before.last < after.last for before, after in pairwise(records))

    def teardown(self) -> None:
        self.journal.close()


@pytest.mark.slow
@pytest.mark.parametrize("keep_bytes", [0, 700])
@pytest.mark.parametrize("file_bytes", [200, 1000])
def test_no_order_of_steps_loses_or_doubles_a_report(
    tmp_path_factory: pytest.TempPathFactory, file_bytes: int, keep_bytes: int
) -> None:
    # Small files, so that they fill up, and are used again with old content in them.
    make: Callable[[], AnyOrder] = lambda: AnyOrder(tmp_path_factory.mktemp("journal"), file_bytes, keep_bytes)  # noqa: E731
    run_state_machine_as_test(
        make,  # type: ignore[arg-type]  # anything that makes one will do
        settings=settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]),
    )


# Damage
