"""A recorded fleet: the CPU utilization of many hosts, read from a file, moved in time, made reports of.

A window of the fleet is a mean and no more. As a report it is one observation: its minimum, its maximum and
its histogram are that of one value, so quantiles over windows are those of the recorded values.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.histogram import LINEAR, flatten
from contract.selectors import MAX_USER_ID
from contract.times import DAY_MS

WINDOW_MS = 5 * 60 * 1000
"""The length of every window."""
COLUMNS = ("time", "user_id", "utilization_percent")
_BATCH_REPORTS = 4000
"""About 1.2 MB, a seventh of what the service takes at once."""


class FleetError(ValueError):
    """A file that holds no fleet; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class RecordedFleet:
    """Windows of hosts, sorted by host and then by time."""

    users: list[str]
    """The hosts."""
    bounds: npt.NDArray[np.int64]
    """The windows of host i are those from `bounds[i]` to before `bounds[i + 1]`."""
    end_ms: npt.NDArray[np.int64]
    """When each window ends, epoch milliseconds."""
    percent: npt.NDArray[np.number]
    """The utilization of each window, 0 to 100."""
    system: str
    """What the hosts run, as far as is known."""

    def __len__(self) -> int:
        return len(self.end_ms)

    @property
    def last_ms(self) -> int:
        """The end of the newest window of all."""
        return int(self.end_ms.max())

    def last_of_each(self) -> dict[str, int]:
        """The end of the newest window of each host."""
        return dict(zip(self.users, self.end_ms[self.bounds[1:] - 1].tolist(), strict=True))

    def shifted(self, by_ms: int) -> "RecordedFleet":
        """The same, so much later."""
        return replace(self, end_ms=self.end_ms + by_ms)

    def ending(self, now_ms: int) -> "RecordedFleet":
        """The same, its last window the newest whole one at `now_ms`."""
        return self.shifted(now_ms // WINDOW_MS * WINDOW_MS - self.last_ms)

    def after(self, end_ms: int) -> "RecordedFleet":
        """The windows that end after `end_ms`."""
        return self._where(self.end_ms > end_ms)

    def longest(self, count: int) -> "RecordedFleet":
        """The `count` hosts with the most windows."""
        order = np.argsort(-np.diff(self.bounds), kind="stable")
        chosen = np.zeros(len(self.users), bool)
        chosen[order[:count]] = True
        return self._where(np.repeat(chosen, np.diff(self.bounds)))

    def _where(self, kept: npt.NDArray[np.bool_]) -> "RecordedFleet":
        counts = np.add.reduceat(kept, self.bounds[:-1], dtype=np.int64) if len(self) else np.zeros(0, np.int64)
        users = [user for user, count in zip(self.users, counts, strict=True) if count]
        bounds = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        return replace(self, users=users, bounds=bounds, end_ms=self.end_ms[kept], percent=self.percent[kept])


def read_fleet(path: Path, system: str = "recorded") -> RecordedFleet:
    """The fleet of a Parquet file with the columns `time`, `user_id` and `utilization_percent`.

    Days without any window are left out: the days of the file follow each other. Raises FleetError.
    """
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
        ends = table["time"].cast(pa.timestamp("ms")).combine_chunks().cast(pa.int64()).to_numpy()
        names = _dictionary(table["user_id"])
        percent = table["utilization_percent"].to_numpy()
        host = names.indices.to_numpy(zero_copy_only=False)
    except OSError as error:
        raise FleetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FleetError(f"{path}: expected a Parquet file with the columns {', '.join(COLUMNS)}: {reason}") from None
    users = names.dictionary.cast(pa.string()).to_pylist()
    _check(path, users, ends, host, percent)
    ends = _without_empty_days(ends)
    order = np.lexsort((ends, host))
    host = host[order]
    starts = np.flatnonzero(np.diff(host, prepend=-1))
    return RecordedFleet(
        users=[users[place] for place in host[starts].tolist()],
        bounds=np.append(starts, len(host)),
        end_ms=ends[order],
        percent=percent[order],
        system=system,
    )


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries().combine_chunks()


def _check(path: Path, users: list[str | None], *columns: npt.NDArray[np.number]) -> None:
    ends, host, percent = columns
    if not len(percent):
        raise FleetError(f"{path}: holds no windows")
    # Columns with empty places come as floating point numbers.
    if host.dtype.kind != "i" or ends.dtype.kind != "i":
        raise FleetError(f"{path}: has windows without a user_id or a time")
    if not (percent.dtype.kind in "iuf" and percent.min() >= 0 and percent.max() <= 100):
        raise FleetError(f"{path}: expected numbers from 0 to 100 in utilization_percent")
    if not all(user and len(user) <= MAX_USER_ID for user in users):
        raise FleetError(f"{path}: expected 1 to {MAX_USER_ID} characters in each user_id")


def _without_empty_days(times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    day, within = np.divmod(times_ms, DAY_MS)
    _, place = np.unique(day, return_inverse=True)
    closed: npt.NDArray[np.int64] = place * DAY_MS + within
    return closed


class DemoBatch(NamedTuple):
    """The body of one request."""

    body: bytes
    """A report a line (NDJSON)."""
    reports: int


def batches(fleet: RecordedFleet) -> Iterator[DemoBatch]:
    """All windows of a fleet, in batches of some thousand.

    Each host's windows come in order of time, and all in one batch unless they are very many: requests
    may then arrive in any order, and yet no window comes after a newer one.
    """
    # Reports differ in user, time and value only, so the texts around these are made once for each.
    values, which = np.unique(fleet.percent, return_inverse=True)
    tails = [_tail(value / 100, fleet.system) for value in values.tolist()]
    lines: list[str] = []
    for user, (first, last) in zip(fleet.users, pairwise(fleet.bounds.tolist()), strict=True):
        head = f'{{"user_id":{json.dumps(user)},"start_timestamp":'
        ends, places = fleet.end_ms[first:last].tolist(), which[first:last].tolist()
        lines += [
            f'{head}{end - WINDOW_MS},"end_timestamp":{end}{tails[place]}'
            for end, place in zip(ends, places, strict=True)
        ]
        if len(lines) >= _BATCH_REPORTS:
            yield from _cut(lines)
            lines = []
    if lines:
        yield from _cut(lines)


def _cut(lines: list[str]) -> Iterator[DemoBatch]:
    for first in range(0, len(lines), 2 * _BATCH_REPORTS):
        some = lines[first : first + 2 * _BATCH_REPORTS]
        yield DemoBatch("".join(some).encode(), len(some))


def _tail(share: float, system: str) -> str:
    """What follows a report's times, for one value."""
    cpu = {
        "type": "CPU",
        "avg_utilization": share,
        "var_utilization": 0.0,
        "avg_utilization_by_core": [],
        "min_utilization": share,
        "max_utilization": share,
        "histogram": flatten({LINEAR.index(share): 1}),
    }
    members = {"observations_per_metric": 1, "os_type": "Linux", "os_version": system, "metrics": [cpu]}
    return "," + json.dumps(members, separators=(",", ":"))[1:] + "\n"
