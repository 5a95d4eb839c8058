"""Windows of machines with how many cores each machine had in them."""

import pandas as pd

from analytics.frames.weights import cores_at, cores_or_now
from analytics.sources.base import Moment, Source


def windows_with_cores(
    source: Source,
    user: str | None = None,
    metric: str = "cpuLoadAvg",
    *,
    start: Moment | None = None,
    end: Moment | None = None,
    rate: str = "1h",
    histograms: bool = True,
) -> pd.DataFrame:
    """The windows of one machine, or of each: as `source.fleet(by="user", weight="cores")` answers them.

    The columns `user` and `cores` say whose they are and how many cores it had at the time, else has now; missing where
    neither is known. Raises what the source raises.
    """
    if user is None:
        return source.fleet(metric, start=start, end=end, rate=rate, by="user", histograms=histograms, weight="cores")
    frame = source.history(user, metric, start=start, end=end, rate=rate, histograms=histograms)
    frame = frame.assign(user=pd.Categorical([user] * len(frame)))
    single = single_cores(source, user, start=start, end=end, rate=rate, histograms=False)
    known = frame if single is None else frame.assign(cores=cores_at(frame, single.assign(user=user)).to_numpy())
    return frame.assign(cores=cores_or_now(known, source.users()))


def single_cores(
    source: Source, user: str, *, start: Moment | None, end: Moment | None, rate: str, histograms: bool = True
) -> pd.DataFrame | None:
    """The windows of the single cores of a machine; None where it reported none."""
    try:
        frame = source.history(user, start=start, end=end, rate=rate, core="each", histograms=histograms)
    except LookupError:
        return None
    frame = frame[frame["core"].notna()] if "core" in frame else frame.iloc[:0]
    return None if frame.empty else frame
