"""Quantiles of utilization, their uncertainty, and their growth, for many users with as many days each.

The uncertainty is that of other days like these, so days are drawn, not samples: samples within a day are far from
independent. Days that follow each other are not independent either and are drawn in blocks, the circular block
bootstrap of Politis and Romano (1992), with blocks of the cube root of the number of days. One day fewer is drawn than
there are, which makes the spread of the draws right for few days (Efron 1982). The draws are the same for all users:
the same data gives the same answer, and a fleet is one product of matrices.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from analytics.methods.right_sizing.days import Float32s, Floats, Ints

_SEED: Final = 20180712
_CELLS: Final = 1_000_000
"""Numbers held at once."""
_SIGNIFICANT: Final = 1.96


def quantile_of(counts: npt.NDArray[np.floating], values: Floats, q: float) -> Floats:
    """The value of the first bin up to which a share `q` lies: `counts` of shape (..., bins) give shape (...)."""
    return _found(np.cumsum(counts, axis=-1), values, q)


def drawn_quantiles(counts: Float32s, values: Floats, q: float, draws: int) -> Floats:
    """The quantile in each of many draws of the days: `counts` of shape (users, days, bins) give (users, draws)."""
    users, days, bins = counts.shape
    times = _draws(days, draws).astype(np.float32)
    reached = np.cumsum(counts, axis=-1)
    found = np.empty((users, draws))
    step = max(_CELLS // (draws * bins), 1)
    for first in range(0, users, step):
        part = slice(first, first + step)
        found[part] = _found(times @ reached[part], values, q)
    return found


def _found(reached: npt.NDArray[np.floating], values: Floats, q: float) -> Floats:
    below = reached < reached[..., -1:] * (q * (1 - 1e-6))
    found: Floats = values[np.count_nonzero(below, axis=-1)]
    return found


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


def _draws(days: int, draws: int) -> Floats:
    """How often each day is in each draw: shape (draws, days)."""
    block = max(round(days ** (1 / 3)), 1)
    drawn = days - 1
    blocks = -(-drawn // block)
    start = np.random.default_rng(_SEED).integers(0, days, (draws, blocks, 1))
    chosen = ((start + np.arange(block)) % days).reshape(draws, -1)[:, :drawn]
    cell = np.arange(draws)[:, None] * days + chosen
    return np.bincount(cell.ravel(), minlength=draws * days).reshape(draws, days).astype(np.float64)
