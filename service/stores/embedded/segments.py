"""Raw windows on disk: Parquet files, sorted by series and time, written once."""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.journal.files import sync_folder
from service.stores.embedded import catalog, forms
from service.stores.embedded.segment import Segment
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import SCHEMA, SortedWindows

if TYPE_CHECKING:
    import duckdb

FLUSHED, MERGED, SETTLED = forms.FLUSHED, forms.MERGED, forms.SETTLED
UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError, msgspec.MsgspecError)
"""What is raised for a damaged file: texts of its footer, which has no checksum, may be no UTF-8 or no JSON either."""
_ROW_GROUP = 1024 * 1024
PART = 32_768
"""Rows that a flush sorts, encodes and writes at once: some 15 MB, and no step of it holds up others for 10 ms."""
_NEVER = (2**63 - 1, -(2**63))


def sorted_parts(pieces: Sequence[SortedWindows]) -> Iterator[pa.RecordBatch]:
    """The windows of `pieces` in order of series and time, some `PART` at a time; those of a series are in one part.

    So a flush needs memory for a part, and not for all that it writes.
    """
    counts = np.zeros(1, np.int64)
    for piece in pieces:
        of_piece = np.bincount(piece.batch["series"].to_numpy())
        counts, of_piece = sorted((counts, of_piece), key=len, reverse=True)
        counts[: len(of_piece)] += of_piece
    # The first series of each part, and what lies behind the last.
    ends = np.cumsum(counts)
    part = (ends - counts) // PART
    bounds = [*np.flatnonzero(np.diff(part, prepend=-1)).tolist(), len(counts)]
    for first, behind in pairwise(bounds):
        batches = [some.select(SCHEMA.names) for piece in pieces if len(some := piece.between(first, behind))]
        if batches:
            yield in_order(pa.concat_batches(batches))


def in_order(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Windows in the order of series and time."""
    series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
    return batch.take(pa.array(np.lexsort((time, series))))


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


def file_name(number: int) -> str:
    """What the file of a segment is called."""
    return f"{number:09d}.parquet"


def write_segment(
    folder: Path,
    number: int,
    windows: Iterable[pa.RecordBatch],
    index: SeriesIndex,
    origin: Origin,
    effort: int = FLUSHED,
) -> Segment:
    """Write windows, sorted by series and time, as segment `number`; they are on disk when it returns.

    They have the columns of `service.stores.sorted_windows.SCHEMA`, or of `service.stores.embedded.forms.STORED`;
    `effort` is one of the latter's. Each batch is a row group.

    A file that is not whole has another name, so that what a crash left behind is known.
    """
    path = folder / file_name(number)
    unfinished = path.with_suffix(".new")
    rows = 0
    first_series = last_series = 0
    first_ms, last_ms = _NEVER
    schema = pa.schema([*forms.STORED, *_NAMES], {_ORIGIN: msgspec.json.encode(origin)})
    checksum = hashlib.sha256()
    try:
        with unfinished.open("wb") as file:
            options = forms.parquet_options(schema.names, effort)
            with pq.ParquetWriter(pa.PythonFile(_Summed(file, checksum), "w"), schema, **options) as writer:
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
    except BaseException:
        # Each attempt has a number of its own: on a disk that is full they would take what room there comes to be.
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.rename(path)
    sync_folder(folder)
    return Segment(
        number, path.name, rows, path.stat().st_size, first_series, last_series, first_ms, last_ms, True,
        checksum.hexdigest(), forms.NEWEST_FORM, effort == SETTLED,
    )  # fmt: skip


class NewFiles:
    """Files of windows on their way into the catalogue: written beside it, and listed in it by a change.

    For one thread at a time.
    """

    def __init__(self, folder: Path, index: SeriesIndex, *, notes: bool) -> None:
        """With `notes` each file is noted before it is written, so that a crash leaves none that is not known."""
        self._folder = folder
        self._index = index
        self._notes = notes
        self._unlisted: list[str] = []
        """Files that were written, or begun, and are not in the catalogue."""

    def write(
        self,
        cursor: "duckdb.DuckDBPyConnection",
        windows: Iterable[pa.RecordBatch],
        origin: Origin,
        effort: int = FLUSHED,
    ) -> Segment:
        """A new file of windows, not listed yet."""
        number = catalog.next_run(cursor)
        self._unlisted.append(file_name(number))
        if self._notes:
            catalog.note_garbage(cursor, [file_name(number)])
        return write_segment(self._folder, number, windows, self._index, origin, effort)

    def list(self, cursor: "duckdb.DuckDBPyConnection", old: Sequence[Segment], new: Segment) -> None:
        """List a file, unless it is empty, in place of `old` ones; in a change, and `forget` follows it.

        Files of attempts that failed before are garbage from then on.
        """
        if new.rows:
            catalog.replace_segments(cursor, old, new)
            catalog.forget_garbage(cursor, new.file)
            self._unlisted = [file for file in self._unlisted if file != new.file]
        else:
            catalog.drop_segments(cursor, old)
        catalog.note_garbage(cursor, self._unlisted)

    def forget(self) -> None:
        """Remove the files that were written and not listed."""
        for file in self._unlisted:
            (self._folder / file).unlink(missing_ok=True)
        self._unlisted = []


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
    """The windows with the names of their series, and the systems of their hosts."""
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
    is_stored = forms.STORED.names[-1] in batch.schema.names
    values = {} if is_stored else forms.stored(batch, np.maximum(cores, 1)[place])
    stored = [values.get(name, batch[name] if is_stored else None) for name in forms.STORED.names]
    return pa.RecordBatch.from_arrays([*stored, *columns, core], schema=schema)


def _coded(texts: Sequence[str], place: npt.NDArray[np.intp]) -> pa.DictionaryArray:
    different = sorted(set(texts))
    codes = {text: code for code, text in enumerate(different)}
    code = np.array([codes[text] for text in texts], np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(code[place]), pa.array(different, pa.string()))


def origin_of(path: Path) -> Origin | None:
    """What a file was made of; None where it does not say so.

    Raises what is `UNREADABLE` where it is damaged.
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
        origin_of(path)
    except FileNotFoundError:
        return "it is gone"
    except UNREADABLE as error:
        return str(error).partition("\n")[0]
    if rows is not None and rows != found:
        return f"expected {rows} rows, got {found}"
    return "its checksum is another" if checksum is not None and checksum != checksum_of(path) else None


def windows_in(
    folder: Path, segments: Sequence[Segment], names: Sequence[str] = SCHEMA.names
) -> tuple[str, list[list[str]]]:
    """The windows of files, at least one: a source for DuckDB, and its parameters.

    It has the columns that `service.stores.embedded.forms.read` needs to give those of `names`.
    """
    files: dict[int, list[str]] = defaultdict(list)
    for one in segments:
        files[one.form].append(str(folder / one.file))
    return forms.source_of(files, names)
