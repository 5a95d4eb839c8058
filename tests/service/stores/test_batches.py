"""Rows that are resampled a part at a time give what all of them together give."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analytics.frames.columns import NUMBERS
from analytics.frames.frame import frame_of_columns
from analytics.frames.statistics import columns_of, values_of
from contract.metrics import STATISTICS, Statistic
from contract.times import HOUR_MS, MINUTE_MS
from service.stores.base import Question
from service.stores.engine import WindowSelection
from service.stores.sorted_windows import LoadedRows
from tests.support.recordings import CPU

MOMENTS = [statistic for statistic in STATISTICS if not statistic.startswith("p")]
CORES = 3


def parts(statistic: Statistic | None) -> list[LoadedRows]:
    """Some rows of each core, the last first, with the columns that a statistic is made of."""
    random = np.random.default_rng(4)
    made = []
    for place in (2, 0, 1, 0):
        # What adds up without rounding, in whatever order.
        mean = random.integers(0, 64, 100) / 64
        numbers = {"count": np.full(100, 4), "mean": mean, "var": np.zeros(100), "min": mean / 2, "max": mean}
        numbers["approximated"] = np.zeros(100, np.int64)
        kept = {name: numbers[name] for name in columns_of(statistic)}
        made.append(LoadedRows(np.full(100, place + 1), frame_of_columns(kept, np.arange(100) * MINUTE_MS)))
    return made


def selection(statistic: Statistic | None, labels: pd.DataFrame, batch_rows: int) -> WindowSelection:
    question = Question(CPU, 0, 2 * HOUR_MS, 15 * MINUTE_MS, "one", "each", statistic=statistic)
    places = np.arange(CORES)
    return WindowSelection(question, places + 1, labels, places, np.ones(CORES + 1, np.bool_), batch_rows=batch_rows)


@pytest.mark.parametrize("statistic", [None, *MOMENTS])
def test_batches_of_any_size_give_the_same(statistic: Statistic | None) -> None:
    labels = pd.DataFrame({"core": pd.array([0, 1, 2], "Int64")})
    whole = selection(statistic, labels, 10_000)
    expected = whole.resampled(parts(statistic))
    assert {*expected.columns} == {"core", *(NUMBERS if statistic is None else columns_of(statistic))}
    for batch_rows in (1, 150, 350):
        answered = replace(whole, batch_rows=batch_rows).resampled(parts(statistic))
        pd.testing.assert_frame_equal(answered, expected, rtol=1e-15, atol=1e-16)
        if statistic is not None:
            assert len(values_of(answered, statistic)) == len(expected)
