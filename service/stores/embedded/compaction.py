"""Which runs to merge, so that there are few of them and each row is rewritten seldom."""

import math
from collections import defaultdict
from collections.abc import Mapping

__all__ = ["LARGEST_RUN", "LARGEST_SEGMENT", "alike"]

_FAN_IN = 4
LARGEST_SEGMENT = 64_000_000
"""Rows; sorting spills to disk, so this bounds how much is rewritten at once."""
LARGEST_RUN = 4_000_000
"""Rows; a run is merged in memory."""


def alike(rows: Mapping[int, int], largest: int) -> list[int]:
    """The runs to merge next, of `rows` by run: four or more of about the same size, none larger than allowed.

    Sizes are alike within a power of four, as in size-tiered compaction (O'Neil et al. 1996; Cassandra), so the
    number of runs, and how often a row is rewritten, grow with the logarithm of the rows.
    """
    levels: dict[int, list[int]] = defaultdict(list)
    for run, number in rows.items():
        if number * _FAN_IN <= largest:
            levels[int(math.log(max(number, 1), _FAN_IN))].append(run)
    for level in sorted(levels):
        if len(levels[level]) >= _FAN_IN:
            chosen, total = [], 0
            for run in levels[level]:
                total += rows[run]
                if total > largest:
                    break
                chosen.append(run)
            return chosen
    return []
