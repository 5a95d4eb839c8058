"""What every store can do, and what is asked of it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from contract.devices import Devices
from contract.metrics import Metric, Quantity, Statistic
from contract.report import OsType, Report

if TYPE_CHECKING:
    import pandas as pd

    from analytics.frames.columns import Windows
    from service.stores.process_use import UseAnswer, UseDump, UseQuestion


class StoreError(Exception):
    """The store cannot be used; the message says what to do."""


class CannotForget(Exception):
    """The store cannot delete what it has of one user; the message says what to do instead."""


class StoreUnavailable(Exception):
    """The store cannot be asked or written to now, and may be later; `retry_after_s` where it says when."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


Grouping = str
"""`user`, `os_type`, `os_version`, or `label:` and the name of a label (`contract.selectors`)."""


class Key(NamedTuple):
    """What identifies a window: sent twice, it counts once."""

    user_id: str
    type: type[Metric]
    end_ms: int


@dataclass(frozen=True, slots=True)
class Question:
    """Which windows to merge, and how finely."""

    quantity: Quantity
    start_ms: int
    """Windows that end at or after this"""
    end_ms: int
    """and before this; neither need lie on a bucket's edge."""
    rate_ms: int
    """The width of a bucket; buckets are aligned to the epoch. Not looked at where there are `edges`."""
    user_id: str | None = None
    """One user, or None for the whole fleet."""
    cores: int | Literal["whole", "each"] = "whole"
    """The whole host, each core by itself, or one core; of the fleet each core only with `by` user. Devices have
    numbers as cores do."""
    by: Grouping | None = None
    """For the fleet: one group for each value of it, in the column `contract.selectors.column_of_grouping`, or None for
    one group of all. A system is what the host ran at the time, `service.stores.systems.NOT_RECORDED` where that is not
    known; a label is what it said last, `contract.selectors.NOT_LABELLED` where it has none of the name."""
    each_user: bool = False
    """For the fleet: each user by itself within the groups of `by`, in the column `user`."""
    histograms: bool = False
    """Whether quantiles will be taken of the answer."""
    statistic: Statistic | None = None
    """What alone will be taken of the answer, which then needs no other columns of numbers than it is made of; None for
    windows."""
    edges: tuple[int, ...] | None = None
    """Where buckets begin that are not all of one width, ascending; the first is not after `start_ms`."""
    users: frozenset[str] | None = None
    """For the fleet: only these users, or None for all."""
    cells: Literal["mean", "max", "min", "totals", "sums"] | None = None
    """With `by` user, a table in place of windows: of this statistic; of shares, `totals` of the whole range, or `sums`
    of each bucket."""

    @property
    def is_whole_fleet(self) -> bool:
        """Whether all hosts are asked for, together and nothing of their cores."""
        asked = self.user_id, self.by, self.users, self.each_user, self.cores
        return asked == (None, None, None, False, "whole")

    @property
    def step_ms(self) -> int:
        """What divides every edge between two buckets, so that a rollup of such a width fits; 0 where any does."""
        return self.rate_ms if self.edges is None else math.gcd(*self.edges[1:])


class SeriesName(NamedTuple):
    """One quantity of one host or core."""

    user_id: str
    quantity: Quantity
    core: int | None
    """None for the whole host; of quantities that are told of devices the number of one (`contract.devices`)."""


class Host(NamedTuple):
    """What is known of a user."""

    user_id: str
    os_type: OsType
    os_version: str
    cores: int
    first_seen_ms: int
    last_seen_ms: int
    systems: tuple[tuple[int, str, str], ...] = ()
    """What it ran since when: ends of windows in epoch ms, type and version."""
    labels: Mapping[str, str] = {}
    devices: Devices = {}

    def system_at(self, end_ms: int) -> tuple[OsType, str]:
        """What it ran in a window that ends at a moment; what it ran last, where that was not recorded."""
        place = bisect_right(self.systems, end_ms, key=lambda told: told[0]) - 1
        _, os_type, os_version = self.systems[place] if place >= 0 else (0, self.os_type, self.os_version)
        return cast("OsType", os_type), os_version


class Buckets(NamedTuple):
    """Buckets of one tier of rollups, as one store dumps them and another restores them."""

    tier_ms: int
    """The width of a bucket."""
    windows: Windows
    """`series` is the place in `names`, `time` the start of the bucket; one row for each, with histograms."""
    names: list[SeriesName]


