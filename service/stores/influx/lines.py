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
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import binary, numbers

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
    """The points of windows with the columns of `MEMTABLE_SCHEMA`, sorted by series: one line for each host and end,
    with all its quantities, or, with `cores`, for each core and end; none for the rows that `without` marks.
    """
    series, time = numbers(windows, "series"), numbers(windows, "time")
    system = numbers(windows, "system")
    over_cores = {} if cores else _over_cores(windows, index)

    def fields(quantity: Quantity, rows: Ints) -> dict[str, pa.StringArray]:
        chosen = windows.take(pa.array(rows))
        found = _moments(
            quantity,
            numbers(chosen, "count"), numbers(chosen, "mean"), numbers(chosen, "variance"),
            numbers(chosen, "minimum"), numbers(chosen, "maximum"), binary(chosen),
        )  # fmt: skip
        if not cores and quantity == _CPU:
            found |= {name: _floats(values[rows]) for name, values in over_cores.items()}
        return found

    def once(rows: Ints) -> dict[str, pa.StringArray]:
        return {} if cores else {DURATION: _integers(numbers(windows.take(pa.array(rows)), "duration"))}

    groups = [
        (quantity, rows if without is None else rows[~without[rows]])
        for quantity, is_core, rows in _groups(series, index)
        if is_core == cores
    ]
    owner = _owners(series, index) * max(len(index.systems), 1) + (0 if cores else system)
    yield from _lines(groups, owner, time, fields, lambda rows: _window_keys(series[rows], system[rows], index), once)


def bucket_lines(
    tier_ms: int,
    buckets: Windows,
    index: SeriesIndex,
    parts: Ints | None = None,
    beside: Mapping[str, pa.StringArray] | None = None,
) -> Iterator[Lines]:
    """The points of a rollup's buckets, with histograms: one line for each host or core, bucket and part.

    `parts` has of each the number of the part that it is of its bucket, None where all are the whole; `beside` has
    further fields of each, as text.
    """
    highest = -1 if parts is None else int(parts.max(initial=0))
    assert buckets.histograms is not None
    packed = pack(buckets.histograms, len(buckets))

    def fields(quantity: Quantity, rows: Ints) -> dict[str, pa.StringArray]:
        found = _moments(
            quantity,
            buckets.count[rows], buckets.mean[rows], buckets.variance[rows],
            buckets.minimum[rows], buckets.maximum[rows], packed.take(pa.array(rows)),
        )  # fmt: skip
        approximated = buckets.approximated[rows]
        found[fields_of(quantity).approximated] = _integers(approximated, approximated > 0)
        return found | {name: texts.take(pa.array(rows)) for name, texts in (beside or {}).items()}

    kinds = [*_groups(buckets.series, index)]
    owner = _owners(buckets.series, index) * (highest + 2) + (0 if parts is None else parts)
    for cores in (False, True):
        measurement = measurement_of(tier_ms, cores=cores)

        def keys(rows: Ints, measurement: str = measurement) -> pa.StringArray:
            return _bucket_keys(
                measurement, buckets.series[rows], None if parts is None else parts[rows], highest, index
            )

        groups = [(quantity, rows) for quantity, is_core, rows in kinds if is_core == cores]
        yield from _lines(groups, owner, buckets.time, fields, keys)


def _owners(series: Ints, index: SeriesIndex) -> Ints:
    """A number for each row, the same for all quantities of a host, or of a core."""
    found: dict[tuple[str, int], int] = {}
    named, place = np.unique(series, return_inverse=True)
    owners = [
        found.setdefault((index.all[number - 1].user_id, index.all[number - 1].core), len(found))
        for number in named.tolist()
    ]
    numbered: Ints = np.array(owners, np.int64)[place] if len(series) else np.empty(0, np.int64)
    return numbered


def _lines(
    groups: Sequence[tuple[Quantity, Ints]],
    owner: Ints,
    time: Ints,
    fields: Callable[[Quantity, Ints], Mapping[str, pa.StringArray]],
    keys: Callable[[Ints], pa.StringArray],
    once: Callable[[Ints], Mapping[str, pa.StringArray]] = lambda _: {},
) -> Iterator[Lines]:
    """One line for each owner and time, with the fields of all quantities that have a row there, and those of `once`.

    InfluxDB 3 promises nothing of two lines of one series and time.
    """
    rows = np.concatenate([np.empty(0, np.int64), *(rows for _, rows in groups)])
    ends, end = np.unique(time[rows], return_inverse=True)
    place = np.unique(owner[rows], return_inverse=True)[1]
    found, first, line = np.unique(place * max(len(ends), 1) + end, return_index=True, return_inverse=True)
    starts = np.cumsum([0, *(len(rows) for _, rows in groups)])
    for begin in range(0, len(found), _SLICE):
        heads = rows[first[begin : begin + _SLICE]]
        texts = [_joined(named) for named in (once(heads),) if named]
        for (quantity, of_group), start in zip(groups, starts.tolist(), strict=False):
            its = line[start : start + len(of_group)] - begin
            within = np.flatnonzero((its >= 0) & (its < len(heads)))
            if not len(within):
                continue
            where = np.full(len(heads), -1)
            where[its[within]] = np.arange(len(within))
            text = _joined(fields(quantity, of_group[within]))
            texts.append(text.take(pa.array(where, mask=where < 0)))
        text = pc.binary_join_element_wise(*texts, ",", null_handling="skip")
        times = pc.binary_join_element_wise(pc.cast(pa.array(time[heads]), pa.string()), "\n", "")
        yield Lines(heads, pc.binary_join_element_wise(keys(heads), text, times, " "))


def _groups(series: Ints, index: SeriesIndex) -> Iterator[tuple[Quantity, bool, Ints]]:
    """The rows of each quantity, of hosts and of cores."""
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


def _joined(fields: Mapping[str, pa.StringArray]) -> pa.StringArray:
    """The fields of each row as text; those that are null are left out."""
    named = (pc.binary_join_element_wise(name + "=", text, "") for name, text in fields.items())
    return pc.binary_join_element_wise(*named, ",", null_handling="skip")


def lines_of(texts: Sequence[str]) -> Lines:
    """Lines that were made one by one."""
    return Lines(np.arange(len(texts)), pa.array(texts, pa.string()))
