"""Frames of any size, merged by user on all cores or on Dask; how users are numbered."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.checking import check_identity, check_index
from analytics.frames.columns import NUMBERS, Windows, concatenate, merge
from analytics.frames.frame import FrameError, from_frame, metric_of
from analytics.frames.kernel import Ints
from analytics.frames.labels import LABELS
from analytics.frames.progress import progress


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


T = TypeVar("T")
P = TypeVar("P")
AnyFrame = Any
"""A DataFrame of pandas or of Dask."""
Key = Callable[[Ints], Ints]
"""From moments in epoch ms to what is merged: windows whose keys are equal become one."""
Merged = tuple[Windows, pd.DataFrame]
"""Windows, and the labels of their series."""

SLICE_ROWS = 1 << 17
"""Rows of a slice: with histograms some 80 MB while they are merged. May be set, where memory is scarce."""
_PLAIN_ROWS: Final = 32
"""So many times as many are a slice where there are no histograms."""
_FAN_IN: Final = 8


def is_dask(frame: AnyFrame) -> bool:
    """Whether a frame is Dask's."""
    return not isinstance(frame, pd.DataFrame) and type(frame).__module__.partition(".")[0].startswith("dask")


def check_frame(frame: object) -> None:
    """Raise FrameError for what is no DataFrame of pandas or Dask with the index and the identity of windows."""
    if isinstance(frame, pd.DataFrame):
        check_index(frame)
    elif not (is_dask(frame) and hasattr(frame, "columns")):
        raise FrameError(f"expected a frame of windows, a DataFrame of pandas or Dask, got a {type(frame).__name__}")
    check_identity(frame)


def example_of(frame: AnyFrame) -> pd.DataFrame:
    """The frame itself, or the empty one that stands for a Dask DataFrame: its columns and `attrs`."""
    check_frame(frame)
    if isinstance(frame, pd.DataFrame):
        return frame
    example: pd.DataFrame = frame._meta
    return example


def bucket(time: Ints, *, rate_ms: int) -> Ints:
    """The key of buckets that are `rate_ms` wide and aligned to the epoch: their start."""
    return time // rate_ms * rate_ms


def gather(
    frame: AnyFrame,
    key: Key | None,
    *,
    labels: Sequence[str] = ("user",),
    histograms: bool = True,
    what: str = "merging",
) -> Merged:
    """The windows of a frame, merged by label and by `key` of their time, which becomes the `time` of the answer.

    Only those of `labels` (`user`, `core`) that the frame has are told apart; without `key` nothing of time is.
    Sorted by series and key; series are in the order of their labels. With `histograms` all rows have one, stand-ins
    where they are missing. Raises FrameError for what is not a frame of windows, or is of several metrics.
    """
    kept = [name for name in LABELS if name in (*labels, "metric") and name in frame.columns]
    wanted = [*kept, *NUMBERS, *(["histogram"] if histograms and "histogram" in frame.columns else [])]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise FrameError(f"a frame of windows has the columns {', '.join(NUMBERS)}; {', '.join(missing)} missing")
    work = partial(_merged, key=key, histograms=histograms, attrs=example_of(frame).attrs)
    windows, found = reduced(frame[wanted], work, joined, what)
    metric_of(found)
    return windows, found.drop(columns="metric", errors="ignore")


