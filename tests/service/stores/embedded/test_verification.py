"""A database of rollups is looked through block by block, whatever the size of its blocks."""

import random
from pathlib import Path

import duckdb
import pytest

from service.stores.embedded.verification import faults

BLOCKS = (16_384, 262_144)
"""Bytes of a block: of new data folders, and of those of older releases."""


@pytest.mark.parametrize("block_bytes", BLOCKS)
def test_a_bit_that_flips_anywhere_in_the_database_is_found(block_bytes: int, tmp_path: Path) -> None:
    database, raw = tmp_path / "loadlens.duckdb", tmp_path / "raw"
    raw.mkdir()
    with duckdb.connect(str(database), config={"default_block_size": block_bytes}) as connection:
        connection.execute("CREATE TABLE t AS SELECT range AS a, hash(range) AS b FROM range(100000)")
        connection.execute("CREATE INDEX i ON t (b)")  # which nobody reads
    whole = database.read_bytes()
    assert [*faults(raw, database)] == []
    dice = random.Random(block_bytes)
    for _ in range(20):
        damaged = bytearray(whole)
        place = dice.randrange(len(damaged))
        damaged[place] ^= 1 << dice.randrange(8)
        database.write_bytes(damaged)
        assert [*faults(raw, database)], f"byte {place}"