class Store(Protocol):
    """Keeps windows and merges them; dumps them, and restores what another store dumped.

    `add` is called on the event loop and only remembers: until `flushed` has reached their offset, the
    reports are safe in the journal. Everything else may block and is called in a thread, but `known`.
    `known`, `answer`, `flush`, `expire` and `compact` raise StoreUnavailable where a server is needed and away.
    """

    @property
    def flushed(self) -> int:
        """The journal offset through which the store itself holds everything on disk."""

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports that the journal holds, the last of them at offset `last`."""

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream (user and metric type), epoch milliseconds."""

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already."""

    def answer(self, question: Question) -> pd.DataFrame:
        """The windows that a question asks for, a frame (`analytics.frames.frame`) as `analytics.resample` gives it.

        Where `cells` are asked for, a row for each host that has the quantity (the index, `user`) and a column for
        each bucket, by its number, its start over the rate: float32, NaN where there are no samples. Where `totals`
        are asked for, the columns are `mean`, `p95` and `max` of all samples of the range; where `sums` are, there is a
        row for each host and bucket with samples, and what adds up of them (`service.stores.cells.sums_of`).

        It has the column of groups where `by` asks for them; `core` where single cores are asked for; `histogram` where
        quantiles are.
        """

    def seams(self, question: Question) -> Sequence[int]:
        """Moments, ascending, where a question that is asked piece by piece is cut at the least cost; may be none."""

    def caveat(self, question: Question) -> str | None:
        """What the answer to a question lacks for damage on disk; None where it lacks nothing."""

    def who(self, question: UseQuestion) -> UseAnswer:
        """Who used the CPU of a host, or of all, in a range."""

    @property
    def user_count(self) -> int:
        """How many users are known; as quick as `has_user`, and all of these may be called on the event loop."""

    @property
    def series_count(self) -> int:
        """How many series are known: quantities of hosts, and of each of their cores."""

    @property
    def quantities(self) -> Sequence[Quantity]:
        """The quantities that any host was ever known to have; of all others there is no answer."""

    def lacking(self, report: Report) -> list[tuple[str, int]]:
        """The series that a report would add, by quantity and core (`WHOLE` for the host): of a host that is not
        known all of them, else those of cores.
        """

    def has_user(self, user_id: str) -> bool:
        """Whether any report of this user was ever taken."""

    def labels_of(self, user_id: str) -> Mapping[str, str]:
        """What a user said last of its labels; nothing of who is not known."""

    def cores(self, user_id: str, quantity: Quantity) -> list[int]:
        """The numbers of the cores, or devices, that a user ever reported a quantity of, ascending."""

    def devices_of(self, user_id: str) -> Devices:
        """The devices that a user has named; nothing of who is not known."""

    def users(self) -> pd.DataFrame:
        """The users, by name: `user_id`, `os_type`, `os_version`, `cores`, `first_seen`, `last_seen` (UTC) and
        `labels`, a dict of values by name.
        """

    @property
    def full(self) -> bool:
        """Whether so much is in memory that it should be flushed now."""

    @property
    def description(self) -> str:
        """What it is, for people."""

    @property
    def problem(self) -> str | None:
        """Why it could not be used when it was last tried; None where it could."""

    def sizes(self) -> list[tuple[str, str, float]]:
        """What to watch: names, explanations and values."""

    def compact(self) -> bool:
        """Do a step of tidying up; False where there is nothing to do."""

    def expire(self, now_ms: int) -> None:
        """Forget what has been kept long enough at the time `now_ms`."""

    def forget(self, user_id: str) -> None:
        """Forget a user with all windows and buckets of theirs, of whom no report comes meanwhile; nothing if unknown.

        It is in no later answer, and what it sends afterwards is a new user's. Where it fails, or the process ends, it
        is to be asked for again until it returns. Raises CannotForget, StoreUnavailable.
        """

    def check_can_forget(self) -> None:
        """Raises CannotForget where single users cannot be forgotten, and StoreUnavailable where that is not known."""

    @property
    def is_erased(self) -> bool:
        """Whether nothing of users that were forgotten is left in its own files; compaction sees to that."""

    def oldest_ms(self, now_ms: int) -> int:
        """Windows that end before this are not taken: whether they are known could not be told any more."""

    def finest_ms(self, start_ms: int, now_ms: int) -> int:
        """A rate for a range from `start_ms` must be a multiple of this, because finer data is not kept so long."""

    def flush(self) -> None:
        """Put everything added so far on the store's own disk."""

    def close(self) -> None:
        """Flush and let go of the files."""

    def snapshot(self, folder: Path) -> dict[str, str]:
        """Put into `folder` a consistent copy of what it has on this machine, while it goes on.

        Returns the SHA-256 of those of these files, by their paths in `folder`, that are known without reading them.
        """

    # Dump and restore. What is in memory only is left out: flush first.

    @property
    def tiers(self) -> Sequence[int]:
        """The widths of its rollups in ms, finest first; each divides the next."""

    @property
    def overwrites(self) -> bool:
        """Whether a window that is added again takes its own place; where not, it would count twice."""

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole hosts, of all quantities, are kept at a tier (0 for windows) in a range.

        The range is half-open; for a tier its edges are those of buckets.
        """

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows of some users that end in a range, as reports: user by user, in order of time, page by page."""

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Buckets:
        """The buckets of some users that start in a range."""

    def add_rollups(self, buckets: Buckets, hosts: Sequence[Host]) -> None:
        """Put buckets whose windows are gone on the store's own disk, into their tier and every coarser one.

        `hosts` are those they belong to. A range of theirs begins and ends with a day, so that no bucket of
        any tier holds windows from elsewhere; it must not have been added before. All or nothing.
        """

    def process_uses(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> UseDump:
        """Who used the CPU of some users in a range of whole days."""

    def add_process_uses(self, uses: UseDump) -> None:
        """Put windows and hours of whole days on the store's own disk that it does not have."""

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Make the rollups of some users' days anew from their windows, where those were added again."""
