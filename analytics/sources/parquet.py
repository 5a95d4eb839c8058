"""Parquet files as a source of windows.

A file is of windows, or of plain measurements, told by its columns:

windows
    The columns of `analytics.frames.frame`, as the service answers them (`Accept: application/vnd.apache.parquet`), as
    `DataFrame.to_parquet` writes a frame, and as `loadlens-analytics --format parquet` does. The schema's metadata may
    name the `metric`; without it they are of the CPU. Shares are in [0, 1]: percent is refused.
measurements
    A moment in `time`, `timestamp` or `date`; a number in `utilization` or `value` (a share in [0, 1]), or in
    `utilization_percent`, `cpu_util_percent` or `percent`; and, where there are several hosts, their names in
    `user`, `user_id`, `host`, `hostname`, `machine`, `machine_id`, `instance` or `group`, the first of these that is
    there. Each is taken as a window of one sample of CPU utilization. Another column of texts is refused where none of
    these is there: hosts that it tells apart would become one.

Moments are timestamps, or whole numbers of epoch milliseconds; without an offset they are UTC. All files of a folder,
and of the folders in it, are one source. A folder may be wherever fsspec reaches, such as `s3://bucket/export`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.frames.aggregation import AnyFrame, in_threads
from analytics.frames.checking import with_samples
from analytics.frames.columns import NUMBERS
from analytics.frames.exchange import frame_of, schema_of, table_of
from analytics.frames.frame import FrameError, frame_of_values, in_order, with_histograms
from analytics.frames.progress import progress
from analytics.frames.resampling import regrouped, resample
from analytics.sources.base import users_of
from analytics.sources.parquet_files import (
    PERCENTS,
    SHARES,
    TIMES,
    USERS,
    FilePlace,
    FoundFile,
    far_files,
    found_file,
    near_files,
)
from analytics.sources.windowed import Asked, Found, WindowedSource, metrics_of
from contract.metrics import NAMES, Quantity
from contract.times import format_duration, parse_timestamp

_ROUNDING: Final = 1e-9


_MANY_ROWS: Final = 1_000_000
"""More than that are merged file by file while they are read, as far as is asked for."""


class Files(WindowedSource):
    """A Parquet file, or all those in a folder; a source as `analytics.sources.base` describes it.

    Without `start` and `end` everything is answered. Raises FileNotFoundError for a folder without any, FrameError for
    a file that holds neither windows nor measurements.
    """

    def __init__(self, path: Path | str, files: Any = None) -> None:
        """`path` is of this machine, or an address such as `s3://bucket/export`, which needs fsspec.

        With `files`, a file system of fsspec, it is one file there.
        """
        if files is not None:
            places = [FilePlace(path, files)]
        elif isinstance(path, str):
            places = far_files(path)
        else:
            places = near_files(path)
        if not places:
            raise FileNotFoundError(f"{path} has no file that ends in .parquet")
        self._files = [found_file(one) for one in places]

    def dask_frame(self, metric: str = "cpuLoadAvg", *, histograms: bool = True) -> AnyFrame:
        """The windows of all users as a Dask DataFrame, a partition for each file, read when it is wanted.

        The functions of `analytics` take it where all of it does not fit into memory, or to use a cluster.
        """
        import dask.dataframe as dd
        from dask.dataframe.utils import clear_known_categories

        places = [FilePlace(file.path, file.files) for file in self._of(NAMES[metric].quantity)]
        read = partial(_partition, metric=metric, histograms=histograms)
        example = clear_known_categories(read(places[0]).iloc[:0])  # type: ignore[no-untyped-call]
        return dd.from_map(read, places, meta=example)  # type: ignore[no-untyped-call]

    def users(self) -> pd.DataFrame:
        """The users in the files; files do not say what runs on them (`analytics.sources.base`)."""
        parts = [_seen(file) for file in self._files if file.column(USERS)]
        if not parts:
            parts = [pd.DataFrame({"user": pd.Series(dtype="str"), "time_min": pd.NaT, "time_max": pd.NaT})]
        seen = pd.concat(parts).groupby("user").agg({"time_min": "min", "time_max": "max"})
        time = {name: pd.to_datetime(seen[column], utc=True).dt.as_unit("ms") for name, column in _SEEN.items()}
        return users_of(pd.DataFrame(time, index=seen.index))

    def metrics(self) -> pd.DataFrame:
        """The metrics that the files hold (`analytics.sources.base`)."""
        return metrics_of({NAMES[file.metric].quantity for file in self._files})

    def close(self) -> None:
        """Nothing is open between questions."""

    def _windows(self, asked: Asked) -> Found:
        files = self._of(asked.quantity)
        _check_parts(files, asked)
        if (
            asked.rate_ms is not None
            and all(file.has_windows for file in files)
            and sum(file.rows for file in files) > _MANY_ROWS
        ):
            return Found(_merged(files, asked, format_duration(asked.rate_ms)), merged=True)
        windows: list[pa.Table] = []
        parts: list[pd.DataFrame] = []
        with progress(f"reading {asked.quantity.title}", len(files)) as step:
            for file in files:
                table = _rows(file, asked)
                if file.has_windows:
                    _check_shares(table, file)
                    windows.append(table)
                else:
                    parts.append(_measured(table, file))
                step()
        if windows:
            # Nothing else may hold the tables, so that each column is let go of when it was copied.
            del table
            parts.append(frame_of(_joined(windows)))
        frame = parts[0] if len(parts) == 1 else pd.concat(parts)
        return Found(_of_parts(frame, asked))

    def _of(self, quantity: Quantity) -> list[FoundFile]:
        files = [file for file in self._files if NAMES[file.metric].quantity == quantity]
        if not files:
            held = ", ".join(sorted({file.metric for file in self._files}))
            raise LookupError(f"these files hold {held}, and nothing of {quantity.title}")
        return files


_SEEN: Final = {"first_seen": "time_min", "last_seen": "time_max"}


def _merged(files: Sequence[FoundFile], asked: Asked, rate: str) -> pd.DataFrame:
    """The windows merged file by file, so that memory follows what is asked for."""
    some_have = asked.histograms and any("histogram" in file.schema.names for file in files)
    work = partial(_buckets, asked=asked, rate=rate, histograms=some_have)
    parts = []
    with progress(f"reading {asked.quantity.title}", len(files)) as step:
        for part in in_threads(work, iter(files)):
            parts.append(part)
            step()
    return regrouped(frame_of(_joined(parts)))


def _buckets(file: FoundFile, *, asked: Asked, rate: str, histograms: bool) -> pa.Table:
    """The windows of a file, merged; with `histograms` each that has none has a stand-in before that."""
    table = _rows(file, asked)
    _check_shares(table, file)
    frame = _of_parts(frame_of(table), asked)
    frame.attrs["metric"] = file.metric
    frame = resample(with_histograms(with_samples(frame)) if histograms else frame, rate)
    return table_of(
        frame,
        schema_of(
            users="user" in frame, cores="core" in frame, devices="device" in frame, histograms="histogram" in frame
        ),
    )


def _partition(place: FilePlace, *, metric: str, histograms: bool) -> pd.DataFrame:
    return Files(*place).fleet(metric, rate="raw", by="user", histograms=histograms)


def _joined(tables: list[pa.Table]) -> pa.Table:
    """The rows of all tables, which are taken out of the list; null in columns that a table does not have."""
    joined = pa.concat_tables(tables, promote_options="permissive")
    tables.clear()
    return joined


def _rows(file: FoundFile, asked: Asked) -> pa.Table:
    columns = _columns(file, asked)
    table = pq.read_table(file.path, columns=columns, use_threads=True, filesystem=file.files)
    time = _times(table[str(file.column(TIMES))])
    named = file.column(USERS) if asked.users else None
    kept = None
    if asked.start_ms is not None:
        kept = pc.greater_equal(time, pa.scalar(asked.start_ms, pa.int64()).cast(time.type))
    if asked.end_ms is not None:
        before = pc.less(time, pa.scalar(asked.end_ms, pa.int64()).cast(time.type))
        kept = before if kept is None else pc.and_(kept, before)
    table = table.set_column(table.column_names.index(str(file.column(TIMES))), "time", time)
    if named:
        users = table[named]
        if not pa.types.is_dictionary(users.type):
            users = users.cast(pa.string()).dictionary_encode()
        table = table.set_column(table.column_names.index(named), "user", users)
    if asked.user is not None and named:
        own = pc.equal(table["user"].cast(pa.string()), asked.user)
        kept = own if kept is None else pc.and_(kept, own)
    if kept is not None:
        table = table.filter(kept)
    return table


def _columns(file: FoundFile, asked: Asked) -> list[str]:
    wanted = [file.column(TIMES), *([file.column(USERS)] if asked.users else [])]
    if file.has_windows:
        wanted += ["core", "device", *NUMBERS, *(["histogram"] if asked.histograms else [])]
    else:
        wanted.append(file.column((*SHARES, *PERCENTS)))
    return [name for name in wanted if name in file.schema.names and name is not None]


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        bounds = pc.min_max(column).as_py()
        for moment in bounds.values():
            if moment is not None:
                try:
                    parse_timestamp(moment)
                except ValueError as error:
                    raise FrameError(f"moments: {error}") from None
        return column.cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))
    if not pa.types.is_timestamp(column.type):
        raise FrameError(f"moments are timestamps or epoch milliseconds, not {column.type}")
    return column.cast(pa.timestamp("ms", "UTC"), safe=False)


def _check_shares(table: pa.Table, file: FoundFile) -> None:
    """Raise FrameError for windows of a share that are in percent."""
    if not NAMES[file.metric].quantity.bounded:
        return
    for name in ("mean", "min", "max"):
        bounds = pc.min_max(table[name].cast(pa.float64())).as_py()
        low, high = bounds["min"], bounds["max"]
        if low is not None and not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise FrameError(
                f"{file.path}: expected shares in [0, 1] (divide percent by 100) in {name}, got {low:g} to {high:g}"
            )


def _measured(table: pa.Table, file: FoundFile) -> pd.DataFrame:
    value = str(file.column((*SHARES, *PERCENTS)))
    numbers = table[value].cast(pa.float64()).to_numpy()
    values = pd.DataFrame({value: numbers / 100 if value in PERCENTS else numbers})
    if "user" in table.column_names:
        values["user"] = in_order(table["user"].unify_dictionaries().to_pandas().astype("category").array)
    values.index = pd.DatetimeIndex(table["time"].to_pandas(), name="time")
    try:
        return frame_of_values(values, value=value, metric=file.metric)
    except FrameError as error:
        raise FrameError(f"{file.path}: {error}") from None


def _seen(file: FoundFile) -> pd.DataFrame:
    """The users of a file, with their first and last moment."""
    user, time = str(file.column(USERS)), str(file.column(TIMES))
    table = pq.read_table(file.path, columns=[user, time], filesystem=file.files)
    users = table[user]
    if not pa.types.is_dictionary(users.type):
        users = users.cast(pa.string()).dictionary_encode()
    users = pa.chunked_array(users.unify_dictionaries(), users.type).combine_chunks()
    plain = pa.table({"user": users.indices, "time": _times(table[time])})
    seen = plain.group_by("user").aggregate([("time", "min"), ("time", "max")])
    named = users.dictionary.cast(pa.string()).take(seen["user"])
    frame: pd.DataFrame = seen.set_column(seen.column_names.index("user"), "user", named).to_pandas()
    return frame


def _of_parts(frame: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    return _of_part(_of_part(frame, "core", asked.core), "device", asked.device)


def _check_parts(files: Sequence[FoundFile], asked: Asked) -> None:
    """Raise LookupError, before anything is read, for cores or devices of files that name none."""
    for name, wanted in (("core", asked.core), ("device", asked.device)):
        if wanted is None or any(file.has_windows and name in file.schema.names for file in files):
            continue
        if wanted == "each":
            raise LookupError(f"these files name no {name}s")
        raise LookupError(f"{name} {wanted} is not in these files: they name no {name}s")


def _of_part(frame: pd.DataFrame, name: Literal["core", "device"], wanted: int | str | None) -> pd.DataFrame:
    """The rows of the host, of one core or device, or with `each` all."""
    if wanted == "each":
        return frame
    if name not in frame:
        return frame if wanted is None else frame.iloc[:0]
    if wanted is None:
        return frame[frame[name].isna()].drop(columns=name)
    return frame[(frame[name] == wanted).fillna(False)]
