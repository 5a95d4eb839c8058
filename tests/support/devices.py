"""Reports of hosts that name their disks and interfaces."""

from msgspec.structs import replace

from contract.metrics import Disks, Interfaces, Metric, whole_window
from contract.report import Report, decode_report
from tests.support.reports import as_json, small

START_MS = 1_700_000_100_000
SAMPLES = 100


def disks(**busy: float) -> Disks:
    """Disks that were busy for a share of the time, and read and wrote ten and twenty times as many bytes a second."""
    shares = list(busy.values())
    numbers = max(shares, default=0.0), 10 * sum(shares), 20 * sum(shares)
    told = {
        quantity.attribute: whole_window(quantity, value, SAMPLES)
        for quantity, value in zip(Disks.quantities, numbers, strict=True)
    }
    return Disks(
        **told, devices=[*busy], busy_by_device=shares, read_bytes_by_device=[10 * one for one in shares],
        written_bytes_by_device=[20 * one for one in shares],
    )  # fmt: skip


def interfaces(**received: float) -> Interfaces:
    """Interfaces that received so many bytes a second, and sent three times as many."""
    bytes_ = list(received.values())
    told = {one.attribute: whole_window(one, sum(bytes_), SAMPLES) for one in Interfaces.quantities}
    return Interfaces(
        **told, devices=[*received], received_bytes_by_device=bytes_, sent_bytes_by_device=[3 * one for one in bytes_]
    )


def report(window: int, *metrics: Metric, user: str = "a") -> Report:
    """The window of five seconds of a number, with the CPU and some metrics."""
    one = decode_report(as_json(small(user, START_MS + 5000 * window, observations=SAMPLES)))
    return replace(one, start_timestamp=one.end_timestamp - 5000, metrics=[*one.metrics, *metrics])
