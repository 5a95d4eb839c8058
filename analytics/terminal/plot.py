"""Charts of a time series in block characters."""

import numpy as np
import numpy.typing as npt

__all__ = ["chart", "condensed", "sparkline"]

_BLOCKS = np.array(list(" ▁▂▃▄▅▆▇█"))


def condensed(
    time_ms: npt.NDArray[np.int64], value: npt.NDArray[np.float64], rate_ms: int, width: int
) -> npt.NDArray[np.float64]:
    """At most `width` columns of equal time, each with the highest of its values, NaN where there is none.

    The values are those of buckets of `rate_ms`, at least one. Few buckets get up to eight columns each.
    """
    bucket = (time_ms - time_ms.min()) // rate_ms
    buckets = int(bucket.max()) + 1
    columns = min(width, buckets)
    highest = np.full(columns, np.nan)
    np.fmax.at(highest, bucket * columns // buckets, value)
    return np.repeat(highest, min(8, width // columns))


def chart(columns: npt.NDArray[np.float64], top: float, height: int) -> list[str]:
    """Bars from 0 to `top`, `height` lines of text from the upper one; a gap where a column is NaN."""
    eighths = _eighths(columns, top, 8 * height)
    return ["".join(_BLOCKS[np.clip(eighths - 8 * line, 0, 8)]) for line in reversed(range(height))]


def sparkline(columns: npt.NDArray[np.float64], top: float) -> str:
    """A chart of one line."""
    return chart(columns, top, 1)[0]


def _eighths(columns: npt.NDArray[np.float64], top: float, full: int) -> npt.NDArray[np.int64]:
    share = np.nan_to_num(columns / top) if top > 0 else np.zeros(len(columns))
    # A value of 0 is shown as the lowest block: only where there is no value is there nothing.
    return np.where(np.isnan(columns), 0, np.clip(np.rint(share * full), 1, full)).astype(np.int64)
