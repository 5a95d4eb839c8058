"""Histograms as bytes: what is packed is what is unpacked, in the narrowest form."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.kernel import Histograms
from analytics.frames.packing import pack, pack_one, unpack
from contract.histogram import LINEAR, LOGARITHMIC

Flat = list[int]
"""A histogram as it is sent: `[bin, count, ...]`, bins ascending."""


def flat_of(bins: st.SearchStrategy[int], counts: st.SearchStrategy[int]) -> st.SearchStrategy[Flat]:
    pairs = st.dictionaries(bins, counts, max_size=12)
    return pairs.map(lambda found: [number for bin_ in sorted(found) for number in (bin_, found[bin_])])


BYTES = flat_of(st.integers(0, 63), st.integers(1, 255))
SHORTS = flat_of(st.integers(0, 63), st.integers(1, 65_535))
WIDE = flat_of(st.integers(LOGARITHMIC.first, LOGARITHMIC.last), st.integers(1, 2**40))
EDGES = flat_of(
    st.sampled_from([-(2**31), -1, 0, 63, 255, 256, 65_535, 65_536, 2**31 - 1]),
    st.sampled_from([1, 255, 256, 65_535, 65_536, 2**62]),
)
ANY = st.lists(st.one_of(st.just([]), BYTES, SHORTS, WIDE, EDGES), max_size=20)


def histograms_of(flats: Sequence[Flat]) -> Histograms:
    entries = [(row, *pair) for row, flat in enumerate(flats) for pair in zip(flat[::2], flat[1::2], strict=True)]
    row, bin_, count = np.array(entries, np.int64).reshape(-1, 3).T
    return Histograms(row, bin_.astype(np.int32), count)


def flats_of(histograms: Histograms, rows: int) -> list[Flat]:
    flats: list[Flat] = [[] for _ in range(rows)]
    for row, bin_, count in zip(histograms.row, histograms.bin, histograms.count, strict=True):
        flats[row] += [int(bin_), int(count)]
    return flats


@given(ANY)
def test_what_is_packed_together_is_unpacked(flats: list[Flat]) -> None:
    column = pack(histograms_of(flats), len(flats))
    assert len(column) == len(flats)
    assert flats_of(unpack(column), len(flats)) == flats


@given(ANY)
def test_what_is_packed_alone_is_unpacked(flats: list[Flat]) -> None:
    column = pa.array([pack_one(flat) for flat in flats], pa.binary())
    assert flats_of(unpack(column), len(flats)) == flats


@given(ANY)
def test_both_ways_to_pack_give_the_same_bytes(flats: list[Flat]) -> None:
    assert pack(histograms_of(flats), len(flats)).to_pylist() == [pack_one(flat) for flat in flats]


@given(ANY, st.data())
def test_a_part_of_a_column_is_unpacked_by_itself(flats: list[Flat], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(flats)))
    length = data.draw(st.integers(0, len(flats) - start))
    part = pack(histograms_of(flats), len(flats)).slice(start, length)
    assert flats_of(unpack(part), length) == flats[start : start + length]


@given(ANY)
def test_rows_come_in_order(flats: list[Flat]) -> None:
    assert np.all(np.diff(unpack(pack(histograms_of(flats), len(flats))).row) >= 0)


@pytest.mark.parametrize(
    ("flat", "length"),
    [
        ([], 0),
        ([0, 1], 2),
        ([255, 255], 2),
        ([3, 7, 63, 255], 4),
        ([3, 256], 5),
        ([256, 1], 5),
        ([3, 1, 63, 65_535], 9),
        ([3, 65_536], 15),
        ([32_767, 1], 5),
        ([32_768, 1], 15),
        ([-1, 1], 5),
        ([-1, 1, 64, 300], 9),
        ([-32_768, 1], 5),
        ([-32_769, 1], 15),
        ([-1, 1, 2, 2**40], 27),
    ],
)
def test_a_histogram_takes_the_narrowest_form(flat: Flat, length: int) -> None:
    packed = pack_one(flat)
    assert len(packed) == length
    assert flats_of(unpack(pa.array([packed], pa.binary())), 1) == [flat]


def test_a_hundred_samples_of_a_share_take_at_most_two_bytes_a_bin() -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        bins, counts = np.unique([LINEAR.index(value) for value in random.random(100)], return_counts=True)
        assert len(pack_one(np.stack([bins, counts], axis=1).ravel().tolist())) == 2 * len(bins)


def test_no_rows_are_no_histograms() -> None:
    assert len(unpack(pack(Histograms.empty(), 0))) == 0
    assert len(unpack(pa.array([], pa.binary()))) == 0
    assert unpack(pa.array([b"", b""], pa.binary())).row.tolist() == []
