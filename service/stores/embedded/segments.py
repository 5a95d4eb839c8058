"""Raw windows on disk: Parquet files, sorted by series and time, written once; which of them to merge."""

import hashlib
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.journal.files import sync_folder
from service.stores.embedded import fractions
from service.stores.embedded.segment import Segment
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import SCHEMA

_FAN_IN = 4
LARGEST_SEGMENT = 64_000_000
"""Rows; sorting spills to disk, so this bounds how much is rewritten at once."""
LARGEST_RUN = 4_000_000
"""Rows; a run is merged in memory."""


def alike(rows: Mapping[int, int], largest: int) -> list[int]:
    """The runs to merge next, of `rows` by run: four or more of about the same size, none larger than allowed.

    Sizes are alike within a power of four, as in size-tiered compaction (O'Neil et al. 1996; Cassandra), so the
    number of runs, and how often a row is rewritten, grow with the logarithm of the rows.
    """
    levels: dict[int, list[int]] = defaultdict(list)
    for run, number in rows.items():
        if number * _FAN_IN <= largest:
            levels[int(math.log(max(number, 1), _FAN_IN))].append(run)
    for level in sorted(levels):
        if len(levels[level]) >= _FAN_IN:
            chosen, total = [], 0
            for run in levels[level]:
                total += rows[run]
                if total > largest:
                    break
                chosen.append(run)
            return chosen
    return []


_ROW_GROUP = 1024 * 1024
_BY_BYTE = ("mean", "variance", "busy", "squares")
"""Columns whose values seldom repeat: their first bytes do, and are put next to each other."""
_FORMAT: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    # Time rises within a series: as differences it nearly vanishes. Most of the rest repeats itself. A dictionary of
    # histograms would be read whole for a few of them, and takes more bytes than zstd alone.
    "use_dictionary": [
        name for name in (*SCHEMA.names, *fractions.SCHEMA.names) if name not in ("time", "histogram", *_BY_BYTE)
    ],
    "column_encoding": {"time": "DELTA_BINARY_PACKED"} | dict.fromkeys(_BY_BYTE, "BYTE_STREAM_SPLIT"),
    "dictionary_pagesize_limit": 8 * 1024 * 1024,
    "write_page_checksum": True,
}
_NEVER = (2**63 - 1, -(2**63))


