"""The fleet as a picture: a heat map of as many rows as there are pixels, however many hosts there are.

Neighbours in the order of hosts share a row of pixels, which shows the highest of their values, so that a hot
host is never averaged away.
"""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract.metrics import Quantity
from service.alerts.repository import Alert
from service.dashboard.column_means import mean_of_columns
from service.dashboard.columns import (
    ABOUT,
    SPARSE,
    PictureQuestion,
    counted_range,
    fitting_ms,
    rate_of,
    spacing,
)
from service.dashboard.hosts import (
    Hosts,
    Places,
    Selected,
    document_of,
    extremes,
    hosts_in,
    labels_of,
    names_of,
    selected,
    silent,
    with_changes,
)
from service.dashboard.matrix import FleetCache, Floats, MatrixKey, with_rows

Doubles = npt.NDArray[np.float64]

MAX_ROWS, PAGE = 1000, 50
_TOLD: Final = 10
"""So many alerts are told of."""

Firing = Mapping[str, Sequence[Alert]]
"""The alerts that fire, by host; empty: of the fleet."""


def picture(cache: FleetCache, asked: PictureQuestion, firing: Firing, now_ms: int) -> bytes:
    """The picture, as docs/api.md describes it. Blocks; raises StoreUnavailable."""
    with cache.lock:
        return _read(cache, asked, firing, now_ms).whole()


def picture_in_parts(cache: FleetCache, asked: PictureQuestion, firing: Firing, now_ms: int) -> Iterator[bytes]:
    """The picture in two parts: what can be drawn, and what else is said of the hosts that are shown.

    Each blocks; raises StoreUnavailable.
    """
    with cache.lock:
        read = _read(cache, asked, firing, now_ms)
        drawn = read.drawn()
    yield drawn
    # Nobody may come for the next part: nothing is held while this waits.
    with cache.lock:
        tables = msgspec.json.encode(read.tables())
    yield tables


@dataclass(frozen=True, slots=True)
class _Picture:
    """What a picture is made of."""

    cache: FleetCache
    asked: PictureQuestion
    firing: Firing
    rate_ms: int
    hosts: Hosts
    found: Selected
    values: Floats
    """A row for each host, as `cache` has them."""
    counted_ms: tuple[int, int]
    """What the statistics of hosts are over; columns that begin before it or end behind it are shown whole."""

    @property
    def start_ms(self) -> int:
        """Where its columns begin."""
        return self.asked.start_ms // self.rate_ms * self.rate_ms

    def drawn(self) -> bytes:
        """Its pixels, and what they are."""
        return self._packed({})

    def whole(self) -> bytes:
        """The same, and what else is said of the hosts. Raises StoreUnavailable."""
        return self._packed(self.tables())

    def _packed(self, tables: dict[str, Any]) -> bytes:
        shown = self.found.shown
        # The places of the hosts that rows of pixels begin with, and that behind the last.
        edges = np.linspace(0, len(shown), min(len(shown), self.asked.rows) + 1).astype(np.int64)
        highest = _highest(self.values, self.hosts.rows[shown], edges)
        scale = _scale(self.asked.metric.quantity, highest)
        header = {
            "metric": self.asked.metric.name,
            "unit": self.asked.metric.quantity.unit,
            "stat": self.asked.statistic,
            "start": self.start_ms,
            "rate": self.rate_ms,
            "columns": self.values.shape[1],
            "counted": self.counted_ms,
            "rows": len(edges) - 1,
            "scale": scale,
            "edges": (edges + self.asked.first).tolist(),
            "labels": [self.hosts.names[place] for place in shown[edges[:-1]].tolist()] if len(shown) else [],
            "total": len(self.found.ordered),
            "known": len(self.hosts.names),
        }
        text = msgspec.json.encode(header | tables)
        return struct.pack("<I", len(text)) + text + _pixels(highest, scale).tobytes()

    def tables(self) -> dict[str, Any]:
        """What else is said of the hosts that are shown. Raises StoreUnavailable."""
        asked, states, shown = self.asked, self.found.states, self.found.shown
        cells = self.values[self.hosts.rows[shown]]
        hosts = with_changes(self.cache, self.hosts, asked.metric.quantity, self.counted_ms)
        weighted = mean_of_columns(
            self.cache,
            MatrixKey(asked.metric.quantity, asked.statistic, self.rate_ms),
            self.start_ms,
            cells,
            (hosts.rows[shown], hosts.cores[shown]),
        )
        firing = self.firing
        return {
            "states": {name: int(mask.sum()) for name, mask in states.items()},
            "weighted": _listed(weighted),
            "reporting": np.isfinite(cells).sum(axis=0).tolist(),
            "machines": [document_of(hosts, place, states) for place in shown[:PAGE].tolist()],
            "hottest": extremes(hosts, states, highest=True),
            "idlest": extremes(hosts, states, highest=False),
            "silent": silent(hosts, states),
            "known_labels": hosts.known_labels,
            "labelled": labels_of(hosts.labels[place] for place in shown[hosts.is_labelled[shown]].tolist()),
            "firing": _told_of(
                firing if asked.is_everybody else {name: firing[name] for name in names_of(hosts, states["alerting"])}
            ),
        }


