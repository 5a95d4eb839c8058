"""How many cores each machine had in each window, and has now."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.arguments import number
from analytics.frames.frame import FrameError
from analytics.frames.weights import cores_by_user
from analytics.methods.right_sizing.days import Floats

Cores = float | Mapping[Any, float] | pd.Series | pd.DataFrame | None
"""One number for all machines, by user, a frame with `user` and `cores`, or None: as the frame says."""


def cores_of(frame: pd.DataFrame, whole: pd.DataFrame, cores: Cores) -> tuple[Floats, dict[Any, float]]:
    """What each row of `whole`, the machines' rows of `frame`, had, and what each user has now.

    A row had what its column `cores` says, else as many as the machine has rows of single cores at that time, else what
    the machine had before, or else after. Where nothing was recorded of a machine, it had what is given as `cores`. Now
    it has what is given, else what its last row had. NaN for rows of users of whom nothing is known; the user is None
    in a frame without users.

    Raises FrameError where the frame has no cores and none are given, or none of a machine that it has, or where its
    cores or those that are given are no numbers above 0.
    """
    given = _given(cores)
    had = _recorded(frame, whole)
    if had is None and given is None:
        raise FrameError("the frame has no cores to count: say how many each machine has, such as cores=4")
    users = (
        whole["user"].astype(object) if "user" in whole else pd.Series([None] * len(whole), whole.index, dtype=object)
    )
    had = np.full(len(whole), np.nan) if had is None else had
    if given is not None:
        its = np.full(len(whole), given) if isinstance(given, float) else users.map(given).to_numpy(np.float64)
        last = dict(zip(users.tolist(), its, strict=True))
        had = np.where(np.isnan(its) | np.isnan(had), its, had)
    else:
        order = np.argsort(pd.DatetimeIndex(whole.index).asi8, kind="stable")
        last = dict(zip(users.iloc[order].tolist(), had[order], strict=True))
    now = {user: float(number) for user, number in last.items() if not np.isnan(number)}
    if not now:
        raise FrameError("expected the cores of at least one machine in the frame, got none of theirs")
    return had, now


def _given(cores: Cores) -> float | dict[Any, float] | None:
    if isinstance(cores, pd.DataFrame):
        cores = cores_by_user(cores)
    if isinstance(cores, (Mapping, pd.Series)):
        return {user: _positive(n) for user, n in cores.items()}
    return None if cores is None else _positive(cores)


def _positive(cores: float) -> float:
    return number(cores, "cores", "a number above 0", lambda value: 0 < value < np.inf)


def _recorded(frame: pd.DataFrame, whole: pd.DataFrame) -> Floats | None:
    if "cores" in whole and whole["cores"].notna().any():
        known = pd.to_numeric(whole["cores"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        told = known[np.asarray(whole["cores"].notna())]
        if ((told > 0) & (told < np.inf)).all():
            return _filled(whole, known)
        raise FrameError("expected numbers above 0 in the column cores, got others")
    if "core" not in frame or frame["core"].isna().all():
        return None
    single = frame[frame["core"].notna()]
    number = single["core"].groupby(_moments(single)).nunique()
    return _filled(whole, number.reindex(_moments(whole)).to_numpy(np.float64))


def _moments(rows: pd.DataFrame) -> pd.Index:
    """Whose, and when."""
    if "user" not in rows:
        return rows.index
    return pd.MultiIndex.from_arrays([rows["user"].astype(object).array, rows.index])


def _filled(whole: pd.DataFrame, known: npt.NDArray[Any]) -> Floats:
    """Unknown ones as before in time, or else as after."""
    order = np.argsort(pd.DatetimeIndex(whole.index).asi8, kind="stable")
    column = pd.Series(known[order])
    if "user" in whole:
        groups = pd.factorize(whole["user"])[0][order]
        column = column.groupby(groups).ffill().groupby(groups).bfill()
    else:
        column = column.ffill().bfill()
    filled = np.empty(len(known))
    filled[order] = column.to_numpy()
    return filled
