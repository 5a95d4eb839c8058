"""Points of InfluxDB as frames of windows: what one SELECT asks for, and what its rows mean (docs/influxdb.md).

Everything that reads windows or rollups from InfluxDB does it by this module: `analytics.connect("influx://...")` and
the service's store.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.frame import frame_of_columns, packed_column
from analytics.frames.kernel import Ints
from analytics.frames.reported import frame_of_reported
from analytics.frames.tiers import NEVER_MS, RAW
from analytics.sources.influx_client import InfluxClient
from contract.influx import (
    CORE,
    DURATION,
    ORIGINAL_OBSERVATIONS,
    PART,
    STAND_IN_CORES,
    USER_ID,
    between,
    fields_of,
    identifier,
    literal,
    measurement_of,
    tag_literal,
    tag_value,
)
from contract.metrics import Cpu, Quantity

_ROWS: Final = 500_000
"""About so many rows are asked for at once."""
_WINDOW_MS: Final = 5000
_MIN_STEP_MS: Final = 60_000
_FILES: Final = 250
_FILE_MS: Final = 600_000
_FEW: Final = 100
_LONG: Final = 19
"""Digits that are too many for a number of 64 bits."""
"""Up to so many users are named in a statement; of more, everybody's rows are read."""
_LABEL: Final = pa.dictionary(pa.int32(), pa.string())


Cores = int | Literal["whole", "each"]
"""The whole host, each core by itself, or one core."""


