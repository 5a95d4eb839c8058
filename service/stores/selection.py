"""Which windows a question wants, and how what is read of them is merged."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.windows import Windows, concatenate, merge
from service.stores.head import Memory, marked
from service.stores.windows import windows_of

__all__ = ["BATCH_ROWS", "Selection", "in_memory"]

BATCH_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which windows to read, and how to merge them."""

    series: npt.NDArray[np.int64]
    """Numbers of series, ascending."""
    group: npt.NDArray[np.int64]
    """The group of each."""
    start_ms: int
    end_ms: int
    rate_ms: int
    histograms: bool
    bounded: npt.NDArray[np.bool_]
    """By series number: whether its quantity is a share."""

    def merged(self, parts: Iterable[Windows]) -> Windows:
        """All windows of `parts`, merged by group and bucket."""
        kept: list[Windows] = []
        rows = 0
        for part in parts:
            # Merged part by part: memory follows what is answered, not what is read.
            kept.append(merge(part, self.group[np.searchsorted(self.series, part.series)], self.rate_ms))
            rows += len(kept[-1].time)
            if rows > BATCH_ROWS:
                kept = [merge(concatenate(kept), rate_ms=self.rate_ms)]
                rows = 0
        if len(kept) == 1:
            return kept[0]
        return merge(concatenate(kept), rate_ms=self.rate_ms)


def in_memory(heads: Sequence[Memory], chosen: Selection) -> Iterator[Windows]:
    """The chosen windows of some heads, a part at a time."""
    wanted = np.zeros(len(chosen.bounded), bool)
    wanted[chosen.series] = True
    for head in heads:
        for batch in head.batches():
            series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
            rows = np.flatnonzero(marked(series, wanted) & (time >= chosen.start_ms) & (time < chosen.end_ms))
            if len(rows):
                yield windows_of(batch.take(pa.array(rows)), chosen.bounded, histograms=chosen.histograms)
