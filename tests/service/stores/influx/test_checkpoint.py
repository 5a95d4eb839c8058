"""What a folder knows of its InfluxDB: damage of it is said, and nothing is written or counted twice for want of it."""

import contextlib
import random
from pathlib import Path

import pytest

from service.backup.verification import doubts, faults
from service.journal.journal import Journal
from service.stores.base import StoreError, StoreUnavailable
from service.stores.influx.checkpoint import CHECKPOINT, Checkpoint, refuse_without_checkpoint
from service.stores.influx.lines import lines_of
from service.stores.influx.users import CatalogedUser


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of an InfluxDB within a data folder."""
    folder = tmp_path / "influxdb" / "METRICS-0123456789ab"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def closed(home: Path) -> Path:
    """A checkpoint with all kinds of content, closed."""
    checkpoint = Checkpoint(home / CHECKPOINT)
    users = [CatalogedUser(f"web-{number}", "Linux", "12", 4, [0, 1, 2, 3], 1, 2, {"CPU": 2}) for number in range(200)]
    noted = [lines_of([f"measurements_5m,a={number} x=1i {number}\n" for number in range(100)])]
    checkpoint.put({"flushed": 7, "begun": 9}, users, noted, [(300_000, bucket, 1) for bucket in range(100)])
    checkpoint.close()
    return checkpoint.path


def test_each_flipped_bit_is_found(closed: Path, tmp_path: Path) -> None:
    assert [*faults(tmp_path)] == [*doubts(tmp_path)] == []
    content, dice = closed.read_bytes(), random.Random(1)
    used = [place for place, byte in enumerate(content) if byte]
    for place in dice.sample(used, 200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << dice.randrange(8)
        closed.write_bytes(flipped)
        (fault,) = faults(tmp_path)
        assert str(closed.relative_to(tmp_path)) in fault


def test_a_flipped_bit_is_said_at_the_start_and_raises_nothing_else(closed: Path) -> None:
    content, dice = closed.read_bytes(), random.Random(2)
    seal = closed.with_name(f"{closed.name}.sha256").read_bytes()
    used = [place for place, byte in enumerate(content) if byte]
    for place in dice.sample(used, 200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << dice.randrange(8)
        closed.write_bytes(flipped)
        closed.with_name(f"{closed.name}.sha256").write_bytes(seal)
        with contextlib.suppress(StoreError):
            checkpoint = Checkpoint(closed)
            assert checkpoint.problem is not None
            with contextlib.suppress(StoreError):
                checkpoint.users()
                checkpoint.value("flushed")
                checkpoint.next_parts(300_000, range(100))
                next(checkpoint.noted(), None)
            checkpoint.close()


def test_one_that_is_open_or_was_not_closed_is_doubted(closed: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(closed)
    assert checkpoint.problem is None
    assert [CHECKPOINT in doubt for doubt in doubts(tmp_path)] == [True]
    checkpoint.close()
    assert [*doubts(tmp_path)] == []


def test_a_checkpoint_that_cannot_be_written_is_tried_again(home: Path) -> None:
    checkpoint = Checkpoint(home / CHECKPOINT)
    other = Checkpoint(home / CHECKPOINT)
    other._connection.execute("BEGIN IMMEDIATE")
    checkpoint._connection.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        checkpoint.put({"flushed": 1})
    other._connection.execute("ROLLBACK")
    checkpoint.put({"flushed": 1})
    assert checkpoint.value("flushed") == 1
    other.close()
    checkpoint.close()


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_journal_without_its_checkpoint_is_refused(home: Path, how: str) -> None:
    """All its reports would be written again, and count twice in every rollup."""
    journal = Journal(home / "journal", 1 << 30)
    assert journal.is_empty
    refuse_without_checkpoint(home, has_reports=not journal.is_empty)
    journal.append([b"{}"])
    journal.close()
    if how == "empty":
        (home / CHECKPOINT).touch()
    with pytest.raises(StoreError, match=f"{CHECKPOINT} is missing.*Nothing was changed"):
        refuse_without_checkpoint(home, has_reports=not journal.is_empty)
    Checkpoint(home / CHECKPOINT).close()
    refuse_without_checkpoint(home, has_reports=not journal.is_empty)
