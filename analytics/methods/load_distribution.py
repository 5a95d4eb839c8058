"""How load is spread: over time (load-duration curves), and over the cores of a host."""

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import AnyFrame, check_frame, example_of, gather, is_dask, of_hosts
from analytics.frames.arguments import check_by, number
from analytics.frames.checking import numbers_of, with_samples
from analytics.frames.columns import Windows
from analytics.frames.frame import FrameError, bins_of, metric_of
from contract.histogram import LINEAR

BINS: Final = LINEAR.bins
"""Equal bins over [0, 1]."""


def load_duration_curve(frame: AnyFrame, *, by: Literal["user"] | None = None) -> pd.DataFrame:
    """The share of time at or above each load, of all together or, with `by="user"`, of each.

    One row for each edge of a histogram's bins: `load`, from 0 to 63/64 in steps of 1/64, and `share`, the share of
    the samples in [0, 1] that are at least that; before them `user` if asked for. At these edges the curve is exact,
    between them it lies between its neighbours. Samples are taken at equal distances, so their share is that of time.
    Windows that came without histogram stand for samples with their mean and variance; `attrs["approximated"]` is
    the share of all samples that did.

    It is the load-duration curve of electricity supply, with both axes as shares. Takes a frame of windows of any
    size, pandas' or Dask's; raises FrameError for another, and for a metric that is no share.
    """
    check_by(by)
    shares_only(frame)
    windows, labels = gather(of_hosts(frame), None, labels=("user",) if by else (), what="load duration")
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
        raise ValueError("expected windows with histograms, got none")
    counts = np.zeros((len(windows), BINS), np.int64)
    np.add.at(counts, (histograms.row, np.clip(histograms.bin, 0, BINS - 1)), histograms.count)
    return counts


def shares_only(frame: AnyFrame) -> None:
    """Raise FrameError where a frame says that its metric is no share in [0, 1]."""
    if bins_of(example_of(frame)) is not LINEAR:
        metric = metric_of(example_of(frame))
        raise FrameError(f"expected a share in [0, 1], such as cpuUtilization or memoryUtilization, got {metric}")


def core_imbalance(frame: AnyFrame, *, saturated: float = 0.9) -> AnyFrame:
    """How the load of the cores differs, for each user and moment of a frame with the column `core`.

    One row for each, index `time`, with `user` where the frame has it, and, of the cores' means, in [0, 1]:

    - `cores`: how many there are
    - `mean`: of the host, as the frame has it, otherwise of its cores
    - `lowest`, `highest`, `spread`: the least and the most loaded core, and the distance between them
    - `deviation`: the standard deviation over the cores (population)
    - `variation`: that divided by their mean, the coefficient of variation; NaN for an idle host
    - `busiest`: the number of the most loaded core, the lowest of equals
    - `one_saturated`: whether a core is at `saturated` or above while the host is below

    The mean of `one_saturated` is the share of time in which a single-threaded program may wait for its core although
    the host seems to have room. All of it is at the resolution of the windows: shorter ones tell more. Takes a
    frame of windows, or a Dask DataFrame whose result is then computed later; raises FrameError for a frame without
    cores.
    """
    check_frame(frame)
    saturated = number(saturated, "saturated", "a share in [0, 1] such as 0.9", lambda share: 0 <= share <= 1)
    if "core" not in frame.columns:
        raise FrameError(
            f"expected a column core, as of history(user, core='each'), got {', '.join(map(str, frame.columns))}"
        )
    if not is_dask(frame):
        return _of_cores(frame, saturated)
    example = _of_cores(example_of(frame), saturated)
    if "user" not in example:
        return frame.shuffle(on_index=True).map_partitions(_of_cores, saturated, meta=example)
    texts = frame.assign(user=frame["user"].astype("str"))
    return texts.shuffle("user").map_partitions(_of_cores, saturated, meta=example.astype({"user": "str"}))


def _of_cores(frame: pd.DataFrame, saturated: float) -> pd.DataFrame:
    frame = with_samples(frame)
    numbers_of(frame)
    keys = ["user", "time"] if "user" in frame else ["time"]
    plain = frame[[*keys[:-1], "core", "mean"]].rename_axis("time").reset_index()
    of_cores = plain[plain["core"].notna()].sort_values([*keys, "core"], kind="stable")
    groups = of_cores.groupby(keys, observed=True, sort=True)["mean"]
    balance = pd.DataFrame(groups.agg(cores="size", mean="mean", lowest="min", highest="max"))
    centre = balance["mean"].to_numpy()
    balance["spread"] = balance["highest"] - balance["lowest"]
    balance["deviation"] = groups.std(ddof=0)
    balance["variation"] = balance["deviation"] / np.where(centre > 0, centre, np.nan)
    highest = of_cores.sort_values("mean", ascending=False, kind="stable").drop_duplicates(keys).set_index(keys)["core"]
    balance["busiest"] = highest.reindex(balance.index).astype(np.int64)
    host = plain[plain["core"].isna()].groupby(keys, observed=True)["mean"].mean()
    balance["mean"] = host.reindex(balance.index).fillna(balance["mean"])
    balance["one_saturated"] = (balance["highest"] >= saturated) & (balance["mean"] < saturated)
    answer: pd.DataFrame = balance.reset_index("user") if "user" in keys else balance
    return answer
