"""The transfer: day by day and some users at a time, so that it can be cut short anywhere and taken up again.

What is done is told from the stores alone: a user's day that has as many samples in the target as in the source is
there. Any other is copied; where the target has part of it, its windows are looked up one by one.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import pandas as pd

from analytics.frames.tiers import RAW
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS
from service.commands.copy.stores import DayRange, core_counts, counts, with_cores
from service.ingest.acknowledgement import keys_of
from service.stores.base import Host, Store
from service.stores.process_use import UseDump, UseQuestion

_USERS_AT_ONCE = 500
_SAMPLES_AT_ONCE = 2_000_000
"""Of a batch of users on one day; more only where one user has more."""
_USES_OF_USERS = 5
"""Of a day a user may have some 200,000 processes of windows."""
_FLUSH_REPORTS = 100_000
"""A copy that is killed does so many again, at most."""


@dataclass(slots=True)
class Copied:
    """How much a copy has written, and how much was there."""

    windows: int = 0
    """Reports written now."""
    there: int = 0
    """Samples that the target had already."""
    rollups: dict[int, int] = field(default_factory=dict)
    """Buckets written as rollups, because their windows are gone; by the width of their tier, ms."""
    uses: int = 0
    """Windows and hours written now that say who used the CPU."""
    conflicts: list[tuple[str, int]] = field(default_factory=list)
    """Users and days of which only rollups are left, while the target has other windows of them."""


class Transfer:
    """Copies what `target` lacks of `source`.

    `offset` is the journal offset that the target holds already, and is counted on from; `advance` is told of samples
    that are done and reports that were written.
    """

    def __init__(self, source: Store, target: Store, offset: int, advance: Callable[[int, int], object]) -> None:
        self._source = source
        self._target = target
        self._offset = offset
        self._advance = advance
        self._hosts = hosts(source)
        self._unflushed = 0
        self.copied = Copied()

    def run(self, span: DayRange) -> None:
        """Copy a span; what was copied is then on the target's disk."""
        wanted = counts(self._source, span)
        present = counts(self._target, span).reindex(wanted.index, fill_value=0)
        same = (wanted == present).all(axis=1)
        if self._target.overwrites:
            # Of a report that was being written its cores may be missing.
            same &= ~_lack_cores(self._source, self._target, span, same)
        done = int(wanted[same].to_numpy().sum())
        self.copied.there += done
        self._advance(done, 0)
        samples, began = wanted[~same].sum(axis=1), present[~same].any(axis=1)
        for day in samples.index.unique("day").tolist():
            some = samples.loc[day]
            begun = began.loc[day]
            for users in _batches(some):
                partial = {user for user in users if begun[user]} | self._rolled_up(day, users)
                self._copy(day, users, partial, int(some[users].sum()))
        self._flush()
        self._copy_uses(span, sorted(wanted.index.unique("user")))

    def _rolled_up(self, day: int, users: list[str]) -> set[str]:
        """Those of whom the target has any rollup of a day.

        A copy that is killed may have written fine ones and none of the day, of which days are counted.
        """
        if not self._target.overwrites:
            return set()

        def has_any(some: list[str]) -> bool:
            return any(self._target.kept(tier, some, day, day + DAY_MS) for tier in self._target.tiers)

        return {user for user in users if has_any([user])} if has_any(users) else set()

    def _copy_uses(self, span: DayRange, users: Sequence[str]) -> None:
        """Copy who used the CPU, of whom the target has less than the source."""
        if not self._source.who(UseQuestion(span.start_ms, span.end_ms, top=1)).hosts:
            return
        for day in range(span.start_ms, span.end_ms, DAY_MS):
            for first in range(0, len(users), _USES_OF_USERS):
                some = users[first : first + _USES_OF_USERS]
                wanted, present = (
                    store.process_uses(some, day, day + DAY_MS) for store in (self._source, self._target)
                )
                lacking = lacking_uses(wanted, present)
                if lacking.windows.windows.num_rows or lacking.hours.windows.num_rows:
                    self._target.add_process_uses(lacking)
                    self.copied.uses += lacking.windows.windows.num_rows + lacking.hours.windows.num_rows

    def _copy(self, day: int, users: list[str], partial: set[str], samples: int) -> None:
        """Copy a day of some users; the target has something of that day from those in `partial`."""
        tier = self._finest(day, users, samples)
        if tier == RAW:
            self._copy_windows(day, users, partial, samples)
        else:
            self._copy_rollups(tier, day, users, partial)
            self._advance(samples, 0)

    def _finest(self, day: int, users: Sequence[str], samples: int) -> int:
        """The finest form in which all of a day is kept."""
        tiers = (RAW, *self._source.tiers)
        return next((tier for tier in tiers if self._source.kept(tier, users, day, day + DAY_MS) == samples), tiers[-1])

    def _copy_windows(self, day: int, users: list[str], partial: set[str], samples: int) -> None:
        left = samples
        for page in self._source.reports(users, day, day + DAY_MS):
            told = min(left, sum(map(_samples, page)))
            left -= told
            new = page if self._target.overwrites else unknown(self._target, page, partial)
            if new:
                self._offset += len(new)
                self._target.add(self._offset, new)
            self.copied.windows += len(new)
            self._unflushed += len(new)
            if self._target.full or self._unflushed >= _FLUSH_REPORTS:
                self._flush()
            self._advance(told, len(new))
        if partial and self._target.overwrites:
            self._target.rebuild(sorted(partial), day, day + DAY_MS)
        self._advance(left, 0)

    def _copy_rollups(self, tier: int, day: int, users: list[str], partial: set[str]) -> None:
        self.copied.conflicts += [(user, day) for user in users if user in partial]
        new = [user for user in users if user not in partial]
        if not new:
            return
        rollups = self._source.rollups(tier, new, day, day + DAY_MS)
        self._target.add_rollups(rollups, [self._hosts[user] for user in new])
        self.copied.rollups[tier] = self.copied.rollups.get(tier, 0) + len(rollups.windows)

    def _flush(self) -> None:
        self._target.flush()
        self._unflushed = 0
        while self._target.compact():
            pass


