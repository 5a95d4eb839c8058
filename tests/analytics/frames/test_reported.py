"""What reports did not say of their windows is filled in, and said to be approximate; what they said stays."""

import numpy as np
import pyarrow as pa

from analytics.frames.frame import histograms_of
from analytics.frames.packing import pack_one
from analytics.frames.reported import frame_of_reported
from analytics.frames.standins import standins
from contract.histogram import LINEAR, LOGARITHMIC

NAN = float("nan")
TOLD = pack_one([10, 3, 60, 7])


def frame_of(minimum: float, maximum: float, packed: bytes, *, variance: float = 0.01, bounded: bool = True):
    return frame_of_reported(
        np.array([5000]), np.array([10]), np.array([0.4]), np.array([variance]), np.array([minimum]),
        np.array([maximum]), pa.array([packed], pa.binary()), np.array([bounded]), histograms=True,
    )  # fmt: skip


def entries(frame) -> list[tuple[int, int]]:
    found = histograms_of(frame)
    return [*zip(found.bin.tolist(), found.count.tolist(), strict=True)]


def test_a_window_of_which_all_was_said_stays_as_it_is() -> None:
    frame = frame_of(0.1, 0.5, TOLD)
    assert frame[["min", "max", "approximated"]].to_numpy().tolist() == [[0.1, 0.5, 0]]
    assert entries(frame) == [(10, 3), (60, 7)]


def test_extremes_alone_that_were_not_said_are_those_of_the_outer_bins() -> None:
    for bounded, bins in ((True, LINEAR), (False, LOGARITHMIC)):
        frame = frame_of(NAN, 0.55, TOLD, bounded=bounded)
        # The mean, 0.4, lies below the outer bin of the second: then it is the minimum.
        assert frame[["min", "max", "approximated"]].to_numpy().tolist() == [[min(bins.value(10), 0.4), 0.55, 10]]
        assert entries(frame) == [(10, 3), (60, 7)]


def test_extremes_of_outer_bins_are_never_beyond_the_mean() -> None:
    low, high = LINEAR.value(25) - 0.004, LINEAR.value(25) + 0.004
    for mean in (low, high):
        frame = frame_of_reported(
            np.array([5000]), np.array([10]), np.array([mean]), np.array([1e-6]), np.array([NAN]), np.array([NAN]),
            pa.array([pack_one([25, 10])], pa.binary()), np.array([True]), histograms=True,
        )  # fmt: skip
        assert frame["min"].item() <= mean <= frame["max"].item()


def test_a_histogram_that_was_not_said_is_a_standin_between_the_extremes_that_were() -> None:
    frame = frame_of(0.1, 0.5, b"")
    mean, variance, count = np.array([0.4]), np.array([0.01]), np.array([10])
    _, _, made = standins(mean, variance, count, True, (np.array([0.1]), np.array([0.5])))
    assert frame[["min", "max", "approximated"]].to_numpy().tolist() == [[0.1, 0.5, 10]]
    assert entries(frame) == [*zip(made.bin.tolist(), made.count.tolist(), strict=True)]


def test_samples_that_are_all_alike_are_known_though_nothing_more_was_said() -> None:
    frame = frame_of(NAN, NAN, b"", variance=0.0)
    assert frame[["min", "max", "approximated"]].to_numpy().tolist() == [[0.4, 0.4, 0]]
    assert entries(frame) == [(LINEAR.index(0.4), 10)]


def test_standins_stand_in_their_own_rows_among_windows_of_which_all_was_said() -> None:
    packed = pa.array([b"", TOLD, b"", pack_one([7, 300])], pa.binary())
    four = np.ones(4)
    frame = frame_of_reported(
        np.arange(4), np.array([10, 10, 1, 300]), 0.4 * four, np.array([0.01, 0.01, 0.0, 0.0]), 0.3 * four,
        0.5 * four, packed, np.full(4, True), histograms=True,
    )  # fmt: skip
    found = histograms_of(frame)
    assert np.bincount(found.row, found.count).tolist() == [10, 10, 1, 300]
    assert frame["approximated"].tolist() == [10, 0, 0, 0]


def test_without_histograms_there_is_no_such_column() -> None:
    nothing = np.empty(0)
    none = nothing.astype(np.int64)
    for histograms in (True, False):
        frame = frame_of_reported(
            none, none, nothing, nothing, nothing, nothing, pa.array([], pa.binary()), none.astype(bool),
            histograms=histograms,
        )  # fmt: skip
        assert ("histogram" in frame) is histograms
