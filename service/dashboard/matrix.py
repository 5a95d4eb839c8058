"""One statistic of every machine over time, as a matrix that is kept current.

A heat map asks for the same range again and again, a little later each time. The store is asked for what has changed
since only: columns that are new, and those that reports have come in for.
"""

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
from service.stores.base import Question, Store
from service.stores.cells import Cell

Floats = npt.NDArray[np.float32]
Shown = Cell
_MAX_CELLS = 1 << 25
"""Of all matrices together: 128 MB."""
_UNUSED_S = 600.0
_MAX_KEPT = 16

T = TypeVar("T")


class MatrixKey(NamedTuple):
    """What a matrix is of."""

    quantity: Quantity
    statistic: Shown
    rate_ms: int
    columns: int


class MachineRows:
    """The number of each machine, given once and for good, so that a row stays a machine's whoever else joins."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._guard = threading.Lock()

    def of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of machines, new ones at the end. May be called by several threads."""
        numbers = self._numbers
        with self._guard:
            for name in names:
                if name not in numbers:
                    numbers[name] = len(numbers)
                    self.names.append(name)
        return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


class Matrix:
    """Rows of machines, columns of buckets; NaN where a machine has no samples in a bucket."""

    def __init__(self, key: MatrixKey) -> None:
        self.key = key
        self.first = 0
        """The number of the first column: its start over the rate."""
        self.values: Floats = np.empty((0, key.columns), np.float32)
        self.used_s = time.monotonic()
        self._guard = threading.Lock()
        self._dirty = set(range(key.columns))
        """Numbers of columns that are not as the store has them."""

    def note(self, ends: Iterable[int]) -> None:
        """Remember that windows with these ends came in. Called on the event loop while a thread may read."""
        with self._guard:
            last = self.first + self.key.columns
            self._dirty.update(c for end in ends if self.first <= (c := end // self.key.rate_ms) < last)

    def move(self, first: int) -> None:
        """Begin at another column; what is there still stays."""
        columns = self.key.columns
        begin, end = max(first, self.first), min(first, self.first) + columns
        values = np.full(self.values.shape, np.nan, np.float32)
        if begin < end:
            values[:, begin - first : end - first] = self.values[:, begin - self.first : end - self.first]
        kept = set(range(begin, end))
        with self._guard:
            self._dirty = (self._dirty & kept) | (set(range(first, first + columns)) - kept)
            self.first, self.values = first, values

    def update(self, store: Store, rows: MachineRows) -> None:
        """Ask the store for what has changed. Raises StoreUnavailable."""
        with self._guard:
            dirty, self._dirty = self._dirty, set()
        try:
            for first, last in _runs(sorted(dirty)):
                self._read(store, rows, first, last)
        except BaseException:
            with self._guard:
                self._dirty |= dirty
            raise

    def _read(self, store: Store, rows: MachineRows, first: int, last: int) -> None:
        quantity, statistic, rate_ms, columns = self.key
        answer = store.answer(
            Question(
                quantity=quantity, start_ms=first * rate_ms, end_ms=(last + 1) * rate_ms, rate_ms=rate_ms, by="user",
                cells=statistic,
            )
        )  # fmt: skip
        row_of = rows.of(answer.index.tolist())
        missing = len(rows.names) - len(self.values)
        if missing == len(answer) and (first, last - first + 1) == (self.first, columns) and _is_range(row_of):
            self.values = answer.to_numpy()  # it is all there is, and in order
            return
        if missing > 0:
            self.values = np.vstack([self.values, np.full((missing, columns), np.nan, np.float32)])
        begin, end = first - self.first, last - self.first + 1
        self.values[:, begin:end] = np.nan
        self.values[row_of, begin:end] = answer.to_numpy()


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
        self.rows = MachineRows()
        self._guard = threading.Lock()
        self._matrices: OrderedDict[MatrixKey, Matrix] = OrderedDict()
        self._kept: OrderedDict[tuple[object, ...], _Kept[Any]] = OrderedDict()

    def note(self, reports: Sequence[Report]) -> None:
        """Remember that reports came in: what is kept of their times is not current any more."""
        if not self._matrices and not self._kept:
            return
        ends = {report.end_timestamp for report in reports}
        with self._guard:
            for matrix in self._matrices.values():
                matrix.note(ends)
            for one in self._kept.values():
                one.stale = one.stale or any(one.start_ms <= end < one.end_ms for end in ends)

    def clear(self) -> None:
        """Keep nothing of what was answered so far. Called in a thread."""
        with self.lock, self._guard:
            self._matrices.clear()
            self._kept.clear()
            self.rows = MachineRows()

    def know(self, key: MatrixKey) -> None:
        """Have the store find the machines of a matrix that is not there yet, before several threads ask about them."""
        if key not in self._matrices:
            self.store.answer(Question(quantity=key.quantity, start_ms=0, end_ms=0, rate_ms=1, by="user", cells="mean"))

    def matrix(self, key: MatrixKey, start_ms: int) -> Floats:
        """The values from the bucket of `start_ms` on, a row for each of `rows`. Raises StoreUnavailable."""
        with self._guard:
            matrix = self._matrices.setdefault(key, Matrix(key))
            self._matrices.move_to_end(key)
            matrix.used_s = time.monotonic()
            self._forget()
        first = start_ms // key.rate_ms
        if first != matrix.first:
            matrix.move(first)
        matrix.update(self.store, self.rows)
        return matrix.values

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
        now_s = time.monotonic()
        for key in [key for key, one in self._matrices.items() if now_s - one.used_s > _UNUSED_S]:
            del self._matrices[key]
        while len(self._matrices) > 1 and sum(one.values.size for one in self._matrices.values()) > _MAX_CELLS:
            self._matrices.popitem(last=False)
