"""Who used the CPU, in InfluxDB: a point for each window that says so, and rows of hours that add up.

Names are without number, and each value of a tag is a series: so what a window names is one text in a field, as a
histogram is. An hour that is over is merged into one row, as the embedded store merges them
(`service.stores.use_tables`); windows that come later are rows of their own beside it, parts 1, 2 and so on. Whole
hours are answered from these, and windows are kept for a week only where InfluxDB can delete.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from analytics.frames.tiers import RAW
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import condition, longest_ms
from contract.influx import (
    BUSY_SECONDS,
    CORE_SECONDS,
    PART,
    PROCESS_BEYOND,
    PROCESSES,
    PROCESSES_1H,
    UNIT_BEYOND,
    USER_ID,
    USES,
    WINDOW_SECONDS,
    between,
    identifier,
    string_field,
    tag,
    tag_value,
)
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import StoreError
from service.stores.influx.lines import Lines, lines_of
from service.stores.influx.publication import View
from service.stores.process_use import (
    UseAnswer,
    UseDump,
    UseQuestion,
    UseTables,
    joined,
    tables_of_rows,
)
from service.stores.series import SeriesIndex
from service.stores.use_tables import WINDOWS_KEPT_MS, answered, hours_of

HOURS: Final = 1
"""What the numbers of parts of hours are kept by, where those of rollups are kept by the width of their tier."""
_NUMBERS: Final = (WINDOW_SECONDS, CORE_SECONDS, BUSY_SECONDS, PROCESS_BEYOND, UNIT_BEYOND)
_LONGEST_TEXT: Final = 60_000
"""InfluxDB 1 takes texts of 64 KiB."""
_COMMAND: Final = 4
_AT_ONCE: Final = 20_000
"""About so many points, of some kB each, are asked for at once."""
_WINDOW_MS: Final = 5000
_USERS: Final = 20
"""So many users' windows of a time are merged at once."""
_NAMED: Final = 100
"""So many users are named in a statement."""

_Use = tuple[int, str, str, str, str, float, float, int]
_DECODER = msgspec.json.Decoder(list[_Use])


def window_lines(windows: UseTables) -> Lines:
    """The points of windows."""
    return lines_of([f"{PROCESSES}{key} {fields} {time}\n" for key, fields, time in _points(windows)])


def hour_lines(hours: UseTables, parts: Mapping[int, int]) -> Lines:
    """The rows of hours, each of the part that `parts` has of its start, 0 where it has none."""
    texts = []
    for key, fields, time in _points(hours):
        start = time // HOUR_MS * HOUR_MS
        texts.append(f"{PROCESSES_1H}{tag(PART, str(parts.get(start, 0)))}{key} {fields} {start}\n")
    return lines_of(texts)


