"""How evenly a machine's cores are loaded: one at its limit is easily overlooked in the mean of all."""

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, example_of, is_dask
from analytics.frames.frame import FrameError


def core_imbalance(frame: AnyFrame, *, saturated: float = 0.9) -> AnyFrame:
    """How the load of the cores differs, for each user and moment of a frame with the column `core`.

    One row for each, index `time`, with `user` where the frame has it, and, of the cores' means, in [0, 1]:

    - `cores`: how many there are
    - `mean`: of the machine, as the frame has it, otherwise of its cores
    - `lowest`, `highest`, `spread`: the least and the most loaded core, and the distance between them
    - `deviation`: the standard deviation over the cores (population)
    - `variation`: that divided by their mean, the coefficient of variation; NaN for an idle machine
    - `busiest`: the number of the most loaded core, the lowest of equals
    - `one_saturated`: whether a core is at `saturated` or above while the machine is below

    The mean of `one_saturated` is the share of time in which a single-threaded program may wait for its core although
    the machine seems to have room. All of it is at the resolution of the windows: shorter ones tell more. Takes a
    frame of windows, or a Dask DataFrame whose result is then computed later; raises FrameError for a frame without
    cores.
    """
    if "core" not in frame.columns:
        raise FrameError("there are no cores: history(user, core='each') has them")
    if not is_dask(frame):
        return _balance(frame, saturated)
    example = _balance(example_of(frame), saturated)
    if "user" not in example:
        return frame.shuffle(on_index=True).map_partitions(_balance, saturated, meta=example)
    texts = frame.assign(user=frame["user"].astype("str"))
    return texts.shuffle("user").map_partitions(_balance, saturated, meta=example.astype({"user": "str"}))


def _balance(frame: pd.DataFrame, saturated: float) -> pd.DataFrame:
    frame = frame[frame["count"] > 0]
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
    machine = plain[plain["core"].isna()].groupby(keys, observed=True)["mean"].mean()
    balance["mean"] = machine.reindex(balance.index).fillna(balance["mean"])
    balance["one_saturated"] = (balance["highest"] >= saturated) & (balance["mean"] < saturated)
    answer: pd.DataFrame = balance.reset_index("user") if "user" in keys else balance
    return answer
