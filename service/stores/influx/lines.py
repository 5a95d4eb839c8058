"""Windows, buckets and users as line protocol, whole columns at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.columns import Windows
from analytics.frames.packing import pack
from contract.influx import (
    CORE,
    CORES,
    DURATION,
    MEASUREMENTS,
    OS_TYPE,
    OS_VERSION,
    OVER_CORES,
    PART,
    USER_ID,
    fields_of,
    measurement_of,
    tag,
)
from contract.metrics import QUANTITIES, Cpu, Quantity
from service.stores.memtable import binary, numbers
from service.stores.series import WHOLE, SeriesIndex

_CPU = Cpu.quantities[0]
_SLICE = 100_000
"""Windows that are turned into text together: some 30 MB."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Lines(NamedTuple):
    """Points as text, each line with its end."""

    rows: Ints
    """The place of each line's window or bucket among those that were given."""
    text: pa.StringArray


def window_lines(
    windows: pa.Table, index: SeriesIndex, *, cores: bool, without: npt.NDArray[np.bool_] | None = None
) -> Iterator[Lines]:
    """The points of windows with the columns of `MEMTABLE_SCHEMA`, sorted by series: one line for each of a machine,
    or, with `cores`, for each of a core; none for the rows that `without` marks.
    """
    series, time = numbers(windows, "series"), numbers(windows, "time")
    over_cores = {} if cores else _over_cores(windows, index)
    for quantity, is_core, rows in _groups(series, index):
        if is_core != cores:
            continue
        for part in _slices(rows if without is None else rows[~without[rows]]):
            chosen = windows.take(pa.array(part))
            fields = _moments(
                quantity,
                numbers(chosen, "count"), numbers(chosen, "mean"), numbers(chosen, "variance"),
                numbers(chosen, "minimum"), numbers(chosen, "maximum"), binary(chosen),
            )  # fmt: skip
            if not is_core:
                fields[DURATION] = _integers(numbers(chosen, "duration"))
                if quantity == _CPU:
                    fields |= {name: _floats(values[part]) for name, values in over_cores.items()}
            keys = _window_keys(series[part], numbers(chosen, "system"), index)
            yield Lines(part, _joined(keys, fields, time[part]))


def bucket_lines(
    tier_ms: int,
    buckets: Windows,
    index: SeriesIndex,
    parts: Ints | None = None,
    beside: Mapping[str, pa.StringArray] | None = None,
) -> Iterator[Lines]:
    """The points of a rollup's buckets, sorted by series, with histograms; one line each.

    `parts` has of each the number of the part that it is of its bucket, None where all are the whole; `beside` has
    further fields of each, as text.
    """
    highest = -1 if parts is None else int(parts.max(initial=0))
    assert buckets.histograms is not None
    packed = pack(buckets.histograms, len(buckets))
    for quantity, is_core, of_kind in _groups(buckets.series, index):
        measurement = measurement_of(tier_ms, cores=is_core)
        for rows in _slices(of_kind):
            fields = _moments(
                quantity,
                buckets.count[rows], buckets.mean[rows], buckets.variance[rows],
                buckets.minimum[rows], buckets.maximum[rows], packed.take(pa.array(rows)),
            )  # fmt: skip
            approximated = buckets.approximated[rows]
            fields[fields_of(quantity).approximated] = _integers(approximated, approximated > 0)
            fields |= {name: texts.take(pa.array(rows)) for name, texts in (beside or {}).items()}
            keys = _bucket_keys(
                measurement, buckets.series[rows], None if parts is None else parts[rows], highest, index
            )
            yield Lines(rows, _joined(keys, fields, buckets.time[rows]))


def _slices(rows: Ints) -> Iterator[Ints]:
    return (rows[start : start + _SLICE] for start in range(0, len(rows), _SLICE))


def _groups(series: Ints, index: SeriesIndex) -> Iterator[tuple[Quantity, bool, Ints]]:
    """The rows of each quantity, of machines and of cores."""
    numbers_, inverse = np.unique(series, return_inverse=True)
    found: dict[tuple[str, bool], int] = {}
    kinds = []
    for number in numbers_.tolist():
        one = index.all[number - 1]
        kinds.append(found.setdefault((one.quantity, one.core != WHOLE), len(found)))
    kind = np.array(kinds, np.int64)[inverse]
    for (name, is_core), place in found.items():
        yield QUANTITIES[name], is_core, np.flatnonzero(kind == place)


def _moments(
    quantity: Quantity,
    count: Ints,
    mean: Floats,
    variance: Floats,
    minimum: Floats,
    maximum: Floats,
    packed: pa.BinaryArray,
) -> dict[str, pa.Array]:
    """The fields that windows and buckets have alike; what is not finite is left out."""
    names = fields_of(quantity)
    with np.errstate(over="ignore"):
        total, squares = mean * count, (variance + mean * mean) * count
    return {
        names.mean: _floats(mean),
        names.variance: _floats(variance),
        names.count: _integers(count),
        names.total: _floats(total),
        names.squares: _floats(squares),
        names.minimum: _floats(minimum),
        names.maximum: _floats(maximum),
        names.histogram: _hexadecimal(packed),
    }


