"""Points of each kind that the store writes, and whether a database gives them back as they are."""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge
from analytics.frames.packing import pack
from analytics.frames.tiers import RAW, Rolled
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import Cores, Points
from analytics.sources.influx_state import State, state_of
from contract.influx import TIERS, identifier, string_field, tag
from contract.metrics import Cpu, Distribution, Memory, Quantity
from contract.report import Report
from contract.times import DAY_MS
from service.stores.influx import database
from service.stores.influx.lines import Lines, bucket_lines, lines_of, window_lines
from service.stores.influx.publication import ImmutableMemtable
from service.stores.influx.reading import Reader
from service.stores.influx.users import UserCatalog
from service.stores.memtable import Memtable
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import rows_of

ODD_NAME = "check, a=b \"c\" 'd' DOMAIN\\me #1 \u00fc\u65e5\u672c\U0001f980"
"""A name with all that has to be escaped somewhere, and that all generations read alike."""
_POINT = "check"
_FLOATS = {"f1": 0.1, "f2": 1 / 3, "f3": 5e-324, "f4": 1.7976931348623157e308, "f5": 123_456_789.123_456_79}
_INTEGERS = {"i1": 0, "i2": 2**53 + 1, "i3": 2**63 - 1}
_TEXTS = {"text": ODD_NAME}
_CORES: tuple[Cores, ...] = ("whole", "each")
_NUMBERS = ("time", "count", "mean", "variance", "minimum", "maximum")


class Kind(NamedTuple):
    """Points that are alike."""

    words: str
    """What they are, such as `windows of cores`."""
    lines: Sequence[Lines]
    is_same: Callable[[], bool]
    """Whether what is read now is what was written, to the bit; raises what the client raises."""


