"""Right-sizing: how many cores keep a percentile of utilization under a target, and how sure that is."""

from analytics.methods.right_sizing.pairs import fit_together
from analytics.methods.right_sizing.sizing import VERDICTS, Sizes, right_size, size_hosts

__all__ = ["VERDICTS", "Sizes", "fit_together", "right_size", "size_hosts"]
