"""Damage takes what it covers and no more, and is said; nothing is written over, and no offset is given twice."""

from pathlib import Path

import msgspec
import pytest

from service.journal.journal import Journal, faults
from tests.service.journal.conftest import LIMIT, files_of

LENGTHS = [1, 3, 1, 2, 1]
"""So many reports has each record."""


def filled(path: Path, *, reused: bool = False) -> Journal:
    """A journal of records of `LENGTHS`; its file may have been used before, so that old records lie behind its end."""
    journal = Journal(path, LIMIT, file_bytes=400)
    if reused:
        for number in range(1, 41):
            journal.append([b'{"old": %d}' % number])
        journal.prune(40)
    for length in LENGTHS:
        numbers = range(journal.last + 1, journal.last + 1 + length)
        journal.append([b'{"n": %d}' % number for number in numbers])
    return journal


def files_of_sixty(path: Path) -> list[Path]:
    """The files of a journal of sixty records, closed, in order."""
    journal = Journal(path, LIMIT, file_bytes=300)
    for number in range(1, 61):
        journal.append([b'{"n": %d}' % number])
    journal.close()
    return sorted(path.glob("*.journal"))


def numbers_of(journal: Journal, after: int) -> list[int]:
    return [one["n"] for record in journal.read(after) for one in msgspec.json.decode(record.body)]


@pytest.mark.parametrize("reused", [False, True])
def test_one_flipped_bit_takes_one_record_and_it_is_said_which(tmp_path: Path, reused: bool) -> None:
    """Each bit of the newest file in turn, with the journal opened behind it, used, and opened again."""
    journal = filled(tmp_path / "whole", reused=reused)
    journal.close()
    last, first = journal.last, journal.last - sum(LENGTHS) + 1
    file = max(files_of(tmp_path / "whole"), key=lambda path: path.name if path.suffix == ".journal" else "")
    content = file.read_bytes()
    used = len(content.rstrip(b"\0")) if not reused else content.index(b'{"n": %d}]' % last) + 60
    offsets = [*range(first, last + 1)]
    for place in range(used):
        damaged = tmp_path / f"{place}"
        damaged.mkdir()
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        (damaged / file.name).write_bytes(flipped)
        again = Journal(damaged, LIMIT, file_bytes=400)
        found = numbers_of(again, first - 1)
        lost = [offset for one in again.missing(first - 1) for offset in range(one.first, one.last + 1)]
        assert sorted(found + lost) == offsets, f"bit of byte {place}"
        assert len(lost) <= max(LENGTHS)
        assert again.last == last
        assert again.append([b'{"n": %d}' % (last + 1)]) == last + 1
        assert numbers_of(again, first - 1) == [*found, last + 1]
        again.prune(last + 1)
        again.close()
        if lost:
            # It can be looked at: what nobody needs any more is used again, but for what is damaged.
            (kept,) = (damaged / "damaged").iterdir()
            assert kept.read_bytes() == bytes(flipped)
        newest = Journal(damaged, LIMIT, file_bytes=400)
        assert newest.last == last + 1
        newest.close()


def test_damage_in_several_files_is_all_found(path: Path) -> None:
    files = files_of_sixty(path)
    assert len(files) > 3
    for file in files:
        content = bytearray(file.read_bytes())
        content[20] ^= 4  # in the first record's body
        file.write_bytes(content)
    again = Journal(path, LIMIT, file_bytes=300)
    lost = {offset for one in again.missing(0) for offset in range(one.first, one.last + 1)}
    assert lost == {int(file.stem) + 1 for file in files}
    assert numbers_of(again, 0) == [number for number in range(1, 61) if number not in lost]
    again.close()


def test_a_file_that_is_gone_is_said(path: Path) -> None:
    files = files_of_sixty(path)
    files[1].unlink()
    again = Journal(path, LIMIT, file_bytes=300)
    (lost,) = again.missing(0)
    assert (lost.first, lost.last) == (int(files[1].stem) + 1, int(files[2].stem))
    assert again.missing(lost.last) == []
    files[0].unlink()
    again.close()
    again = Journal(path, LIMIT, file_bytes=300)
    (lost,) = again.missing(3)
    assert (lost.first, lost.last) == (4, int(files[2].stem))
    again.close()


