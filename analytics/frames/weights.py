"""How much each host counts in what is said of several: by samples, by the time it was seen, or by cores."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd

from analytics.frames.arguments import instance, one_of
from analytics.frames.checking import with_samples
from analytics.frames.frame import FrameError, by_user, from_frame, to_frame
from analytics.frames.kernel import Histograms, Ints
from contract.metrics import IDLEST_CORE

Weight = Literal["samples", "cores", "hosts"]
"""`samples`: each sample counts the same. `hosts`: each host counts by the time it was seen. `cores`: each core does,
so that a mean is the share of all CPU time that was used."""
Cores = Mapping[Any, Any] | pd.Series | pd.DataFrame | None
"""How many cores users have: by user, or a frame with `user` and `cores`."""
_CORES: Final = (Mapping, pd.Series, pd.DataFrame)
WEIGHTS: Final[tuple[Weight, ...]] = get_args(Weight)

_ALIKE: Final = 0.02
"""What is off by no more than this share counts as a whole number."""
_ABOUT_ALIKE: Final = 0.2
"""The same where only very different hosts matter."""
_FINE: Final = 20
"""What is no whole number is counted in so many parts, which is right within 2.5 %."""


def weigh(frame: pd.DataFrame, weight: Weight = "hosts", *, cores: Cores = None) -> pd.DataFrame:
    """The frame with the samples of each user so often that users count as `weight` says.

    Means, quantiles and shares over several users weigh each sample alike, so one that samples every 50 ms drowns those
    that sample every five minutes, and two cores count as much as 64. Here `count`, `approximated` and histograms of a
    user are multiplied by a whole number: for `hosts` what brings the median `count` of its rows to that of the user
    with most in a row; for `cores` that, times its number of cores. That is what the column `cores` of a row says, how
    many the host had at the time (`cores_at`), and where that is missing `cores`, by user, or
    a frame with `user` and `cores`, `source.users()`. What is said of one user stays exactly as it was, unless its
    cores changed; what is said of several is by rows, that is by time where rows are buckets of one width (`resample`).
    Counts are weights then, no longer numbers of samples.

    A frame without `user`, or whose users count alike anyhow, comes back as it is. Raises FrameError for what is not a
    frame of windows, for another `weight` and where the cores of a user are not known.
    """
    one_of(weight, "weight", WEIGHTS)
    if cores is not None:
        instance(cores, "cores", _CORES, "numbers of cores by user, or a frame with user and cores")
    if isinstance(cores, pd.DataFrame):
        cores = cores_by_user(cores)
    kept = with_samples(frame)
    if weight == "samples" or "user" not in frame or frame.empty:
        return frame
    factors = of_rows(host_factors(frame), kept)
    if weight == "cores":
        factors = factors * known_cores(kept, cores)
    factors = factors // max(1, int(np.gcd.reduce(factors)))
    return frame if (factors <= 1).all() else multiplied(kept, factors)


def equal_weights(frame: pd.DataFrame) -> pd.DataFrame:
    """As `weigh(frame, "hosts")`, but a frame whose users sample about alike, within a fifth, comes back as it is."""
    kept = with_samples(frame)
    if "user" not in frame or frame.empty:
        return frame
    factors = about_alike(frame)
    if (factors <= 1).all():
        return frame
    return multiplied(kept, of_rows(factors, kept))


def about_alike(frame: pd.DataFrame) -> "pd.Series[int]":
    """As `host_factors`, all 1 where users sample alike within a fifth."""
    return host_factors(frame, _ABOUT_ALIKE)


def of_rows(by_user: "pd.Series[int]", frame: pd.DataFrame) -> Ints:
    """What is said of each row's user, 1 where nothing is."""
    return frame["user"].astype("str").astype(object).map(by_user).fillna(1).to_numpy().astype(np.int64)


def multiplied(frame: pd.DataFrame, factors: Ints) -> pd.DataFrame:
    """The frame with the samples of each row so often; all its rows have samples."""
    windows, labels = from_frame(frame)
    histograms = windows.histograms
    if histograms is not None:
        histograms = Histograms(histograms.row, histograms.bin, histograms.count * factors[histograms.row])
    weighted = to_frame(
        dataclasses.replace(
            windows,
            count=windows.count * factors,
            approximated=windows.approximated * factors,
            histograms=histograms,
        ),
        labels,
    )
    weighted.attrs = dict(frame.attrs)
    return weighted


