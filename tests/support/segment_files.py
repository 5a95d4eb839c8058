"""Files of windows of made-up hosts, as a store writes them."""

from pathlib import Path

import pyarrow as pa

from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import Origin, write_segment
from service.stores.series import SeriesIndex, User

__all__ = ["series_of", "written"]


def series_of(hosts: int) -> SeriesIndex:
    """An index of one series of each of so many hosts, numbered from 1."""
    known = SeriesIndex()
    for number in range(hosts):
        known.users[f"host-{number}"] = User(f"host-{number}", "Linux", "12", 0, 0, 0)
        known.of_name(f"host-{number}", "cpu.utilization", None)
    return known


def written(folder: Path, index: SeriesIndex, batches: list[pa.RecordBatch], rows_at_once: int) -> list[Segment]:
    """A file of each batch, in row groups of so many rows."""
    return [
        write_segment(
            folder,
            number,
            [batch.slice(at, rows_at_once) for at in range(0, len(batch), rows_at_once)],
            index,
            Origin(),
        )
        for number, batch in enumerate(batches, 1)
    ]
