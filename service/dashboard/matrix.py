"""One statistic of every host over time, as a matrix that is kept current.

A heat map asks for the same range again and again, a little later each time. The store is asked for what has changed
since only: columns that are new, and those that reports have come in for.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from contract.metrics import Quantity
from contract.report import Report
from service.dashboard.totals import HostRows, Totals
from service.stores.base import Question, Store
from service.stores.cells import Cell

Floats = npt.NDArray[np.float32]
Shown = Cell
_MAX_CELLS = 1 << 25
"""Of all matrices together: 128 MB."""
_MOST_COLUMNS = 1000
"""Of one matrix: what is shown at most."""
_UNUSED_S = 3600.0
_MAX_KEPT = 32

T = TypeVar("T")


class MatrixKey(NamedTuple):
    """What a matrix is of."""

    quantity: Quantity
    statistic: Shown
    rate_ms: int


class Matrix:
    """Rows of hosts, columns of buckets, one beside the other; NaN where a host has no samples in a bucket."""

    def __init__(self, key: MatrixKey, first: int, columns: int) -> None:
        self.key = key
        self.first = first
        """The number of the first column: its start over the rate."""
        self.values: Floats = np.empty((0, columns), np.float32)
        self.used_s = time.monotonic()
        self._guard = threading.Lock()
        self._dirty = set(range(first, first + columns))
        """Numbers of columns that are not as the store has them."""

    @property
    def last(self) -> int:
        """The number behind that of the last column."""
        return self.first + int(self.values.shape[1])

    def note(self, ends: Iterable[int]) -> None:
        """Remember that windows with these ends came in. Called on the event loop while a thread may read."""
        with self._guard:
            first, last = self.first, self.last
            self._dirty.update(c for end in ends if first <= (c := end // self.key.rate_ms) < last)

    def touches(self, first: int, columns: int) -> bool:
        """Whether some columns are among its own, or beside them."""
        return first <= self.last and first + columns >= self.first

    def reach(self, first: int, columns: int) -> None:
        """Have these columns too, and of its own as many as may be kept; they touch its own."""
        if self.first <= first and first + columns <= self.last:
            return
        most = max(columns, _MOST_COLUMNS)
        begin = max(min(first, self.first), first + columns - most)
        end = min(max(first + columns, self.last), begin + most)
        values = np.full((len(self.values), end - begin), np.nan, np.float32)
        kept = range(max(begin, self.first), min(end, self.last))
        if kept:
            values[:, kept.start - begin : kept.stop - begin] = (
                self.values[:, kept.start - self.first : kept.stop - self.first]
            )  # fmt: skip
        with self._guard:
            self._dirty = (self._dirty & {*kept}) | ({*range(begin, end)} - {*kept})
            self.first, self.values = begin, values

    def between(self, first: int, columns: int) -> Floats:
        """Some of its columns."""
        return self.values[:, first - self.first : first - self.first + columns]

    def update(self, store: Store, rows: HostRows, wanted: range) -> None:
        """Ask the store for what has changed of the columns that are wanted. Raises StoreUnavailable."""
        with self._guard:
            dirty = self._dirty & {*wanted}
            self._dirty -= dirty
        try:
            for first, last in _runs(sorted(dirty)):
                self._read(store, rows, first, last)
        except BaseException:
            with self._guard:
                self._dirty |= dirty
            raise

    def _read(self, store: Store, rows: HostRows, first: int, last: int) -> None:
        (quantity, statistic, rate_ms), columns = self.key, self.values.shape[1]
        answer = store.answer(
            Question(
                quantity=quantity, start_ms=first * rate_ms, end_ms=(last + 1) * rate_ms, rate_ms=rate_ms, by="user",
                cells=statistic,
            )
        )  # fmt: skip
        row_of = rows.of(answer.index.tolist())
        missing = len(rows.names) - len(self.values)
        if missing == len(answer) and (first, last - first + 1) == (self.first, columns) and _is_range(row_of):
            # It is all there is, and in order. What pandas gives must not be changed; columns of it will be.
            self.values = np.require(answer.to_numpy(), requirements="W")
            return
        self.values = with_rows(self.values, len(rows.names))
        begin, end = first - self.first, last - self.first + 1
        self.values[:, begin:end] = np.nan
        self.values[row_of, begin:end] = answer.to_numpy()


def with_rows(values: Floats, rows: int) -> Floats:
    """Values with at least so many rows; those of hosts that have nothing in them are NaN."""
    missing = rows - len(values)
    return np.pad(values, ((0, missing), (0, 0)), constant_values=np.nan) if missing > 0 else values


def _is_range(numbers: npt.NDArray[np.int64]) -> bool:
    return bool(np.all(numbers == np.arange(len(numbers))))


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of consecutive numbers."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        found = [number for _, number in run]
        yield found[0], found[-1]


class _Kept(Generic[T]):
    """An answer about a range, and whether reports have come in for it since."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self.value: T | None = None
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.stale = False
        self.made_s = time.monotonic()


