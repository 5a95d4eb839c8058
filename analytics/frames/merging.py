"""The exact merge of windows, in pandas: what belongs together is grouped, and its moments are pooled.

Counts add up, means are weighted by samples, variances are pooled (Chan, Golub and LeVeque 1983: the variance between
the windows counts too), extremes are those of all samples. `analytics.resample`, the rollups of the service's stores
and the methods of this library all merge by this one function, so that equal rows give equal bits. Histograms, which
pandas has no sum for, are `analytics.frames.histograms`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def merge_moments(rows: pd.DataFrame, keys: Sequence[Ints]) -> tuple[pd.DataFrame, Ints]:
    """One row for each different tuple of `keys`, in their order; and, for each row given, the place of its own.

    `rows` has the columns `count`, `mean`, `var`, `min`, `max` and `approximated` of n windows, without missing values;
    each of `keys` has length n. The answer has the same columns, and the keys as its index. Rows of one group are
    added up in the order in which they are given. A group of one row keeps its numbers to the bit.
    """
    grouped = rows.groupby(list(keys) if len(keys) > 1 else keys[0], sort=True)
    place = grouped.ngroup().to_numpy()
    count = grouped["count"].sum()
    mean, var = _pooled(rows, place, count.to_numpy())
    merged = {
        "count": count,
        "mean": mean,
        "var": var,
        "min": grouped["min"].min(),
        "max": grouped["max"].max(),
        "approximated": grouped["approximated"].sum(),
    }
    return pd.DataFrame(merged, index=count.index, copy=False), place


def _pooled(rows: pd.DataFrame, place: Ints, total: Ints) -> tuple[Floats, Floats]:
    """Mean and population variance of each group; `place` is the group of each row, `total` the samples of each."""
    # Shares instead of counts: a mean times a count could overflow.
    share = rows["count"].to_numpy() / np.maximum(total, 1)[place]
    mean, var = rows["mean"].to_numpy(), rows["var"].to_numpy()
    if not np.all(place[1:] >= place[:-1]):
        # In order of groups pandas adds by whole runs, quicker and pairwise.
        order = np.argsort(place, kind="stable")
        place, share, mean, var = place[order], share[order], mean[order], var[order]

    def summed(values: Floats) -> Floats:
        return pd.Series(values, copy=False).groupby(place).sum().to_numpy()

    centre = summed(share * mean)
    deviation = mean - centre[place]
    # What rounding left between the centre and the mean: adding it makes the mean right to the last bits,
    # leaving it out of the deviations does the same for the variance.
    rest = summed(share * deviation)
    deviation -= rest[place]
    return centre + rest, summed(share * (var + deviation * deviation))
