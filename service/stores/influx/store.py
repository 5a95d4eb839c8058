"""InfluxDB as a store: a memtable in memory, windows and rollups in the database (see docs/architecture.md)."""

import logging
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from analytics.frames.columns import Windows, take
from analytics.frames.tiers import RAW
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import BadStatement, InfluxError, Unreachable
from contract import times
from contract.report import Report
from contract.times import DAY_MS
from service.control.database import copy_database
from service.stores.base import Buckets, CannotForget, Host, StoreError, StoreUnavailable
from service.stores.dump import coarser, heard, series_of
from service.stores.influx import database
from service.stores.influx.backfill import Backfill
from service.stores.influx.checkpoint import CHECKPOINT, Checkpoint
from service.stores.influx.claim import CLAIM_S, Claim, InUse
from service.stores.influx.flushing import Flusher
from service.stores.influx.noting import Notes
from service.stores.influx.places import Place, ensure_database
from service.stores.influx.publication import Views
from service.stores.influx.queries import InfluxQueries
from service.stores.influx.rollups import Sealing, late
from service.stores.influx.shared_checkpoint import SharedCheckpoint
from service.stores.influx.taking_up import TakenUp, noted_rolled, take_up
from service.stores.influx.users import CatalogedUser
from service.stores.influx.windows import WindowWriter
from service.stores.influx.writing import Writer
from service.stores.process_use import UseDump

_log = logging.getLogger("loadlens.service")
_CLAIMED = "claimed"
_CLOSING_ROWS = 400_000
"""Windows that are still written before the end: some ten seconds."""


