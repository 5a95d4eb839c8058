"""Which windows the files hold, told without reading them again: for reports that come late or twice.

The bounds of each row group of a file say which of them may hold a window; the ends of these are read once, and kept
while they are asked for. Reports that are late are mostly late by little, and by the same for all.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from service.stores.embedded.segment import Segment
from service.stores.keys import Keys
from service.stores.sorted_windows import marked, numbers

Ints = npt.NDArray[np.int64]
_KEPT_BYTES = 32 * 1024 * 1024
"""Of ends, eight bytes each: those of four million reports."""


class Ends:
    """The ends of windows in the files of `folder`, of the series that stand for all of a metric type."""

    def __init__(self, folder: Path, kept_bytes: int = _KEPT_BYTES) -> None:
        self._folder = folder
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[str, int], Keys] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._bounds = lru_cache(1024)(self._read_bounds)

    def hold(
        self, segments: Sequence[Segment], series: Ints, time: Ints, streams: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Of each pair of a series and an end, whether some of `segments` has that window.

        `streams` marks by number the series that are ever asked for. Raises OSError or pyarrow.ArrowException where a
        file cannot be read.
        """
        held = np.zeros(len(series), np.bool_)
        for segment in segments:
            near = np.flatnonzero(segment.may_hold(series, time) & ~held)
            if not len(near):
                continue
            for group, (first, last, first_ms, last_ms) in enumerate(self._bounds(segment.file).tolist()):
                mine = near[(series[near] >= first) & (series[near] <= last)]
                mine = mine[(time[mine] >= first_ms) & (time[mine] <= last_ms)]
                if len(mine):
                    held[mine] |= self._keys(segment.file, group, streams).hold(series[mine], time[mine])
        return held

    def _read_bounds(self, file: str) -> Ints:
        """First and last series and end of each row group of a file."""
        metadata = pq.read_metadata(self._folder / file)
        places = [metadata.schema.names.index(name) for name in ("series", "time")]
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        found = [[group.column(place).statistics for place in places] for group in groups]
        rows = [(one.min, one.max, other.min, other.max) for one, other in found]
        return np.array(rows, np.int64).reshape(-1, 4)

    def _keys(self, file: str, group: int, streams: npt.NDArray[np.bool_]) -> Keys:
        with self._lock:
            keys = self._kept.get((file, group))
            if keys is None:
                keys = self._kept[file, group] = self._read_keys(file, group, streams)
                self._bytes += keys.nbytes
                while self._bytes > self._kept_bytes and len(self._kept) > 1:
                    _, dropped = self._kept.popitem(last=False)
                    self._bytes -= dropped.nbytes
            else:
                self._kept.move_to_end((file, group))
            return keys

    def _read_keys(self, file: str, group: int, streams: npt.NDArray[np.bool_]) -> Keys:
        with pq.ParquetFile(self._folder / file, page_checksum_verification=True) as opened:
            table = opened.read_row_group(group, columns=["series", "time"], use_threads=False)
        series, time = numbers(table, "series"), numbers(table, "time")
        chosen = marked(series, streams)
        return Keys(series[chosen], time[chosen])