def reduced(frame: AnyFrame, work: Callable[[pd.DataFrame], T], join: Callable[[Sequence[T]], T], what: str) -> T:
    """`work` on every piece of a frame, and the results joined, few at a time; `what` names it beside a progress bar.

    `join` is associative. A frame without rows is one piece.
    """
    if is_dask(frame):
        return _on_dask(frame, work, join)
    rows = slice_rows(histograms="histogram" in frame)
    slices = max(1, -(-len(frame) // rows))
    if slices == 1:
        return work(frame)
    # As many at each level as are joined into one of the next: nothing is merged more often than there are levels, also
    # where joining makes nothing smaller.
    levels: list[list[T]] = [[]]
    with progress(what, slices) as step:
        for result in in_threads(work, (frame.iloc[first : first + rows] for first in range(0, len(frame), rows))):
            step()
            levels[0].append(result)
            for level in range(len(levels)):
                if len(levels[level]) == _FAN_IN:
                    levels += [[]] if level + 1 == len(levels) else []
                    levels[level + 1].append(join(levels[level]))
                    levels[level] = []
    return join([result for level in reversed(levels) for result in level])


def slice_rows(*, histograms: bool) -> int:
    """How many rows of a frame are one piece."""
    return SLICE_ROWS if histograms else _PLAIN_ROWS * SLICE_ROWS


def of_hosts(frame: AnyFrame) -> AnyFrame:
    """The rows of a frame that are of whole hosts; all of them where no core or device is named, or only one.

    Raises FrameError for several cores or devices without their host, which would be counted several times, and for
    rows of several metrics.
    """
    check_frame(frame)
    metric_of(example_of(frame))
    for name in ("core", "device"):
        if name in frame.columns:
            frame = _of_whole(frame, name)
    return frame


def _of_whole(frame: AnyFrame, name: str) -> AnyFrame:
    whole = frame[name].isna()
    if is_dask(frame) or whole.any():
        return frame[whole]
    if frame[name].nunique() > 1:
        one = repr(frame[name].iloc[0]) if name == "device" else 0
        raise FrameError(
            f"the frame has several {name}s and no whole host; frame[frame['{name}'] == {one}] is one of them"
        )
    return frame


def joined(parts: Sequence[Merged]) -> Merged:
    """Several merged windows as one."""
    if len(parts) == 1:
        return parts[0]
    labels = pd.concat([part for _, part in parts], ignore_index=True)
    number, unique = _numbered(labels)
    first = np.cumsum([0, *(len(part) for _, part in parts)])
    windows = [
        replace(windows, series=number[first[place] + windows.series]) for place, (windows, _) in enumerate(parts)
    ]
    return merge(concatenate(windows)), unique


def _merged(part: pd.DataFrame, *, key: Key | None, histograms: bool, attrs: Mapping[Any, Any]) -> Merged:
    part = part.copy(deep=False)
    part.attrs = {**attrs}
    windows, labels = from_frame(part, histograms=histograms)
    time = np.zeros(len(windows), np.int64) if key is None else key(windows.time)
    return merge(replace(windows, time=time)), labels


def _numbered(labels: pd.DataFrame) -> tuple[Ints, pd.DataFrame]:
    """The number of each row of labels among the different ones, and these, in order."""
    if labels.columns.empty:
        return np.zeros(len(labels), np.int64), pd.DataFrame(index=[0])
    plain = labels.assign(user=labels["user"].astype("str")) if "user" in labels else labels
    groups = plain.groupby(list(plain.columns), dropna=False, sort=True)
    number = np.asarray(groups.ngroup(), np.int64)
    _, first = np.unique(number, return_index=True)
    unique = plain.iloc[first].reset_index(drop=True)
    return number, unique.assign(user=pd.Categorical(unique["user"])) if "user" in unique else unique


def in_threads(work: Callable[[P], T], pieces: Iterator[P]) -> Iterator[T]:
    """Results in order of the pieces, of which no more are begun than there are cores to work on them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        begun: deque[Future[T]] = deque()
        for piece in pieces:
            begun.append(pool.submit(work, piece))
            if len(begun) == cores:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _on_dask(frame: AnyFrame, work: Callable[[pd.DataFrame], T], join: Callable[[Sequence[T]], T]) -> T:
    from dask.delayed import delayed

    results: list[Any] = [delayed(work)(part) for part in frame.to_delayed()]
    while len(results) > 1:
        results = [delayed(join)(results[first : first + _FAN_IN]) for first in range(0, len(results), _FAN_IN)]
    answer: T = results[0].compute()
    return answer
