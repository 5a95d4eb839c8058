"""What each host ran when: groups of `os_type` and `os_version` are by what was true at the time."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from service.stores.series import SeriesIndex, User

NOT_RECORDED: Final = "not recorded"
"""The group of windows of a time of which it is not known what ran."""

Ints = npt.NDArray[np.int64]


def system_at(user: User, index: SeriesIndex, end_ms: int) -> tuple[str, str] | None:
    """Type and version of what a host ran in a window that ends at a moment; None where that was not recorded."""
    since = [moment for moment, _ in user.systems]
    place = bisect_right(since, end_ms) - 1
    return index.systems[user.systems[place][1]] if place >= 0 else None


class SystemsOverTime:
    """What some hosts ran, by number: looked up for many windows at once."""

    def __init__(self, index: SeriesIndex, users: Sequence[User], by: str) -> None:
        self._by = by
        which = 0 if by == "os_type" else 1
        names = [NOT_RECORDED, *(system[which] for system in list(index.systems))]
        self._dtype = pd.CategoricalDtype(pd.Index(sorted({*names}, key=by_number), dtype="str"), ordered=True)
        code_of = self._dtype.categories.get_indexer(pd.Index(names))
        # A copy, because hosts may change meanwhile; each begins with what is not recorded.
        changes = [
            (place, moment, system + 1) for place, user in enumerate(users) for moment, system in [*user.systems]
        ]
        first = [(place, np.iinfo(np.int64).min, 0) for place in range(len(users))]
        place, moment, system = np.array([*first, *changes], np.int64).reshape(-1, 3).T
        order = np.lexsort((moment, place))
        code = code_of[system[order]]
        told = place[order], moment[order], code
        # Where the same name goes on, nothing changes.
        kept = np.ones(len(code), bool)
        kept[1:] = (told[0][1:] != told[0][:-1]) | (code[1:] != code[:-1])
        self._place, self._moment, self._code = (column[kept] for column in told)
        self._moments = np.unique(self._moment)
        self._keys = self._key(self._place, self._moment)

    def _key(self, place: Ints, moment: Ints) -> Ints:
        """Numbers that are in the order of place, then moment."""
        keys: Ints = place * (len(self._moments) + 1) + np.searchsorted(self._moments, moment, side="right")
        return keys

    def column(self, place: Ints, time_ms: Ints) -> dict[str, Any]:
        """The column of labels of rows: `place` is that of each row's host, `time_ms` when it is of."""
        found = np.searchsorted(self._keys, self._key(place, time_ms), side="right") - 1
        return {self._by: pd.Categorical.from_codes(self._code[found], dtype=self._dtype)}

    def changes(self, start_ms: int, end_ms: int) -> list[int]:
        """When one of the hosts changed its label within a range, ascending."""
        within = self._moments[(self._moments > start_ms) & (self._moments < end_ms)]
        moments: list[int] = within.tolist()
        return moments


def by_number(name: str) -> tuple[int, str]:
    """What names are ordered by: texts, and behind them numbers, such as the versions of a system, 9 before 10."""
    return (int(name), name) if name.isdecimal() else (0, name)