def _over_cores(windows: pa.Table, index: SeriesIndex) -> dict[str, Floats]:
    """By row: the highest and lowest mean and variance of the cores of the same report, NaN where it has none."""
    series, time = numbers(windows, "series"), numbers(windows, "time")
    values = {name: np.full(len(series), np.nan) for name in OVER_CORES}
    users: dict[str, int] = {}
    of_whole, of_cores = np.full(len(index) + 1, -1), np.full(len(index) + 1, -1)
    for number in np.unique(series).tolist():
        one = index.all[number - 1]
        if one.quantity == _CPU.name:
            (of_whole if one.core == WHOLE else of_cores)[number] = users.setdefault(one.user_id, len(users))
    whole, cores = np.flatnonzero(of_whole[series] >= 0), np.flatnonzero(of_cores[series] >= 0)
    if not len(cores):
        return values
    first, span = int(time.min()), int(np.ptp(time)) + 1
    reports = of_whole[series[whole]] * span + (time[whole] - first)
    order = np.argsort(reports, kind="stable")
    place = order[np.searchsorted(reports, of_cores[series[cores]] * span + (time[cores] - first), sorter=order)]
    for column, highest, lowest in (("mean", *OVER_CORES[:2]), ("variance", *OVER_CORES[2:4])):
        found = numbers(windows, column)[cores]
        for name, extreme in ((highest, np.fmax), (lowest, np.fmin)):
            of_report = np.full(len(whole), np.nan)
            extreme.at(of_report, place, found)
            values[name][whole] = of_report
    values[OVER_CORES[4]] = values[OVER_CORES[3]]
    return values


def _window_keys(series: Ints, system: Ints, index: SeriesIndex) -> pa.StringArray:
    """The measurement and tags of each window."""
    systems = len(index.systems)

    def key(number: int) -> str:
        number, place = divmod(number, systems)
        if index.all[number - 1].core != WHOLE:
            return _series_key(CORES, "", number, index)
        os_type, os_version = index.systems[place]
        return MEASUREMENTS + tag(OS_TYPE, os_type) + tag(OS_VERSION, os_version) + _user(number, index)

    return _keys(series.astype(np.int64) * systems + system, key)


def _bucket_keys(
    measurement: str, series: Ints, parts: Ints | None, highest: int, index: SeriesIndex
) -> pa.StringArray:
    """The measurement and tags of each row of a rollup; no part is higher than `highest`."""
    if parts is None:
        return _keys(series, partial(_series_key, measurement, "", index=index))

    def key(combined: int) -> str:
        number, part = divmod(combined, highest + 1)
        return _series_key(measurement, tag(PART, str(part)), number, index)

    return _keys(series * (highest + 1) + parts, key)


def _series_key(measurement: str, part: str, number: int, index: SeriesIndex) -> str:
    core = index.all[number - 1].core
    return measurement + ("" if core == WHOLE else tag(CORE, str(core))) + part + _user(number, index)


def _user(number: int, index: SeriesIndex) -> str:
    return tag(USER_ID, index.all[number - 1].user_id)


def _keys(values: Ints, key: Callable[[int], str]) -> pa.StringArray:
    found, inverse = np.unique(values, return_inverse=True)
    return pa.array([key(value) for value in found.tolist()], pa.string()).take(pa.array(inverse))


def _floats(values: Floats) -> pa.StringArray:
    return pc.cast(pa.array(values, mask=~np.isfinite(values)), pa.string())


def _integers(values: Ints, where: npt.NDArray[np.bool_] | None = None) -> pa.StringArray:
    text = pc.cast(pa.array(values, mask=None if where is None else ~where), pa.string())
    return pc.binary_join_element_wise(text, "i", "")


def _hexadecimal(packed: pa.BinaryArray) -> pa.StringArray:
    """Each value in quotes, null where it is empty."""
    offsets = np.frombuffer(packed.buffers()[1], np.int32)[packed.offset : packed.offset + len(packed) + 1]
    data = memoryview(packed.buffers()[2] or b"")[offsets[0] : offsets[-1]].hex().encode()
    doubled = ((offsets - offsets[0]) * 2).astype(np.int32)
    text = pa.StringArray.from_buffers(len(packed), pa.py_buffer(doubled), pa.py_buffer(data))
    text = pc.if_else(pa.array(np.diff(offsets) > 0), text, None)
    return pc.binary_join_element_wise('"', text, '"', "")


def _joined(keys: pa.StringArray, fields: Mapping[str, pa.StringArray], time: Ints) -> pa.StringArray:
    named = (pc.binary_join_element_wise(name + "=", text, "") for name, text in fields.items())
    joined = pc.binary_join_element_wise(*named, ",", null_handling="skip")
    ends = pc.binary_join_element_wise(pc.cast(pa.array(time), pa.string()), "\n", "")
    return pc.binary_join_element_wise(keys, joined, ends, " ")


def lines_of(texts: Sequence[str]) -> Lines:
    """Lines that were made one by one."""
    return Lines(np.arange(len(texts)), pa.array(texts, pa.string()))
