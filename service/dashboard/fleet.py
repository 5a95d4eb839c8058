"""The fleet as a picture: a heat map of as many rows as there are pixels, however many machines there are.

Neighbours in the order of machines share a row of pixels, which shows the highest of their values, so that a hot
machine is never averaged away.
"""

import contextlib
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from contract import times
from contract.metrics import NAMES, NamedMetric, Quantity
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.alerts.repository import Alert
from service.dashboard.column_means import mean_of_columns
from service.dashboard.machines import (
    Machines,
    Places,
    Selection,
    document_of,
    extremes,
    labels_of,
    machines_in,
    names_of,
    selected,
    silent,
)
from service.dashboard.matrix import FleetCache, Floats, MatrixKey, Shown, with_rows
from service.stores.base import Question, Store, StoreUnavailable

Doubles = npt.NDArray[np.float64]

MAX_ROWS, MAX_COLUMNS, PAGE = 1000, 1000, 50
_RATES: Final = tuple(
    [1000 * second for second in (1, 2, 5, 10, 15, 30)]
    + [MINUTE_MS * minute for minute in (1, 2, 5, 10, 15, 30)]
    + [HOUR_MS * hour for hour in (1, 2, 3, 6, 12)]
    + [DAY_MS * day for day in (1, 7, 28, 84, 364)]
)
_MAX_CELLS: Final = 1 << 22
"""Machines times columns that are looked at for a picture: some 100 ms of work where all of it is new."""
_MAX_ROWS: Final = 1 << 23
"""Rows of rollups that are read for it: a month of ten thousand machines by the hour."""
_SPARSE: Final = 1.5
_ABOUT: Final = 0.9
"""How far windows are apart is known to some part of a column: five minutes and a second are five minutes."""
_LATER_S: Final = 3.0
_PAUSE_S: Final = 0.05
_ENOUGH: Final = 1000
"""So many machines say whether columns are as wide as that."""
_SAMPLED: Final = 128
"""So many machines tell how far windows are apart,"""
_LOOKED_AT_MS: Final = 15 * MINUTE_MS
"""by their last windows, at first those of so long,"""
_MOST_LOOKED_AT_MS: Final = DAY_MS
"""at most those of so long."""
_SPACING_FRESH_S: Final = 300.0
_LARGE: Final = 100
"""Of fewer machines a picture takes no longer than a person notices."""
_TOLD: Final = 10
"""So many alerts are told of."""

Firing = Mapping[str, Sequence[Alert]]
"""The alerts that fire, by machine; empty: of the fleet."""


@dataclass(frozen=True, slots=True)
class PictureQuestion(Selection):
    """Which picture is wanted. Times are epoch milliseconds, the range is half-open."""

    metric: NamedMetric
    statistic: Shown
    start_ms: int
    end_ms: int
    rate_ms: int | None
    """The width of a column; None for what fits `columns` and the data."""
    columns: int
    rows: int


def picture(cache: FleetCache, asked: PictureQuestion, firing: Firing, now_ms: int) -> bytes:
    """The picture, as docs/api.md describes it. Blocks; raises StoreUnavailable."""
    with cache.lock:
        return _drawn(cache, asked, firing, now_ms)


