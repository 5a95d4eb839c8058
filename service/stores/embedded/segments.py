"""Raw windows on disk: Parquet files, sorted by series and time, written once; which of them to merge."""

import hashlib
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.times import HOUR_MS
from service.journal.files import sync_folder
from service.stores.embedded import forms
from service.stores.embedded.segment import Segment
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import SCHEMA, SortedWindows

_FAN_IN = 4
LARGEST_SEGMENT = 64_000_000
"""Rows; this bounds how much is rewritten at once."""
FLUSHED, MERGED, SETTLED = forms.FLUSHED, forms.MERGED, forms.SETTLED
_SETTLES_MS = HOUR_MS
_LEAST_SETTLED = 100_000
"""Rows; of fewer there is not much to save."""
LARGEST_RUN = 4_000_000
"""Rows; of a run, which is written in one transaction."""


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


UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError, msgspec.MsgspecError)
"""What is raised for a damaged file: texts of its footer, which has no checksum, may be no UTF-8 or no JSON either."""
_ROW_GROUP = 1024 * 1024
PART = 32_768
"""Rows that a flush sorts, encodes and writes at once: some 15 MB, and no step of it holds up others for 10 ms."""
_NEVER = (2**63 - 1, -(2**63))


def to_write_again(segments: Sequence[Segment], now_ms: int) -> Segment | None:
    """A file that is to be written once more by itself.

    Those of older releases are, which are larger or do not say what the catalogue is made from, and those with windows
    of users that were forgotten; then those that are merged less and less often, with more effort.
    """
    for one in segments:
        if not one.has_names or one.form < forms.NEWEST_FORM:
            return one
    for one in segments:
        if not one.is_settled and one.rows >= _LEAST_SETTLED and one.last_ms < now_ms - _SETTLES_MS:
            return one
    return None


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
