"""Which series a question is about, and the group that each belongs to."""

import numpy as np
import numpy.typing as npt

from service.stores.base import Question
from service.stores.series import WHOLE, SeriesIndex

__all__ = ["group_series"]

Numbers = npt.NDArray[np.int64]


def group_series(index: SeriesIndex, question: Question) -> tuple[Numbers, Numbers, list[str]]:
    """The series of a question in ascending order, the group of each, and the groups' names in order."""
    user_id = question.user_id
    named = _of_fleet(index, question) if user_id is None else _of_user(index, user_id, question)
    names = sorted({name for _, name in named}, key=_by_number)
    places = {name: place for place, name in enumerate(names)}
    named.sort()
    series = np.array([number for number, _ in named], np.int64)
    return series, np.array([places[name] for _, name in named], np.int64), names


def _of_user(index: SeriesIndex, user_id: str, question: Question) -> list[tuple[int, str]]:
    cores = index.cores(user_id, question.quantity.name)
    if question.cores == "each":
        # A copy, because cores may join meanwhile.
        return [(series, str(core)) for core, series in list(cores.items()) if core != WHOLE]
    core = WHOLE if question.cores == "whole" else question.cores
    return [(cores[core], "")] if core in cores else []


def _of_fleet(index: SeriesIndex, question: Question) -> list[tuple[int, str]]:
    found = []
    # A copy, because users may join meanwhile.
    for user in list(index.users.values()):
        series = index.cores(user.user_id, question.quantity.name).get(WHOLE)
        if series is not None:
            found.append((series, "" if question.by is None else str(getattr(user, _ATTRIBUTE[question.by]))))
    return found


_ATTRIBUTE = {"user": "user_id", "os_type": "os_type", "os_version": "os_version"}


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (0, name)
