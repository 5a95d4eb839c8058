"""Whose the rows of a frame are, as numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames import FrameError

__all__ = ["numbered_users"]


def numbered_users(frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], list[Any] | None]:
    """The place of each row's `user` among the different ones, and these, sorted, whatever order a category has.

    All 0 and None where the frame has no users. Raises FrameError for a row that has none among others that have.
    """
    if "user" not in frame:
        return np.zeros(len(frame), np.int64), None
    if frame["user"].isna().any():
        raise FrameError("user is missing in a row that has a value")
    codes, found = pd.factorize(frame["user"])
    users = list(found)
    order = sorted(range(len(users)), key=users.__getitem__)
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users))
    return rank[codes], [users[place] for place in order]
