"""Means and variances as fractions: every number is read again to the bit, by any program, and older files are read."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.histogram import LINEAR
from contract.summary import Summary
from service.stores.embedded import fractions
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import Origin, merged, windows_in, write_segment
from service.stores.series import WHOLE, Series, SeriesIndex, User
from service.stores.sorted_windows import SCHEMA
from tests.support.recordings import CPU

Floats = npt.NDArray[np.float64]
WINDOW_MS = 5_000
DOUBLES = st.floats(width=64) | st.sampled_from([0.0, -0.0, 0.5, 1.0, 5e-324, 1.0 - 2**-53, 1e308])
COUNTS = st.integers(0, 2**62) | st.integers(0, 200)


def batch(
    mean: Floats, variance: Floats, count: npt.ArrayLike = 100, duration: npt.ArrayLike = WINDOW_MS
) -> pa.RecordBatch:
    """Windows of the first series with these numbers."""
    rows = len(mean)
    nothing = np.full(rows, np.nan)
    columns = (
        np.ones(rows, np.int32), np.arange(1, rows + 1) * WINDOW_MS, np.broadcast_to(duration, rows).astype(np.int32),
        np.broadcast_to(count, rows).astype(np.int64), mean, variance, nothing, nothing,
    )  # fmt: skip
    return pa.RecordBatch.from_arrays([*map(pa.array, columns), pa.array([b""] * rows, pa.binary())], schema=SCHEMA)


def index_of(cores: int) -> SeriesIndex:
    """The series of a machine and of its cores."""
    index = SeriesIndex()
    index.users["one"] = User("one", "Linux", "12", cores, 0, 0)
    for number, core in enumerate((WHOLE, *range(cores)), 1):
        index.restore(Series(number, "one", CPU.name, core))
    return index


def weighted(rng: np.random.Generator, rows: int) -> tuple[Floats, Floats]:
    """Mean and variance of windows of a core, as our agent makes them of ticks."""
    summaries = []
    for _ in range(rows):
        ticks = np.diff(np.round(5 * np.arange(101) + rng.normal(0.0, 0.4, 101))).astype(int)
        busy = rng.binomial(ticks, rng.random())
        summaries.append(Summary.weighted((busy / ticks).tolist(), ticks.tolist(), 100, LINEAR))
    return np.array([one.mean for one in summaries]), np.array([one.variance for one in summaries])


def read(duck: duckdb.DuckDBPyConnection, stored: pa.Table) -> tuple[Floats, Floats]:
    """Mean and variance of rows as they are in files."""
    duck.register("stored", stored)
    values = ", ".join(f"{value} AS {name}" for name, value in fractions.VALUES.items())
    found = duck.sql(f"SELECT {values} FROM stored").to_arrow_table()
    duck.unregister("stored")
    return found["mean"].to_numpy(), found["variance"].to_numpy()


def same(some: Floats, others: Floats) -> bool:
    return some.tobytes() == others.tobytes()


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


ROWS = st.lists(st.tuples(DOUBLES, DOUBLES, COUNTS, st.integers(-5, 2**31 - 1)), min_size=1, max_size=50)


@given(ROWS, st.integers(1, 2000))
def test_whatever_a_report_says_is_read_again_to_the_bit(
    duck: duckdb.DuckDBPyConnection, rows: list[tuple[float, float, int, int]], cores: int
) -> None:
    mean, variance, count, duration = zip(*rows, strict=True)
    windows = batch(np.array(mean), np.array(variance), count, duration)
    stored = pa.table(fractions.columns(windows, np.full(len(rows), cores)))
    for (asked, given_), found in zip((("mean", mean), ("variance", variance)), read(duck, stored), strict=True):
        number = np.array(given_)
        is_nan = np.isnan(number)
        assert same(found[~is_nan], number[~is_nan]), asked
        assert np.isnan(found[is_nan]).all()


def test_windows_of_our_agent_are_whole_numbers(duck: duckdb.DuckDBPyConnection) -> None:
    mean, variance = weighted(np.random.default_rng(1), 300)
    stored = fractions.columns(batch(mean, variance), np.ones(300, np.int64))
    assert stored["mean"].null_count == 300
    assert stored["variance"].null_count > 270
    assert len(set(stored["variance_rest"].to_pylist())) < 100
    found = read(duck, pa.table(stored))
    assert same(found[0], mean) and same(found[1], variance)


def test_windows_of_the_original_are_whole_numbers() -> None:
    rng = np.random.default_rng(2)
    ticks = rng.choice([4, 5, 5, 5, 6], (300, 100))
    samples = rng.binomial(ticks, rng.random((300, 1))) / ticks
    stored = fractions.columns(batch(samples.mean(axis=1), samples.var(axis=1)), np.ones(300, np.int64))
    assert stored["mean"].null_count == 300 and stored["variance"].null_count > 270


def test_files_of_older_releases_are_read_beside_newer_ones_and_written_anew(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    mean, variance = weighted(np.random.default_rng(3), 40)
    index = index_of(2)
    newer = write_segment(tmp_path, 1, [batch(mean[:20], variance[:20])], index, Origin())
    older = Segment(2, "000000002.parquet", 20, 0, 1, 1, 0, 2**62)
    pq.write_table(pa.Table.from_batches([batch(mean[20:], variance[20:])]), tmp_path / older.file)
    assert newer.has_fractions and not older.has_fractions
    source, files = windows_in(tmp_path, [older, newer])
    found = duck.sql(f"SELECT mean, variance FROM {source}", params=files).to_arrow_table()
    assert sorted(found["mean"].to_pylist()) == sorted(mean.tolist())
    assert sorted(found["variance"].to_pylist()) == sorted(variance.tolist())
    both = pa.Table.from_batches(merged(duck, tmp_path, [older, newer]), SCHEMA)
    assert sorted(both["mean"].to_pylist()) == sorted(mean.tolist())
    assert both["mean"].null_count == both["variance"].null_count == 0
