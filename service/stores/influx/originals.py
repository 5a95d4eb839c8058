"""Points of the original that come into the database beside this service: found, and added to the rollups.

They come in no report, so nothing says that they are there. What can be counted cheaply is counted, part by part:
the points that do not say how many samples they had, and those that the rollups tell of. Where there are more of the
first, the points are read, and those that no rollup tells of become rows of their own, as whatever comes late.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge, take
from analytics.frames.tiers import NEVER_MS, RAW, Rolled
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import Points, condition
from contract.influx import (
    ORIGINAL_POINTS,
    ORIGINAL_TIMES,
    PART,
    USER_ID,
    between,
    fields_of,
    identifier,
    measurement_of,
    tag_value,
)
from contract.metrics import Cpu
from contract.times import DAY_MS, HOUR_MS
from service.stores.influx.reading import Reader
from service.stores.influx.rollups import FINEST
from service.stores.series import WHOLE, SeriesIndex

_CPU: Final = Cpu.quantities[0]
_SHARE: Final = 100
"""Of so much time that passes, at most one part is spent on counting."""
_LEAST_S: Final = 5.0
_FEW: Final = 1000
"""Of so many users a day can be counted at once in a second or two."""


class Told(NamedTuple):
    """What rollups tell of the points of the original that are in them; of each row, null where it has none."""

    points: pa.StringArray
    """How many, as an integer field."""
    times: pa.StringArray
    """How far their ends are behind the start of the bucket, ms, as a text field."""

    @property
    def fields(self) -> dict[str, pa.StringArray]:
        """The fields by their names."""
        return {ORIGINAL_POINTS: self.points, ORIGINAL_TIMES: self.times}


class Counted(NamedTuple):
    """What there is of a range."""

    start_ms: int
    end_ms: int
    points: Mapping[str, tuple[int, int]]
    """How many points of the original each user has before and behind the end of the finest rollup."""
    changed: Sequence[str]
    """Who has others than when it was last looked at."""
    lacking: Sequence[str]
    """Who of them has points that no rollup tells of."""
    began: float


class Originals:
    """Looks for them. One thread at a time; calls raise Unreachable or Refused."""

    def __init__(self, client: InfluxClient, reader: Reader, index: SeriesIndex) -> None:
        self._client = client
        self._reader = reader
        self._index = index
        self._seen: dict[tuple[int, int], Mapping[str, tuple[int, int]]] = {}
        """By range: what each user had when it was last looked at."""
        self._not_before = 0.0
        self._first = self._older = 0
        self._is_older_next = False
        self._recent: tuple[int, frozenset[str], frozenset[str]] = (0, frozenset(), frozenset())
        """The start of the newest range, who had such points in the one before, and who has in this."""

    def next_range(self, rolled: Rolled, now_ms: int, oldest_ms: int) -> tuple[int, int] | None:
        """What to look at now: the newest day and all before it by turns, ever again; None for nothing yet.

        In a large fleet it is an hour, so that nothing waits for long. `oldest_ms` is the day of the oldest window of
        the users that are known.
        """
        if time.monotonic() < self._not_before:
            return None
        unit = DAY_MS if len(self._index.users) <= _FEW else HOUR_MS
        newest = now_ms // unit * unit
        self._is_older_next = not self._is_older_next
        if self._is_older_next:
            return newest, newest + unit
        if not self._first < self._older <= newest:
            # All were looked at, or none yet.
            self._older = newest
            self._first = max(min(self._oldest_ms(), oldest_ms or newest), rolled.since_ms) // unit * unit
        self._older = max(self._older // unit * unit - unit, self._first)
        return self._older, self._older + unit

    def _oldest_ms(self) -> int:
        """The time of the oldest point."""
        if self._client.server().generation > 2:
            # InfluxDB 3 opens no more than 432 files for a statement.
            return NEVER_MS
        mean = identifier(fields_of(_CPU).mean)
        text = f"SELECT {mean} FROM {identifier(measurement_of())} ORDER BY time LIMIT 1"
        rows = self._client.select(text, {"time": pa.int64()})
        return int(rows["time"][0].as_py()) if len(rows) else NEVER_MS

    def counted(self, start_ms: int, end_ms: int, rolled: Rolled, now_ms: int) -> Counted:
        """What there is of a range."""
        began = time.monotonic()
        first_ms, last_ms = max(start_ms, rolled.since_ms), min(end_ms, rolled.through_ms[FINEST])
        there = self._points(first_ms, last_ms) if first_ms < last_ms else {}
        told = self._told(first_ms, last_ms) if there else {}
        opened: dict[str, int] = {}
        if start_ms <= now_ms < end_ms:
            opened = self._points(last_ms if first_ms < last_ms else start_ms, end_ms + DAY_MS)
            recent = frozenset(there.keys() | opened.keys())
            if self._recent[0] != start_ms:
                self._recent = start_ms, self._recent[2], recent
            self._recent = (*self._recent[:2], recent)
        both = {user: (there.get(user, 0), opened.get(user, 0)) for user in there.keys() | opened.keys()}
        before = self._seen.get((start_ms, end_ms), {})
        changed = sorted(user for user, count in both.items() if before.get(user) != count)
        lacking = [user for user in changed if there.get(user, 0) > told.get(user, 0)]
        return Counted(start_ms, end_ms, both, changed, lacking, began)

    @property
    def live(self) -> frozenset[str]:
        """Who had such points lately: whatever is not over yet is read for them from InfluxDB."""
        return self._recent[1] | self._recent[2]

    def forget(self) -> None:
        """Look at everything as if it had not been looked at yet."""
        self._seen.clear()

    def done(self, counted: Counted) -> None:
        """All that was found is in the rollups now."""
        self._seen[counted.start_ms, counted.end_ms] = counted.points
        ended = time.monotonic()
        self._not_before = ended + max((ended - counted.began) * _SHARE, _LEAST_S)

    def _points(self, start_ms: int, end_ms: int) -> dict[str, int]:
        """How many points each user has in a range that do not say how many samples they had."""
        names = fields_of(_CPU)
        return self._numbers(
            f"SELECT COUNT({identifier(names.mean)}) AS n0, COUNT({identifier(names.count)}) AS n1"
            f" FROM {identifier(measurement_of())} WHERE {between(start_ms, end_ms)}"
        )

    def _told(self, start_ms: int, end_ms: int) -> dict[str, int]:
        return self._numbers(
            f"SELECT SUM({identifier(ORIGINAL_POINTS)}) AS n0 FROM {identifier(measurement_of(FINEST))}"
            f" WHERE {between(start_ms, end_ms)}"
        )

    def _numbers(self, text: str) -> dict[str, int]:
        """The first number of each user, less the second."""
        found: dict[str, int] = {}
        for series in self._client.execute(f"{text} GROUP BY {identifier(USER_ID)}"):
            for row in series.get("values", []):
                number = int(row[1] or 0) - (int(row[2] or 0) if len(row) > 2 else 0)
                if number > 0:
                    found[tag_value(series["tags"][USER_ID])] = number
        return found

    def rows(self, users: Sequence[str], start_ms: int, end_ms: int) -> tuple[Windows, Told]:
        """The points of some users in a range that no rollup tells of, as buckets of the finest, with what to tell."""
        parts, ends = [], []
        for user in users:
            known = _Known.of(self._client, user, start_ms, end_ms)
            for kind in ("whole", "each"):
                wanted = Points(_CPU, RAW, start_ms, end_ms, [user], kind, foreign=True)
                for part in self._reader.windows(wanted):
                    new = take(part, known.lacks(part.time))
                    parts.append(new)
                    ends.append(new)
        windows = concatenate(parts)
        buckets = merge(windows, rate_ms=FINEST)
        return buckets, self._to_tell(buckets, windows)

    def _to_tell(self, buckets: Windows, windows: Windows) -> Told:
        start = windows.time // FINEST * FINEST
        behind: dict[tuple[int, int], list[int]] = {}
        for series, bucket, offset in zip(
            windows.series.tolist(), start.tolist(), (windows.time - start).tolist(), strict=True
        ):
            if self._index.all[series - 1].core == WHOLE:
                behind.setdefault((series, bucket), []).append(offset)
        rows = [behind.get(key) for key in zip(buckets.series.tolist(), buckets.time.tolist(), strict=True)]
        points = [None if row is None else f"{len(row)}i" for row in rows]
        times = [None if row is None else '"' + " ".join(map(str, sorted(row))) + '"' for row in rows]
        return Told(pa.array(points, pa.string()), pa.array(times, pa.string()))


class _Known(NamedTuple):
    """What the finest rollup has of a user in a range."""

    ends: npt.NDArray[np.int64]
    """Of the points of the original that it tells of."""
    whole: npt.NDArray[np.int64]
    """Buckets that an earlier version wrote as a whole: they have all that was there."""

    @classmethod
    def of(cls, client: InfluxClient, user: str, start_ms: int, end_ms: int) -> "_Known":
        """What is there now."""
        mean = fields_of(_CPU).mean
        types = {"time": pa.int64(), mean: pa.float64(), ORIGINAL_TIMES: pa.string(), PART: pa.string()}
        columns = ", ".join(identifier(name) for name in types if name != "time")
        rows = client.select(
            f"SELECT {columns} FROM {identifier(measurement_of(FINEST))}"
            f" WHERE {condition([user], start_ms // FINEST * FINEST, end_ms)}",
            types,
        ).to_pylist()
        ends = [row["time"] + int(offset) for row in rows for offset in (row[ORIGINAL_TIMES] or "").split()]
        return cls(np.array(ends, np.int64), np.array([row["time"] for row in rows if not row[PART]], np.int64))

    def lacks(self, time_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some ends are in none of its rows."""
        found: npt.NDArray[np.bool_] = ~np.isin(time_ms, self.ends) & ~np.isin(time_ms // FINEST * FINEST, self.whole)
        return found
