"""How windows lie in files: whatever a report said is read again to the bit, from files of every release."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analytics.frames.packing import pack_one
from contract.histogram import LINEAR, flatten
from contract.summary import Summary
from service.stores.embedded import counts, forms
from service.stores.embedded.merging import merged
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import UNREADABLE, Origin, fault_of, origin_of, windows_in, write_segment
from service.stores.series import WHOLE, Series, SeriesIndex, User
from service.stores.sorted_windows import SCHEMA
from tests.support.recordings import CPU

Floats = npt.NDArray[np.float64]
WINDOW_MS = 5_000
DOUBLES = st.floats(width=64) | st.sampled_from([0.0, -0.0, 0.5, 1.0, 5e-324, 1.0 - 2**-53, 1e308])
COUNTS = st.integers(0, 2**62) | st.integers(0, 200)
HISTOGRAMS = st.dictionaries(st.integers(-1, 64), st.integers(1, 60), max_size=9) | st.dictionaries(
    st.integers(-700, 1800), st.integers(1, 2**40), max_size=9
)


def batch(
    mean: Floats,
    variance: Floats,
    count: npt.ArrayLike = 100,
    duration: npt.ArrayLike = WINDOW_MS,
    extremes: tuple[npt.ArrayLike, npt.ArrayLike] = (np.nan, np.nan),
    histograms: Sequence[bytes] | None = None,
) -> pa.RecordBatch:
    """Windows of the first series with these numbers."""
    rows = len(mean)
    columns = (
        np.ones(rows, np.int32), np.arange(1, rows + 1) * WINDOW_MS, np.broadcast_to(duration, rows).astype(np.int32),
        np.broadcast_to(count, rows).astype(np.int64), mean, variance,
        *(np.broadcast_to(one, rows).astype(float) for one in extremes),
    )  # fmt: skip
    packed = pa.array([b""] * rows if histograms is None else histograms, pa.binary())
    return pa.RecordBatch.from_arrays([*map(pa.array, columns), packed], schema=SCHEMA)


def index_of(cores: int) -> SeriesIndex:
    """The series of a host and of its cores."""
    index = SeriesIndex()
    index.users["one"] = User("one", "Linux", "12", cores, 0, 0)
    for number, core in enumerate((WHOLE, *range(cores)), 1):
        index.restore(Series(number, "one", CPU.name, core))
    return index


def sampled(rng: np.random.Generator, rows: int, cores: int = 1) -> pa.RecordBatch:
    """Windows of a host of so many cores, as our agent makes them of ticks."""
    summaries = []
    for _ in range(rows):
        ticks = np.diff(np.round(5 * np.arange(101) + rng.normal(0.0, 0.2, (cores, 101)))).astype(int).sum(axis=0)
        busy = rng.binomial(ticks, rng.random())
        summaries.append(Summary.weighted((busy / ticks).tolist(), ticks.tolist(), 100, LINEAR))
    mean, variance, low, high = (
        np.array([getattr(one, name) for one in summaries]) for name in ("mean", "variance", "minimum", "maximum")
    )
    packed = [pack_one(flatten(one.histogram)) for one in summaries]
    return batch(mean, variance, extremes=(low, high), histograms=packed)


def stored(windows: pa.RecordBatch, cores: int) -> pa.RecordBatch:
    """The same as they lie in files, of a host of so many cores."""
    columns = forms.stored(windows, np.full(len(windows), cores))
    return pa.RecordBatch.from_arrays([columns[name] for name in forms.STORED.names], schema=forms.STORED)


def assert_same(found: pa.RecordBatch, windows: pa.RecordBatch) -> None:
    """They are equal to the bit; one NaN is as good as another."""
    for name in found.schema.names:
        some, others = found[name], windows[name]
        if some.type == pa.float64():
            numbers, reported = some.to_numpy(), others.to_numpy()
            assert np.array_equal(np.isnan(numbers), np.isnan(reported)), name
            numbers, reported = numbers[~np.isnan(numbers)], reported[~np.isnan(reported)]
            assert numbers.tobytes() == reported.tobytes(), name
        else:
            assert some.equals(others), name


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


ROWS = st.lists(
    st.tuples(DOUBLES, DOUBLES, COUNTS, st.integers(-5, 2**31 - 1), DOUBLES, DOUBLES, HISTOGRAMS, st.booleans()),
    min_size=1,
    max_size=50,
)


@given(ROWS, st.integers(1, 2000))
@example([(0.5, 0.1, 70_000, WINDOW_MS, 0.0, 1.0, {-1: 70_000}, True)], 4)
@example([(-0.0, -0.0, 100, WINDOW_MS, -0.0, -0.0, {-1: 100}, True)], 1)
def test_whatever_a_report_says_is_read_again_to_the_bit(
    rows: list[tuple[float, float, int, int, float, float, dict[int, int], bool]], cores: int
) -> None:
    mean, variance, count, duration, low, high, histograms, is_right = zip(*rows, strict=True)
    counted = [
        sum(histogram.values()) if right else number
        for histogram, right, number in zip(histograms, is_right, count, strict=True)
    ]
    packed = [pack_one(flatten(histogram)) for histogram in histograms]
    windows = batch(np.array(mean), np.array(variance), counted, duration, (np.array(low), np.array(high)), packed)
    found = stored(windows, cores)
    assert_same(forms.read(found), windows)
    assert_same(forms.read(found.select(forms.needed(["time", "mean"]))), windows)
    without = forms.read(found, histograms=False)
    assert [bool(one) for one in without["histogram"].to_pylist()] == [bool(one) for one in packed]


@pytest.mark.parametrize("odd", [b"\5\50\3\50", b"\5\50\5\50", b"\5\0\6\144", b"\0\5\0\144\0"])
def test_histograms_that_nobody_would_pack_so_are_read_again_to_the_bit(odd: bytes) -> None:
    windows = batch(np.array([0.25]), np.array([0.0]), 100, histograms=[odd])
    assert_same(forms.read(stored(windows, 1)), windows)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
def test_of_windows_of_our_agent_nothing_is_kept_as_it_came(cores: int) -> None:
    windows = sampled(np.random.default_rng(cores), 300, cores)
    found = stored(windows, cores)
    assert_same(forms.read(found), windows)
    assert found["mean"].null_count == found["histogram"].null_count == 300
    assert found["variance"].null_count > 270
    # Most of what a core's numbers are made of follows from its histogram.
    if cores == 1:
        assert found["minimum"].null_count > 270 and found["maximum"].null_count > 270
        assert np.median(found["busy_rest"].to_numpy()) <= 1


def test_the_outer_bins_in_use_are_found_whatever_lies_between_them() -> None:
    random = np.random.default_rng(7)
    outer = [(low, high) for low in range(LINEAR.first, LINEAR.last + 1) for high in range(low, LINEAR.last + 1)]
    packed, expected = [], []
    for low, high in outer:
        bins = {low: 255, high: int(random.choice([1, 128, 255]))}
        bins |= dict.fromkeys(random.integers(low, high + 1, 3).tolist(), 255)
        packed.append(pack_one(flatten({bin_: bins[bin_] for bin_ in sorted(bins)})))
        expected.append((LINEAR.value(low), LINEAR.value(high), sum(bins.values())))
    lowest, highest, count = map(np.array, zip(*expected, strict=True))
    found = counts.Counts.of(pa.array(packed, pa.binary()), count)
    assert found.is_counted.all()
    in_use = counts.Outer.of(found.by_bin)
    for got, wanted in zip(found.extremes(np.zeros(len(outer), np.int64), in_use), (lowest, highest), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_windows_of_the_original_are_whole_numbers() -> None:
    rng = np.random.default_rng(2)
    ticks = rng.choice([4, 5, 5, 5, 6], (300, 100))
    samples = rng.binomial(ticks, rng.random((300, 1))) / ticks
    windows = batch(samples.mean(axis=1), samples.var(axis=1))
    found = stored(windows, 1)
    assert_same(forms.read(found), windows)
    assert found["mean"].null_count == 300 and found["variance"].null_count > 270


def test_a_bit_that_flips_in_a_footer_is_a_damaged_file(tmp_path: Path) -> None:
    written = write_segment(
        tmp_path, 1, [sampled(np.random.default_rng(6), 20)], index_of(0), Origin(after=1, through=2)
    )
    path = tmp_path / written.file
    whole = path.read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    for place in range(len(whole) - footer, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert fault_of(path, written.rows, written.checksum), f"byte {place}"
        try:
            origin_of(path)
        except UNREADABLE:
            assert fault_of(path), f"byte {place}, without what the catalogue says"


def test_any_program_reads_the_counts_of_a_file(tmp_path: Path, duck: duckdb.DuckDBPyConnection) -> None:
    windows = sampled(np.random.default_rng(5), 40)
    written = write_segment(tmp_path, 1, [windows], index_of(0), Origin())
    bins = [f"list_value({', '.join(f'counts_{word} >> {8 * byte} & 255' for byte in range(8))})" for word in range(8)]
    rows = duck.execute(
        f"SELECT list_value(count, saturated) || {' || '.join(bins)} FROM read_parquet(?) ORDER BY time",
        [str(tmp_path / written.file)],
    ).fetchall()
    expected = counts.Counts.of(windows["histogram"], windows["count"].to_numpy())
    assert [row[2:] for (row,) in rows] == expected.by_bin.tolist()
    assert [row[0] - sum(row[1:]) for (row,) in rows] == expected.idle.tolist()


def written_by_0_1(path: Path, windows: pa.RecordBatch) -> Segment:
    """A file of the first release: what came, as it came."""
    pq.write_table(pa.Table.from_batches([windows]), path)
    return Segment(int(path.stem), path.name, len(windows), 0, 1, 1, 0, 2**62)


def written_with_fractions(path: Path, windows: pa.RecordBatch) -> Segment:
    """A file of the form between: each number as a fraction, or as it came; here half of them."""
    rows = len(windows)
    half = np.arange(rows) % 2 == 0
    table = pa.Table.from_batches([windows])
    units = np.full(rows, 500)
    busy = np.rint(windows["mean"].to_numpy() * units).astype(np.int64)
    rest = windows["mean"].to_numpy() - busy / units
    kept = {"mean": pa.array(windows["mean"].to_numpy(), mask=half)}
    added = {
        "units": pa.array(units.astype(np.int32), mask=~half), "busy": pa.array(busy.astype(np.int32), mask=~half),
        "mean_rest": pa.array(rest, mask=~half), "parts": pa.nulls(rows, pa.int32()),
        "squares": pa.nulls(rows, pa.int64()), "variance_rest": pa.nulls(rows, pa.float64()),
    }  # fmt: skip
    for name, values in (kept | added).items():
        place = table.schema.get_field_index(name)
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    pq.write_table(table, path)
    return Segment(int(path.stem), path.name, rows, 0, 1, 1, 0, 2**62, form=1)


def test_files_of_older_releases_are_read_beside_newer_ones_and_written_anew(
    tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    windows = sampled(np.random.default_rng(3), 60)
    segments = [
        write_segment(tmp_path, 1, [windows[:20]], index_of(2), Origin()),
        written_with_fractions(tmp_path / "000000002.parquet", windows[20:40]),
        written_by_0_1(tmp_path / "000000003.parquet", windows[40:]),
    ]
    assert [one.form for one in segments] == [2, 1, 0]
    for one in segments:
        assert forms.form_of(pq.read_schema(tmp_path / one.file)) == one.form
    source, files = windows_in(tmp_path, segments)
    found = duck.sql(f"FROM {source} ORDER BY time", params=files).to_arrow_table()
    assert_same(forms.read(found), windows)
    (both,) = merged(duck, tmp_path, segments)
    assert_same(both, windows)
    again = write_segment(tmp_path, 4, [both], index_of(2), Origin(), forms.SETTLED)
    (anew,) = merged(duck, tmp_path, [again])
    assert_same(forms.read(anew), windows)