def cores_at(frame: pd.DataFrame, single: pd.DataFrame) -> "pd.Series[float]":
    """How many cores the host of each row of `frame` had at that time, NaN where that was not recorded.

    `single` has rows of single cores, in buckets as long as those of the frame or longer: a host had as many as it
    has rows in the bucket, or in the one before, or else in the one after. Both have the column `user`.
    """
    single = single[single["core"].notna() & (single["core"].fillna(0) < IDLEST_CORE)]
    names = frame["user"].astype("str").astype(object).to_numpy()
    rows = pd.DataFrame(
        {"user": names, "time": pd.DatetimeIndex(frame.index).as_unit("ms"), "row": np.arange(len(frame))}
    )
    if single.empty:
        return pd.Series(np.nan, index=frame.index)
    times = pd.DatetimeIndex(single.index).as_unit("ms")
    told = single["core"].groupby([single["user"].astype("str").astype(object).to_numpy(), times]).nunique()
    known = told.rename_axis(["user", "time"]).rename("cores").astype(np.float64).reset_index().sort_values("time")
    rows = rows.sort_values("time", kind="stable")
    before, after = (
        pd.merge_asof(rows, known, on="time", by="user", direction=way)["cores"] for way in ("backward", "forward")
    )
    found = before.fillna(after).to_numpy()
    cores = np.empty(len(frame))
    cores[rows["row"].to_numpy()] = found
    return pd.Series(cores, index=frame.index)


def cores_by_user(users: pd.DataFrame) -> "pd.Series[float]":
    """What a frame with `user` and `cores` says, as `source.users()` answers it, by user; without those not known."""
    if not {"user", "cores"} <= {*users.columns}:
        raise FrameError(f"expected the columns user and cores, got {', '.join(map(str, users.columns)) or 'none'}")
    cores = pd.to_numeric(by_user(users)["cores"], errors="coerce").astype("float64")
    return cores[cores > 0]


def cores_or_now(frame: pd.DataFrame, users: pd.DataFrame) -> "pd.Series[Any]":
    """The cores of each row: what its column `cores` says, else what `users` says its user has now; Int64."""
    now = frame["user"].astype("str").astype(object).map(cores_by_user(users)).astype("float64")
    had = pd.to_numeric(frame["cores"], errors="coerce").astype("float64") if "cores" in frame else now
    return had.where(had > 0, now).round().astype("Int64")


def known_cores(frame: pd.DataFrame, cores: Cores) -> Ints:
    """The cores of each row: what its column `cores` says, else those of its user; FrameError where neither does."""
    names = frame["user"].astype("str").astype(object)
    if cores is None and "cores" not in frame:
        raise FrameError("expected the cores of each user with weight='cores', such as source.users(), got none")
    given = cores_by_user(cores) if isinstance(cores, pd.DataFrame) else {} if cores is None else cores
    told = pd.Series(given, dtype=object).rename(index=str)
    of_user = pd.to_numeric(names.map(told), errors="coerce")
    row = pd.to_numeric(frame["cores"], errors="coerce") if "cores" in frame else of_user
    row = row.astype("float64").where(row.astype("float64") > 0, of_user.astype("float64")).fillna(0)
    unknown = sorted({*names[(row <= 0).to_numpy()]})
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise FrameError(
            f"expected the cores of each user with weight='cores', got none of {', '.join(unknown[:3])}{more}; "
            "weight='hosts' counts each host alike"
        )
    known: Ints = row.round().to_numpy().astype(np.int64)
    return known


def host_factors(frame: pd.DataFrame, alike: float = _ALIKE) -> "pd.Series[int]":
    """What to multiply the counts of each user by, index `user`, so that all count alike by the time they were seen.

    Whole numbers, within the share `alike`.
    """
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
    if not np.allclose(wanted, wanted.round()):
        wanted = wanted * _FINE
    factors = wanted.round().astype("int64")
    reduced: pd.Series[int] = factors // np.gcd.reduce(factors.to_numpy())
    return reduced
