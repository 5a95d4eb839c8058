"""InfluxDB as a store: a memtable in memory, windows and rollups in the database (see docs/architecture.md)."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from analytics.frames.columns import Windows, merge
from analytics.frames.tiers import RAW
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import BadStatement, InfluxClient, InfluxError, Unreachable
from contract import times
from contract.influx import TIERS
from contract.metrics import Metric, Quantity
from contract.report import Report
from contract.times import DAY_MS
from service.control.database import copy_database
from service.stores.base import Buckets, Key, Machine, Question, StoreError, StoreUnavailable
from service.stores.dump import TYPE_OF, coarser, heard
from service.stores.engine import Retention, select
from service.stores.influx import database
from service.stores.influx.answers import Stored
from service.stores.influx.database import day_lines, oldest_ms
from service.stores.influx.dump import Dump
from service.stores.influx.lines import bucket_lines
from service.stores.influx.publication import ImmutableMemtable, Publication, PublishedView, Views
from service.stores.influx.reading import Reader
from service.stores.influx.rollups import Rollups
from service.stores.influx.users import CatalogedUser, Checkpoint, UserCatalog
from service.stores.influx.windows import WindowWriter
from service.stores.influx.writing import Writer
from service.stores.memtable import ends_of, rows_of
from service.stores.series import WHOLE, SeriesIndex, users_frame

_log = logging.getLogger("loadlens.service")
T = TypeVar("T")
_CLOSING_ROWS = 400_000
"""Windows that are still written before the end: some ten seconds."""


class InfluxStore:
    """Windows in an InfluxDB; `folder` keeps what this machine knows of it. One service at a time for a database.

    `retention` is how long windows and the rollups of 5 min (and 15), 1 h and 1 d are kept, in ms, None for ever;
    `now_ms` the clock, epoch ms.
    Raises StoreError where it can neither ask InfluxDB nor knows anything of it.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        folder: Path,
        retention: Sequence[int | None] = (None,) * 4,
        timeout_s: float = 60.0,
        now_ms: Callable[[], int] = times.now_ms,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._now_ms = now_ms
        windows, minutes, *rest = retention
        self._retention = Retention(tuple(TIERS), (windows, minutes, minutes, *rest))
        self._client = InfluxClient(address, credentials, timeout_s)
        self._refused_lines = folder / "refused.lines"
        self._writer = Writer(self._client, self._refused_lines, timeout_s)
        self._checkpoint = Checkpoint(folder / "known.sqlite")
        self._index = SeriesIndex()
        self._reader = Reader(self._client, self._index)
        self._windows = WindowWriter(self._client, self._writer, self._index)
        self._rollups = Rollups(self._reader, self._index)
        self._catalog = UserCatalog(self._index)
        self._stored = Stored(self._reader, self._index)
        self._dump = Dump(self._client, self._reader, self._index, self._asked)
        self._flushing = threading.Lock()
        self.flushed = self._checkpoint.value("flushed") or 0
        # A flush up to here was begun: where it was cut short, some of it may be in InfluxDB.
        self._begun = self._checkpoint.value("begun") or 0
        self._views = Views(self._index, self.flushed, self._begun)
        self._expired_day = -1
        self._problems: dict[str, str] = {}
        """Why InfluxDB could not be asked, and why it could not be written to, when it was last tried."""
        try:
            self._since = self._open()
        except BaseException:
            self._checkpoint.close()
            raise

    def _open(self) -> int:
        """Take up what is known of the users; returns since when the rollups are whole."""
        users = {user.user_id: user for user in self._checkpoint.users()}
        since = self._checkpoint.value("since")
        try:
            database.ensure_database(self._client, self._retention.longest_ms)
            written, found = database.taken_up(self._client)
            # Before now there are points without rollups only where the original wrote some.
            since = written if written is not None else self._now_ms() if found else 0
            if written is None and found:
                self._writer.write(database.user_lines(found))
            self._writer.write(database.since_lines(since, self._now_ms()))
            for user in found:
                users[user.user_id] = users[user.user_id].merged(user) if user.user_id in users else user
            self._checkpoint.put({"since": since}, users.values())
        except InfluxError as error:
            if since is None:
                raise StoreError(f"{error}") from None
            self._problems["asking"] = str(error)
            _log.warning("%s; reports are taken, queries wait until it is back", error)
        self._catalog.restore(list(users.values()))
        assert since is not None
        return since

    # What comes in

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports that the journal holds, the last of them at offset `last`."""
        self._views.add(last, reports)

    @property
    def full(self) -> bool:
        """Whether so much is in memory that it should be flushed now."""
        return self._views.full

    @property
    def problem(self) -> str | None:
        """Why InfluxDB could not be used when it was last asked; None where it could."""
        return next(iter(list(self._problems.values())), None)

    @property
    def description(self) -> str:
        """Which InfluxDB this is."""
        server = self._client.known_server
        return f"InfluxDB {server.version}, {self._client.address}" if server else f"{self._client.address}"

    def sizes(self) -> list[tuple[str, str, float]]:
        """What to watch: names, explanations and values."""
        server = self._client.known_server
        return [
            ("head_windows", "Windows in memory, not flushed yet.", self._views.rows),
            ("series", "Series known.", len(self._index)),
            ("users", "Users known.", len(self._index.users)),
            ("up", "1 where InfluxDB answered when it was last asked.", float(not self._problems)),
            ("generation", "Generation of InfluxDB: 1, 2 or 3; 0 where none answered yet.",
             float(server.generation if server else 0)),
            ("lines_written", "Lines written since the start.", self._writer.written_lines),
            ("lines_refused", "Lines that InfluxDB refused since the start, put aside.", self._writer.set_aside),
        ]  # fmt: skip

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream, epoch milliseconds."""
        ends = self._catalog.newest()
        series = self._index.all
        for memory in self._views.now().memories:
            for streams, newest in ends_of(memory, self._index.streams()):
                for number, end in zip(streams.tolist(), newest.tolist(), strict=True):
                    stream = (series[number - 1].user_id, TYPE_OF[series[number - 1].quantity])
                    ends[stream] = max(end, ends.get(stream, end))
        return ends

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already. Raises StoreUnavailable where InfluxDB cannot be asked."""
        mine = [key for key in keys if self._index.stream(key.user_id, key.type) is not None]
        if not mine:
            return set()

        def look() -> set[Key]:
            return self._views.consistent(lambda view: self._stored.known(view, mine))

        return await asyncio.to_thread(self._asked, look)

    # What is asked

    def answer(self, question: Question) -> pd.DataFrame:
        """The windows that a question asks for. Raises StoreUnavailable where InfluxDB cannot be asked."""
        chosen = select(self._index, question)
        cuts = chosen.cuts(self._retention, times.now_ms())

        def read(view: PublishedView) -> pd.DataFrame:
            return chosen.resampled(self._stored.windows(view, chosen, self._since, cuts))

        if self.flushed < self._begun:
            # What a crash left half written would count in InfluxDB and in memory.
            self._flush_through(self._begun)
        return self._asked(lambda: self._views.consistent(read))

    def caveat(self, question: Question) -> None:
        """Nothing: what InfluxDB lacks, it does not say."""

    @property
    def user_count(self) -> int:
        """How many users are known."""
        return len(self._index.users)

    def has_user(self, user_id: str) -> bool:
        """Whether any report of this user was ever taken."""
        return user_id in self._index.users

    def cores(self, user_id: str, quantity: Quantity) -> list[int]:
        """The numbers of the cores that a user ever reported a quantity of, ascending."""
        return sorted(core for core in self._index.cores(user_id, quantity.name) if core != WHOLE)

    def users(self) -> pd.DataFrame:
        """The users, by name."""
        return users_frame(self._index.users)

    def oldest_ms(self, now_ms: int) -> int:
        """Windows that end before this are not taken: whether they are known could not be told any more."""
        return self._retention.since(RAW, now_ms)

    def finest_ms(self, start_ms: int, now_ms: int) -> int:
        """A rate for a range from `start_ms` must be a multiple of this, because finer data is not kept so long."""
        return self._retention.finest_ms(start_ms, now_ms)

    def _asked(self, ask: Callable[[], T]) -> T:
        """The outcome of asking InfluxDB. Raises StoreUnavailable where it fails, BadStatement for a defect of ours."""
        try:
            answer = ask()
        except BadStatement:
            raise
        except InfluxError as error:
            self._fail("asking", error)
            raise StoreUnavailable(f"InfluxDB cannot be asked now: {error}") from None
        self._problems.pop("asking", None)
        return answer

    def _fail(self, at: str, error: InfluxError) -> None:
        self._problems[at] = str(error)
        self._client.forget_server()

    # To InfluxDB

    def flush(self) -> None:
        """Put everything added so far into InfluxDB. Raises StoreUnavailable where it cannot take it now."""
        self._flush_through(self._views.last)

    def _flush_through(self, offset: int) -> None:
        """Put what was added up to a journal offset into InfluxDB."""
        with self._flushing:
            try:
                if self._problems:
                    database.ensure_database(self._client, self._retention.longest_ms)
                while self.flushed < offset and (immutable := self._views.seal()):
                    self._write(immutable)
            except BadStatement:
                raise
            except InfluxError as error:
                self._fail("writing", error)
                after = error.retry_after_s if isinstance(error, Unreachable) else None
                raise StoreUnavailable(str(error), after) from None
            self._problems.clear()

    def _write(self, immutable: ImmutableMemtable) -> None:
        refused = None
        while refused is None or len(refused):
            buckets = self._rollups.upon(
                rows_of(immutable.windows, self._index.bounded(), histograms=True).windows(),
                self._catalog.newest_of(immutable.windows),
            )
            self._views.publish(Publication(immutable.windows, buckets))
            self._checkpoint.put({"begun": immutable.last})
            users = self._catalog.users_of(immutable.windows)
            # Users first: where the windows of a user are, it is known that there may be some.
            self._writer.write(database.user_lines(users))
            refused = self._windows.write(immutable.windows)
            if len(refused):
                immutable.leave_out(refused)
        for tier, rows in buckets.items():
            self._writer.write(bucket_lines(tier, rows, self._index))
        self._checkpoint.put({"flushed": immutable.last}, users)
        self._rollups.keep(buckets)
        self._catalog.note(users)
        self.flushed = immutable.last
        self._views.let_go()
        self._index.created.clear()

    def compact(self) -> bool:
        """Make the rollups of one more day before those that are whole; False where all are."""
        with self._flushing:
            if not self._since or self._views.is_flushing:
                return False
            day = (self._since - 1) // DAY_MS * DAY_MS
            oldest = oldest_ms(self._index)

            def step() -> int:
                self._writer.write(day_lines(self._reader, self._index, day))
                whole = day if day > oldest else 0
                self._writer.write(database.since_lines(whole, self._now_ms()))
                return whole

            self._since = self._asked(step)
            self._checkpoint.put({"since": self._since})
            return bool(self._since)

    def expire(self, now_ms: int) -> None:
        """Forget what has been kept long enough, once a day."""
        with self._flushing:
            day = now_ms // DAY_MS
            if day == self._expired_day:
                return

            def step() -> None:
                self._writer.write(database.since_lines(self._since, now_ms))
                database.expire(self._client, self._retention, now_ms)

            self._asked(step)
            self._expired_day = day

    # Dump and restore; everything raises StoreUnavailable where InfluxDB is away

    tiers = tuple(TIERS)
    overwrites = True

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole machines, of all quantities, are in InfluxDB at a tier (or `RAW`) in a range."""
        return self._dump.kept(tier_ms, user_ids, start_ms, end_ms)

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows of some users that end in a range, as reports, a page at a time."""
        return self._dump.reports(user_ids, start_ms, end_ms)

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Buckets:
        """The buckets of some users that start in a range."""
        return self._dump.rollups(tier_ms, user_ids, start_ms, end_ms)

    def add_rollups(self, buckets: Buckets, machines: Sequence[Machine]) -> None:
        """Put buckets whose windows are gone into InfluxDB, into their tier and every coarser one."""
        self.flush()
        series = [self._index.of_name(name.user_id, name.quantity.name, name.core) for name in buckets.names]
        users = [self._catalog.restored(heard(self._index, machine)) for machine in machines]
        with self._flushing:
            self._put(users, coarser(buckets, np.array(series, np.int64), self.tiers))

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Make the rollups of some users' days anew from their windows, where those were added again."""
        self.flush()
        with self._flushing:
            buckets: dict[int, Windows] = {}
            windows = self._dump.merged(RAW, self.tiers[0], user_ids, start_ms, end_ms)
            for tier in self.tiers:
                windows = buckets[tier] = merge(windows, rate_ms=tier)
            self._put([], buckets)
            # What was kept of these buckets may count windows twice.
            self._rollups = Rollups(self._reader, self._index)

    def _put(self, users: list[CatalogedUser], buckets: dict[int, Windows]) -> None:
        def write() -> None:
            self._writer.write(database.user_lines(users))
            for tier, windows in buckets.items():
                self._writer.write(bucket_lines(tier, windows, self._index))

        self._asked(write)
        self._checkpoint.put({}, users)
        self._index.created.clear()

    def snapshot(self, folder: Path) -> dict[str, str]:
        """As `Store.snapshot`: what is known of users, and lines that InfluxDB refused; the windows are InfluxDB's."""
        folder.mkdir(parents=True, exist_ok=True)
        copy_database(self._checkpoint.path, folder / self._checkpoint.path.name)
        if self._refused_lines.exists():
            shutil.copyfile(self._refused_lines, folder / self._refused_lines.name)
        return {}

    def close(self) -> None:
        """Flush where that is quickly done; what InfluxDB has not is in the journal."""
        try:
            if self._views.rows <= _CLOSING_ROWS:
                self.flush()
        except (StoreUnavailable, BadStatement) as error:
            _log.warning("%s; what is not in it stays in the journal", error)
        self._checkpoint.close()
