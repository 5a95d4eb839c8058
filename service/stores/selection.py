"""Which series a question is about, and what they are called in its answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from contract.selectors import NOT_LABELLED, label_of
from service.stores.base import Question
from service.stores.engine import WindowSelection
from service.stores.series import WHOLE, SeriesIndex, User
from service.stores.systems import SystemsOverTime, by_number


def select(index: SeriesIndex, question: Question) -> WindowSelection:
    """The series that a question is about."""
    if question.is_whole_fleet:
        series, rank = index.of_hosts(question.quantity.name)
        return WindowSelection(question, series, pd.DataFrame(index=range(len(series))), rank, index.bounded())
    if (question.user_id, question.by, question.users, question.cores) == (None, "user", None, "whole"):
        return _of_each_host(index, question)
    return _selected(index, question)


def _of_each_host(index: SeriesIndex, question: Question) -> WindowSelection:
    """The series of every host, made once as long as none joins.

    One selection is kept for each quantity of whole hosts, so that what is kept has a limit.
    """
    key = question.quantity.name
    state = index.state
    made, kept = index.selected.get(key, (None, None))
    selection: WindowSelection = kept if kept is not None and made == state else _all_hosts(index, question)
    index.selected[key] = state, selection
    return replace(selection, question=question)


def _all_hosts(index: SeriesIndex, question: Question) -> WindowSelection:
    series, rank = index.of_hosts(question.quantity.name)
    names = np.array([index.all[number - 1].user_id for number in series.tolist()], object)
    in_order = names[np.argsort(rank)].tolist()
    code = rank
    if any(map(str.isdecimal, in_order)):
        in_order = sorted(in_order, key=by_number)
        code_of = {name: place for place, name in enumerate(in_order)}
        code = np.fromiter(map(code_of.__getitem__, names), np.int64, len(names))
    users = pd.Categorical.from_codes(code, pd.Index(in_order, dtype="str"), ordered=True)
    return WindowSelection(question, series, pd.DataFrame({"user": users}), rank, index.bounded())


def _selected(index: SeriesIndex, question: Question) -> WindowSelection:
    user_id = question.user_id
    if user_id is None:
        found = _of_fleet(index, question)
    else:
        found = _of_user(index, index.users[user_id], question) if user_id in index.users else []
    found.sort()
    labels: dict[str, Any] = {}
    systems = None
    if user_id is None and (question.by == "user" or question.each_user):
        names = [user.user_id for _, user, _ in found]
        in_order = pd.Index(sorted({*names}, key=by_number), dtype="str")
        labels["user"] = pd.Categorical(names, in_order, ordered=True)
    if user_id is None and question.by in ("os_type", "os_version"):
        systems = SystemsOverTime(index, [user for _, user, _ in found], question.by)
    label = label_of(question.by)
    if user_id is None and label is not None:
        values = [user.labels.get(label, NOT_LABELLED) for _, user, _ in found]
        in_order = pd.Index(sorted({*values}, key=by_number), dtype="str")
        labels["label"] = pd.Categorical(values, in_order, ordered=True)
    if question.cores != "whole":
        labels["core"] = pd.array([core for _, _, core in found], "Int64")
    order = sorted(range(len(found)), key=lambda place: (found[place][1].user_id, found[place][2]))
    rank = np.empty(len(found), np.int64)
    rank[order] = np.arange(len(found))
    series = np.array([number for number, _, _ in found], np.int64)
    labelled = pd.DataFrame(labels, index=range(len(found)))
    return WindowSelection(question, series, labelled, rank, index.bounded(), systems)


_Found = list[tuple[int, User, int]]
"""Series: number, user and core."""


def _of_user(index: SeriesIndex, user: User, question: Question) -> _Found:
    cores = index.cores(user.user_id, question.quantity.name)
    if question.cores == "each":
        # A copy, here and below, because cores and users may join meanwhile.
        wanted = [core for core in list(cores) if core != WHOLE]
    else:
        core = WHOLE if question.cores == "whole" else question.cores
        wanted = [core] if core in cores else []
    return [(cores[core], user, core) for core in wanted]


def _of_fleet(index: SeriesIndex, question: Question) -> _Found:
    users = [user for user in list(index.users.values()) if question.users is None or user.user_id in question.users]
    if question.cores == "whole":
        # The usual question, of each of very many hosts.
        name = question.quantity.name
        found = ((index.cores(user.user_id, name).get(WHOLE), user) for user in users)
        return [(number, user, WHOLE) for number, user in found if number is not None]
    return [one for user in users for one in _of_user(index, user, question)]