def starts_of(hours: UseTables) -> list[int]:
    """When the hours start, each once."""
    return sorted({time // HOUR_MS * HOUR_MS for time in hours.windows["time"].to_pylist()})


def late_hours(windows: UseTables, through_ms: int) -> UseTables:
    """What windows add to hours that are written already, up to `through_ms`."""
    return hours_of(windows.of(lambda _, end_ms: end_ms < through_ms))


class ProcessUses:
    """Reads, merges and deletes who used the CPU. Calls raise Unreachable or Refused."""

    def __init__(self, client: InfluxClient, index: SeriesIndex) -> None:
        self._client = client
        self._index = index

    def answer(self, view: View, question: UseQuestion, now_ms: int) -> UseAnswer:
        """Who used most, in InfluxDB and in memory."""
        users = sorted(self._index.users) if question.user_id is None else [question.user_id]
        if question.covers is not None:
            users = [user for user in users if question.covers(user)]
        memory = joined([tables for one in view.memories for tables in one.process_uses()])
        return answered(self._parts(view, question, users, memory, now_ms), question)

    def _parts(
        self, view: View, question: UseQuestion, users: Sequence[str], memory: UseTables, now_ms: int
    ) -> Iterator[UseTables]:
        start_ms, end_ms = question.start_ms, question.end_ms
        wanted = frozenset(users)
        yield memory.of(lambda user_id, time: user_id in wanted and start_ms <= time < end_ms)
        known = memory.ends()
        first_ms, last_ms = _hours_within(question, view.processes_through_ms, _windows_from_ms(now_ms))
        late = {(user, start, view.late_hours.parts[start]) for user, start in _keys(view.late_hours.rows)}
        for some in self._named(users):
            for range_ms in ((start_ms, first_ms), (last_ms, end_ms)):
                for windows in self._windows(some, *range_ms):
                    yield windows.of(lambda user_id, time: user_id in wanted and (user_id, time) not in known)
            for hours in self._hours(some, first_ms, last_ms, late):
                yield hours.of(lambda user_id, _: user_id in wanted)
        yield view.late_hours.rows.of(lambda user_id, time: user_id in wanted and first_ms <= time < last_ms)

    def _named(self, users: Sequence[str]) -> Iterator[Sequence[str]]:
        """Users, as many as are named in a statement; nobody named are all."""
        if len(users) > _NAMED and len(users) * 2 > len(self._index.users):
            yield ()
        else:
            yield from (users[place : place + _NAMED] for place in range(0, len(users), _NAMED))

    def _windows(self, users: Sequence[str], start_ms: int, end_ms: int) -> Iterator[UseTables]:
        """The windows of some users, or of everybody, in a range, a part at a time."""
        return self._parts_of(PROCESSES, users, self._range(_WINDOW_MS, users, start_ms, end_ms), frozenset())

    def _hours(
        self, users: Sequence[str], start_ms: int, end_ms: int, without: set[tuple[str, int, int]]
    ) -> Iterator[UseTables]:
        """The rows of hours in a range, a part at a time, but for some by user, start and part."""
        return self._parts_of(PROCESSES_1H, users, self._range(HOUR_MS, users, start_ms, end_ms), without)

    def _range(self, each_ms: int, users: Sequence[str], start_ms: int, end_ms: int) -> range:
        """Where the parts of a range start that have not too many points, one for each of `users` every `each_ms`."""
        known = self._index.users
        found = [known[name] for name in users if name in known] if users else list(known.values())
        # Nothing is there before and behind all that was reported.
        start_ms = max(start_ms, min((user.first_seen for user in found), default=0) // HOUR_MS * HOUR_MS)
        end_ms = min(end_ms, max((user.last_seen for user in found), default=0) + 1)
        width = max(_AT_ONCE // max(len(found), 1) * each_ms // HOUR_MS * HOUR_MS, HOUR_MS)
        return range(start_ms, end_ms, min(width, longest_ms(RAW, self._client.server().generation)))

    def _parts_of(
        self,
        measurement: str,
        users: Sequence[str],
        parts: range,
        without: set[tuple[str, int, int]] | frozenset[Any],
    ) -> Iterator[UseTables]:
        start, end = parts.start, parts.stop
        while start < end:
            last = min(start + parts.step, end)
            found = self._read(measurement, condition(users, start, last), without)
            yield found
            start = last
            # To look ahead, InfluxDB 3 would open the files of all that time.
            if last < end and not len(found.windows) and self._client.server().generation < 3:
                there = self._first_hour(measurement, condition(users, last, end))
                start = end if there is None else max(last, there)

    def _first_hour(self, measurement: str, where: str) -> int | None:
        """The start of the hour of the oldest row; None where there is none."""
        text = f"SELECT {identifier(BUSY_SECONDS)} FROM {identifier(measurement)} WHERE {where}"
        rows = self._client.select(text + " ORDER BY time ASC LIMIT 1", {"time": pa.int64()})
        return rows["time"][0].as_py() // HOUR_MS * HOUR_MS if len(rows) else None

    def _read(self, measurement: str, where: str, without: set[tuple[str, int, int]] | frozenset[Any]) -> UseTables:
        is_hour = measurement == PROCESSES_1H
        types: dict[str, pa.DataType] = {"time": pa.int64()} | dict.fromkeys(_NUMBERS, pa.float64())
        types |= {USES: pa.string(), USER_ID: pa.string()} | ({PART: pa.string()} if is_hour else {})
        columns = ", ".join(identifier(name) for name in types if name != "time")
        rows = self._client.select(f"SELECT {columns} FROM {identifier(measurement)} WHERE {where}", types)
        windows: list[tuple[Any, ...]] = []
        uses: list[tuple[Any, ...]] = []
        for row in rows.to_pylist():
            user, time = tag_value(row[USER_ID] or ""), row["time"]
            if row[BUSY_SECONDS] is None or (is_hour and (user, time, int(row[PART] or 0)) in without):
                continue
            # An hour counts where its last moment is.
            at = time + HOUR_MS - 1 if is_hour else time
            windows.append((user, at, *(row[name] or 0.0 for name in _NUMBERS)))
            uses += [(user, at, *one) for one in _DECODER.decode(row[USES] or "[]")]
        return tables_of_rows(windows, uses)

    # What flushes, copies and time do

    def first_hour(self, start_ms: int, end_ms: int) -> int | None:
        """The start of the hour of the oldest window in a range; None where there is none."""
        if self._client.server().generation > 2:
            # It opens the files of all the time that is asked for.
            start_ms = max(start_ms, end_ms - DAY_MS)
        return self._first_hour(PROCESSES, between(start_ms, end_ms))

    def hours_of_windows(self, users: Sequence[str], start_ms: int, end_ms: int) -> Iterator[UseTables]:
        """The windows of whole hours merged, some users at a time."""
        if start_ms >= end_ms:
            return
        for place in range(0, len(users), _USERS):
            for windows in self._windows(users[place : place + _USERS], start_ms, end_ms):
                yield hours_of(windows)

    def expire(self, kept_ms: int | None, now_ms: int) -> None:
        """Delete what has been kept for long enough: windows for a week, hours as long as is set."""
        if self._client.server().generation > 2:
            return
        old_ms = 0 if kept_ms is None else max(0, now_ms - kept_ms) // HOUR_MS * HOUR_MS
        for measurement, before_ms in ((PROCESSES, _windows_from_ms(now_ms)), (PROCESSES_1H, old_ms)):
            if before_ms > 0:
                self._client.execute(f"DELETE FROM {identifier(measurement)} WHERE time < {before_ms}ms", change=True)

    def dump(self, users: Sequence[str], start_ms: int, end_ms: int, now_ms: int) -> UseDump:
        """What there is of some users in a range of whole days: windows, and hours where windows are not kept."""
        since_ms = min(max(_windows_from_ms(now_ms), start_ms), end_ms)
        hours = hours_of(joined([*self._hours(users, start_ms, since_ms, set())]))
        return UseDump(joined([*self._windows(users, since_ms, end_ms)]), hours)

    def take_out(self, users: Sequence[str], start_ms: int, end_ms: int) -> UseDump:
        """Delete what there is of some users in a range of whole days: returns windows, and hours that have none.

        Raises StoreError where there is something that cannot be deleted.
        """
        windows = joined([*self._windows(users, start_ms, end_ms)])
        hours = joined([*self._hours(users, start_ms, end_ms, set())])
        if len(hours.windows) or len(windows.windows):
            if self._client.server().generation > 2:
                raise StoreError(
                    "who used the CPU cannot be completed in InfluxDB 3: copy into a database that is empty"
                )
            for measurement in (PROCESSES, PROCESSES_1H):
                where = condition(users, start_ms, end_ms)
                self._client.execute(f"DELETE FROM {identifier(measurement)} WHERE {where}", change=True)
        told = {(user, start) for user, start in _keys(windows)}
        return UseDump(windows, hours.of(lambda user, time: (user, time // HOUR_MS * HOUR_MS) not in told))


def _windows_from_ms(now_ms: int) -> int:
    """Windows before this may be deleted, whole days of them."""
    return (now_ms - WINDOWS_KEPT_MS) // DAY_MS * DAY_MS


def _hours_within(question: UseQuestion, through_ms: int, windows_from_ms: int) -> tuple[int, int]:
    """The range of a question that is answered from hours; empty, at its start, where there is none."""
    start_ms, end_ms = question.start_ms, question.end_ms
    first_ms = start_ms // HOUR_MS * HOUR_MS
    if first_ms >= windows_from_ms and first_ms < start_ms:
        first_ms += HOUR_MS
    last_ms = min(end_ms // HOUR_MS * HOUR_MS, through_ms)
    if question.rate_ms is not None and question.rate_ms % HOUR_MS:
        last_ms = min(last_ms, windows_from_ms)
    return (first_ms, last_ms) if first_ms < last_ms else (start_ms, start_ms)


def _keys(tables: UseTables) -> set[tuple[str, int]]:
    """Host and start of the hour of each row."""
    return {(user, time // HOUR_MS * HOUR_MS) for user, time in tables.ends()}


class _Point(NamedTuple):
    key: str
    fields: str
    time: int


def _points(tables: UseTables) -> Iterator[_Point]:
    named: dict[tuple[str, int], list[tuple[Any, ...]]] = defaultdict(list)
    for user, time, *use in _rows(tables.uses):
        named[user, time].append(tuple(use))
    for user, time, *values in _rows(tables.windows):
        numbers = ",".join(f"{name}={float(value)!r}" for name, value in zip(_NUMBERS, values, strict=True))
        yield _Point(tag(USER_ID, user), f"{numbers},{USES}={string_field(_text(named[user, time]))}", time)


def _text(uses: Sequence[tuple[Any, ...]]) -> str:
    """What a point names, without command lines where it would be too long with them."""
    text = msgspec.json.encode(uses)
    if len(text) > _LONGEST_TEXT:
        text = msgspec.json.encode([(*one[:_COMMAND], "", *one[_COMMAND + 1 :]) for one in uses])
    return text.decode()


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
