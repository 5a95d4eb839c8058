"""What is asked of an InfluxDB: windows, and what is known of users, from the database and from memory."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

import pandas as pd

from analytics.frames.tiers import RAW
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import BadStatement, InfluxClient, InfluxError, Unreachable
from contract import times
from contract.influx import TIERS
from contract.metrics import TYPE_OF, Metric
from contract.report import Report
from service.stores.base import Buckets, Key, Question, StoreUnavailable
from service.stores.influx.answers import StoredAnswers
from service.stores.influx.dump import Dump, FieldDay, FieldSummary
from service.stores.influx.keeping import Keeping
from service.stores.influx.originals import Originals
from service.stores.influx.process_use import ProcessUses
from service.stores.influx.publication import View, Views
from service.stores.influx.reading import Reader
from service.stores.influx.users import UserCatalog
from service.stores.process_use import UseAnswer, UseDump, UseQuestion
from service.stores.retention import Retention
from service.stores.selection import select
from service.stores.series import KnownUsers, SeriesIndex
from service.stores.sorted_windows import ends_of

T = TypeVar("T")
_SELECT_S = 30.0
"""So long an InfluxDB may take for a statement whose answer somebody waits for; there may be several."""


class InfluxQueries(KnownUsers):
    """Answers from an InfluxDB and from the windows in memory.

    `retention` is how long windows and the rollups of 5 min (and 15), 1 h and 1 d are kept, in ms, None for ever;
    `now_ms` the clock, epoch ms. A subclass sets `_views`: what is in memory.
    """

    _views: Views

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        retention: Sequence[int | None],
        timeout_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self._now_ms = now_ms
        windows, minutes, *rest = retention
        self._retention = Retention(tuple(TIERS), (windows, minutes, minutes, *rest))
        self._client = InfluxClient(address, credentials, timeout_s, _SELECT_S)
        self._index = SeriesIndex()
        self._reader = Reader(self._client, self._index)
        self._catalog = UserCatalog(self._index)
        self._originals = Originals(self._client, self._reader, self._index)
        self._stored = StoredAnswers(self._reader, self._index, lambda: self._originals.live)
        self._dump = Dump(self._client, self._reader, self._index, self._asked)
        self._keeping = Keeping(self._client, self._retention.longest_ms)
        self._uses = ProcessUses(self._client, self._index)
        self._problems: dict[str, str] = {}
        """Why InfluxDB could not be asked, and why it could not be written to, when it was last tried."""

    @property
    def description(self) -> str:
        """Which InfluxDB this is."""
        server = self._client.known_server
        return f"InfluxDB {server.version}, {self._client.address}" if server else f"{self._client.address}"

    def answer(self, question: Question) -> pd.DataFrame:
        """The windows that a question asks for. Raises StoreUnavailable where InfluxDB cannot be asked."""
        chosen = select(self._index, question)
        cuts = chosen.cuts(self._retention, times.now_ms())

        def read(view: View) -> pd.DataFrame:
            return chosen.answered(self._stored.windows(view, chosen, cuts))

        self._settle()
        return self._asked(lambda: self._views.consistent(read))

    def seams(self, question: Question) -> Sequence[int]:
        """Nowhere: a database reads what it is asked for."""
        return ()

    def caveat(self, question: Question) -> None:
        """Nothing: what InfluxDB lacks, it does not say."""

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

    def who(self, question: UseQuestion) -> UseAnswer:
        """Who used the CPU, of the windows that said so. Raises StoreUnavailable where InfluxDB cannot be asked."""
        self._settle()
        now_ms = self._now_ms()
        return self._asked(lambda: self._views.consistent(lambda view: self._uses.answer(view, question, now_ms)))

    def oldest_ms(self, now_ms: int) -> int:
        """Windows that end before this are not taken: whether they are known could not be told any more."""
        return max(self._retention.since(RAW, now_ms), self._keeping.oldest_ms(now_ms))

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
            after = error.retry_after_s if isinstance(error, Unreachable) else None
            raise StoreUnavailable(f"InfluxDB cannot be asked now: {error}", after) from None
        self._problems.pop("asking", None)
        return answer

    def _fail(self, at: str, error: InfluxError) -> None:
        self._problems[at] = str(error)
        self._client.forget_server()

    def _settle(self) -> None:
        """Complete first what a crash left half written: it would count in InfluxDB and in memory, or not at all."""

    # The dump; everything raises StoreUnavailable where InfluxDB is away

    tiers = tuple(TIERS)
    overwrites = True

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole hosts, of all quantities, are in InfluxDB at a tier (or `RAW`) in a range."""
        return self._dump.kept(tier_ms, user_ids, start_ms, end_ms)

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows of some users that end in a range, as reports, a page at a time."""
        return self._dump.reports(user_ids, start_ms, end_ms)

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Buckets:
        """The buckets of some users that start in a range."""
        return self._dump.rollups(tier_ms, user_ids, start_ms, end_ms)

    def process_uses(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> UseDump:
        """Who used the CPU of some users in a range, as it is in InfluxDB."""
        return self._asked(lambda: self._uses.dump(user_ids, start_ms, end_ms, self._now_ms()))

    def original_days(self, start_ms: int, end_ms: int) -> set[tuple[str, int]]:
        """Users and days (their start, epoch ms) that have points of the original."""
        return self._dump.original_days(start_ms, end_ms)

    def field_summaries(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> dict[FieldDay, FieldSummary]:
        """What InfluxDB itself counts and adds up of the original's fields, for each user and day."""
        return self._dump.field_summaries(user_ids, start_ms, end_ms)
