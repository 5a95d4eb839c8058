"""Raw samples and their windows, for comparing what is merged with what was sampled."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from analytics.frames.columns import Windows
from analytics.frames.kernel import Histograms
from contract.histogram import Bins
from contract.summary import Summary

Samples = npt.NDArray[np.float64]


def windows_of(labels: Sequence[tuple[int, int]], samples: Sequence[Samples], bins: Bins) -> Windows:
    """A window for each array of samples, with its (series, time)."""
    return of_summaries(labels, [Summary.of(part.tolist(), bins) for part in samples])


def of_summaries(labels: Sequence[tuple[int, int]], summaries: Sequence[Summary]) -> Windows:
    """The columns of some summaries, with their (series, time)."""
    entries = [(row, *entry) for row, part in enumerate(summaries) for entry in sorted(part.histogram.items())]
    row, bin_, count = np.array(entries, np.int64).reshape(-1, 3).T
    return Windows(
        np.array([series for series, _ in labels], np.int64),
        np.array([time for _, time in labels], np.int64),
        np.array([part.count for part in summaries], np.int64),
        np.array([part.mean for part in summaries], np.float64),
        np.array([part.variance for part in summaries], np.float64),
        np.array([part.minimum for part in summaries], np.float64),
        np.array([part.maximum for part in summaries], np.float64),
        np.zeros(len(summaries), np.int64),
        Histograms(row, bin_.astype(np.int32), count),
    )