def _read(cache: FleetCache, asked: PictureQuestion, firing: Firing, now_ms: int) -> _Picture:
    """All that is read for a picture's pixels."""
    known = max(cache.store.user_count, 1)
    rate_ms = asked.rate_ms or fitting_ms(cache, asked, known, now_ms)
    counted_ms = counted_range(cache, asked, now_ms)
    values, hosts = _values(cache, asked, rate_ms, counted_ms)
    coarser = spacing(values) * rate_ms if asked.rate_ms is None else rate_ms
    if coarser > rate_ms * SPARSE:
        # Hosts report less often than that: columns would be empty between their windows.
        rate_ms = rate_of(cache.store, coarser * ABOUT)
        values, hosts = _values(cache, asked, rate_ms, counted_ms)
    found = selected(hosts, asked, asked.metric.quantity, frozenset(firing), min(now_ms, asked.end_ms))
    return _Picture(cache, asked, firing, rate_ms, hosts, found, values, counted_ms)


def _values(
    cache: FleetCache, asked: PictureQuestion, rate_ms: int, counted_ms: tuple[int, int]
) -> tuple[Floats, Hosts]:
    """The values of all hosts, and the hosts; the two are read beside each other."""
    first = asked.start_ms // rate_ms
    columns = max(1, -(-asked.end_ms // rate_ms) - first)
    quantity = asked.metric.quantity
    key = MatrixKey(quantity, asked.statistic, rate_ms)
    cache.know(key)
    with ThreadPoolExecutor(1, "picture") as beside:
        reading = beside.submit(hosts_in, cache, quantity, counted_ms)
        values = cache.matrix(key, first * rate_ms, columns)
        hosts = reading.result()
    if asked.sort == "change":
        hosts = with_changes(cache, hosts, quantity, counted_ms)
    return with_rows(values, len(cache.rows.names)), hosts


def _told_of(firing: Firing) -> dict[str, Any]:
    """How many alerts fire, of which rules, and the newest."""
    alerts = sorted((alert for some in firing.values() for alert in some), key=lambda alert: -alert.id)
    return {
        "total": len(alerts),
        "rules": dict(Counter(alert.rule for alert in alerts).most_common()),
        "alerts": [
            {
                "id": alert.id,
                "rule": alert.rule,
                "user": alert.user,
                "severity": alert.severity,
                "fired": alert.fired_ms,
            }
            for alert in alerts[:_TOLD]
        ],
    }


def _highest(values: Floats, rows: Places, edges: Places) -> Floats:
    """The highest value of the hosts of each row of pixels in each column; NaN where none has one."""
    if len(edges) > len(rows):
        return values[rows]
    # One row of pixels after the other: several times as fast as `reduceat` over all of them.
    highest = np.empty((len(edges) - 1, values.shape[1]), np.float32)
    for row, (first, last) in enumerate(pairwise(edges.tolist())):
        np.fmax.reduce(values[rows[first:last]], axis=0, out=highest[row])
    return highest


def _scale(quantity: Quantity, highest: Floats) -> float:
    """The value of the highest level."""
    if quantity.bounded or not np.isfinite(highest).any():
        return 1.0
    return float(np.nanmax(highest)) or 1.0


def _pixels(highest: Floats, scale: float) -> npt.NDArray[np.uint8]:
    """A byte a pixel, row by row: 0 for no data, else 1 for nothing to 255 for `scale`."""
    levels = np.clip(highest * (254 / scale), 0, 254)
    return np.where(np.isnan(levels), 0, np.nan_to_num(np.rint(levels)) + 1).astype(np.uint8)


def _listed(values: Doubles) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
