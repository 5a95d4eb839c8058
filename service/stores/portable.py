"""What a store must be able to do so that its content can be copied to another kind of store, and back.

Windows travel as the reports that brought them, which every store can take. Where windows have been kept long enough
and only rollups remain, those travel as they are. While a store is read so, nothing is added to it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from analytics.windows import Windows, merge
from contract.metrics import Quantity
from contract.report import OsType, Report
from service.stores.base import Store
from service.stores.series import SeriesIndex, User

__all__ = ["Machine", "PortableStore", "Rollups", "SeriesName", "coarser", "heard", "machine_of"]


class SeriesName(NamedTuple):
    """One quantity of one machine or core."""

    user_id: str
    quantity: Quantity
    core: int | None
    """None for the whole machine."""


class Machine(NamedTuple):
    """What is known of a user."""

    user_id: str
    os_type: OsType
    os_version: str
    cores: int
    first_seen_ms: int
    last_seen_ms: int


class Rollups(NamedTuple):
    """Buckets of one tier."""

    tier_ms: int
    """The width of a bucket."""
    windows: Windows
    """`series` is the place in `names`, `time` the start of the bucket; one row for each, with histograms."""
    names: list[SeriesName]


class PortableStore(Store, Protocol):
    """A store that can be copied from and to."""

    @property
    def tiers(self) -> Sequence[int]:
        """The widths of its rollups in ms, finest first; each divides the next."""

    @property
    def overwrites(self) -> bool:
        """Whether a window that is added again takes its own place; where not, it would count twice."""

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole machines, of all quantities, are kept at a tier (or `plan.RAW`) in a range.

        The range is half-open; for a tier its edges are those of buckets. What is in memory only is not counted.
        """

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows of some users that end in a range, as reports, user by user in order of time, a page at a time.

        What is in memory only is left out.
        """

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Rollups:
        """The buckets of some users that start in a range."""

    def add_rollups(self, rollups: Rollups, machines: Sequence[Machine]) -> None:
        """Put buckets whose windows are gone on the store's own disk, into their tier and every coarser one.

        `machines` are those they belong to. A range of theirs begins and ends with a day, so that no bucket of
        any tier holds windows from elsewhere; it must not have been added before. All or nothing.
        """

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Make the rollups of some users' days anew from their windows, where those were added again."""


def coarser(rollups: Rollups, numbers: npt.NDArray[np.int64], tiers: Sequence[int]) -> dict[int, Windows]:
    """The buckets of every tier that can be made of some; `numbers` are those of the series of their names."""
    windows = rollups.windows
    series = numbers[windows.series]
    made: dict[int, Windows] = {}
    for tier in tiers:
        if tier % rollups.tier_ms == 0:
            windows = made[tier] = merge(windows, series, tier)
            series = windows.series
    return made


def machine_of(user: User) -> Machine:
    """What an index knows of a user."""
    return Machine(
        user.user_id, cast("OsType", user.os_type), user.os_version, user.cores, user.first_seen, user.last_seen
    )


def heard(index: SeriesIndex, machine: Machine) -> User:
    """The user of a machine, which an index may know already."""
    user = index.users.get(machine.user_id)
    if user is None:
        user = index.users[machine.user_id] = User(*machine)
    elif machine.last_seen_ms > user.last_seen:
        user.last_seen, user.cores = machine.last_seen_ms, machine.cores
        user.os_type, user.os_version = machine.os_type, machine.os_version
    user.first_seen = min(user.first_seen, machine.first_seen_ms)
    return user
