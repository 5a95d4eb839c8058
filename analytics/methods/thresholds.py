"""Saturation: for how much of the time hosts are at or above a threshold."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, Key, bucket, example_of, of_hosts, reduced
from analytics.frames.arguments import check_by, duration_ms, number
from analytics.frames.columns import NUMBERS, Windows
from analytics.frames.frame import FrameError, from_frame
from analytics.methods.load_distribution import BINS, counts_of, shares_only
from contract.histogram import LINEAR

_SAMPLES: Final = ("share", "lower", "upper", "count", "approximated")


def saturation(
    frame: AnyFrame, threshold: float = 0.9, *, by: Literal["user"] | None = "user", rate: str | None = None
) -> pd.DataFrame:
    """The share of time at or above `threshold`, a load in [0, 1], of each user or, without `by`, of all together.

    Columns: `user` (with `by`, where the frame names users), `share`, between its bounds `lower` and `upper`, all in
    [0, 1], and `count`, of how many samples. From histograms, so a peak of 50 ms counts for 50 ms, whatever the mean
    around it. The bounds meet, and the share is exact, at a multiple of 1/64, 1 among them, and for windows that lie on
    one side of the threshold, such as single measurements. Otherwise the samples of one bin of a window may lie on
    either side, but for its minimum and maximum: they are taken as evenly spread between these. Of agents that did not
    yet count exactly 1 by itself, samples in the highest bin are taken as 1 where the window's maximum is, as
    utilization stops there, between bounds. Highest share first. With `rate` (InfluxQL
    duration) there is one row for each bucket instead, with the index `time` (UTC), in order of user and time.

    Windows that came without histogram stand for samples with their mean and variance; of these the bounds know nothing
    more.
    `attrs["approximated"]` is the share of all samples that did.

    Takes a frame of windows of any size, pandas' or Dask's; raises FrameError for another, and for a metric that is
    no share, and for a threshold outside [0, 1].
    """
    threshold = number(threshold, "threshold", "a share in [0, 1]", lambda share: 0 <= share <= 1)
    check_by(by)
    rate_ms = None if rate is None else duration_ms(rate, "rate")
    shares_only(frame)
    hosts = of_hosts(frame)
    labels = ["user"] if by and "user" in hosts.columns else []
    wanted = [*labels, *NUMBERS, *(name for name in ("metric", "histogram") if name in hosts.columns)]
    if missing := [name for name in wanted if name not in hosts.columns]:
        raise FrameError(f"a frame of windows has the columns {', '.join(NUMBERS)}; {', '.join(missing)} missing")
    key = None if rate_ms is None else partial(bucket, rate_ms=rate_ms)
    work = partial(_counted, threshold=threshold, key=key, labels=labels, attrs=example_of(frame).attrs)
    found = reduced(hosts[wanted], work, partial(_joined, labels=labels), "saturation")
    return _answer(found, labels, in_order=rate is not None)


def _counted(
    part: pd.DataFrame, *, threshold: float, key: Key | None, labels: Sequence[str], attrs: Mapping[Any, Any]
) -> pd.DataFrame:
    """How many samples are at or above the threshold, at least and at most, by label and key."""
    part = part.copy(deep=False)
    part.attrs = {**attrs}
    windows, named = from_frame(part, histograms=True)
    columns: dict[str, Any] = {"user": named["user"].astype("str").to_numpy()[windows.series]} if labels else {}
    columns["time"] = np.zeros(len(windows), np.int64) if key is None else key(windows.time)
    share, lower, upper = _at_or_above(windows, threshold)
    columns |= {"share": share, "lower": lower, "upper": upper}
    columns |= {"count": windows.count, "approximated": windows.approximated}
    return _joined([pd.DataFrame(columns)], labels=labels)


def _joined(parts: Sequence[pd.DataFrame], *, labels: Sequence[str]) -> pd.DataFrame:
    """Numbers of samples added up."""
    return pd.concat(parts).groupby([*labels, "time"], as_index=False)[[*_SAMPLES]].sum()


def _at_or_above(windows: Windows, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many samples of each window are at or above the threshold: probably, at least, and at most."""
    counts, idle, full = counts_of(windows), _in_bin(windows, LINEAR.first), _in_bin(windows, LINEAR.last)
    place = threshold * BINS
    inside = min(int(place), BINS - 1)
    above = counts[:, inside + 1 :].sum(axis=1)
    within = counts[:, inside]
    if place == inside:
        exact = (above + within).astype(np.float64)
        return exact, exact, exact
    # Exactly 0 and exactly 1 have bins of their own, which `counts` has in the outer ones.
    if inside == 0:
        within = within - idle
    if inside == BINS - 1:
        above, within = above + full, within - full
    if threshold == 1:
        # Agents at first counted exactly 1 in the bin below it: so may what is there, where none is counted as 1.
        within = np.where(full > 0, 0, within)
    # The window's extremes say where the samples of the threshold's bin lie, and that one at least is at each.
    low = np.maximum(windows.minimum, inside / BINS)
    high = np.minimum(windows.maximum, (inside + 1) / BINS)
    is_lowest = (within > 0) & (windows.minimum == low) & (idle == 0)
    lower = np.where(
        windows.minimum >= threshold, windows.count, above + ((within > 0) & (above == 0) & (high >= threshold))
    )
    upper = np.where(windows.maximum < threshold, 0, above + within - (is_lowest & (low < threshold)))
    upper = np.maximum(lower, upper)
    spread = np.where(high > low, (high - threshold) / np.where(high > low, high - low, 1.0), high >= threshold)
    even = above + within * (windows.maximum >= 1.0 if threshold == 1 else spread)
    return np.clip(even, lower, upper).astype(np.float64), lower.astype(np.float64), upper.astype(np.float64)


def _in_bin(windows: Windows, wanted: int) -> np.ndarray:
    """How many samples of each window are in one bin."""
    found = windows.histograms
    assert found is not None
    mine = found.bin == wanted
    return np.bincount(found.row[mine], found.count[mine], len(windows)).astype(np.int64)


def _answer(found: pd.DataFrame, labels: Sequence[str], *, in_order: bool) -> pd.DataFrame:
    """Shares instead of numbers of samples."""
    total = found["count"].clip(lower=1)
    answer = found[[*labels, "share", "lower", "upper", "count"]].copy()
    for name in ("share", "lower", "upper"):
        answer[name] = found[name] / total
    if labels:
        answer["user"] = pd.Categorical(answer["user"])
    if in_order:
        answer.index = pd.DatetimeIndex(found["time"].to_numpy().astype("datetime64[ms]"), name="time").tz_localize(
            "UTC"
        )
    else:
        answer = answer.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
    answer.attrs = {"approximated": float(found["approximated"].sum() / max(int(found["count"].sum()), 1))}
    return answer
