"""The statistics of all samples of a range, of every host, from sums of buckets that are kept.

Another range has most of its hours in common with those that were looked at before. So what adds up of each host
(samples, their sum, extremes and histogram) is kept by the buckets of the store's rollups, coarse ones inside a range
and finer ones at its edges, and only what is not there, or has changed since, is asked for.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.resampling import EVERYTHING_MS
from analytics.frames.tiers import RAW, Piece, plan
from contract import times
from contract.metrics import Quantity
from service.stores.base import Question, Store
from service.stores.cells import BINS, Sums, bins_of


class HostRows:
    """The number of each host, given once and for good, so that a row stays a host's whoever else joins."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._guard = threading.Lock()

    def of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of hosts, new ones at the end. May be called by several threads."""
        numbers = self._numbers
        with self._guard:
            for name in names:
                if name not in numbers:
                    numbers[name] = len(numbers)
                    self.names.append(name)
        return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))


Places = npt.NDArray[np.int64]

MAX_BYTES: Final = 1 << 27
"""Of all sums together: a hundred buckets of ten thousand hosts."""
_BYTES_A_HOST: Final = 2 * len(BINS) + 40
"""Of a bucket: two bytes a bin up to 65,535 samples, and five numbers."""
_READ_BYTES: Final = 1 << 26
"""What is read at once."""
_AT_ONCE: Final = 2
"""Questions to the store: most of the time of one is spent outside of Python."""
_UNUSED_S: Final = 3600.0
"""Retention may have dropped by then what they are of."""


class _Key(NamedTuple):
    quantity: Quantity
    tier: int
    """The width in ms of the buckets that it is read from."""
    start_ms: int
    end_ms: int
    """One bucket of coarser rollups, so that ranges have them in common; a whole edge of a range of the finest."""

    def is_in(self, buckets: Container[tuple[int, int]]) -> bool:
        """Whether some of its buckets are among these, of a tier and by number."""
        tier = self.tier
        return any((tier, number) in buckets for number in range(self.start_ms // tier, self.end_ms // tier))


class _Bucket:
    """The sums of one bucket; empty until it was read."""

    def __init__(self) -> None:
        self.stale = False
        self.used_s = time.monotonic()
        self.rows: Places | slice = slice(0, 0)
        self.numbers: npt.NDArray[np.float64] = np.empty((4, 0))
        """Samples, their sum, the lowest and the highest, a column for each of `rows`."""
        self.bins: npt.NDArray[np.unsignedinteger] = np.empty((0, len(BINS)), np.uint8)

    def fill(self, rows: Places, numbers: npt.NDArray[np.float64], bins: npt.NDArray[np.uint32]) -> None:
        """Take what was read, each line of another host."""
        if len(rows) and np.all(rows == np.arange(rows[0], rows[0] + len(rows))):
            self.rows = slice(int(rows[0]), int(rows[0]) + len(rows))  # several times as fast
        else:
            self.rows = rows
        self.numbers = np.ascontiguousarray(numbers)
        most = int(bins.max()) if len(bins) else 0
        self.bins = bins.astype(np.min_scalar_type(most))

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return self.numbers.nbytes + self.bins.nbytes + (0 if isinstance(self.rows, slice) else self.rows.nbytes)

    def add_to(self, sums: Sums) -> None:
        """Add it to those of a range."""
        rows = self.rows
        sums.count[rows] += self.numbers[0]
        sums.total[rows] += self.numbers[1]
        sums.least[rows] = np.minimum(sums.least[rows], self.numbers[2])
        sums.most[rows] = np.maximum(sums.most[rows], self.numbers[3])
        sums.bins[rows] += self.bins


class Totals:
    """Sums by buckets of rollups. `note` runs on the event loop, all else in one thread at a time."""

    def __init__(self, store: Store, rows: HostRows) -> None:
        self._store = store
        self._rows = rows
        self._guard = threading.Lock()
        self._kept: OrderedDict[_Key, _Bucket] = OrderedDict()

    def note(self, ends: Iterable[int]) -> None:
        """Remember that windows with these ends came in: buckets that they are in are read again."""
        if not self._kept:
            return
        in_buckets = {(tier, end // tier) for end in ends for tier in self._store.tiers}
        with self._guard:
            for key, bucket in self._kept.items():
                bucket.stale = bucket.stale or key.is_in(in_buckets)

    @property
    def bytes(self) -> int:
        """What is kept takes of memory, at most `MAX_BYTES`. May be read by any thread."""
        with self._guard:
            return sum(bucket.bytes for bucket in self._kept.values())

    def over(self, quantity: Quantity, range_ms: tuple[int, int]) -> pd.DataFrame | None:
        """`mean`, `p95` and `max` of a range (epoch ms, half-open), a line for each row of the hosts.

        None where its buckets would be more than are kept. The quantity is a share. Raises StoreUnavailable.
        """
        pieces = [*plan(max(0, range_ms[0]), max(0, range_ms[1]), EVERYTHING_MS, self._store.tiers)]
        keys = [key for piece in pieces if piece.tier != RAW for key in self._keys(quantity, piece)]
        if len(keys) * max(1, self._store.user_count) * _BYTES_A_HOST > MAX_BYTES:
            return None
        edges = [(_Bucket(), (piece.start_ms, piece.end_ms)) for piece in pieces if piece.tier == RAW]
        with ThreadPoolExecutor(_AT_ONCE, "picture") as beside:
            of_edges = [beside.submit(self._read, quantity, range_ms, [edge]) for edge, range_ms in edges]
            buckets = self._current(keys, beside)
            for read in of_edges:
                read.result()
        sums = Sums(len(self._rows.names))
        for bucket in [*buckets, *(edge for edge, _ in edges)]:
            bucket.add_to(sums)
        return sums.statistics()

    def _keys(self, quantity: Quantity, piece: Piece) -> Iterator[_Key]:
        tier, start_ms, end_ms = piece.tier, piece.start_ms, piece.end_ms
        edges: Sequence[int] = range(start_ms, end_ms + 1, tier)
        if tier == self._store.tiers[0]:
            # Reports come in for the bucket of now, and for no other: it is read again alone.
            is_over = end_ms + tier <= times.now_ms()
            edges = (start_ms, end_ms) if is_over else sorted({start_ms, end_ms - tier, end_ms})
        for start_ms, end_ms in pairwise(edges):
            yield _Key(quantity, tier, start_ms, end_ms)

    def _current(self, keys: Sequence[_Key], beside: ThreadPoolExecutor) -> list[_Bucket]:
        """The buckets as the store has them now."""
        with self._guard:
            missing = [key for key in keys if key not in self._kept or self._kept[key].stale]
            # Noted before they are read: what comes in meanwhile makes them stale.
            self._kept |= {key: _Bucket() for key in missing}
        try:
            # Those at either end of a range lie apart.
            runs = [(run, [self._kept[key] for key in run]) for run in self._runs(missing)]
            for read in [beside.submit(self._read_run, *run) for run in runs]:
                read.result()
        except BaseException:
            with self._guard:
                for key in missing:
                    del self._kept[key]
            raise
        with self._guard:
            for key in keys:
                self._kept.move_to_end(key)
                self._kept[key].used_s = time.monotonic()
            found = [self._kept[key] for key in keys]
        self._forget()
        return found

    def _read_run(self, run: Sequence[_Key], buckets: Sequence[_Bucket]) -> None:
        self._read(run[0].quantity, (run[0].start_ms, run[-1].end_ms), buckets)

    def _runs(self, keys: Sequence[_Key]) -> Iterator[list[_Key]]:
        """Those beside each other, as many as are read at once."""
        most = max(1, _READ_BYTES // (4 * len(BINS) * max(1, self._store.user_count)))
        run: list[_Key] = []
        for key in keys:
            if run and (key.tier == self._store.tiers[0] or not _follows(key, run[-1]) or len(run) == most):
                yield run
                run = []
            run.append(key)
        if run:
            yield run

    def _read(self, quantity: Quantity, range_ms: tuple[int, int], buckets: Sequence[_Bucket]) -> Sequence[_Bucket]:
        """Fill buckets of one width that lie one behind the other."""
        start_ms, end_ms = range_ms
        rate_ms = EVERYTHING_MS if len(buckets) == 1 else (end_ms - start_ms) // len(buckets)
        found = self._store.answer(
            Question(quantity=quantity, start_ms=start_ms, end_ms=end_ms, rate_ms=rate_ms, by="user", histograms=True,
                     cells="sums")
        )  # fmt: skip
        users = pd.CategoricalIndex(found.index)
        rows = self._rows.of(users.categories.tolist())[users.codes]
        numbers = found[["count", "total", "min", "max"]].to_numpy().T
        first = start_ms // rate_ms
        edges = np.searchsorted(found["bucket"].to_numpy(), np.arange(first, first + len(buckets) + 1))
        bins = bins_of(found)
        for bucket, begin, end in zip(buckets, edges, edges[1:], strict=False):
            lines = slice(begin, end)
            bucket.fill(rows[lines], numbers[:, lines], bins[lines])
        return buckets

    def _forget(self) -> None:
        """Let go of what was not used for long, or is too much, what was used last stays."""
        with self._guard:
            taken = sum(bucket.bytes for bucket in self._kept.values())
            old_s = time.monotonic() - _UNUSED_S
            while self._kept:
                key, bucket = next(iter(self._kept.items()))
                if taken <= MAX_BYTES and bucket.used_s > old_s:
                    return
                taken -= bucket.bytes
                del self._kept[key]


def _follows(key: _Key, before: _Key) -> bool:
    return (key.tier, key.start_ms) == (before.tier, before.end_ms)