@dataclass(frozen=True, slots=True)
class Points:
    """Which points are wanted: windows, or buckets of a rollup."""

    quantity: Quantity
    tier: int
    """The width of the rollup's buckets in ms, or `RAW` for windows."""
    start_ms: int
    end_ms: int
    """Half-open, as of every range."""
    users: Sequence[str]
    """Whose; nobody named are all."""
    cores: Cores = "whole"
    parts: bool = False
    """Whether the number of each row's part is wanted (-1 where it is a whole bucket), in the column `part`."""
    foreign: bool | None = None
    """Whether only windows that are points of the original are wanted, or only those that are not; None for all."""
    original: bool = True
    """Whether points of the original may be among them, which have the idlest and the busiest core beside the whole."""

    def steps(self, hosts: int, generation: int = 1) -> Iterator[Self]:
        """The same in parts that are asked for at once, so that memory holds the rows of so many `hosts`.

        `generation` is that of InfluxDB: version 3 answers no statement that touches many files.
        """
        width = max(_ROWS * (self.tier or _WINDOW_MS) // max(hosts, 1), self.tier, _MIN_STEP_MS)
        width = min(width, longest_ms(self.tier, generation))
        for start in range(self.start_ms, self.end_ms, width):
            yield replace(self, start_ms=start, end_ms=min(start + width, self.end_ms))


def longest_ms(tier: int, generation: int) -> int:
    """How long a range one statement may ask for.

    InfluxDB 3 has a file of each measurement for ten minutes, and Core refuses what touches more than 432.
    """
    return NEVER_MS if generation < 3 else _FILES * max(tier, _FILE_MS)


def condition(users: Sequence[str], start_ms: int, end_ms: int) -> str:
    """What points of some users in a range fulfil; of many users, everybody's."""
    if not 0 < len(users) <= _FEW:
        return between(start_ms, end_ms)
    named = " OR ".join(f"{identifier(USER_ID)} = {tag_literal(user)}" for user in users)
    return f"{between(start_ms, end_ms)} AND ({named})"


def select(client: InfluxClient, points: Points, *, histograms: bool, durations: bool = False) -> pa.Table:
    """The points as they lie there, each window once.

    Columns: `user` (a dictionary) and, where single cores are wanted, `core`; `time`
    (epoch ms, int64), `count`, `mean`, `variance`, `minimum`, `maximum` (NaN where they are not there), `approximated`
    (how many samples it says are), of windows always and of rollups with `histograms` `histogram` (packed, empty where
    there is none), with `durations` `duration` (ms). Raises what `client` raises.
    """
    parts = [_selected(client, points, histograms=histograms, durations=durations)]
    if points.tier == RAW and points.original and points.foreign is not False and points.quantity == Cpu.quantities[0]:
        stand_ins = [core for core in STAND_IN_CORES if points.cores in ("each", core)]
        if stand_ins:
            parts.append(_stand_ins(client, points, stand_ins))
    if len(parts) == 1 or not len(parts[1]):
        return parts[0]
    return pa.concat_tables(parts, promote_options="none").unify_dictionaries().combine_chunks()


def _stand_ins(client: InfluxClient, points: Points, cores: Sequence[int]) -> pa.Table:
    """The cores that stand for all cores of the original's points, in the columns of `select`."""
    whole = replace(points, cores="whole")
    count = fields_of(points.quantity).count
    types = {"time": pa.int64(), count: pa.int64()}
    types |= {name: pa.float64() for core in cores for name in STAND_IN_CORES[core]}
    if len(points.users) != 1:
        types[USER_ID] = _LABEL
    rows = _found(client, whole, types)
    rows = rows.filter(pc.is_null(rows[count]))
    empty = fields_of(points.quantity)
    tables = []
    for core in cores:
        mean, variance = STAND_IN_CORES[core]
        columns = {
            empty.mean: rows[mean],
            empty.variance: rows[variance],
            empty.count: rows[count],
            "time": rows["time"],
        }
        columns |= {USER_ID: rows[USER_ID]} if USER_ID in rows.column_names else {}
        nothing = {name: pa.nulls(len(rows), pa.float64()) for name in (empty.minimum, empty.maximum)}
        nothing |= {empty.histogram: pa.nulls(len(rows), pa.string())}
        tables.append(_as_they_lie(pa.table(columns | nothing), replace(points, cores=core)))
    return pa.concat_tables(tables)


def _selected(client: InfluxClient, points: Points, *, histograms: bool, durations: bool) -> pa.Table:
    names = fields_of(points.quantity)
    types = {"time": pa.int64(), names.count: pa.int64()}
    types |= {name: pa.float64() for name in (names.mean, names.variance, names.minimum, names.maximum)}
    if points.tier != RAW:
        types[names.approximated] = pa.int64()
    if histograms or points.tier == RAW:  # whether a window has one says whether it is approximated
        types[names.histogram] = pa.string()
    if durations:
        types[DURATION] = pa.int64()
    if len(points.users) != 1:
        types[USER_ID] = _LABEL
    if points.cores == "each":
        types[CORE] = _LABEL
    if points.parts:
        types[PART] = _LABEL
    return _as_they_lie(_found(client, points, types), points)


def _found(client: InfluxClient, points: Points, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns `types` of the points."""
    where = condition(points.users, points.start_ms, points.end_ms)
    if isinstance(points.cores, int):
        where += f" AND {identifier(CORE)} = {literal(str(points.cores))}"
    columns = ", ".join(identifier(name) for name in types if name != "time")
    measurement = identifier(measurement_of(points.tier, cores=points.cores != "whole"))
    return client.select(f"SELECT {columns} FROM {measurement} WHERE {where}", types)


def frame_of(rows: pa.Table, points: Points, *, histograms: bool) -> pd.DataFrame:
    """The frame of windows (`analytics.frames.frame`) of what `select` found; what windows leave out is filled in.

    It has the column `user`, and `core` where single cores are wanted.
    """
    time, count, approximated = (rows[name].to_numpy() for name in ("time", "count", "approximated"))
    mean, variance, minimum, maximum = (rows[name].to_numpy() for name in ("mean", "variance", "minimum", "maximum"))
    user = rows["user"].combine_chunks()
    columns: dict[str, Any] = {"user": pd.Categorical.from_codes(user.indices.to_numpy(), user.dictionary.to_pylist())}
    if "core" in rows.column_names:
        columns["core"] = pd.array(rows["core"].to_numpy(), "Int64")
    if points.tier == RAW:
        bounded, packed = np.full(len(rows), points.quantity.bounded), rows["histogram"].combine_chunks()
        reported = frame_of_reported(
            time, count, mean, variance, minimum, maximum, packed, bounded, histograms=histograms
        )
        columns |= {str(name): column.array for name, column in reported.items()}
        columns["approximated"] = np.maximum(reported["approximated"].to_numpy(), approximated)
    else:
        columns |= {"count": count, "mean": mean, "var": variance, "min": minimum, "max": maximum}
        columns["approximated"] = approximated
        if histograms:
            columns["histogram"] = packed_column(rows["histogram"])
    return frame_of_columns(columns, time)


def _as_they_lie(rows: pa.Table, points: Points) -> pa.Table:
    names = fields_of(points.quantity)
    user, core = _users(rows, points), _cores(rows, points)
    user_of = user.indices.to_numpy()
    count = rows[names.count]
    columns = {
        "user": user,
        "core": core,
        "time": rows["time"],
        "count": count.fill_null(ORIGINAL_OBSERVATIONS),
        "mean": rows[names.mean],
        "variance": rows[names.variance].fill_null(0.0),
        "minimum": rows[names.minimum].fill_null(float("nan")),
        "maximum": rows[names.maximum].fill_null(float("nan")),
    }
    if points.tier == RAW:
        # The original's points do not say how many samples they had: all that is said of them is an estimate.
        columns["approximated"] = pc.if_else(pc.is_null(count), ORIGINAL_OBSERVATIONS, 0)
    else:
        columns["approximated"] = rows[names.approximated].fill_null(0)
    if names.histogram in rows.column_names:
        columns["histogram"] = _packed(rows[names.histogram])
    if DURATION in rows.column_names:
        columns["duration"] = rows[DURATION].fill_null(0)
    if points.parts:
        columns["part"] = _numbers(rows[PART])
    kept = (core >= 0) & pc.is_valid(rows[names.mean]).to_numpy()
    if points.foreign is not None:
        kept &= pc.is_null(count).to_numpy() == points.foreign
    time = rows["time"].to_numpy()
    first = _first_of_each(user_of, core, time)
    order = None
    if points.tier == RAW:
        kept &= first
    elif not first.all():
        # Parts of a bucket come in any order; in one of their own they add up to the same bits each time.
        order = np.lexsort((columns["mean"].to_numpy(), columns["count"].to_numpy(), time, core, user_of))
    if points.cores == "whole":
        del columns["core"]
    table = pa.table(columns)
    if order is not None:
        return table.take(pa.array(order[kept[order]])).combine_chunks()
    return (table if kept.all() else table.take(pa.array(np.flatnonzero(kept)))).combine_chunks()


def _users(rows: pa.Table, points: Points) -> pa.DictionaryArray:
    """Whose each row is."""
    if USER_ID not in rows.column_names:
        return pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), [*points.users])
    tags, tag_of = _tags(rows[USER_ID])
    return pa.DictionaryArray.from_arrays(tag_of, pa.array([*map(tag_value, tags)], pa.string()))


def _cores(rows: pa.Table, points: Points) -> Ints:
    """The number of each row's core, -1 for what is none."""
    if points.cores != "each":
        return np.full(len(rows), points.cores if isinstance(points.cores, int) else 0, np.int64)
    return _numbers(rows[CORE])


def _numbers(column: pa.ChunkedArray) -> Ints:
    """The numbers that the values of a tag are, -1 for what is none."""
    tags, tag_of = _tags(column)
    numbers = np.array([_number(tag) for tag in tags], np.int64)
    return numbers[tag_of]


def _number(tag: str) -> int:
    return int(tag) if tag.isascii() and tag.isdecimal() and len(tag) < _LONG else -1


def _tags(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """The values of a tag, and the place of each row's among them."""
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    if whole.null_count:
        whole = whole.fill_null("")
    return whole.dictionary.to_pylist(), whole.indices.to_numpy()


def _first_of_each(user: Ints, core: Ints, time: Ints) -> npt.NDArray[np.bool_]:
    """Which rows are the first of their series and time: a user that changes its system has two series there."""
    series = user * (int(core.max(initial=0)) + 2) + core + 1
    if np.all((series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (time[1:] > time[:-1]))):
        return np.ones(len(series), np.bool_)
    order = np.lexsort((time, series))
    first = np.ones(len(series), np.bool_)
    first[order[1:]] = (np.diff(series[order]) != 0) | (np.diff(time[order]) != 0)
    return first


def _packed(column: pa.ChunkedArray) -> pa.BinaryArray:
    """Histograms in bytes, of their hexadecimal; nothing for null."""
    if not len(column):
        return pa.array([], pa.binary())
    text = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    if text.null_count:
        text = text.fill_null("")
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    data = bytes.fromhex(bytes(memoryview(text.buffers()[2] or b"")[offsets[0] : offsets[-1]]).decode())
    halved = ((offsets - offsets[0]) // 2).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(text), [None, pa.py_buffer(halved), pa.py_buffer(data)])
