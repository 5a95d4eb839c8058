"""Load-duration curves: for how much of the time a machine, or a fleet, is at least so loaded."""

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import AnyFrame, example_of, gather, of_machines
from analytics.frames.columns import Windows
from analytics.frames.frame import FrameError, bins_of
from contract.histogram import LINEAR

BINS: Final = LINEAR.bins
"""Equal bins over [0, 1]."""


def load_duration_curve(frame: AnyFrame, *, by: Literal["user"] | None = None) -> pd.DataFrame:
    """The share of time at or above each load, of all together or, with `by="user"`, of each.

    One row for each edge of a histogram's bins: `load`, from 0 to 63/64 in steps of 1/64, and `share`, the share of
    the samples in [0, 1] that are at least that; before them `user` if asked for. At these edges the curve is exact,
    between them it lies between its neighbours. Samples are taken at equal distances, so their share is that of time.
    Windows that came without histogram stand for two halves of their samples; `attrs["approximated"]` is the share of
    all samples that did.

    It is the load-duration curve of electricity supply, with both axes as shares. Takes a frame of windows of any
    size, pandas' or Dask's; raises FrameError for another, and for a metric that is no share.
    """
    shares_only(frame)
    windows, labels = gather(of_machines(frame), None, labels=("user",) if by else (), what="load duration")
    counts = counts_of(windows)
    share = counts[:, ::-1].cumsum(axis=1)[:, ::-1] / np.maximum(windows.count, 1)[:, None]
    # Without a key of time there is one window for each series, in order.
    columns: dict[str, Any] = {"user": pd.Categorical(labels["user"]).repeat(BINS)} if "user" in labels else {}
    columns |= {"load": np.tile(np.arange(BINS) / BINS, len(counts)), "share": share.ravel()}
    curve = pd.DataFrame(columns)
    curve.attrs = {"approximated": float(windows.approximated.sum() / max(int(windows.count.sum()), 1))}
    return curve


def counts_of(windows: Windows) -> npt.NDArray[np.int64]:
    """The samples of each of n windows of shares in each of the equal bins, 0 and 1 among them, shape (n, 64)."""
    histograms = windows.histograms
    if histograms is None:
        raise ValueError("windows without histograms have no bins")
    counts = np.zeros((len(windows), BINS), np.int64)
    np.add.at(counts, (histograms.row, np.clip(histograms.bin, 0, BINS - 1)), histograms.count)
    return counts


def shares_only(frame: AnyFrame) -> None:
    """Raise FrameError where a frame says that its metric is no share in [0, 1]."""
    if bins_of(example_of(frame)) is not LINEAR:
        metric = example_of(frame).attrs["metric"]
        raise FrameError(f"{metric} is not a share in [0, 1]; cpuUtilization or memoryUtilization would be right")