def sort_windows(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The windows of `batches`, sorted by series and time."""
    table = pa.Table.from_batches([batch.select(SCHEMA.names) for batch in batches], SCHEMA).combine_chunks()
    order = np.lexsort((table["time"].to_numpy(), table["series"].to_numpy()))
    return table.take(pa.array(order))


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a file was made of; it is kept in the file itself."""

    after: int = 0
    """The journal offset behind which a flush began;"""
    through: int = 0
    """everything up to this offset is in files, this one among them."""
    merged: tuple[int, ...] = ()
    """The files in whose place it stands."""


_ORIGIN = b"loadlens"
_NAMES = pa.schema(
    [pa.field(name, pa.dictionary(pa.int32(), pa.string()), nullable=False)
     for name in ("user_id", "quantity", "os_type", "os_version")]
    + [pa.field("core", pa.int32(), nullable=False)]
)  # fmt: skip
"""What rows are called, beside their number: sorted as they are, these columns cost next to nothing."""


_STORED = pa.schema([field.with_nullable(field.name in fractions.VALUES) for field in SCHEMA] + [*fractions.SCHEMA])
"""The columns of `SCHEMA` as they are in files."""


def file_name(number: int) -> str:
    """What the file of a segment is called."""
    return f"{number:09d}.parquet"


def write_segment(
    folder: Path, number: int, windows: Iterable[pa.RecordBatch], index: SeriesIndex, origin: Origin
) -> Segment:
    """Write windows, sorted by series and time, as segment `number`; they are on disk when it returns.

    A file that is not whole has another name, so that what a crash left behind is known.
    """
    path = folder / file_name(number)
    unfinished = path.with_suffix(".new")
    rows = 0
    first_series = last_series = 0
    first_ms, last_ms = _NEVER
    schema = pa.schema([*_STORED, *_NAMES], {_ORIGIN: msgspec.json.encode(origin)})
    checksum = hashlib.sha256()
    with unfinished.open("wb") as file:
        with pq.ParquetWriter(pa.PythonFile(_Summed(file, checksum), "w"), schema, **_FORMAT) as writer:
            for batch in windows:
                writer.write_batch(_named(batch, index, schema))
                first_series = first_series or batch["series"][0].as_py()
                last_series = batch["series"][-1].as_py()
                time = batch["time"].to_numpy()
                first_ms, last_ms = min(first_ms, int(time.min())), max(last_ms, int(time.max()))
                rows += len(batch)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        raise FileExistsError(f"{path} is there already, and is not written over")
    unfinished.rename(path)
    sync_folder(folder)
    return Segment(
        number, path.name, rows, path.stat().st_size, first_series, last_series, first_ms, last_ms, True,
        checksum.hexdigest(), True,
    )  # fmt: skip


class _Summed:
    """A file that is written from its beginning to its end, and summed up on the way."""

    def __init__(self, file: BinaryIO, checksum: "hashlib._Hash") -> None:
        self._file = file
        self._checksum = checksum
        self.closed = False

    def write(self, content: bytes) -> int:
        self._checksum.update(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Nothing: who opened the file puts it on disk first."""


def _named(batch: pa.RecordBatch, index: SeriesIndex, schema: pa.Schema) -> pa.RecordBatch:
    """The windows with the names of their series, and the systems of their machines."""
    numbers, place = np.unique(batch["series"].to_numpy(), return_inverse=True)
    series = [index.all[number - 1] for number in numbers.tolist()]
    users = [index.users[one.user_id] for one in series]
    texts = (
        [one.user_id for one in series], [one.quantity for one in series],
        [user.os_type for user in users], [user.os_version for user in users],
    )  # fmt: skip
    columns = [_coded(some, place) for some in texts]
    core = pa.array(np.array([one.core for one in series], np.int32)[place])
    cores = np.array([len(index.cores(one.user_id, one.quantity)) - 1 if one.core == WHOLE else 1 for one in series])
    values = dict(zip(SCHEMA.names, batch.select(SCHEMA.names).columns, strict=True))
    values |= fractions.columns(batch, np.maximum(cores, 1)[place])
    return pa.RecordBatch.from_arrays([*values.values(), *columns, core], schema=schema)


def _coded(texts: Sequence[str], place: npt.NDArray[np.intp]) -> pa.DictionaryArray:
    different = sorted(set(texts))
    codes = {text: code for code, text in enumerate(different)}
    code = np.array([codes[text] for text in texts], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(code[place]), pa.array(different, pa.string()))


def origin_of(path: Path) -> Origin | None:
    """What a file was made of; None where it does not say so.

    Raises OSError or pyarrow.ArrowException where it is damaged.
    """
    found = (pq.read_schema(path).metadata or {}).get(_ORIGIN)
    return None if found is None else msgspec.json.decode(found, type=Origin)


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link_or_copy(path: Path, target: Path) -> None:
    """Give a file that is never changed a second name, or copy it where the file system has none; gone ones stay so."""
    try:
        target.hardlink_to(path)
    except FileNotFoundError:
        return
    except OSError:
        shutil.copyfile(path, target)


def fault_of(path: Path, rows: int | None = None, checksum: str | None = None) -> str | None:
    """Why a file cannot be read as a whole, has not so many rows, or another checksum; None where all is right."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = sum(len(batch) for batch in file.iter_batches(_ROW_GROUP))
    except FileNotFoundError:
        return "it is gone"
    except (OSError, pa.ArrowException) as error:
        return str(error).partition("\n")[0]
    if rows is not None and rows != found:
        return f"expected {rows} rows, got {found}"
    return "its checksum is another" if checksum is not None and checksum != checksum_of(path) else None


def windows_in(folder: Path, segments: Sequence[Segment]) -> tuple[str, list[list[str]]]:
    """The windows of files, at least one, with the columns of `SCHEMA`: a source for DuckDB, and its parameters."""
    fractional = ", ".join(
        f"{fractions.VALUES[name]} AS {name}" if name in fractions.VALUES else name for name in SCHEMA.names
    )
    forms = ((fractional, True), (", ".join(SCHEMA.names), False))
    sources, files = [], []
    for columns, has_fractions in forms:
        alike = [str(folder / one.file) for one in segments if one.has_fractions == has_fractions]
        if alike:
            sources.append(f"SELECT {columns} FROM read_parquet(?)")
            files.append(alike)
    return f"({' UNION ALL '.join(sources)})", files


def merged(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], nobody: Collection[int] = ()
) -> Iterator[pa.RecordBatch]:
    """The windows of several segments but those of the series `nobody`, sorted by DuckDB, which spills to disk."""
    source, files = windows_in(folder, segments)
    connection.register("nobody", pa.table({"series": pa.array(sorted(nobody), pa.int32())}))
    reader = connection.sql(
        f"SELECT {', '.join(SCHEMA.names)} FROM {source} ANTI JOIN nobody USING (series) ORDER BY series, time",
        params=files,
    ).to_arrow_reader(_ROW_GROUP)
    for batch in reader:
        if len(batch):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
    connection.unregister("nobody")
