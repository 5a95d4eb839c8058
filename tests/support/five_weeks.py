"""A small fleet over five weeks: windows of many sizes, two in one second, late ones, changing cores."""

import numpy as np

from contract.metrics import Disk, Memory
from contract.report import Report
from contract.times import DAY_MS
from tests.support.recordings import Host, Recording, Samples

__all__ = ["END_MS", "HOSTS", "START_MS", "batches", "record"]

START_MS = 1_706_573_000_000  # a Tuesday, 2024-01-30T00:03:20Z: on no edge but that of a second
END_MS = START_MS + 35 * DAY_MS
HOSTS = (
    Host("6a:d6:96:d3:45:35", "Linux", "12"),
    Host("build/7 'quoted'", "Linux", "13"),
    Host("zebra-\u00fc-\u4e2d", "MacOS", "13"),
    Host("no-cores", "Windows", "11"),
)


def record() -> Recording:
    """The recording; the same each time."""
    random = np.random.default_rng(2)
    recording = Recording()

    def samples(size: int) -> Samples:
        return random.beta(0.5, 1.5, size)

    def rates(size: int) -> Samples:
        return np.where(random.random(size) < 0.3, 0.0, 10 ** random.uniform(-2, 12, size))

    # Two hosts reported throughout, one ended early, one began late.
    for host, first, last, numbers in zip(
        HOSTS, (0, 0, 0.6, 0), (1, 1, 1, 0.3), ((0, 1), (0, 2, 5), (0, 1, 2, 3), ()), strict=True
    ):
        places = random.uniform(first, last, 25)
        bursts = np.repeat((START_MS + places * (END_MS - START_MS)).astype(np.int64), 3)
        # Some windows of a burst share a second, some a minute, some a quarter of an hour.
        ends = np.unique(bursts + random.integers(0, [900, 50_000, 900_000] * 25))
        for number, end in enumerate(ends.tolist()):
            size = int(random.choice([1, 2, 7, 40]))
            cores = numbers if number % 9 else numbers[:-1]  # one is offline now and then
            recording.cpu(host, end, samples(size), {core: samples(size) for core in cores})
            if number % 3 == 0:
                recording.other(host, end, Memory, {"utilization": samples(size + 1)})
                rows = {quantity.attribute: rates(size) for quantity in Disk.quantities}
                recording.other(host, end, Disk, rows)
    return recording


def batches(reports: list[Report], number: int) -> list[list[Report]]:
    """The reports in `number` batches, in an order in which many come late."""
    order = np.random.default_rng(3).permutation(len(reports))
    return [[reports[place] for place in part] for part in np.array_split(order, number)]
