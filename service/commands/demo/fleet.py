"""A recorded fleet: the CPU utilization of many machines, read from a file and moved in time."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from contract.report import MAX_USER_ID
from contract.times import DAY_MS

WINDOW_MS = 5 * 60 * 1000
"""The length of every window."""
COLUMNS = ("time", "user_id", "utilization_percent")


class FleetError(ValueError):
    """A file that holds no fleet; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Windows of machines, sorted by machine and then by time."""

    users: list[str]
    """The machines."""
    bounds: npt.NDArray[np.int64]
    """The windows of machine i are those from `bounds[i]` to before `bounds[i + 1]`."""
    end_ms: npt.NDArray[np.int64]
    """When each window ends, epoch milliseconds."""
    percent: npt.NDArray[np.number]
    """The utilization of each window, 0 to 100."""
    system: str
    """What the machines run, as far as is known."""

    def __len__(self) -> int:
        return len(self.end_ms)

    @property
    def last_ms(self) -> int:
        """The end of the newest window of all."""
        return int(self.end_ms.max())

    def last_of_each(self) -> dict[str, int]:
        """The end of the newest window of each machine."""
        return dict(zip(self.users, self.end_ms[self.bounds[1:] - 1].tolist(), strict=True))

    def shifted(self, by_ms: int) -> "Fleet":
        """The same, so much later."""
        return replace(self, end_ms=self.end_ms + by_ms)

    def ending(self, now_ms: int) -> "Fleet":
        """The same, its last window the newest whole one at `now_ms`."""
        return self.shifted(now_ms // WINDOW_MS * WINDOW_MS - self.last_ms)

    def after(self, end_ms: int) -> "Fleet":
        """The windows that end after `end_ms`."""
        return self._where(self.end_ms > end_ms)

    def longest(self, count: int) -> "Fleet":
        """The `count` machines with the most windows."""
        order = np.argsort(-np.diff(self.bounds), kind="stable")
        chosen = np.zeros(len(self.users), bool)
        chosen[order[:count]] = True
        return self._where(np.repeat(chosen, np.diff(self.bounds)))

    def _where(self, kept: npt.NDArray[np.bool_]) -> "Fleet":
        counts = np.add.reduceat(kept, self.bounds[:-1], dtype=np.int64) if len(self) else np.zeros(0, np.int64)
        users = [user for user, count in zip(self.users, counts, strict=True) if count]
        bounds = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        return replace(self, users=users, bounds=bounds, end_ms=self.end_ms[kept], percent=self.percent[kept])


def read_fleet(path: Path, system: str = "recorded") -> Fleet:
    """The fleet of a Parquet file with the columns `time`, `user_id` and `utilization_percent`.

    Days without any window are left out: the days of the file follow each other. Raises FleetError.
    """
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
        ends = table["time"].cast(pa.timestamp("ms")).combine_chunks().cast(pa.int64()).to_numpy()
        names = _dictionary(table["user_id"])
        percent = table["utilization_percent"].to_numpy()
        machine = names.indices.to_numpy(zero_copy_only=False)
    except OSError as error:
        raise FleetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (pa.ArrowException, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FleetError(f"{path}: not a Parquet file with the columns {', '.join(COLUMNS)}: {reason}") from None
    users = names.dictionary.cast(pa.string()).to_pylist()
    _check(path, users, ends, machine, percent)
    ends = _without_empty_days(ends)
    order = np.lexsort((ends, machine))
    machine = machine[order]
    starts = np.flatnonzero(np.diff(machine, prepend=-1))
    return Fleet(
        users=[users[place] for place in machine[starts].tolist()],
        bounds=np.append(starts, len(machine)),
        end_ms=ends[order],
        percent=percent[order],
        system=system,
    )


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries().combine_chunks()


def _check(path: Path, users: list[str | None], *columns: npt.NDArray[np.number]) -> None:
    ends, machine, percent = columns
    if not len(percent):
        raise FleetError(f"{path}: holds no windows")
    # Columns with empty places come as floating point numbers.
    if machine.dtype.kind != "i" or ends.dtype.kind != "i":
        raise FleetError(f"{path}: has windows without a user_id or a time")
    if not (percent.dtype.kind in "iuf" and percent.min() >= 0 and percent.max() <= 100):
        raise FleetError(f"{path}: utilization_percent must be numbers from 0 to 100")
    if not all(user and len(user) <= MAX_USER_ID for user in users):
        raise FleetError(f"{path}: each user_id must have 1 to {MAX_USER_ID} characters")


def _without_empty_days(times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    day, within = np.divmod(times_ms, DAY_MS)
    _, place = np.unique(day, return_inverse=True)
    closed: npt.NDArray[np.int64] = place * DAY_MS + within
    return closed