def test_zeros_in_place_of_a_page_take_only_what_they_cover(path: Path) -> None:
    journal = Journal(path, LIMIT)
    for number in range(1, 101):
        journal.append([b'{"n": %d, "x": "%s"}' % (number, b"x" * 500)])
    journal.close()
    (file,) = path.glob("*.journal")
    content = bytearray(file.read_bytes())
    content[4096:8192] = bytes(4096)
    file.write_bytes(content)
    again = Journal(path, LIMIT)
    (lost,) = again.missing(0)
    assert lost.reports < 12
    assert len(numbers_of(again, 0)) == 100 - lost.reports
    again.close()


def test_damage_while_the_journal_is_in_use_takes_one_record(journal: Journal, path: Path) -> None:
    for number in range(1, 11):
        journal.append([b'{"n": %d}' % number])
    (file,) = path.glob("*.journal")
    content = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.seek(content.index(b'{"n": 4}'))
        damaged.write(b"!")
    assert numbers_of(journal, 0) == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert journal.append([b'{"n": 11}']) == 11


def test_what_is_not_of_the_journal_is_left_alone_and_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    strangers = ["notes.txt", "abc.journal", "important.new", "copy.spare", "1.journal"]
    for name in strangers:
        (path / name).write_text("mine")
    (path / "00000000000000000007.journal").mkdir()
    journal = Journal(path, LIMIT)
    assert journal.append([b"1"]) == 1
    journal.prune(1)
    journal.close()
    assert all((path / name).read_text() == "mine" for name in strangers)
    assert "notes.txt" in caplog.text


def test_files_that_were_copied_back_do_not_double_reports(path: Path) -> None:
    journal = Journal(path, LIMIT, file_bytes=300)
    for number in range(1, 31):
        journal.append([b'{"n": %d}' % number])
    journal.close()
    files = sorted(path.glob("*.journal"))
    (path / f"{int(files[1].stem) - 1:020d}.journal").write_bytes(files[0].read_bytes())
    again = Journal(path, LIMIT, file_bytes=300)
    assert numbers_of(again, 0) == [*range(1, 31)]
    assert again.append([b'{"n": 31}']) == 31
    again.close()


@pytest.mark.parametrize("cut", ["before a record", "within a record", "within a header", "everything"])
def test_a_file_that_lacks_its_end_is_said_and_its_offsets_are_not_given_again(path: Path, cut: str) -> None:
    journal = Journal(path, LIMIT, file_bytes=4000)
    ends = []
    for number in range(1, 11):
        journal.append([b'{"n": %d}' % number])
        ends.append(journal.size)
    journal.close()
    (file,) = path.glob("*.journal")
    kept = 0 if cut == "everything" else 5
    with file.open("r+b") as content:
        content.truncate({"within a record": ends[4] + 20, "within a header": ends[4] + 7}.get(cut, [0, *ends][kept]))
    assert [f"from offset {kept + 1} on" in fault for fault in faults(path, 4000)] == [True]
    again = Journal(path, LIMIT, file_bytes=4000)
    (lost,) = again.missing(0)
    assert (lost.first, lost.is_bound) == (kept + 1, True)
    assert f"from offset {kept + 1} on may be lost" in lost.words
    again.close()
    # Also where nothing comes before the next start, and the store has all that is there.
    for _ in range(2):
        again = Journal(path, LIMIT, file_bytes=4000)
        again.prune(kept)
        assert again.last >= 10
        again.close()
    again = Journal(path, LIMIT, file_bytes=4000)
    assert again.append([b'{"n": 11}']) > 10
    assert numbers_of(again, kept) == [11]


def test_a_flipped_bit_of_the_end_mark_is_found_and_loses_nothing(path: Path) -> None:
    filled(path).close()
    assert [*faults(path, 400)] == []
    (file,) = path.glob("*.journal")
    content = file.read_bytes()
    end = len(content.rstrip(b"\0"))
    for place in range(end - 9, end):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert ["end mark" in fault for fault in faults(path, 400)] == [True], place
        assert Journal(path, LIMIT, file_bytes=400).missing(0) == []