def lacking_uses(wanted: UseDump, present: UseDump) -> UseDump:
    """What of `wanted` is not among `present`, as a window or in an hour."""
    windows, hours = present.windows.ends(), {_hour(*one) for one in present.hours.ends()}
    begun = hours | {_hour(*one) for one in windows}
    return UseDump(
        wanted.windows.of(lambda user, time: (user, time) not in windows and _hour(user, time) not in hours),
        wanted.hours.of(lambda user, time: _hour(user, time) not in begun),
    )


def _hour(user_id: str, time_ms: int) -> tuple[str, int]:
    return user_id, time_ms // HOUR_MS


def _lack_cores(source: Store, target: Store, span: DayRange, same: "pd.Series[bool]") -> "pd.Series[bool]":
    """Which of the days of users that are the `same` have other samples of some core."""
    lacking = pd.Series(False, index=same.index)
    there = set(same.index[same].get_level_values("user"))
    for user in with_cores(source):
        if user not in there:
            continue
        wanted, present = (core_counts(store, user, span) for store in (source, target))
        for day in wanted.index[~(wanted == present.reindex_like(wanted)).all(axis=1)]:
            lacking.loc[(day, user)] = True
    return lacking


def hosts(store: Store) -> dict[str, Host]:
    """What a store knows of its users, by name."""
    frame = store.users()
    seen = (frame[name].dt.as_unit("ms").astype("int64").tolist() for name in ("first_seen", "last_seen"))
    columns = (frame[name].tolist() for name in ("user_id", "os_type", "os_version", "cores"))
    labels = frame["labels"].tolist()
    known = [Host(*row) for row in zip(*columns, *seen, strict=True)]
    return {
        one.user_id: one._replace(labels=said, devices=store.devices_of(one.user_id))
        for one, said in zip(known, labels, strict=True)
    }


def unknown(target: Store, reports: list[Report], users: set[str]) -> list[Report]:
    """The reports, or parts of reports, of these users that a store does not have; all of other users."""
    keys = {key for report in reports if report.user_id in users for key in keys_of(report)}
    known = asyncio.run(target.known(keys)) if keys else set()
    if not known:
        return reports
    new = []
    for report in reports:
        metrics = [metric for key, metric in keys_of(report).items() if key not in known]
        if len(metrics) == len(report.metrics):
            new.append(report)
        elif metrics:
            new.append(msgspec.structs.replace(report, metrics=metrics))
    return new


def _samples(report: Report) -> int:
    """The samples of a report, about: those of its first metric, for each quantity."""
    return report.observations_per_metric * sum(len(metric.quantities) for metric in report.metrics)


def _batches(samples: "pd.Series[int]") -> Iterator[list[str]]:
    """Users, so many at a time that they have few samples together."""
    batch: list[str] = []
    size = 0
    for user, count in samples.items():
        if batch and (size + count > _SAMPLES_AT_ONCE or len(batch) == _USERS_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(str(user))
        size += count
    if batch:
        yield batch