class FleetCache:
    """Matrices and answers about ranges. `note` runs on the event loop, all else in threads that hold `lock`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lock = threading.Lock()
        self.rows = HostRows()
        self._guard = threading.Lock()
        self.totals = Totals(store, self.rows)
        self._matrices: list[Matrix] = []
        """What was used last comes last."""
        self.used = threading.Event()
        """Set once somebody has asked for a picture; cleared by who finds it unused for long."""
        self._used_s = -math.inf
        self._kept: OrderedDict[tuple[object, ...], _Kept[Any]] = OrderedDict()

    def note(self, reports: Sequence[Report]) -> None:
        """Remember that reports came in: what is kept of their times is not current any more."""
        ends = {report.end_timestamp for report in reports}
        with self._guard:
            for matrix in self._matrices:
                matrix.note(ends)
            for one in self._kept.values():
                one.stale = one.stale or any(one.start_ms <= end < one.end_ms for end in ends)
        self.totals.note(ends)

    def clear(self) -> None:
        """Keep nothing of what was answered so far. Called in a thread."""
        with self.lock, self._guard:
            self._matrices.clear()
            self._kept.clear()
            self.rows = HostRows()
            self.totals = Totals(self.store, self.rows)

    @property
    def bytes(self) -> int:
        """What matrices and sums take of memory. May be read by any thread."""
        with self._guard:
            return sum(one.values.nbytes for one in self._matrices) + self.totals.bytes

    @property
    def unused_s(self) -> float:
        """Seconds since somebody asked for a picture; infinity where nobody has."""
        return time.monotonic() - self._used_s

    def is_used(self) -> None:
        """Remember that somebody asks for a picture. May be called by any thread."""
        self._used_s = time.monotonic()
        self.used.set()

    def know(self, key: MatrixKey) -> None:
        """Have the store find the hosts of a matrix that is not there yet, before several threads ask about them."""
        if all(one.key != key for one in self._matrices):
            self.store.answer(Question(quantity=key.quantity, start_ms=0, end_ms=0, rate_ms=1, by="user", cells="mean"))

    def matrix(self, key: MatrixKey, start_ms: int, columns: int) -> Floats:
        """So many columns from the bucket of `start_ms` on, a row for each of `rows`. Raises StoreUnavailable.

        Columns that any range had are kept, so that another one, at the same rate, asks for the others only.
        """
        first = start_ms // key.rate_ms
        with self._guard:
            found = [one for one in self._matrices if one.key == key and one.touches(first, columns)]
            matrix = found[-1] if found else Matrix(key, first, columns)
            self._matrices = [*(one for one in self._matrices if one is not matrix), matrix]
            matrix.used_s = time.monotonic()
            self._forget()
        matrix.reach(first, columns)
        matrix.update(self.store, self.rows, range(first, first + columns))
        # Who joined may have nothing in the columns that were read.
        return with_rows(matrix.between(first, columns), len(self.rows.names))

    def kept(self, name: str, range_ms: tuple[int, int], make: Callable[[], T], fresh_s: float) -> T:
        """What `make` gives for a range: made anew where reports came in since, but no sooner than after `fresh_s`."""
        key = (name, *range_ms)
        with self._guard:
            found = self._kept.get(key)
        if found is None or (found.stale and time.monotonic() - found.made_s > fresh_s):
            # Noted before it is made: what comes in meanwhile makes it stale.
            found = _Kept[T](*range_ms)
            with self._guard:
                self._kept[key] = found
            try:
                found.value = make()
            except BaseException:
                with self._guard:
                    del self._kept[key]
                raise
        with self._guard:
            self._kept.move_to_end(key)
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return cast("T", found.value)

    def _forget(self) -> None:
        old_s = time.monotonic() - _UNUSED_S
        self._matrices = [one for one in self._matrices if one.used_s > old_s]
        while len(self._matrices) > 1 and sum(one.values.size for one in self._matrices) > _MAX_CELLS:
            del self._matrices[0]
