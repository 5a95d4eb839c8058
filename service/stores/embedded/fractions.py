"""Means and variances in files, as the whole numbers that they are made of: fewer bytes, and the same to the bit.

A core's times are counted in ticks, and a sample is a fraction of few of them, `b / t`. So the mean of a window is
`busy / units`, and the mean of the squares `squares / (parts * units)`, all whole numbers. `units` is

- the ticks of the window, where samples are weighed by their time, as our agent's are: `busy` of them were busy;
- `parts * count`, where they are not, as those of the original's client.

`parts` is a number that every `t` divides, so that `b * b / t` is a whole number of parts. What the sum on the agent
rounded in another way than a division does is kept beside, as how many doubles lie between (`ulps`):

    mean      busy / units, and mean_ulps doubles on
    variance  (squares * units - parts * busy * busy) / (parts * units * units), and variance_ulps doubles on

What is in parentheses is whole and below 2^53. Where that would not give the same 64 bits, or a number is no such
fraction, the column `mean` or `variance` has it as it came; it is null otherwise.

`busy` and `squares` nearly follow from the histogram (`service.stores.embedded.counts`); what is kept is by how much
they differ from what follows, `busy_rest` and `squares_rest`. Without a histogram busy time is taken to be 0, and the
squares to be in the middle of what they can be.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from service.stores.embedded.counts import SCALE, Counts, StoredColumns, Sums

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TICK_MS = 10
"""Of the counters: USER_HZ is 100 on every Linux that is in use."""
_TICKS = 5
"""Of a sample of a core, in the 50 ms that agents sample at unless they are told otherwise."""
_WIDE = 27_720
"""What 1 to 12 divide: ticks of a core in 100 ms, or of whatever samples differ in length by much."""
_SPREADS = (1, 2, 3)
"""How many ticks more or less than most a sample may have: few, so that the squares have few parts."""
_OFF = sorted(range(-10, 11), key=abs)
"""How many ticks more a window may have: it is not cut where they are, and on a busy host some are lost."""
_MANY_CORES = 16
"""The squares of more have parts of which a window has more than 53 bits can say."""
_MOST_TICKS = 200
_EXACT = 2**53
_MOST_UNITS = 2**30
_MEAN_ULPS, _VARIANCE_ULPS = 8, 256.0
"""How far rounding carries; what is farther is another fraction."""

SCHEMA = pa.schema(
    [
        pa.field("units", pa.int32()),
        pa.field("busy_rest", pa.int32()),
        pa.field("mean_ulps", pa.int32()),
        pa.field("parts", pa.int32()),
        pa.field("squares_rest", pa.int64()),
        pa.field("variance_ulps", pa.int32()),
    ]
)
"""The columns beside `mean` and `variance`; those of a number are null where it is kept as it came. All but `units` and
`parts` are zigzag: 0, -1, 1, -2, ... are 0, 1, 2, 3, ..."""


class _Fractions(NamedTuple):
    """Of each window; where a mask is not set, the numbers behind it mean nothing."""

    is_mean: Mask
    units: Ints
    busy: Ints
    mean_ulps: Ints
    is_variance: Mask
    parts: Ints
    squares: Ints
    variance_ulps: Ints


def columns(batch: pa.RecordBatch, cores: Ints, counts: Counts) -> tuple[dict[str, pa.Array], Ints]:
    """The columns `mean`, `variance` and those of `SCHEMA` for windows, and how many ticks a sample of each has.

    `cores` is how many each window stands for.
    """
    mean, variance, count = (batch[name].to_numpy() for name in ("mean", "variance", "count"))
    ticks = batch["duration"].to_numpy().astype(np.int64) // TICK_MS * cores
    found = _found(mean, variance, count, ticks, cores)
    of_sample = _ticks_of_sample(found.units, count, found.is_mean)
    sums = counts.sums(of_sample)
    busy_rest = found.busy - _expected_busy(found.units, count, counts, sums)
    squares_rest = found.squares - _expected_squares(found.units, found.busy, found.parts, count, counts, sums)
    kept = [
        (found.is_mean, found.units), (found.is_mean, _zigzag(busy_rest)), (found.is_mean, _zigzag(found.mean_ulps)),
        (found.is_variance, found.parts), (found.is_variance, _zigzag(squares_rest)),
        (found.is_variance, _zigzag(found.variance_ulps)),
    ]  # fmt: skip
    return {
        "mean": pa.array(mean, mask=found.is_mean),
        "variance": pa.array(variance, mask=found.is_variance),
        **{
            field.name: pa.array(np.where(mask, values, 0), field.type, mask=~mask)
            for field, (mask, values) in zip(SCHEMA, kept, strict=True)
        },
    }, of_sample


def read_ticks(columns: StoredColumns, count: Ints) -> Ints:
    """How many ticks a sample of each row of a file has; 0 where that is not known."""
    return _ticks_of_sample(columns["units"].values, count, ~columns["mean"].is_valid)


def read_means(columns: StoredColumns, count: Ints, counts: Counts, sums: Sums) -> tuple[Floats, Ints]:
    """The mean of rows of a file, and the busy ticks that it is made of."""
    units, kept = columns["units"].values, columns["mean"]
    busy = _unzigzag(columns["busy_rest"].values) + _expected_busy(units, count, counts, sums)
    mean = _mean(units, busy, _unzigzag(columns["mean_ulps"].values))
    return mean if kept.is_empty else np.where(kept.is_valid, kept.values, mean), busy


def read_variances(columns: StoredColumns, count: Ints, counts: Counts, sums: Sums, busy: Ints) -> Floats:
    """The variance of rows of a file."""
    units, parts, kept = (columns[name].values for name in ("units", "parts", "variance"))
    squares = _unzigzag(columns["squares_rest"].values)
    squares = squares + _expected_squares(units, busy, parts, count, counts, sums)
    found = _variance(units, busy, parts, squares, _unzigzag(columns["variance_ulps"].values))
    return found if columns["variance"].is_empty else np.where(columns["variance"].is_valid, kept, found)


def _ticks_of_sample(units: Ints, count: Ints, is_mean: Mask) -> Ints:
    """How many ticks a sample has, as far as `units` tells; 0 where it does not."""
    ticks = np.floor(units / np.maximum(count, 1) + 0.5)
    return np.where(is_mean & (ticks <= _MOST_TICKS), ticks, 0.0).astype(np.int64)


def _expected_busy(units: Ints, count: Ints, counts: Counts, sums: Sums) -> Ints:
    """What follows from the histogram."""
    found = np.floor(sums[0] * units / (np.maximum(count, 1) * float(SCALE)) + 0.5)
    return np.where(counts.is_counted, found, 0.0).astype(np.int64)


def _expected_squares(units: Ints, busy: Ints, parts: Ints, count: Ints, counts: Counts, sums: Sums) -> Ints:
    """What follows from the histogram, or else from the mean."""
    counted = sums[1] * units * parts / (np.maximum(count, 1) * float(SCALE))
    least = busy / np.maximum(units, 1) * busy * parts
    return np.floor(np.where(counts.is_counted, counted, (least + busy * parts) * 0.5) + 0.5).astype(np.int64)


def _zigzag(values: Ints) -> Ints:
    return (values << 1) ^ (values >> 63)


def _unzigzag(values: Ints) -> Ints:
    return (values >> 1) ^ -(values & 1)


def _mean(units: Ints, busy: Ints, ulps: Ints | int = 0) -> Floats:
    return _on(busy / np.maximum(units, 1), ulps)


def _variance(units: Ints, busy: Ints, parts: Ints, squares: Ints, ulps: Ints | int = 0) -> Floats:
    value = (squares * units - parts * busy * busy) / np.maximum(parts * units * units, 1)
    return _on(value, ulps)


def _on(value: Floats, ulps: Ints | int) -> Floats:
    """The doubles that lie so many further on."""
    found: Floats = (value.view(np.int64) + ulps).view(np.float64)
    return found


@lru_cache(1024)
def _parts(ticks: int) -> tuple[int, ...]:
    """Numbers that what samples of about so many ticks have divides, the smallest first; 0 for none."""
    spans = (range(max(1, ticks - spread), ticks + spread + 1) for spread in _SPREADS)
    found = [math.lcm(*span) for span in spans] if ticks <= _MOST_TICKS else []
    found = [parts for parts in found if parts <= _MOST_UNITS]
    return (*found, _WIDE, *[0] * (len(_SPREADS) - len(found)))


def _all_parts(ticks: Floats | Ints) -> Ints:
    """`_parts` of each window: a row for each that is to be tried."""
    different, place = np.unique(np.clip(ticks, 1, _MOST_TICKS + 1).astype(np.int64), return_inverse=True)
    return np.array([_parts(one) for one in different.tolist()], np.int64).reshape(-1, len(_SPREADS) + 1)[place].T


def _found(mean: Floats, variance: Floats, count: Ints, ticks: Ints, cores: Ints) -> _Fractions:
    rows = len(mean)
    found = _Fractions(*(np.zeros(rows, kind) for kind in (bool, int, int, int, bool, int, int, int)))
    count = np.minimum(count, _MOST_UNITS)
    usual = np.minimum(count * _TICKS, _MOST_UNITS) * cores
    numbers = (mean, variance)
    left = np.flatnonzero((mean >= 0.0) & (mean <= 1.0) & (count > 0))
    with np.errstate(all="ignore"):
        parts, usual_parts = _all_parts(ticks / count), _all_parts(usual / count)
        is_unusual = ticks != usual
        # Those that most windows are, first: each round looks at what the ones before left.
        for off in _OFF[:3]:
            left = _take_up(found, left, numbers, ticks + off, parts, cores)
        for some, mine in ((parts, None), (usual_parts, is_unusual)):
            for divisor in some[1:]:
                left = _take_up(found, left, numbers, divisor * count, divisor[None], cores, mine)
        for off in _OFF:
            left = _take_up(found, left, numbers, usual + off, usual_parts, cores, is_unusual)
        for off in _OFF[3:]:
            left = _take_up(found, left, numbers, ticks + off, parts, cores)
    return found


def _take_up(
    found: _Fractions, left: Ints, numbers: tuple[Floats, Floats], units: Ints, parts: Ints, cores: Ints,
    only: Mask | None = None,
) -> Ints:  # fmt: skip
    """Note those of the windows `left` whose means are fractions of so many units; returns those that are left then."""
    tried = left if only is None else left[only[left]]
    if not len(tried):
        return left
    mean, of_each = numbers[0][tried], units[tried]
    fits = (of_each > 0) & (of_each <= _MOST_UNITS)
    busy = np.where(fits, np.rint(mean * of_each), 0.0).astype(np.int64)
    ulps = mean.view(np.int64) - _mean(of_each, busy).view(np.int64)
    fits &= (ulps >= -_MEAN_ULPS) & (ulps <= _MEAN_ULPS)
    mine = tried[fits]
    found.is_mean[mine] = True
    found.units[mine], found.busy[mine], found.mean_ulps[mine] = of_each[fits], busy[fits], ulps[fits]
    for some in parts:
        _take_up_squares(found, mine, numbers, some[mine])
        mine = mine[~found.is_variance[mine]]
    # A mean may be a fraction of several numbers of units, as 1/2 is, and the squares of one of them alone.
    return left[~(found.is_variance[left] | (found.is_mean[left] & (cores[left] > _MANY_CORES)))]


def _take_up_squares(found: _Fractions, left: Ints, numbers: tuple[Floats, Floats], parts: Ints) -> None:
    """Note those of the windows `left` whose squares are so many parts."""
    units, busy, number = found.units[left], found.busy[left], numbers[1][left]
    square = numbers[0][left] ** 2
    squares = np.rint((number + square) * (parts * units))
    fits = (parts > 0) & (squares * units < _EXACT) & (units * units < _EXACT // np.maximum(parts, 1))
    whole = np.where(fits, squares, 0).astype(np.int64)
    value = _variance(units, busy, parts, whole)
    fits &= np.abs(number - value) <= _VARIANCE_ULPS * np.spacing(np.maximum(number, square))
    ulps = number.view(np.int64) - value.view(np.int64)
    fits &= (ulps >= -_MOST_UNITS) & (ulps < _MOST_UNITS)
    mine = left[fits]
    found.is_variance[mine] = True
    found.parts[mine], found.squares[mine], found.variance_ulps[mine] = parts[fits], whole[fits], ulps[fits]