def read_ahead(cache: FleetCache, ended: threading.Event) -> None:
    """Read what the dashboard shows first of a large fleet, the last day, so that nobody has to wait for it. Blocks.

    Then the last hour, as the finest rollup has it, and the last week, unless the service has ended.
    """
    if cache.store.user_count < _LARGE:
        return
    for length_ms, rate_ms in ((DAY_MS, None), (HOUR_MS, cache.store.tiers[0]), (7 * DAY_MS, None)):
        # Whoever asks for the first picture right after the start does not wait for the others.
        if ended.wait(0 if length_ms == DAY_MS else _LATER_S):
            return
        now_ms = times.now_ms()
        asked = PictureQuestion(
            NAMES["cpuUtilization"], "mean", now_ms - length_ms, now_ms, rate_ms, columns=400, rows=1
        )
        # Whoever asks later is told that the store is away.
        with contextlib.suppress(StoreUnavailable):
            if length_ms > DAY_MS and not _read_by_day(cache, asked, ended):
                return
            picture(cache, asked, {}, now_ms)
            for end_ms in (now_ms, now_ms // DAY_MS * DAY_MS):
                with cache.lock:
                    _usual_spacing(cache, replace(asked, end_ms=end_ms))


def _read_by_day(cache: FleetCache, asked: PictureQuestion, ended: threading.Event) -> bool:
    """Read what a picture of several days needs, a day at a time, so that nobody waits for all of it meanwhile.

    Whether it is all read: not where the service has ended.
    """
    quantity = asked.metric.quantity
    rate_ms = _rate(cache, asked, max(cache.store.user_count, 1), asked.end_ms)
    key = MatrixKey(quantity, asked.statistic, rate_ms)
    range_ms = (asked.start_ms // rate_ms * rate_ms, -(-asked.end_ms // rate_ms) * rate_ms)
    for day_ms in range(range_ms[0] // DAY_MS * DAY_MS, range_ms[1], DAY_MS):
        start_ms, end_ms = max(day_ms, range_ms[0]), min(day_ms + DAY_MS, range_ms[1])
        if ended.wait(_PAUSE_S):
            return False
        with cache.lock:
            cache.know(key)
            cache.matrix(key, start_ms, max(1, (end_ms - start_ms) // rate_ms))
            cache.totals.over(quantity, (start_ms, end_ms))
    return True


def _drawn(cache: FleetCache, asked: PictureQuestion, firing: Firing, now_ms: int) -> bytes:
    known = max(cache.store.user_count, 1)
    rate_ms = asked.rate_ms or _rate(cache, asked, known, now_ms)
    values, machines, range_ms = _read(cache, asked, rate_ms)
    coarser = _spacing(values) * rate_ms if asked.rate_ms is None else rate_ms
    if coarser > rate_ms * _SPARSE:
        # Machines report less often than that: columns would be empty between their windows.
        rate_ms = _rate_of(cache.store, coarser * _ABOUT)
        values, machines, range_ms = _read(cache, asked, rate_ms)
    columns = values.shape[1]
    alerting = frozenset(firing)
    found = selected(machines, asked, asked.metric.quantity, alerting, min(now_ms, range_ms[1]))
    states, shown = found.states, found.shown
    cells = values[machines.rows[shown]]
    finite = np.isfinite(cells)
    edges = np.linspace(0, len(shown), min(len(shown), asked.rows) + 1).astype(np.int64)
    scale = _scale(asked.metric.quantity, cells, finite)
    header = {
        "metric": asked.metric.name,
        "unit": asked.metric.quantity.unit,
        "stat": asked.statistic,
        "start": range_ms[0],
        "rate": rate_ms,
        "columns": columns,
        "rows": len(edges) - 1,
        "scale": scale,
        "edges": (edges + asked.first).tolist(),
        "labels": [machines.names[place] for place in shown[edges[:-1]]] if len(shown) else [],
        "total": len(found.ordered),
        "known": len(machines.names),
        "states": {name: int(mask.sum()) for name, mask in states.items()},
        "weighted": _listed(
            mean_of_columns(
                cache,
                MatrixKey(asked.metric.quantity, asked.statistic, rate_ms),
                range_ms[0],
                cells,
                (machines.rows[shown], machines.cores[shown]),
            )
        ),
        "reporting": finite.sum(axis=0).tolist(),
        "machines": [document_of(machines, place, states) for place in shown[:PAGE].tolist()],
        "hottest": extremes(machines, states, highest=True),
        "idlest": extremes(machines, states, highest=False),
        "silent": silent(machines, states),
        "known_labels": machines.known_labels,
        "labelled": labels_of(machines.labels[place] for place in shown[machines.is_labelled[shown]].tolist()),
        "firing": _told_of(
            firing if asked.is_everybody else {name: firing[name] for name in names_of(machines, states["alerting"])}
        ),
    }
    return _packed(header, _pixels(cells, edges, scale))


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


def _packed(header: dict[str, Any], pixels: npt.NDArray[np.uint8]) -> bytes:
    text = msgspec.json.encode(header)
    return struct.pack("<I", len(text)) + text + pixels.tobytes()


def _rate(cache: FleetCache, asked: PictureQuestion, machines: int, now_ms: int) -> int:
    """The width of a column that fits the picture, what is kept, how often machines report, and what can be read."""
    store, range_ms = cache.store, asked.end_ms - asked.start_ms
    finest_ms = store.finest_ms(asked.start_ms, now_ms)
    columns = max(1, min(asked.columns, _MAX_CELLS // machines))
    rate_ms = _rate_of(store, max(range_ms / columns, finest_ms), finest_ms, range_ms * machines)
    if machines >= _LARGE and rate_ms % store.tiers[0]:
        # Windows of all machines are much to read for a picture that then shows that they are fewer than its columns.
        coarser = _usual_spacing(cache, asked)
        if coarser > rate_ms * _SPARSE:
            rate_ms = _rate_of(store, coarser * _ABOUT, finest_ms)
    return rate_ms


def _rate_of(store: Store, least_ms: float, finest_ms: int = 1, read_ms: int = 0) -> int:
    """The least width of a column, at least so wide, that can be made of what is kept.

    Of widths that rollups have, it is one for which not too many rows are read of `read_ms` machine milliseconds: where
    a cell has several rows of a rollup, one of a coarser rollup is quicker by as much.
    """
    possible = [rate for rate in _RATES if rate >= least_ms and rate % finest_ms == 0]
    tiers = [(rate, max((tier for tier in store.tiers if rate % tier == 0), default=None)) for rate in possible]
    found = next((rate for rate, tier in tiers if tier is None or read_ms // tier <= _MAX_ROWS), None)
    return found or next((rate for rate, tier in tiers if tier == store.tiers[-1]), _RATES[-1])


def _usual_spacing(cache: FleetCache, asked: PictureQuestion) -> float:
    """How far apart in ms windows are, as some machines say at the end of the range; 0 where that is not known."""

    def looked() -> float:
        names = cache.rows.names or cache.store.users()["user_id"].tolist()
        some = frozenset(names[:: max(1, len(names) // _SAMPLED)])
        length_ms = _LOOKED_AT_MS
        while True:
            start_ms = max(0, asked.end_ms - length_ms)
            rate_ms = max(1000, length_ms // MAX_COLUMNS)
            values = cache.store.answer(
                Question(quantity=asked.metric.quantity, start_ms=start_ms // rate_ms * rate_ms, end_ms=asked.end_ms,
                         rate_ms=rate_ms, by="user", users=some, cells="mean")
            ).to_numpy()  # fmt: skip
            several = np.isfinite(values).sum(axis=1) > 1
            if length_ms >= _MOST_LOOKED_AT_MS or several.sum() * 2 >= len(values):
                return _spacing(values) * rate_ms if several.any() else 0.0
            length_ms = min(8 * length_ms, _MOST_LOOKED_AT_MS)

    # Machines may be set to report otherwise at some time: it is looked at for each day that a range ends on.
    day_ms = (asked.end_ms - 1) // DAY_MS * DAY_MS
    return cache.kept(f"spacing {asked.metric.quantity.name}", (day_ms, day_ms + DAY_MS), looked, _SPACING_FRESH_S)


def _read(cache: FleetCache, asked: PictureQuestion, rate_ms: int) -> tuple[Floats, Machines, tuple[int, int]]:
    """The values of all machines, the machines, and the range of the columns; the two are read beside each other."""
    first = asked.start_ms // rate_ms
    columns = max(1, -(-asked.end_ms // rate_ms) - first)
    range_ms = (first * rate_ms, (first + columns) * rate_ms)
    key = MatrixKey(asked.metric.quantity, asked.statistic, rate_ms)
    cache.know(key)
    with ThreadPoolExecutor(1, "picture") as beside:
        machines = beside.submit(machines_in, cache, asked.metric.quantity, range_ms)
        values = cache.matrix(key, range_ms[0], columns)
        known = machines.result()
        return with_rows(values, len(cache.rows.names)), known, range_ms


def _spacing(values: Floats) -> float:
    """How many columns lie from one window of a machine to its next, for the machine in the middle of some."""
    found = np.isfinite(values[:: max(1, len(values) // _ENOUGH)])
    counts = found.sum(axis=1)
    several = counts > 1
    if not several.any():
        return 1.0
    found, counts = found[several], counts[several]
    columns = values.shape[1]
    spans = columns - np.argmax(found, axis=1) - np.argmax(found[:, ::-1], axis=1) - 1
    return float(np.median(spans / (counts - 1)))


def _scale(quantity: Quantity, cells: Floats, finite: npt.NDArray[np.bool_]) -> float:
    if quantity.bounded or not finite.any():
        return 1.0
    return float(np.nanmax(cells)) or 1.0


def _pixels(cells: Floats, edges: Places, scale: float) -> npt.NDArray[np.uint8]:
    """A byte a pixel, row by row: 0 for no data, else 1 for nothing to 255 for `scale`."""
    if not len(cells):
        return np.empty((0, cells.shape[1]), np.uint8)
    highest = cells
    if len(edges) < len(cells) + 1:
        # One row of pixels after the other: several times as fast as `reduceat` over all of them.
        highest = np.empty((len(edges) - 1, cells.shape[1]), np.float32)
        for row, (first, last) in enumerate(pairwise(edges.tolist())):
            np.fmax.reduce(cells[first:last], axis=0, out=highest[row])
    levels = np.clip(highest * (254 / scale), 0, 254)
    return np.where(np.isnan(levels), 0, np.nan_to_num(np.rint(levels)) + 1).astype(np.uint8)


def _listed(values: Doubles) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
