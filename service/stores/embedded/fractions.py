"""Means and variances in files, as the whole numbers that they are made of: fewer bytes, and the same to the bit.

A core's times are counted in ticks, and a sample is a fraction of few of them, `b / t`. So the mean of a window is
`busy / units`, and the mean of the squares `squares / (parts * units)`, all whole numbers. They take a third of the
bytes of the two doubles, whose bits hardly ever repeat. `units` is

- the ticks of the window, where samples are weighed by their time, as our agent's are: `busy` of them were busy;
- `parts * count`, where they are not, as those of the original's client.

`parts` is a number that every `t` divides, so that `b * b / t` is a whole number of parts. What the sum on the agent
rounded in another way than a division does is kept beside, in two columns of very few different values:

    mean      busy / units + mean_rest
    variance  (squares * units - parts * busy * busy) / (parts * units * units) + variance_rest

What is in parentheses is whole and below 2^53. Where that would not give the same 64 bits, or a number is no such
fraction, the column `mean` or `variance` has it as it came; it is null otherwise. `VALUES` has both in SQL, and any
program that reads Parquet can do the same.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

TICK_MS = 10
"""Of the counters: USER_HZ is 100 on every Linux that is in use."""
_PARTS = (420, 27_720)
"""What 1 to 7, and 1 to 12 divide: ticks of a core in 50 and in 100 ms; the latter also those of two cores in 50 ms."""
_OFF = sorted({*range(-10, 11)} - {0}, key=abs)
"""How many ticks more a window may have: it is not cut where they are, and on a busy host some are lost."""
_FEW_CORES = 2
"""The squares of more have parts of which a window has more than 53 bits can say."""
_EXACT = 2**53
_MOST_UNITS = math.isqrt(_EXACT // min(_PARTS))
_MEAN_ULPS, _VARIANCE_ULPS = 8.0, 256.0
"""How far rounding carries; what is farther is another fraction."""

SCHEMA = pa.schema(
    [
        pa.field("units", pa.int32()),
        pa.field("busy", pa.int32()),
        pa.field("mean_rest", pa.float64()),
        pa.field("parts", pa.int32()),
        pa.field("squares", pa.int64()),
        pa.field("variance_rest", pa.float64()),
    ]
)
"""The columns beside `mean` and `variance`; those of a number are null where it is kept as it came."""

VALUES = {
    "mean": "coalesce(mean, busy / units + mean_rest)",
    "variance": "coalesce(variance, (squares * units - parts::BIGINT * busy * busy) / (parts::BIGINT * units * units)"
    " + variance_rest)",
}
"""Both numbers in DuckDB's SQL."""


class _Fractions(NamedTuple):
    """Of each window; where a mask is not set, the numbers behind it mean nothing."""

    is_mean: Mask
    units: Ints
    busy: Ints
    mean_rest: Floats
    is_variance: Mask
    parts: Ints
    squares: Ints
    variance_rest: Floats


def columns(batch: pa.RecordBatch, cores: Ints) -> dict[str, pa.Array]:
    """The columns `mean`, `variance` and those of `SCHEMA` for windows; `cores` is how many each stands for."""
    mean, variance = batch["mean"].to_numpy(), batch["variance"].to_numpy()
    ticks = batch["duration"].to_numpy().astype(np.int64) // TICK_MS * cores
    found = _found(mean, variance, batch["count"].to_numpy(), ticks, cores)
    kept = [
        (found.is_mean, found.units), (found.is_mean, found.busy), (found.is_mean, found.mean_rest),
        (found.is_variance, found.parts), (found.is_variance, found.squares), (found.is_variance, found.variance_rest),
    ]  # fmt: skip
    return {
        "mean": pa.array(mean, mask=found.is_mean),
        "variance": pa.array(variance, mask=found.is_variance),
        **{
            field.name: pa.array(values, field.type, mask=~mask)
            for field, (mask, values) in zip(SCHEMA, kept, strict=True)
        },
    }


def _found(mean: Floats, variance: Floats, count: Ints, ticks: Ints, cores: Ints) -> _Fractions:
    rows = len(mean)
    found = _Fractions(*(np.zeros(rows, kind) for kind in (bool, int, int, float, bool, int, int, float)))
    left = np.flatnonzero((mean >= 0.0) & (mean <= 1.0))
    # Those that most windows are, first: each round looks at what the ones before left.
    rounds: list[tuple[Ints, tuple[int, ...]]] = [(ticks, _PARTS)]
    rounds += [(np.minimum(count, _MOST_UNITS) * parts, (parts,)) for parts in _PARTS]
    rounds += [(ticks + off, _PARTS) for off in _OFF]
    with np.errstate(all="ignore"):
        for units, parts in rounds:
            _take_up(found, left, mean, variance, units[left], parts)
            # A mean may be a fraction of several numbers of units, as 1/2 is, and the squares of one of them alone.
            left = left[~(found.is_variance[left] | (found.is_mean[left] & (cores[left] > _FEW_CORES)))]
    return found


def _take_up(
    found: _Fractions, left: Ints, mean: Floats, variance: Floats, units: Ints, parts: tuple[int, ...]
) -> None:
    """Note those of the windows `left` whose means are fractions of so many units."""
    number = mean[left]
    fits = (units > 0) & (units <= _MOST_UNITS)
    busy = np.where(fits, np.rint(number * units), 0.0).astype(np.int64)
    value = busy / units
    rest = number - value
    fits &= (np.abs(rest) <= _MEAN_ULPS * np.spacing(number)) & _same(value + rest, number)
    mine = left[fits]
    found.is_mean[mine] = True
    found.units[mine] = units[fits]
    found.busy[mine] = busy[fits]
    found.mean_rest[mine] = rest[fits]
    for some in parts:
        _take_up_squares(found, mine, mean, variance, some)
        mine = mine[~found.is_variance[mine]]


def _take_up_squares(found: _Fractions, left: Ints, mean: Floats, variance: Floats, parts: int) -> None:
    """Note those of the windows `left` whose squares are so many parts."""
    units, busy, number = found.units[left], found.busy[left], variance[left]
    square = mean[left] ** 2
    squares = np.rint((number + square) * (parts * units))
    fits = (squares * units < _EXACT) & (units * units < _EXACT // parts)
    whole = np.where(fits, squares, 0).astype(np.int64)
    value = (whole * units - parts * busy * busy) / (parts * units * units)
    rest = number - value
    fits &= (np.abs(rest) <= _VARIANCE_ULPS * np.spacing(np.maximum(number, square))) & _same(value + rest, number)
    mine = left[fits]
    found.is_variance[mine] = True
    found.parts[mine] = parts
    found.squares[mine] = whole[fits]
    found.variance_rest[mine] = rest[fits]


def _same(some: Floats, others: Floats) -> Mask:
    """Which are equal to the bit; -0 is not 0."""
    equal: Mask = some.view(np.int64) == others.view(np.int64)
    return equal
