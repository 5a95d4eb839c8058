"""A file of raw windows, as the catalogue lists it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Segment(NamedTuple):
    """A file of windows and what it spans."""

    id: int
    file: str
    rows: int
    bytes: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    has_names: bool = False
    """Whether its rows name their user, quantity and core, so that the catalogue can be made from it. Where not, it is
    of an older release, or has windows of a user that was forgotten, and is to be written again."""
    checksum: str | None = None
    """SHA-256 of the file as it was written, in hexadecimal; None for files of releases that did not note it."""
    form: int = 0
    """Which columns it has (`service.stores.embedded.forms`)."""
    is_settled: bool = False
    """Whether it was written with the effort for windows that hardly will be written again."""

    def may_hold(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """For each pair of a series and an end, whether the file may have that window."""
        in_series = (series >= self.first_series) & (series <= self.last_series)
        return in_series & (time >= self.first_ms) & (time <= self.last_ms)
