"""The embedded store: a log-structured merge tree whose merge is that of summaries (see docs/architecture.md)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analytics.frames.tiers import RAW, plan
from contract import times
from contract.later import later
from contract.metrics import TYPE_OF, Metric
from contract.report import Report
from service.stores.base import Buckets, Host, Key, Question, StoreUnavailable
from service.stores.embedded import catalog
from service.stores.embedded.damage import DamagedFiles, Holds, refuse_without_catalogue, remove_garbage
from service.stores.embedded.segment import Segment
from service.stores.embedded.versions import StoreVersion, Versions
from service.stores.memtable import Memtable
from service.stores.retention import TIERS, Retention
from service.stores.series import KnownUsers, Series, SeriesIndex, User

# What only opens and takes reports does without these.
if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from service.stores import dump, process_use, selection, use_tables
    from service.stores.embedded import compaction, ends, reading, row_groups
    from service.stores.embedded import dump as own_dump
    from service.stores.embedded import segments as files
    from service.stores.process_use import UseAnswer, UseDump, UseQuestion
else:
    duckdb, np, pa = later("duckdb"), later("numpy"), later("pyarrow")
    dump, selection = later("service.stores.dump"), later("service.stores.selection")
    process_use, use_tables = later("service.stores.process_use"), later("service.stores.use_tables")
    own_dump, ends = later("service.stores.embedded.dump"), later("service.stores.embedded.ends")
    compaction, row_groups = later("service.stores.embedded.compaction"), later("service.stores.embedded.row_groups")
    reading, files = later("service.stores.embedded.reading"), later("service.stores.embedded.segments")

DATABASE = "loadlens.duckdb"
_ANSWERED_S = 20.0
_FLUSH_ROWS = 1_000_000
"""Windows of series: some 100 MB."""


class EmbeddedStore(KnownUsers):
    """Windows in `folder`: a DuckDB file, and Parquet files beside it. One process at a time.

    `memory` is what DuckDB may use, such as `1GB`; `retention` how long windows and each tier of rollups are
    kept, in ms, None for ever, and `keep_processes_ms` what is said of processes. `notes_files` is for who fills the
    store without a journal: each file is noted before it is written, so that a crash leaves none that is not known.
    `holds` says what the
    journal can give again: of files that are written and not listed
    only those are removed that it can. `migrations` is what brings the catalogue to the newest version. Raises
    StoreError where the catalogue is missing, damaged, or not that of the files.
    """

    def __init__(
        self,
        folder: Path,
        memory: str = "1GB",
        retention: Sequence[int | None] = (None,) * (len(TIERS) + 1),
        holds: Holds = lambda after, through: False,
        notes_files: bool = False,
        migrations: Sequence[str] = catalog.MIGRATIONS,
        keep_processes_ms: int | None = None,
    ) -> None:
        self._retention = Retention(TIERS, retention)
        self._keep_processes_ms = keep_processes_ms
        self._notes_files = notes_files
        self._raw = folder / "raw"
        self._raw.mkdir(parents=True, exist_ok=True)
        database = folder / DATABASE
        refuse_without_catalogue(self._raw, database)
        self._connection = catalog.open_catalog(database, memory, migrations)
        try:
            self._open(holds)
        except BaseException as error:
            self._connection.close()
            if isinstance(error, duckdb.Error):
                raise catalog.damaged(database, error) from None
            raise

    def _open(self, holds: Holds) -> None:
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._index = SeriesIndex()
        catalog.load_index(self._connection, self._index)
        self.flushed = catalog.flushed(self._connection)
        self._memtable = Memtable(self._index, self.flushed)
        self._immutable: Memtable | None = None
        self._systems = {user.user_id: [*user.systems] for user in self._index.users.values()}
        """What is on disk of what users ran."""
        self._unsaved: list[Series] = []
        self._versions = Versions(self._connection, self._raw, self._memtables)
        remove_garbage(self._connection, self._raw, self._versions.segments, self.flushed, holds)
        self._damage = DamagedFiles(self._connection, self._raw, self._versions.segments)

    @cached_property
    def _ends(self) -> ends.Ends:
        return ends.Ends(self._raw)

    @cached_property
    def _new_files(self) -> files.NewFiles:
        return files.NewFiles(self._raw, self._index, notes=self._notes_files)

    @cached_property
    def _compaction(self) -> compaction.Compaction:
        return compaction.Compaction(self._raw, self._index, self._versions, self._damage, self._new_files)

    # What comes in

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports that the journal holds, the last of them at offset `last`."""
        with self._lock:
            self._memtable.add(last, reports)

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"embedded, DuckDB {duckdb.__version__}"

    @property
    def problem(self) -> str | None:
        """Which of its files cannot be read; None where all can, as far as is known."""
        return self._damage.problem

    def caveat(self, question: Question) -> str | None:
        """What the answer to a question lacks for damaged files; None where it lacks nothing."""
        pieces = plan(question.start_ms, question.end_ms, question.step_ms, TIERS)
        return self._damage.caveat((piece.start_ms, piece.end_ms) for piece in pieces if piece.tier == RAW)

    @property
    def full(self) -> bool:
        """Whether so much is in memory that it should be flushed now."""
        return self._memtable.rows >= _FLUSH_ROWS

    def sizes(self) -> list[tuple[str, str, float]]:
        """What to watch: names, explanations and values."""
        segments = self._versions.segments
        return [
            (
                "head_windows",
                "Windows in memory, not flushed yet.",
                sum(memtable.rows for memtable in self._memtables()),
            ),
            ("series", "Series known.", len(self._index)),
            ("users", "Users known.", len(self._index.users)),
            ("segments", "Files of raw windows.", len(segments)),
            ("segment_windows", "Raw windows in files.", sum(segment.rows for segment in segments)),
            ("segments_damaged", "Files of raw windows that cannot be read.", len(self._damage.damaged())),
            ("segment_bytes", "Bytes of these files.", sum(segment.bytes for segment in segments)),
        ]

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream, epoch milliseconds."""
        ends = catalog.newest(self._connection)
        for memtable in self._memtables():
            for stream, end in memtable.newest().items():
                ends[stream] = max(end, ends.get(stream, end))
        series = self._index.all
        return {(series[number - 1].user_id, TYPE_OF[series[number - 1].quantity]): end for number, end in ends.items()}

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already."""
        places = {}
        for key in keys:
            stream = self._index.stream(key.user_id, key.type)
            if stream is not None:
                places[stream, key.end_ms] = key
        if not places:
            return set()
        stored = await asyncio.to_thread(self._stored, list(places))
        return {places[place] for place in stored}

    def _stored(self, places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        series, time = (np.array(column, np.int64) for column in zip(*places, strict=True))

        def read(view: StoreVersion) -> list[tuple[int, int]]:
            held = np.zeros(len(places), np.bool_)
            for memtable in view.memtables:
                held |= memtable.holds(series, time)
            asked_for = [one for one in view.segments if np.any(one.may_hold(series, time))]
            if len(self._damage.whole(asked_for)) < len(asked_for):
                raise StoreUnavailable(f"{self._damage.problem}")
            held |= self._ends.hold(asked_for, series, time, self._index.streams())
            return [places[place] for place in np.flatnonzero(held).tolist()]

        try:
            return self._versions.consistent(read)
        except files.UNREADABLE as error:
            self._damage.is_found(one for one in self._versions.segments if np.any(one.may_hold(series, time)))
            raise StoreUnavailable(self._damage.problem or f"the store cannot be read: {error}") from None

    # What is asked

    def answer(self, question: Question) -> pd.DataFrame:
        """The windows that a question asks for."""
        chosen = selection.select(self._index, question)
        cuts = chosen.cuts(self._retention, times.now_ms())

        def read_all(view: StoreVersion) -> pd.DataFrame:
            with self._connection.cursor() as cursor:
                segments = self._damage.whole(view.segments)
                return reading.read(cursor, self._raw, segments, view.memtables, chosen, cuts, has_fleet=view.has_fleet)

        try:
            return self._versions.consistent(read_all)
        except (duckdb.Error, *files.UNREADABLE) as error:
            start_ms, end_ms = question.start_ms, question.end_ms
            asked = [one for one in self._versions.segments if one.last_ms >= start_ms and one.first_ms < end_ms]
            if self._damage.is_found(asked):
                return self._versions.consistent(read_all)
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def seams(self, question: Question) -> Sequence[int]:
        """Where files of windows and their row groups begin; nothing where one cannot be read."""
        series = selection.select(self._index, question).series
        try:
            with self._versions.reading():
                segments = self._damage.whole(self._segments(question.start_ms, question.end_ms))
                return row_groups.seams(self._raw, segments, series)
        except files.UNREADABLE:
            return ()  # the question itself finds out what is damaged

    def who(self, question: UseQuestion) -> UseAnswer:
        """Who used the CPU, of the windows that said so."""

        def read_all(view: StoreVersion) -> UseAnswer:
            memory = process_use.joined([tables for memtable in view.memtables for tables in memtable.process_uses()])
            with self._connection.cursor() as cursor:
                return use_tables.answer(cursor, question, memory)

        try:
            return self._versions.consistent(read_all)
        except duckdb.Error as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error

    def _memtables(self) -> list[Memtable]:
        with self._lock:
            return [self._immutable, self._memtable] if self._immutable else [self._memtable]

    # To disk

    def flush(self) -> None:
        """Put everything added so far on disk: a segment, its rollups and the journal offset, all or nothing."""
        with self._flushing:
            with self._lock:
                if not self._immutable:
                    if not self._memtable.rows:
                        return
                    self._immutable = self._memtable
                    self._memtable = Memtable(self._index, self._immutable.last)
                    self._unsaved, self._index.created = self._index.created, []
            self._write(self._immutable)

    def _let_go(self) -> None:
        with self._lock:
            assert self._immutable is not None
            self.flushed = self._immutable.last
            self._immutable = None

    def _write(self, immutable: Memtable) -> None:
        rolling = reading.RollingUp(self._index)
        parts = rolling.noting(files.sorted_parts(immutable.pieces()))
        with self._connection.cursor() as cursor:
            origin = files.Origin(after=self.flushed, through=immutable.last)
            segment = self._new_files.write(cursor, parts, origin)
            newest = rolling.newest()
            with self._versions.change(cursor, self._let_go):
                self._new_files.list(cursor, [], segment)
                for tier, rollup in rolling.tiers():
                    reading.append_rollup(cursor, tier, segment.id, rollup)
                catalog.add_series(cursor, self._unsaved)
                users = self._users_of(newest["series"].to_pylist())
                catalog.put_users(cursor, users)
                told = [(user, [*user.systems]) for user in users]
                changed = [(user, systems) for user, systems in told if systems != self._systems.get(user.user_id)]
                catalog.put_systems(cursor, changed, self._index)
                catalog.put_newest(cursor, newest, self._index.streams())
                use_tables.put(cursor, process_use.joined(immutable.process_uses()))
                catalog.put_flushed(cursor, immutable.last)
            self._new_files.forget()
        self._systems |= {user.user_id: systems for user, systems in changed}

    def oldest_ms(self, now_ms: int) -> int:
        """Windows that end before this are not taken: whether they are known could not be told any more."""
        return self._retention.since(RAW, now_ms)

    def finest_ms(self, start_ms: int, now_ms: int) -> int:
        """A rate for a range from `start_ms` must be a multiple of this, because finer data is not kept so long."""
        return self._retention.finest_ms(start_ms, now_ms)

    def expire(self, now_ms: int) -> None:
        """Forget what has been kept long enough: whole files of windows, and rows of rollups."""
        with self._flushing, self._connection.cursor() as cursor:
            since = self._retention.since(RAW, now_ms)
            old = [segment for segment in self._versions.segments if segment.last_ms < since]
            if old:
                with self._versions.change(cursor):
                    catalog.drop_segments(cursor, old)
                self._versions.retire(old)
            for tier in TIERS:
                since = self._retention.since(tier, now_ms)
                if catalog.has_rollups_before(cursor, tier, since):
                    with self._versions.change(cursor):
                        catalog.drop_rollups_before(cursor, tier, since)
            if use_tables.is_due(cursor, self._keep_processes_ms, now_ms):
                with self._versions.change(cursor):
                    use_tables.expire(cursor, self._keep_processes_ms, now_ms)

    def check_can_forget(self) -> None:
        """Does nothing: this store can always forget."""

    def forget(self, user_id: str) -> None:
        """Forget a user: out of all answers in one step, out of the files by the compactions that follow."""
        self.flush()
        with self._flushing, self._connection.cursor() as cursor:
            if user_id not in self._index.users:
                return
            cores = self._index.quantities(user_id).values()
            numbers = [number for of_quantity in cores for number in of_quantity.values()]
            with self._versions.change(cursor, lambda: self._index.forget(user_id)):
                catalog.forget_user(cursor, user_id, numbers)
            self._systems.pop(user_id, None)

    @property
    def is_erased(self) -> bool:
        """Whether no file that can be read has windows of users that were forgotten, or is of an older release."""
        return all(segment.has_names for segment in self._damage.whole(self._versions.segments))

    def _users_of(self, series: Sequence[int]) -> list[User]:
        names = {self._index.all[number - 1].user_id for number in series}
        return [self._index.users[name] for name in names]

    def compact(self) -> bool:
        """Merge some runs that have come to be alike in size; False where there is nothing to merge."""
        with self._flushing, self._connection.cursor() as cursor:
            if self._compaction.segments(cursor, self.flushed):
                return True
            return any(self._compaction.rollup(cursor, tier) for tier in TIERS)

    # Dump and restore

    tiers = TIERS
    overwrites = False
    page_rows = 65_536
    """How many windows of series a dump reads at a time: some 30 MB as reports."""

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole hosts, of all quantities, are on disk at a tier (or `RAW`) in a range."""
        segments = self._segments(start_ms, end_ms) if tier_ms == RAW else None
        paths = None if segments is None else [str(self._raw / one.file) for one in segments]
        with self._connection.cursor() as cursor:
            return own_dump.kept(cursor, tier_ms, paths, dump.ChosenSeries(self._index, user_ids), start_ms, end_ms)

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows on disk of some users that end in a range, as reports, a page at a time."""
        hosts = {user_id: dump.host_of(self._index.users[user_id], self._index) for user_id in user_ids}
        chosen = dump.ChosenSeries(self._index, user_ids)
        with self._connection.cursor() as cursor:
            segments = self._segments(start_ms, end_ms)
            pages = own_dump.read_reports(cursor, self._raw, segments, chosen, start_ms, end_ms, hosts, self.page_rows)
            yield from pages

    def _segments(self, start_ms: int, end_ms: int) -> list[Segment]:
        """The files that may have windows which end in a range."""
        return [one for one in self._versions.segments if one.last_ms >= start_ms and one.first_ms < end_ms]

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Buckets:
        """The buckets on disk of some users that start in a range."""
        with self._connection.cursor() as cursor:
            return own_dump.read_rollups(cursor, tier_ms, dump.ChosenSeries(self._index, user_ids), start_ms, end_ms)

    def add_rollups(self, buckets: Buckets, hosts: Sequence[Host]) -> None:
        """Put buckets whose windows are gone on disk, into their tier and every coarser one; all or nothing."""
        # What waits must be on disk first: series are kept in the order of their numbers.
        self.flush()
        with self._flushing, self._connection.cursor() as cursor:
            users = [dump.heard(self._index, host) for host in hosts]
            numbers = dump.series_of(self._index, buckets, hosts)
            created, self._index.created = self._index.created, []
            number = catalog.next_run(cursor)
            with self._versions.change(cursor):
                for tier, windows in dump.coarser(buckets, numbers, TIERS).items():
                    rows = reading.rows_of_buckets(reading.with_fleet(windows, self._index))
                    reading.append_rollup(cursor, tier, number, [rows])
                catalog.add_series(cursor, created)
                catalog.put_users(cursor, users)

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Nothing: windows and rollups go on disk together."""

    def process_uses(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> UseDump:
        """Who used the CPU of some users in a range, as it is on disk."""
        with self._connection.cursor() as cursor:
            return use_tables.dump(cursor, user_ids, start_ms, end_ms)

    def add_process_uses(self, uses: UseDump) -> None:
        """Put windows and hours on disk that are not there; all or nothing."""
        with self._flushing, self._connection.cursor() as cursor, self._versions.change(cursor):
            use_tables.put(cursor, uses.windows)
            use_tables.put(cursor, uses.hours, merged=True)

    def snapshot(self, folder: Path) -> dict[str, str]:
        """As `Store.snapshot`: the catalogue as of one moment, and links to the files of windows that it lists."""
        raw = folder / self._raw.name
        raw.mkdir(parents=True, exist_ok=True)
        # Files that are listed now, or later, stay for as long as this reads.
        with self._versions.reading(), self._connection.cursor() as cursor:
            segments = catalog.copy_to(cursor, folder / DATABASE)
            for segment in segments:
                files.link_or_copy(self._raw / segment.file, raw / segment.file)
        return {f"{raw.name}/{one.file}": one.checksum for one in segments if one.checksum}

    def close(self) -> None:
        """Flush and let go of the files, once questions under way are answered."""
        self.flush()
        # Nobody waits for their answers any more, but DuckDB does not close while it is asked.
        self._versions.wait_unread(_ANSWERED_S)
        self._connection.close()
