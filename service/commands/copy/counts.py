"""How many samples a store has of each user and day: what tells which days are to be copied."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from contract.metrics import QUANTITIES, Cpu
from contract.times import DAY_MS
from service.stores.base import Question, Store

_DAYS_AT_ONCE = 30


class Span(NamedTuple):
    """A range of days, of which some have data."""

    start_ms: int
    end_ms: int
    samples: int
    """Of whole machines, of all quantities."""
    days: int
    """How many days have data."""


def day_name(day_ms: int) -> str:
    """Such as `2024-01-30`."""
    return f"{datetime.fromtimestamp(day_ms / 1000, UTC):%Y-%m-%d}"


def spans(store: Store) -> list[Span]:
    """The days that have data, a month of them at a time, oldest first."""
    users = store.users()
    if users.empty:
        return []
    start_ms, end_ms = (int(time.timestamp() * 1000) // DAY_MS for time in _seen(users))
    days: dict[int, int] = {}
    for quantity in QUANTITIES.values():
        windows = store.answer(Question(quantity, start_ms * DAY_MS, (end_ms + 1) * DAY_MS, DAY_MS))
        for day, count in zip(_days(windows).tolist(), windows["count"].tolist(), strict=True):
            days[day] = days.get(day, 0) + count
    return [*_months(sorted(days.items()))]


def _seen(users: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    return users["first_seen"].min(), users["last_seen"].max()


def _months(days: Sequence[tuple[int, int]]) -> Iterator[Span]:
    for place in range(0, len(days), _DAYS_AT_ONCE):
        some = days[place : place + _DAYS_AT_ONCE]
        yield Span(some[0][0], some[-1][0] + DAY_MS, sum(count for _, count in some), len(some))


def counts(store: Store, span: Span) -> pd.DataFrame:
    """The samples of whole machines in a span: a row for each `day` (its start) and `user`, a column a quantity."""
    columns = []
    for quantity in QUANTITIES.values():
        windows = store.answer(Question(quantity, span.start_ms, span.end_ms, DAY_MS, by="user"))
        index = pd.MultiIndex.from_arrays([_days(windows), windows["user"].astype(object)], names=["day", "user"])
        columns.append(pd.Series(windows["count"].to_numpy(), index, name=quantity.name))
    return pd.concat(columns, axis=1).fillna(0).astype("int64").sort_index()


def core_counts(store: Store, user_id: str, span: Span) -> pd.DataFrame:
    """The samples of each core of a user: a row for each `day`, a column for each core."""
    question = Question(Cpu.quantities[0], span.start_ms, span.end_ms, DAY_MS, user_id=user_id, cores="each")
    windows = store.answer(question)
    index = pd.MultiIndex.from_arrays([_days(windows), windows["core"].astype("str")], names=["day", "core"])
    return pd.Series(windows["count"].to_numpy(), index).unstack("core", fill_value=0)


def _days(windows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The start of each window's day, epoch ms."""
    return pd.DatetimeIndex(windows.index).asi8
