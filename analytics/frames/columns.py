"""Windows as plain arrays: what methods compute with, and what stores write; frames are what is asked and answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from analytics.frames import kernel
from analytics.frames.kernel import Floats, Histograms, Ints

NUMBERS: Final = {
    "count": "count",
    "mean": "mean",
    "var": "variance",
    "min": "minimum",
    "max": "maximum",
    "approximated": "approximated",
}
"""The columns of numbers of a frame of windows, and the attribute of `Windows` that holds each."""


@dataclass(frozen=True, slots=True)
class Windows:
    """n summaries as columns of length n, and their histograms."""

    series: Ints
    """What each belongs to; what the number means is the caller's."""
    time: Ints
    """Epoch milliseconds: the end of a window, or the start of a bucket after resampling."""
    count: Ints
    mean: Floats
    variance: Floats
    """Population variance."""
    minimum: Floats
    maximum: Floats
    approximated: Ints
    """How many of `count` came without minimum, maximum or histogram, and have stand-ins for them."""
    histograms: Histograms | None
    """None where they were not asked for."""

    @classmethod
    def empty(cls) -> Self:
        """Columns of no windows."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, ints, floats, floats, floats, floats, ints, Histograms.empty())

    def __len__(self) -> int:
        return len(self.time)


_COLUMNS = ("series", "time", "count", "mean", "variance", "minimum", "maximum", "approximated")


def concatenate(parts: Sequence[Windows]) -> Windows:
    """The windows of all `parts`, one after the other, nothing merged; `Windows.empty()` for no parts.

    Raises ValueError where some parts have histograms and others have none.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return Windows.empty()
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return Windows(**columns, histograms=_stacked(parts))


def _stacked(parts: Sequence[Windows]) -> Histograms | None:
    histograms = [part.histograms for part in parts if part.histograms is not None]
    if not histograms:
        return None
    if len(histograms) < len(parts):
        raise ValueError("windows with histograms cannot be joined with windows without")
    first_rows = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return Histograms(
        np.concatenate([part.row + first for part, first in zip(histograms, first_rows, strict=True)]),
        np.concatenate([part.bin for part in histograms]),
        np.concatenate([part.count for part in histograms]),
    )


def take(windows: Windows, selection: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Windows:
    """The windows that a mask of length n keeps, or those at given places, in that order."""
    places = np.arange(len(windows))[selection]
    columns = {name: getattr(windows, name)[places] for name in _COLUMNS}
    histograms = windows.histograms
    return Windows(**columns, histograms=None if histograms is None else _picked(histograms, places, len(windows)))


def _picked(histograms: Histograms, rows: Ints, of_rows: int) -> Histograms:
    """The entries of some `rows` of histograms that have `of_rows` altogether."""
    size = np.bincount(histograms.row, minlength=of_rows)
    lengths = size[rows]
    first = (np.cumsum(size) - size)[rows]
    # Entry j of the answer is entry j + shift of the source, with one shift for each row.
    shift = first - (np.cumsum(lengths) - lengths)
    entries = np.arange(lengths.sum()) + np.repeat(shift, lengths)
    return Histograms(np.repeat(np.arange(len(rows)), lengths), histograms.bin[entries], histograms.count[entries])


def merge(windows: Windows, series: Ints | None = None, rate_ms: int | None = None) -> Windows:
    """One window for each series and bucket that has any, sorted by series and time.

    `series` (length n) gives other labels than `windows.series`; windows with equal labels merge.
    Buckets are `rate_ms` milliseconds wide and aligned to the epoch, `time` becomes their start;
    without `rate_ms` only windows of the very same time merge. Raises ValueError for a rate below 1.
    """
    if rate_ms is not None and rate_ms < 1:
        raise ValueError(f"a bucket is at least 1 ms wide, not {rate_ms}")
    series = windows.series if series is None else series
    time = windows.time if rate_ms is None else windows.time // rate_ms * rate_ms
    numbers = {column: getattr(windows, name) for column, name in NUMBERS.items()}
    merged = kernel.merge(numbers, [series, time], windows.histograms)
    series, time = merged.keys
    columns = {name: merged.numbers[column] for column, name in NUMBERS.items()}
    return Windows(series=series, time=time, **columns, histograms=merged.histograms)
