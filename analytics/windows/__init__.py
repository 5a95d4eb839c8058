"""Many summaries at once: `contract.summary.Summary` as columns, and the vectorised form of what it can do."""

from analytics.windows.columns import Histograms, Windows, concatenate, take
from analytics.windows.merging import merge
from analytics.windows.quantiles import quantiles, statistic
from analytics.windows.standins import standins

__all__ = ["Histograms", "Windows", "concatenate", "merge", "quantiles", "standins", "statistic", "take"]
