"""The embedded store's files looked through while nobody uses them: each that is not what was written is named."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np

from service.stores.embedded.damage import window_files
from service.stores.embedded.segments import fault_of

_HEADERS, _HEADER_BYTES = 3, 4096
_SEED, _FACTOR = np.uint64(5381), np.uint64(0xBF58476D1CE4E5B9)


def checksums(database: Path) -> dict[str, str]:
    """The SHA-256 of files of windows by name, as the catalogue says; none where it cannot be read, or is older."""
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            return dict(connection.execute("SELECT file, checksum FROM segment WHERE checksum IS NOT NULL").fetchall())
    except duckdb.Error:
        return {}


def faults(folder: Path, database: Path) -> Iterator[str]:
    """What is wrong with the files of windows in `folder`, and with their catalogue; nothing where all is whole."""
    yield from _catalogue_faults(database)
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            columns = {name for name, *_ in connection.execute("DESCRIBE segment").fetchall()}
            checksum = "checksum" if "checksum" in columns else "NULL"
            listed = connection.execute(f"SELECT file, rows, {checksum} FROM segment ORDER BY file").fetchall()
    except duckdb.Error:
        listed = []
    for file, rows, noted in listed:
        if fault := fault_of(folder / file, rows, noted):
            yield f"{folder.name}/{file}: {fault}"
    others = {path.name for path in window_files(folder)} - {file for file, _, _ in listed}
    for file in sorted(others):
        if fault := fault_of(folder / file):
            yield f"{folder.name}/{file}: {fault}"


def _catalogue_faults(database: Path) -> Iterator[str]:
    if not database.exists():
        yield f"{database.name}: it is gone"
        return
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                connection.execute(f'SELECT sum(hash(columns(*))) FROM "{table}"').fetchall()  # reads all of it
            ((block_bytes,),) = connection.execute("SELECT block_size FROM pragma_database_size()").fetchall()
    except duckdb.Error as error:
        yield f"{database.name}: {str(error).partition(chr(10))[0]}"
        return
    for block in _damaged_blocks(database, block_bytes):
        yield f"{database.name}: block {block} does not match its checksum; an index, or a part that is not used"


def _damaged_blocks(database: Path, block_bytes: int) -> list[int]:
    """The blocks of a DuckDB file, of so many bytes, that do not match the checksum in front of each.

    DuckDB checks a block when it reads it, and reads indexes seldom. Nothing is said of a file that is laid out in
    another way than is known here (DuckDB's storage, `src/common/checksum.cpp`).
    """
    with database.open("rb") as file:
        headers = file.read(_HEADERS * _HEADER_BYTES)
        if len(headers) < _HEADERS * _HEADER_BYTES or not _matches(headers[:_HEADER_BYTES]):
            return []
        found = []
        number = 0
        while len(block := file.read(block_bytes)) == block_bytes:
            if not _matches(block):
                found.append(number)
            number += 1
    return found


def _matches(block: bytes) -> bool:
    words = np.frombuffer(block, "<u8")
    return bool(np.bitwise_xor.reduce(words[1:] * _FACTOR) ^ _SEED == words[0])
