"""Each machine in a row: how busy it was, how often, and how much of the time it was seen."""

import numpy as np
import pandas as pd

from analytics.frames import bins_of, from_frame
from analytics.reports.data import Data
from analytics.windows import merge
from analytics.windows.quantiles import quantiles

__all__ = ["machines"]


def machines(data: Data) -> pd.DataFrame:
    """A row a machine, index `user`, the busiest first.

    Of all samples in the range: `mean`, the quantiles `p50`, `p95` and `p99`, `max`, and `above`, the share of samples
    above the target; all shares. `samples`, what they count for (`weight`), and `buckets` with data, `first` and `last`
    (epoch milliseconds of their starts).
    """
    import analytics

    windows, labels = from_frame(data.windows, histograms=True)
    everything = merge(windows, rate_ms=1 << 53)
    bins = bins_of(data.windows)
    table = pd.DataFrame(
        {"mean": everything.mean, **{f"p{q}": quantiles(everything, q / 100, bins) for q in (50, 95, 99)}},
        index=pd.Index([str(user) for user in labels["user"]], name="user"),
    )
    table["max"] = everything.maximum
    series = windows.series
    size = len(table)
    table["samples"] = data.samples["count"].reindex(table.index)
    table["weight"] = everything.count
    table["buckets"] = np.bincount(series, minlength=size)
    table["first"] = pd.Series(windows.time).groupby(series).min().to_numpy()
    table["last"] = pd.Series(windows.time).groupby(series).max().to_numpy()
    above = analytics.saturation(data.windows, data.target).set_index("user")["share"]
    table["above"] = above.rename(index=str).reindex(table.index)
    return table.sort_values("mean", ascending=False, kind="stable")
