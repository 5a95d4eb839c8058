"""Sets of windows, each a series and a time."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Keys:
    """The pairs of a series and a time, for fast membership; some may occur twice."""

    def __init__(self, series: Ints, time: Ints) -> None:
        self._series = (int(series.min()), int(series.max())) if len(series) else (0, -1)
        self._time = (int(time.min()), int(time.max())) if len(time) else (0, -1)
        # Sorted, for the search; np.unique hashes whole numbers first, which takes ten times as long.
        self._sorted = np.sort(self._combined(series.astype(np.int64), time))

    def _combined(self, series: Ints, time: Ints) -> Ints:
        combined: Ints = (series - self._series[0]) * (self._time[1] - self._time[0] + 1) + (time - self._time[0])
        return combined

    @property
    def nbytes(self) -> int:
        """How much memory they take."""
        return self._sorted.nbytes

    def hold(self, series: Ints, time: Ints) -> npt.NDArray[np.bool_]:
        """Which of the pairs are among them."""
        inside: npt.NDArray[np.bool_] = (
            (series >= self._series[0])
            & (series <= self._series[1])
            & (time >= self._time[0])
            & (time <= self._time[1])
        )
        rows = np.flatnonzero(inside)
        if len(rows):
            wanted = self._combined(series[rows].astype(np.int64), time[rows])
            place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
            inside[rows] = self._sorted[place] == wanted
        return inside
