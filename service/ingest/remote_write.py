"""A request of Prometheus' remote write as readings: what is taken of it, what is passed over, and what is refused.

Series of metrics that are not kept (`service.ingest.node_exporter.NAMES`) are passed over, as if the sender had left
them out. Of a metric that is kept, samples that are wrong are refused and counted; the others are taken.
"""

import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from analytics.sources.prometheus_messages import PrometheusSeries, is_larger, parse, series_of
from contract.problems import shortened
from contract.selectors import MAX_USER_ID
from service.ingest.node_exporter import NAMES, SHARES, places_of
from service.ingest.scrapes import Range, ScrapedValue

MAX_SAMPLES: Final = 50_000
HOSTS: Final = ("instance", "host", "hostname", "node", "nodename", "machine", "server", "exported_instance")
"""The labels that name the host; the first of them that is there does."""
_SYSTEM: Final = "node_uname_info"
_STALE: Final = struct.pack(">Q", 0x7FF0000000000002)
"""The number that says that a series has ended: https://prometheus.io/docs/specs/prw/remote_write_spec/#stale-markers"""
_MAX_VALUE: Final = 1e18
_WRONG: Final = -1.0
_MAX_REASONS, _LONGEST_REASON = 5, 200


class TooMuch(Exception):
    """A request of more than `MAX_SAMPLES`."""


class RemoteWriteRequest:
    """What a request says."""

    def __init__(self) -> None:
        self.readings: list[ScrapedValue] = []
        self.systems: list[tuple[str, str, str]] = []
        """Hosts with the system that they run, and its release."""
        self.samples = self.histograms = self.exemplars = 0
        """How many came,"""
        self.refused: Counter[str] = Counter()
        """how many samples are not taken, by reason,"""
        self.forbidden = 0
        """and how many of them are of hosts that the sender is not for."""

    def refuse(self, samples: int, reason: str) -> None:
        """Count samples that are not taken."""
        reason = shortened(reason, _LONGEST_REASON)
        self.refused[reason if reason in self.refused or len(self.refused) < _MAX_REASONS else "others"] += samples


def read(body: bytes, message: str, within: Range, covers: Callable[[str], bool]) -> RemoteWriteRequest:
    """What a body says, of the hosts that `covers` lets in. Raises Malformed and TooMuch."""
    taken = RemoteWriteRequest()
    request = parse(body, message)
    if is_larger(request, MAX_SAMPLES):
        raise TooMuch
    for series in series_of(request):
        count = len(series.samples)
        taken.samples += count
        taken.histograms += series.histograms
        taken.exemplars += series.exemplars
        name = series.labels.get("__name__", "")
        if count and (name in NAMES or name == _SYSTEM):
            _take(name, series, within, covers, taken)
    return taken


def _take(
    name: str, series: PrometheusSeries, within: Range, covers: Callable[[str], bool], taken: RemoteWriteRequest
) -> None:
    """Take the samples of a series whose metric is kept."""
    labels, count = series.labels, len(series.samples)
    host = _host(labels)
    if host is None:
        taken.refuse(count, f"expected a host of 1 to {MAX_USER_ID} printable characters in a label such as {HOSTS[0]}")
    elif not covers(host):
        taken.forbidden += count
        taken.refuse(count, "the token is for another user id")
    elif name == _SYSTEM:
        taken.systems.append((host, labels.get("sysname", ""), labels.get("release", "")))
    else:
        try:
            places = places_of(labels)
        except ValueError as error:
            taken.refuse(count, f"{name}: {error}")
            return
        for sample in series.samples if places else ():
            value = _value(name, sample, places[0].group in SHARES, within, taken)
            taken.readings += [
                ScrapedValue(host, place, sample.timestamp, value) for place in places if value != _WRONG
            ]


def _host(labels: Mapping[str, str]) -> str | None:
    host = next((labels[label] for label in HOSTS if labels.get(label)), "")
    return host if 0 < len(host) <= MAX_USER_ID and host.isprintable() else None


def _value(name: str, sample: Any, is_share: bool, within: Range, taken: RemoteWriteRequest) -> float | None:
    """The value of a sample, None for the end of a series; `_WRONG` where it is refused."""
    value: float = sample.value
    most = 1.0 if is_share else _MAX_VALUE
    if not within.oldest_ms <= sample.timestamp <= within.newest_ms:
        taken.refuse(1, f"expected a time from {within.oldest_ms} to {within.newest_ms} ms, got {sample.timestamp}")
    elif 0.0 <= value <= most:
        return value
    elif math.isnan(value) and struct.pack(">d", value) == _STALE:
        return None
    else:
        taken.refuse(1, f"{name}: expected a number from 0 to {most:g}, got {value:g}")
    return _WRONG