class InfluxStore(InfluxQueries):
    """Windows in an InfluxDB; `folder` keeps what this machine knows of it. One service at a time for a database.

    `retention` is how long windows and the rollups of 5 min (and 15), 1 h and 1 d are kept, in ms, None for ever, and
    `keep_processes_ms` who used the CPU; `now_ms` is the clock, epoch ms; after `claim_s` without a word another
    service may have the database.
    With `read_only` it neither claims the database nor writes to it, whoever has it. `checkpoint` is where the writers
    of a cluster keep what others go on with; they have one name, and so one claim.
    Raises StoreError where it can neither ask InfluxDB nor knows anything of it, or another service has it.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        folder: Path,
        retention: Sequence[int | None] = (None,) * 4,
        timeout_s: float = 60.0,
        now_ms: Callable[[], int] = times.now_ms,
        claim_s: float = CLAIM_S,
        read_only: bool = False,
        checkpoint: Checkpoint | SharedCheckpoint | None = None,
        keep_processes_ms: int | None = None,
    ) -> None:
        self._keep_processes_ms = keep_processes_ms
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(address, credentials, retention, timeout_s, now_ms)
        self._place: Place | None = None
        aside = folder / "refused.lines"
        self._checkpoint = checkpoint or Checkpoint(folder / CHECKPOINT)
        self._claim = Claim(
            self._client, Writer(self._client, aside, timeout_s, self._where), self._checkpoint.owner, folder,
            self._checkpoint.value(_CLAIMED), self._note_claim, claim_s,
        )  # fmt: skip
        self._writer = Writer(self._client, aside, timeout_s, self._where, self._hold)
        self._read_only = read_only
        self._windows = WindowWriter(self._client, self._writer, self._index)
        self._notes = Notes(self._checkpoint, self._writer, self._catalog, self._index, now_ms)
        self._flusher = Flusher(
            self._notes, self._writer, self._windows, Sealing(self._reader, self._index), self._catalog, self._index,
            self._keeping, self._uses, self._checkpoint.value("flushed") or 0, self._checkpoint.value("begun") or 0,
        )  # fmt: skip
        self._backfill = Backfill(self._client, self._reader, self._notes, self._originals, self._catalog, self._index)
        self._flushing = threading.Lock()
        self._expired_day = -1
        self._losses = 0
        """How often a database that was emptied was told again what is known of it."""
        self._expired = 0
        """Lines that were too old for InfluxDB, when it was last asked how long it keeps any."""
        self._closed = False
        try:
            self._views = self._notes.views = self._open()
        except BaseException:
            self._claim.let_go()
            self._checkpoint.close()
            raise

    def _open(self) -> Views:
        """Take up what is known of the users, and of the rollups."""
        try:
            if not self._read_only:
                self._find()
                self._claim.begin()
            found = take_up(self._client, self._checkpoint, self._notes)
            self._flusher.is_adopting = found.is_adopted
        except InfluxError as error:
            rolled = noted_rolled(self._checkpoint)
            if rolled is None or isinstance(error, InUse):
                raise StoreError(f"{error}") from None
            self._problems["asking"] = str(error)
            _log.warning("%s; reports are taken, queries wait until it is back", error)
            found = TakenUp(self._checkpoint.users(), rolled, is_adopted=False)
        self._catalog.restore(found.users)
        return Views(self._index, self._flusher.flushed, self._flusher.begun, found.rolled)

    def _find(self) -> Place:
        """Where the database lies, made where it is missing."""
        self._place = ensure_database(self._client, self._retention.longest_ms)
        return self._place

    def _where(self) -> Place:
        """Where the database lies, as far as is known."""
        return self._place or self._find()

    def _hold(self) -> None:
        """See that the database may be written to. Raises Unreachable or StoreError where it may not."""
        if self._read_only:
            raise StoreError(f"{self._client.address} was opened to be read only")
        self._claim.hold()

    def _note_claim(self, since: int) -> None:
        self._checkpoint.put({_CLAIMED: since})

    # What comes in

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports that the journal holds, the last of them at offset `last`."""
        self._views.add(last, reports)

    @property
    def flushed(self) -> int:
        """The journal offset through which InfluxDB has everything."""
        return self._flusher.flushed

    @property
    def last(self) -> int:
        """The journal offset of the newest report that was added."""
        return self._views.last

    @property
    def full(self) -> bool:
        """Whether so much is in memory that it should be flushed now."""
        return self._views.full

    @property
    def problem(self) -> str | None:
        """Why InfluxDB could not be used when it was last asked, is not to be written to, or that it refused lines.

        None where all is well.
        """
        words = (
            self._claim.problem, *list(self._problems.values()), self._keeping.problem, self._writer.problem,
            self._checkpoint.problem,
        )  # fmt: skip
        return next(filter(None, words), None)

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
            ("lines_dropped", "Of these, lines that the file for them had no room for.", self._writer.dropped),
            ("lines_expired", "Lines not written since the start: older than InfluxDB keeps any.",
             self._writer.expired),
        ]  # fmt: skip

    # To InfluxDB

    def flush(self) -> None:
        """Put everything added so far into InfluxDB. Raises StoreUnavailable where it cannot take it now."""
        self._flush_through(self._views.last)

    def _flush_through(self, offset: int) -> None:
        """Put what was added up to a journal offset into InfluxDB."""
        if self._read_only:
            return
        with self._flushing:
            try:
                if self._problems:
                    self._find()
                    self._claim.doubt()
                self._hold()
                if self._claim.losses > self._losses:
                    self._take_up_anew()
                self._keeping.look(self._where(), anew=self._writer.expired > self._expired)
                self._expired = self._writer.expired
                self._flusher.flush(offset)
            except BadStatement:
                raise
            except InfluxError as error:
                self._fail("writing", error)
                after = error.retry_after_s if isinstance(error, Unreachable) else None
                raise StoreUnavailable(str(error), after) from None
            self._problems.clear()

    def _take_up_anew(self) -> None:
        """Go on with a database that was dropped: what it knew of itself, and had of open buckets, is gone too."""
        self._losses = self._claim.losses
        self._find()
        self._catalog.forget_told()
        self._expired_day = -1
        self._notes.forget_open()
        self._originals.forget()

    @property
    def _is_unsettled(self) -> bool:
        """Whether InfluxDB may lack what another process had begun to write."""
        return not self._read_only and self._flusher.is_unsettled

    def _settle(self) -> None:
        if self._is_unsettled:
            self._flush_through(self._flusher.begun)

    def compact(self) -> bool:
        """Look for points of the original, and make the rollups of one more day before those that are whole.

        False where all are.
        """
        if self._read_only:
            return False
        with self._flushing:
            if self._views.is_flushing or self._is_unsettled or self._notes.is_waiting:
                return False
            return self._asked(self._backfill.step)

    def expire(self, now_ms: int) -> None:
        """Forget what has been kept long enough, and tell InfluxDB all that is known of users, once a day."""
        with self._flushing:
            day = now_ms // DAY_MS
            if day == self._expired_day:
                return

            def step() -> None:
                noted = self._notes.news(self._catalog.all_users())
                self._notes.keep({}, (), [*noted, self._notes.state(self._views.rolled)])
                self._notes.settle()
                self._hold()
                database.expire(self._client, self._retention, now_ms)
                self._uses.expire(self._keep_processes_ms, now_ms)
                self._notes.forget_parts(lambda tier: self._retention.since(tier, now_ms))

            self._asked(step)
            self._expired_day = day

    def check_can_forget(self) -> None:
        """Raises CannotForget where this is InfluxDB 3, which has no DELETE, and StoreUnavailable where it is away."""
        if self._asked(self._client.server).generation > 2:
            raise CannotForget(
                "InfluxDB 3 cannot delete the points of one user: set a retention period for the database, so that "
                "they go with all that are as old"
            )

    def forget(self, user_id: str) -> None:
        """Delete all points of a user. Raises CannotForget on InfluxDB 3, StoreUnavailable where it is away."""
        self.check_can_forget()
        self.flush()
        with self._flushing:
            numbers = [number for some in self._index.quantities(user_id).values() for number in some.values()]
            opened = self._views.open
            if opened is not None:
                self._views.rolls(self._views.rolled, take(opened, ~np.isin(opened.series, numbers)))
            # Before its points are deleted one measurement after the other: nobody is answered some of them.
            self._catalog.forget(user_id)
            self._asked(self._hold)
            self._asked(lambda: database.delete_user(self._client, user_id))
            self._checkpoint.forget(user_id)

    is_erased = True
    """InfluxDB deletes in its files by itself."""

    # Restore; everything raises StoreUnavailable where InfluxDB is away

    def add_rollups(self, buckets: Buckets, hosts: Sequence[Host]) -> None:
        """Put buckets whose windows are gone into InfluxDB, into their tier and every coarser one."""
        self.flush()
        heard_of = [heard(self._index, host) for host in hosts]
        series = series_of(self._index, buckets, hosts)
        users = [self._catalog.restored(user) for user in heard_of]
        with self._flushing:
            through = self._views.rolled.through_ms
            found = coarser(buckets, series, self.tiers)
            # What is not over yet will be made of the finer ones.
            self._put(users, {tier: take(rows, rows.time < through[tier]) for tier, rows in found.items()})

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Make the rollups of some users' days anew from their windows, where those were added again.

        Raises StoreError on InfluxDB 3, which cannot delete the ones that are there.
        """
        self.flush()
        with self._flushing:
            if self._asked(self._client.server).generation > 2:
                raise StoreError("rollups of InfluxDB 3 cannot be made anew: copy into a database that is empty")
            self._asked(self._hold)
            self._notes.forget_open()
            self._originals.forget()
            windows = self._dump.merged(RAW, self.tiers[0], user_ids, start_ms, end_ms, foreign=False)
            self._asked(lambda: database.delete_rollups(self._client, user_ids, start_ms, end_ms))
            self._put([], late(windows, self._views.rolled))
        self.flush()

    def add_process_uses(self, uses: UseDump) -> None:
        """Put windows and hours into InfluxDB that are not there.

        Raises StoreError on InfluxDB 3 where it has something of the same time already, which it cannot delete.
        """
        self.flush()
        with self._flushing:
            self._asked(self._hold)
            self._asked(lambda: self._flusher.add_process_uses(uses))

    def _put(self, users: list[CatalogedUser], rows: Mapping[int, Windows]) -> None:
        def write() -> None:
            if users:
                self._notes.keep({}, users, self._notes.news(users))
            self._notes.late({tier: some for tier, some in rows.items() if len(some)})
            self._notes.settle()

        self._asked(write)
        self._index.created.clear()

    def snapshot(self, folder: Path) -> dict[str, str]:
        """As `Store.snapshot`: what is known of users, and lines that InfluxDB refused; the windows are InfluxDB's."""
        folder.mkdir(parents=True, exist_ok=True)
        copy_database(self._checkpoint.path, folder / self._checkpoint.path.name)
        if self._writer.aside.exists():
            shutil.copyfile(self._writer.aside, folder / self._writer.aside.name)
        return {}

    def abandon(self) -> None:
        """Write nothing more: another process goes on from the same checkpoint."""
        self._closed = True
        self._claim.abandon()
        self._checkpoint.close()

    def close(self) -> None:
        """Flush where that is quickly done; what InfluxDB has not is in the journal."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._views.rows <= _CLOSING_ROWS:
                self.flush()
        except (StoreUnavailable, BadStatement) as error:
            _log.warning("%s; what is not in it stays in the journal", error)
        if not self._problems:
            self._claim.let_go()
        self._checkpoint.close()
