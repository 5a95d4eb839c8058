"""InfluxDB itself as a source of windows, as the service, or the original system, has written them."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.frame import HISTOGRAM, LABELS, from_frame, in_order, to_frame
from analytics.frames.progress import progress
from analytics.frames.standins import standins
from analytics.sources.base import Asked, WindowedSource, metrics_of, users_of
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxClient
from contract.influx import (
    CORE,
    ORIGINAL_OBSERVATIONS,
    STATE,
    TIERS,
    USER_ID,
    Fields,
    between,
    fields_of,
    identifier,
    literal,
    measurement_of,
    tag_literal,
    tag_value,
)
from contract.metrics import QUANTITIES, Cpu


def packed_of(column: pa.ChunkedArray) -> pa.BinaryArray:
    """Histograms in bytes, of their hexadecimal; nothing for null."""
    text = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    if text.null_count:
        text = text.fill_null("")
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    data = bytes.fromhex(bytes(memoryview(text.buffers()[2] or b"")[offsets[0] : offsets[-1]]).decode())
    halved = ((offsets - offsets[0]) // 2).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(text), [None, pa.py_buffer(halved), pa.py_buffer(data)])


_RAW: Final = 0
_ROWS: Final = 200_000
"""About so many rows are asked for at once."""
_WINDOW_MS: Final = 5000
_LABEL: Final = pa.dictionary(pa.int32(), pa.string())


class _Piece(NamedTuple):
    """A part of a range, and the rollup to read it from; 0 are windows."""

    tier: int
    start_ms: int
    end_ms: int


class Influx(WindowedSource):
    """The database at an address such as `influx://localhost:8086/METRICS`; a source (`analytics.sources.base`).

    `token` for 2.x and 3.x, and for 1.x `user:password`. Raises ValueError for a wrong address. Questions raise
    `analytics.sources.influx_client.InfluxError` where the server does not answer, or refuses.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        where = Address.parse(address)
        user, colon, password = (token or "").partition(":")
        who = Credentials(user=user, password=password) if colon else Credentials(token=user)
        self._client = InfluxClient(where, who)

    def users(self) -> pd.DataFrame:
        """The users, and when their first and last window ended; systems and cores the service knows."""
        mean = identifier(fields_of(Cpu.quantities[0]).mean)
        moments = {}
        for name, select in (("first_seen", "first"), ("last_seen", "last")):
            found = self._client.execute(
                f"SELECT {select}({mean}) FROM {identifier(measurement_of())} GROUP BY {identifier(USER_ID)}"
            )
            names = [tag_value(series["tags"][USER_ID]) for series in found]
            time = np.array([series["values"][0][0] for series in found], "datetime64[ms]")
            index = pd.Index(names, name="user", dtype="str")
            moments[name] = pd.Series(pd.DatetimeIndex(time).tz_localize("UTC"), index=index)
        seen = pd.DataFrame(moments).sort_index()
        return users_of(seen)

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources.base`)."""
        return metrics_of(QUANTITIES.values())

    def close(self) -> None:
        """Connections are let go of when they are not used."""

    def _windows(self, asked: Asked) -> pd.DataFrame:
        pieces = [*self._pieces(asked)]
        measurements = [False] if asked.core is None else [False, True] if asked.core == "each" else [True]
        parts = []
        with progress(f"reading {asked.quantity.title}", len(pieces)) as step:
            for piece in pieces:
                parts += [self._rows(asked, piece, cores=cores) for cores in measurements]
                step()
        parts = [part for part in parts if len(part)] or parts[:1]
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def _pieces(self, asked: Asked) -> Iterator[_Piece]:
        """The range in parts, whole buckets of a rollup that divides the rate from it, the rest from windows."""
        start, end = self._range(asked)
        series = 1 if asked.user is not None else max(len(self.users()), 1)
        fitting = [tier for tier in TIERS if asked.rate_ms is not None and asked.rate_ms % tier == 0]
        inner_start = inner_end = start
        if fitting:
            tier = fitting[-1]
            inner_start = -(-max(start, self._since()) // tier) * tier
            inner_end = end // tier * tier
        if inner_start >= inner_end:
            parts = [_Piece(_RAW, start, end)]
        else:
            inner = _Piece(tier, inner_start, inner_end)
            parts = [_Piece(_RAW, start, inner_start), inner, _Piece(_RAW, inner_end, end)]
        for part in parts:
            yield from _steps(part, series)

    def _range(self, asked: Asked) -> tuple[int, int]:
        if asked.start_ms is not None and asked.end_ms is not None:
            return asked.start_ms, asked.end_ms
        seen = self.users()
        if seen.empty:
            return 0, 0
        first, last = int(seen["first_seen"].min().timestamp() * 1000), int(seen["last_seen"].max().timestamp() * 1000)
        start = first if asked.start_ms is None else asked.start_ms
        return start, last + 1 if asked.end_ms is None else asked.end_ms

    def _since(self) -> int:
        """From when on the rollups are whole, epoch ms; for ever in the future where there are none."""
        since = identifier("since")
        rows = self._client.select(f"SELECT last({since}) AS {since} FROM {identifier(STATE)}", {"since": pa.int64()})
        return int(rows["since"][0].as_py()) if len(rows) else 1 << 60

    def _rows(self, asked: Asked, piece: _Piece, *, cores: bool) -> pd.DataFrame:
        """The points of a part as a frame."""
        names = fields_of(asked.quantity)
        types = {"time": pa.int64(), names.count: pa.int64(), USER_ID: _LABEL}
        types |= {name: pa.float64() for name in (names.mean, names.variance, names.minimum, names.maximum)}
        if piece.tier != _RAW:
            types[names.approximated] = pa.int64()
        if asked.histograms:
            types[names.histogram] = pa.string()
        if cores:
            types[CORE] = pa.string()
        condition = between(piece.start_ms, piece.end_ms)
        if asked.user is not None:
            condition += f" AND {identifier(USER_ID)} = {tag_literal(asked.user)}"
        if cores and isinstance(asked.core, int):
            condition += f" AND {identifier(CORE)} = {literal(str(asked.core))}"
        columns = ", ".join(identifier(name) for name in types if name != "time")
        source = identifier(measurement_of(piece.tier, cores=cores))
        rows = self._client.select(f"SELECT {columns} FROM {source} WHERE {condition}", types)
        return _frame(rows.filter(pc.is_valid(rows[names.mean])), names, asked)


def _steps(piece: _Piece, series: int) -> Iterator[_Piece]:
    """A part in steps that are asked for at once, for so many machines."""
    width = max(_ROWS // series, 1) * (piece.tier or _WINDOW_MS)
    for start in range(piece.start_ms, piece.end_ms, width):
        yield _Piece(piece.tier, start, min(start + width, piece.end_ms))


def _frame(rows: pa.Table, names: Fields, asked: Asked) -> pd.DataFrame:
    """A frame of windows of points, what they leave out filled in."""
    count = rows[names.count].fill_null(ORIGINAL_OBSERVATIONS).to_numpy()
    mean, variance = rows[names.mean].to_numpy(), rows[names.variance].fill_null(0.0).to_numpy()
    minimum, maximum = (rows[name].fill_null(float("nan")).to_numpy() for name in (names.minimum, names.maximum))
    low, high, _ = standins(mean, variance, count, asked.quantity.bounded, (minimum, maximum))
    unknown = np.isnan(minimum) | np.isnan(maximum)
    columns: dict[str, Any] = {"user": _users(rows[USER_ID])}
    if asked.core is not None:
        has_cores = CORE in rows.column_names
        numbers = rows[CORE].cast(pa.int64()).to_numpy() if has_cores else [pd.NA] * len(rows)
        columns["core"] = pd.array(numbers, "Int64")
    columns |= {"count": count, "mean": mean, "var": variance, "min": low, "max": high}
    if names.approximated in rows.column_names:
        columns["approximated"] = rows[names.approximated].fill_null(0).to_numpy()
    else:
        columns["approximated"] = np.where(unknown & (variance > 0) & (count > 1), count, 0)
    if asked.histograms:
        histograms = packed_of(rows[names.histogram]).cast(pa.large_binary())
        columns["histogram"] = pd.array(pa.chunked_array([histograms]), dtype=HISTOGRAM)
    index = pd.DatetimeIndex(rows["time"].to_numpy().astype("datetime64[ms]"), name="time").tz_localize("UTC")
    frame = pd.DataFrame(columns, index=index)
    # A user that changed its system has two series there, and may have sent a window twice.
    labels = frame.reset_index()[["time", *(name for name in LABELS if name in frame)]]
    frame = frame[~labels.duplicated().to_numpy()]
    if not asked.histograms or not (frame["histogram"] == b"").any():
        return frame
    frame.attrs = {"metric": asked.quantity.camel}
    return to_frame(*from_frame(frame, histograms=True))


def _users(column: pa.ChunkedArray) -> Any:
    users = column.unify_dictionaries().to_pandas().astype("category")
    return in_order(users.cat.rename_categories(tag_value).array)
