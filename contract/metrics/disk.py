"""DISK: bytes and operations per second over all physical disks."""

from contract.metrics.base import Distribution, Metric, Quantity

__all__ = ["Disk"]


class Disk(Metric, tag="DISK", gc=False, frozen=True, omit_defaults=True):
    """Rates between two samples, each at least 0."""

    read_bytes: Distribution
    written_bytes: Distribution
    reads: Distribution
    writes: Distribution

    quantities = (
        Quantity("disk.read_bytes", "read_bytes", "Disk bytes read", "By/s", bounded=False),
        Quantity("disk.written_bytes", "written_bytes", "Disk bytes written", "By/s", bounded=False),
        Quantity("disk.reads", "reads", "Disk read operations", "{operation}/s", bounded=False),
        Quantity("disk.writes", "writes", "Disk write operations", "{operation}/s", bounded=False),
    )
