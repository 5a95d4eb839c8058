"""How much each user counts where users are put together."""

import dataclasses

import numpy as np
import pandas as pd

from analytics.frames import from_frame, to_frame
from analytics.windows import Histograms

__all__ = ["equal_weights"]


def equal_weights(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the samples of each user so often that users count by the time they were seen.

    Means, quantiles and shares over several users weigh each sample alike, so one that samples every 50 ms drowns those
    that sample every five minutes. Here `count`, `approximated` and histograms of a user are multiplied by a whole
    number, the median `count` of the rows of the user who has most in a row, divided by the user's own, rounded, 1 at
    least. What is said of one user stays exactly as it was; what is said of several is by rows, that is by time where
    rows are buckets of one width (`resample`). Counts are weights then, no longer numbers of samples.

    A frame without `user`, or whose users sample about alike, comes back as it is. Raises FrameError for what is not a
    frame of windows.
    """
    if "user" not in frame or frame.empty:
        return frame
    median = frame.groupby("user", observed=True)["count"].median()
    factors = (median.max() / median[median > 0]).round().astype("int64")
    if (factors <= 1).all():
        return frame
    windows, labels = from_frame(frame)
    factor = labels["user"].map(factors.rename(index=str)).to_numpy(np.int64)[windows.series]
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