class Trial:
    """Points that end at `now_ms`, epoch ms, for a database in which nothing else is."""

    def __init__(self, client: InfluxClient, now_ms: int) -> None:
        self._client = client
        self._now_ms = now_ms
        self._index = SeriesIndex()
        self._reader = Reader(client, self._index)
        memtable = Memtable(self._index, 0)
        memtable.add(1, [_report(now_ms)])
        self._windows = ImmutableMemtable(memtable).windows

    def kinds(self) -> Iterator[Kind]:
        """Every kind of point that the store writes."""
        yield Kind("floats, integers and texts", [self.lines((0.5, 0))], self._same_values)
        for cores in _CORES:
            lines = list(window_lines(self._windows, self._index, cores=cores == "each"))
            yield Kind(f"windows {_of(cores)}", lines, partial(self._same_windows, cores))
        windows = rows_of(self._windows, self._index.bounded(), histograms=True).windows()
        for tier, name in TIERS.items():
            buckets = merge(windows, rate_ms=tier)
            lines = list(bucket_lines(tier, buckets, self._index, np.zeros(len(buckets), np.int64)))
            yield Kind(f"rollups of {name}", lines, partial(self._same_buckets, tier, buckets))
        through = {tier: self._now_ms // tier * tier for tier in TIERS}
        state = State(self._now_ms, 2, Rolled(self._now_ms - DAY_MS, through), 0, f"/{ODD_NAME}")
        users = UserCatalog(self._index).users_of(self._windows)
        yield Kind(
            "users and state", [database.state_lines(state), database.user_lines(users, self._now_ms)],
            lambda: database.taken_up(self._client, self._now_ms) == (state, users),
        )  # fmt: skip

    def lines(self, *points: tuple[float | str, int]) -> Lines:
        """Points with awkward values, each with the value of its field `load`, which a text makes a wrong line, and how
        many ms it is before the others.
        """
        return lines_of([self._line(load, before_ms) for load, before_ms in points])

    def _line(self, load: float | str, before_ms: int) -> str:
        fields: dict[str, str] = {"load": repr(load) if isinstance(load, float) else string_field(load)}
        fields |= {name: repr(value) for name, value in _FLOATS.items()}
        fields |= {name: f"{value}i" for name, value in _INTEGERS.items()}
        fields |= {name: string_field(text) for name, text in _TEXTS.items()}
        said = ",".join(f"{name}={value}" for name, value in fields.items())
        return f"{_POINT}{tag('odd', ODD_NAME)} {said} {self._now_ms - before_ms}\n"

    def loads(self) -> dict[int, float]:
        """The field `load` of all points of `lines` that are there, by how many ms they are before the others."""
        types = {"time": pa.int64(), "load": pa.float64()}
        rows = self._client.select(f"SELECT {identifier('load')} FROM {identifier(_POINT)}", types).to_pylist()
        return {self._now_ms - row["time"]: row["load"] for row in rows}

    def ask(self) -> None:
        """A question as the store has them."""
        state_of(self._client, self._now_ms)

    def delete(self) -> bool:
        """Delete the rollups as the store does; whether they are gone, and the windows are not."""
        database.delete_rollups(self._client, [ODD_NAME], self._now_ms // DAY_MS * DAY_MS, self._now_ms + 1)
        left = [part for tier in TIERS for cores in _CORES for part in self._buckets(tier, Cpu.quantities[0], cores)]
        return not left and all(self._same_windows(cores) for cores in _CORES)

    def _same_values(self) -> bool:
        types: dict[str, pa.DataType] = dict.fromkeys(_FLOATS, pa.float64()) | dict.fromkeys(_INTEGERS, pa.int64())
        types |= dict.fromkeys((*_TEXTS, "odd"), pa.string())
        columns = ", ".join(map(identifier, types))
        found = self._client.select(f"SELECT {columns} FROM {identifier(_POINT)}", types).to_pylist()
        expected: dict[str, Any] = {**_FLOATS, **_INTEGERS, **_TEXTS, "odd": ODD_NAME}
        return [_bits(row) for row in found] == [_bits(expected)]

    def _same_windows(self, cores: Cores) -> bool:
        return all(self._same_windows_of(quantity, cores) for quantity in _quantities(cores))

    def _same_windows_of(self, quantity: Quantity, cores: Cores) -> bool:
        found = self._reader.as_came(self._points(RAW, quantity, cores))
        expected = self._windows.take(pa.array(self._rows(self._windows["series"].to_numpy(), quantity, cores)))
        # A core's window does not say how long it is.
        names = (*_NUMBERS, "duration") if cores == "whole" else _NUMBERS
        return _columns(found, names) == _columns(expected, names)

    def _same_buckets(self, tier: int, buckets: Windows) -> bool:
        for cores in _CORES:
            for quantity in _quantities(cores):
                found = concatenate(self._buckets(tier, quantity, cores))
                rows = self._rows(buckets.series, quantity, cores)
                if _columns(_table(found), _NUMBERS) != _columns(_table(buckets).take(pa.array(rows)), _NUMBERS):
                    return False
        return True

    def _buckets(self, tier: int, quantity: Quantity, cores: Cores) -> list[Windows]:
        return list(self._reader.windows(self._points(tier, quantity, cores), numbered=True))

    def _points(self, tier: int, quantity: Quantity, cores: Cores) -> Points:
        start_ms = self._now_ms // DAY_MS * DAY_MS
        return Points(quantity, tier, start_ms, self._now_ms + 1, [ODD_NAME], cores, original=False)

    def _rows(self, series: np.ndarray[Any, np.dtype[Any]], quantity: Quantity, cores: Cores) -> list[int]:
        """The places of a quantity's series of hosts, or of cores."""
        known = self._index.cores(ODD_NAME, quantity.name).items()
        wanted = {number for core, number in known if (core == WHOLE) == (cores == "whole")}
        return [place for place, number in enumerate(series.tolist()) if number in wanted]


def _quantities(cores: Cores) -> tuple[Quantity, ...]:
    """Those of the trial that hosts, or cores, have."""
    return (*Cpu.quantities, *Memory.quantities) if cores == "whole" else Cpu.quantities


def _of(cores: Cores) -> str:
    return "of hosts" if cores == "whole" else "of cores"


def _report(end_ms: int) -> Report:
    """Of a host with two cores, whose numbers have many digits."""
    third = 1 / 3
    cpu = Cpu(
        third, 0.0123456789012345678, [0.1, third + 0.1], [0.01, third / 7],
        0.1, 0.7000000000000001, [6, 1, 21, 1, 44, 1], [0.1, third], [third, 0.9], [[6, 2, 21, 1], [21, 1, 57, 2]],
    )  # fmt: skip
    memory = Memory(Distribution(2 / 7, 0.001, 0.1, 0.9, [6, 1, 18, 1, 57, 1]))
    return Report(ODD_NAME, end_ms - 5021, end_ms, 3, "Linux", ODD_NAME, [cpu, memory])


def _bits(row: dict[str, Any]) -> dict[str, Any]:
    return {name: struct.pack("d", value) if isinstance(value, float) else value for name, value in row.items()}


def _table(buckets: Windows) -> pa.Table:
    """Buckets with their histograms as bytes."""
    columns: dict[str, Any] = {name: getattr(buckets, name) for name in ("series", *_NUMBERS)}
    assert buckets.histograms is not None
    return pa.table(columns | {"histogram": pack(buckets.histograms, len(buckets))})


def _columns(rows: pa.Table, names: Sequence[str]) -> list[object]:
    """What is the same where each row has the same bits, whatever their order; no two are of one series."""
    order = rows.take(pa.array(np.argsort(rows["series"].to_numpy(), kind="stable")))
    return [order[name].to_numpy().astype(_type(name)).tobytes() for name in ("series", *names)] + [
        order["histogram"].to_pylist()
    ]


def _type(name: str) -> type:
    return np.int64 if name in ("series", "time", "count", "duration") else np.float64
