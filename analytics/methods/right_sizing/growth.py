"""How much the load of machines grows, where that can be told from chance."""

from typing import Final

import numpy as np

from analytics.methods.right_sizing.days import Floats, Ints

_SIGNIFICANT: Final = 1.96


def growth_a_day(days: Ints, means: Floats) -> Floats:
    """How much the mean of a user grows a day, in its own unit; 0 where no trend can be told from chance.

    `days` and `means` have the shape (users, days). The slope is the median of the slopes of all pairs (Theil and Sen),
    the test that of Mann and Kendall at 5 %.
    """
    count = means.shape[1]
    earlier, later = np.triu_indices(count, 1)
    rise = means[:, later] - means[:, earlier]
    slope = np.median(rise / (days[:, later] - days[:, earlier]), axis=1)
    spread = np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    significant = np.abs(np.sign(rise).sum(axis=1)) > _SIGNIFICANT * spread
    return np.where(significant, slope, 0.0)
