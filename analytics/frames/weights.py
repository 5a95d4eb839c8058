"""How much each host counts in what is said of several: by samples, by the time it was seen, or by cores."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd

from analytics.frames.frame import FrameError, from_frame, to_frame
from analytics.frames.kernel import Histograms, Ints

Weight = Literal["samples", "cores", "hosts"]
"""`samples`: each sample counts the same. `hosts`: each host counts by the time it was seen. `cores`: each core does,
so that a mean is the share of all CPU time that was used."""
WEIGHTS: Final[tuple[Weight, ...]] = get_args(Weight)

_ALIKE: Final = 0.02
"""What is off by no more than this share counts as a whole number."""
_ABOUT_ALIKE: Final = 0.2
"""The same where only very different hosts matter."""
_FINE: Final = 20
"""What is no whole number is counted in so many parts, which is right within 2.5 %."""


def weigh(
    frame: pd.DataFrame, weight: Weight = "hosts", *, cores: "Mapping[Any, Any] | pd.Series[Any] | None" = None
) -> pd.DataFrame:
    """The frame with the samples of each user so often that users count as `weight` says.

    Means, quantiles and shares over several users weigh each sample alike, so one that samples every 50 ms drowns those
    that sample every five minutes, and two cores count as much as 64. Here `count`, `approximated` and histograms of a
    user are multiplied by a whole number: for `hosts` what brings the median `count` of its rows to that of the user
    with most in a row; for `cores` that, times its number of `cores` (by user, such as `source.users()["cores"]`). What
    is said of one user stays exactly as it was; what is said of several is by rows, that is by time where rows are
    buckets of one width (`resample`). Counts are weights then, no longer numbers of samples.

    A frame without `user`, or whose users count alike anyhow, comes back as it is. Raises FrameError for what is not a
    frame of windows, and ValueError for another `weight` and where the cores of a user are not known.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"expected a weight, one of {', '.join(WEIGHTS)}, got {weight!r}")
    if weight == "samples" or "user" not in frame or frame.empty:
        return frame
    return _multiplied(frame, _factors(frame, _known(frame, cores) if weight == "cores" else None, _ALIKE))


def equal_weights(frame: pd.DataFrame) -> pd.DataFrame:
    """As `weigh(frame, "hosts")`, but a frame whose users sample about alike, within a fifth, comes back as it is."""
    return frame if "user" not in frame or frame.empty else _multiplied(frame, _factors(frame, None, _ABOUT_ALIKE))


def _multiplied(frame: pd.DataFrame, factors: "pd.Series[int]") -> pd.DataFrame:
    """The frame with the samples of each user so often; itself where all factors are 1."""
    if (factors <= 1).all():
        return frame
    windows, labels = from_frame(frame)
    factor: Ints = labels["user"].map(factors).to_numpy(np.int64)[windows.series].astype(np.int64)
    histograms = windows.histograms
    if histograms is not None:
        histograms = Histograms(histograms.row, histograms.bin, histograms.count * factor[histograms.row])
    weighted = to_frame(
        dataclasses.replace(
            windows,
            count=windows.count * factor,
            approximated=windows.approximated * factor,
            histograms=histograms,
        ),
        labels,
    )
    weighted.attrs = dict(frame.attrs)
    return weighted


def _known(frame: pd.DataFrame, cores: "Mapping[Any, Any] | pd.Series[Any] | None") -> "pd.Series[int]":
    """The cores of each user of a frame, index `user`."""
    if cores is None:
        raise ValueError(
            "expected the cores of each user with weight='cores', such as source.users()['cores'], got none"
        )
    users = [str(user) for user in pd.unique(frame["user"].dropna())]
    told = pd.Series(cores).rename(index=str).reindex(users)
    known = pd.to_numeric(told, errors="coerce").fillna(0).astype("int64")
    unknown = sorted(known.index[known <= 0])
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ValueError(
            f"expected the cores of each user with weight='cores', got none of {', '.join(unknown[:3])}{more}; "
            "weight='hosts' counts each host alike"
        )
    return known


def _factors(frame: pd.DataFrame, cores: "pd.Series[int] | None", alike: float) -> "pd.Series[int]":
    """What to multiply the counts of each user by, index `user`; whole numbers within the share `alike`."""
    if "count" not in frame:
        raise FrameError("expected a frame of windows, got one without the column count")
    there = frame[frame["count"] > 0]
    # A bucket in which a user changed its system has several rows of it.
    samples = there.groupby(["user", there.index], observed=True)["count"].sum()
    median = samples.groupby(level="user", observed=True).median().rename(index=str)
    if median.empty:
        return median.astype("int64")
    wanted = median.max() / median
    whole = wanted.round()
    wanted = whole.where((whole / wanted - 1).abs() <= alike, wanted)
    if cores is not None:
        wanted = wanted * cores.reindex(wanted.index)
    if not np.allclose(wanted, wanted.round()):
        wanted = wanted * _FINE
    factors = wanted.round().astype("int64")
    reduced: pd.Series[int] = factors // np.gcd.reduce(factors.to_numpy())
    return reduced
