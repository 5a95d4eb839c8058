"""Reports of simulated hosts, as our agent and as the original's client would send them, and as InfluxDB points."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from hosts import SAMPLES, WINDOW_MS, Sampled

from contract import __version__
from contract.histogram import LINEAR
from contract.metrics import Cpu
from contract.report import AgentStatus, Report, encode

Shape = Literal["original", "agent"]
"""`original`: mean and variance; `agent`: also minimum, maximum and histogram, and the agent's own telemetry."""

_OS_VERSION = "18.04 LTS"
_SETTINGS: dict[str, str | int | float | bool | list[str]] = {
    "interval": 0.05, "samples": SAMPLES, "metrics": ["cpu"],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportedWindows:
    """Summaries by window and series (the whole host, then each core)."""

    count: int
    """Samples of each."""
    mean: list[list[float]]
    variance: list[list[float]]
    minimum: list[list[float]]
    maximum: list[list[float]]
    histogram: list[list[list[int]]]

    def __len__(self) -> int:
        return len(self.mean)


def user_name(number: int) -> str:
    """A MAC address, as the original identifies hosts."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def summarised(samples: Sampled, shape: Shape) -> ReportedWindows:
    """What an agent makes of samples: our agent weighs each by its time, the original's client none.

    Sums are as good as exact, as those of the agents are.
    """
    values = samples.utilization
    weights = samples.units if shape == "agent" else np.ones_like(values)
    total = _total(weights)
    mean = _total(values * weights) / total
    variance = _total(weights * (values - mean[..., None]) ** 2) / total
    return ReportedWindows(
        values.shape[-1],
        mean.tolist(),
        variance.tolist(),
        values.min(axis=-1).tolist(),
        values.max(axis=-1).tolist(),
        _histograms(values, weights) if shape == "agent" else [],
    )


def _total(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values.sum(axis=-1, dtype=np.longdouble).astype(float)


def _histograms(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> list[list[list[int]]]:
    """`[bin, count, ...]` by window and series: `contract.histogram.deal_out`, of all rows at once."""
    windows, series, count = values.shape
    rows = windows * series
    bins = np.where(values > 0.0, (values * LINEAR.bins).astype(np.int64) - LINEAR.first, 0).reshape(rows, count)
    places = LINEAR.last - LINEAR.first + 1
    place = (bins + np.arange(rows)[:, None] * places).ravel()
    by_bin = np.bincount(place, weights.ravel(), rows * places).reshape(rows, places)
    due = np.round(count * (by_bin.cumsum(axis=1) / by_bin.sum(axis=1)[:, None])).astype(np.int64)
    counts = np.diff(due, axis=1, prepend=0)
    row, bin_ = np.nonzero(counts)
    flat = np.column_stack([bin_ + LINEAR.first, counts[row, bin_]]).ravel().tolist()
    ends = (2 * np.count_nonzero(counts, axis=1).cumsum()).tolist()
    lists = [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [lists[place : place + series] for place in range(0, rows, series)]


def bodies(windows: ReportedWindows, user: str, ends: Iterable[int], shape: Shape) -> Iterator[bytes]:
    """The JSON of a report for each window and its end in epoch ms."""
    make = _agent_body if shape == "agent" else _original_body
    for place, end in enumerate(ends):
        yield make(windows, place, user, end)


def _agent_body(windows: ReportedWindows, place: int, user: str, end: int) -> bytes:
    """A window as our agent reports it."""
    cpu = Cpu(
        avg_utilization=windows.mean[place][0],
        var_utilization=windows.variance[place][0],
        min_utilization=windows.minimum[place][0],
        max_utilization=windows.maximum[place][0],
        histogram=windows.histogram[place][0],
        avg_utilization_by_core=windows.mean[place][1:],
        var_utilization_by_core=windows.variance[place][1:],
        min_utilization_by_core=windows.minimum[place][1:],
        max_utilization_by_core=windows.maximum[place][1:],
        histogram_by_core=windows.histogram[place][1:],
    )
    status = AgentStatus(version=__version__, cpu_seconds=31.415, resident_bytes=21_495_808, settings=_SETTINGS)
    return encode(
        Report(
            user, end - WINDOW_MS, end, windows.count, "Linux", _OS_VERSION, [cpu],
            report_id=f"{user}@{end}", agent=status,
        )
    )  # fmt: skip


def _original_body(windows: ReportedWindows, place: int, user: str, end: int) -> bytes:
    """A window as the original's client reports it, laid out as in its documented example."""
    mean, variance = windows.mean[place], windows.variance[place]
    return f"""{{
  "user_id": "{user}",
  "start_timestamp": {end - WINDOW_MS},
  "end_timestamp": {end},
  "observations_per_metric": {windows.count},
  "os_type": "Linux",
  "os_version": "{_OS_VERSION}",
  "metrics": [{{
    "type": "CPU",
    "avg_utilization": {mean[0]},
    "var_utilization": {variance[0]},
    "avg_utilization_by_core": {mean[1:]},
    "var_utilization_by_core": {variance[1:]},
    "name": "CpuUtilization"
  }}]
}}""".encode()


def ndjson(reports: Iterable[bytes]) -> bytes:
    """Reports as a body with one a line."""
    return b"\n".join(report.replace(b"\n", b"") for report in reports)


def lines(windows: ReportedWindows, user: str, ends: Iterable[int], *, count: bool = False) -> Iterator[str]:
    """The points that the original writes for the same windows: InfluxDB's line protocol, times in ms.

    With `count` there is one more field, the number of samples, without which no exact mean can be had.
    """
    tags = f"measurements,userId={user},osVersion={_OS_VERSION.replace(' ', chr(92) + ' ')},osType=Linux"
    counted = f",observations={windows.count}i" if count else ""
    for mean, variance, end in zip(windows.mean, windows.variance, ends, strict=True):
        means, variances = _cores(mean), _cores(variance)
        yield (
            f"{tags} cpuLoadAvg={mean[0]!r},cpuLoadVar={variance[0]!r},cpuCoreLoadAvgMax={max(means)!r},"
            f"cpuCoreLoadAvgMin={min(means)!r},cpuCoreLoadVarMax={max(variances)!r},cpuCoreLoadMinMin={min(variances)!r}"
            f"{counted} {end}"
        )


def _cores(values: Sequence[float]) -> Sequence[float]:
    return values[1:] or values
