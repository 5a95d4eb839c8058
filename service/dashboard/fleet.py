"""The fleet as a picture: a heat map of as many rows as there are pixels, however many machines there are.

Machines are filtered and sorted by exact statistics of the whole range. Neighbours in that order share a row of pixels,
which shows the highest of their values, so that a hot machine is never averaged away.
"""

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from analytics.frames.resampling import EVERYTHING_MS
from analytics.frames.statistics import statistic
from contract.metrics import NamedMetric, Quantity
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.dashboard.column_means import mean_of_columns
from service.dashboard.matrix import FleetCache, Floats, MatrixKey, Shown
from service.stores.base import Question, Store

Sort = Literal["name", "mean", "p95", "max", "change", "cores", "seen"]
State = Literal["hot", "idle", "silent", "alerting"]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

HOT: Final = 0.8
"""A machine is hot where 5 of 100 of its samples are at or above this, as in reports."""
IDLE: Final = 0.1
"""A machine is idle where 95 of 100 of its samples are below this."""
SILENT_MS: Final = 10 * MINUTE_MS
"""A machine is silent that has not reported for so long."""
MAX_ROWS, MAX_COLUMNS, PAGE = 1000, 1000, 50
_RATES: Final = tuple(
    [1000 * second for second in (1, 2, 5, 10, 15, 30)]
    + [MINUTE_MS * minute for minute in (1, 2, 5, 10, 15, 30)]
    + [HOUR_MS * hour for hour in (1, 2, 3, 6, 12)]
    + [DAY_MS * day for day in (1, 7, 28, 84, 364)]
)
_MAX_CELLS: Final = 1 << 22
"""Machines times columns that are looked at for a picture: some 100 ms of work where all of it is new."""
_FRESH_S: Final = 5.0
_TOP: Final = 10
_SPARSE: Final = 1.5


@dataclass(frozen=True, slots=True)
class PictureQuestion:
    """Which picture is wanted. Times are epoch milliseconds, the range is half-open."""

    metric: NamedMetric
    statistic: Shown
    start_ms: int
    end_ms: int
    rate_ms: int | None
    """The width of a column; None for what fits `columns` and the data."""
    columns: int
    rows: int
    sort: Sort = "name"
    descending: bool = False
    text: str = ""
    """Machines whose names hold it, whatever the case."""
    os_type: str | None = None
    state: State | None = None
    first: int = 0
    """The place in the order of the first machine that is shown,"""
    count: int | None = None
    """and how many there are; None for all."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What is known of n machines, in order of name, and their exact statistics over a range (NaN without samples)."""

    names: list[str]
    rows: Places
    """Their rows in matrices."""
    os_type: npt.NDArray[np.object_]
    cores: npt.NDArray[np.int64]
    seen_ms: npt.NDArray[np.int64]
    mean: Doubles
    p95: Doubles
    maximum: Doubles
    change: Doubles
    """The mean less that of the range of the same length before."""


def picture(cache: FleetCache, asked: PictureQuestion, alerting: frozenset[str], now_ms: int) -> bytes:
    """The picture, as docs/api.md describes it. Blocks; raises StoreUnavailable."""
    with cache.lock:
        return _drawn(cache, asked, alerting, now_ms)


def _drawn(cache: FleetCache, asked: PictureQuestion, alerting: frozenset[str], now_ms: int) -> bytes:
    known = max(cache.store.user_count, 1)
    rate_ms = asked.rate_ms or _rate(cache.store, asked, known, now_ms)
    values, first = _values(cache, asked, rate_ms)
    coarser = _spacing(values) * rate_ms if asked.rate_ms is None else rate_ms
    if coarser > rate_ms * _SPARSE:
        # Machines report less often than that: columns would be empty between their windows.
        rate_ms = next((rate for rate in _RATES if rate >= coarser), _RATES[-1])
        values, first = _values(cache, asked, rate_ms)
    columns = values.shape[1]
    range_ms = (first * rate_ms, (first + columns) * rate_ms)
    machines = _machines(cache, asked.metric.quantity, range_ms)
    states = _states(machines, asked, alerting, min(now_ms, asked.end_ms))
    matching = _matching(machines, asked, states)
    ordered = matching[_order(machines, asked.sort, asked.descending, matching)]
    shown = ordered[asked.first : None if asked.count is None else asked.first + asked.count]
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
        "total": len(ordered),
        "known": len(machines.names),
        "states": {name: int(mask.sum()) for name, mask in states.items()},
        "weighted": _listed(
            mean_of_columns(
                cache,
                MatrixKey(asked.metric.quantity, asked.statistic, rate_ms, columns),
                range_ms[0],
                cells,
                (machines.rows[shown], machines.cores[shown]),
            )
        ),
        "reporting": finite.sum(axis=0).tolist(),
        "machines": [_machine(machines, place, states) for place in shown[:PAGE].tolist()],
        "hottest": _extremes(machines, states, highest=True),
        "idlest": _extremes(machines, states, highest=False),
        "silent": _silent(machines, states),
    }
    return _packed(header, _pixels(cells, edges, scale))


def _packed(header: dict[str, Any], pixels: npt.NDArray[np.uint8]) -> bytes:
    text = msgspec.json.encode(header)
    return struct.pack("<I", len(text)) + text + pixels.tobytes()


def _rate(store: Store, asked: PictureQuestion, machines: int, now_ms: int) -> int:
    finest_ms = store.finest_ms(asked.start_ms, now_ms)
    columns = max(1, min(asked.columns, _MAX_CELLS // machines))
    wanted_ms = max((asked.end_ms - asked.start_ms) / columns, finest_ms)
    return next((rate for rate in _RATES if rate >= wanted_ms and rate % finest_ms == 0), _RATES[-1])


def _values(cache: FleetCache, asked: PictureQuestion, rate_ms: int) -> tuple[Floats, int]:
    """The values of all machines, and the number of the first column."""
    first = asked.start_ms // rate_ms
    columns = max(1, -(-asked.end_ms // rate_ms) - first)
    key = MatrixKey(asked.metric.quantity, asked.statistic, rate_ms, columns)
    return cache.matrix(key, first * rate_ms), first


def _spacing(values: Floats) -> float:
    """How many columns lie from one window of a machine to its next, for the machine in the middle."""
    found = np.isfinite(values)
    counts = found.sum(axis=1)
    several = counts > 1
    if not several.any():
        return 1.0
    found, counts = found[several], counts[several]
    columns = values.shape[1]
    spans = columns - np.argmax(found, axis=1) - np.argmax(found[:, ::-1], axis=1) - 1
    return float(np.median(spans / (counts - 1)))


def _machines(cache: FleetCache, quantity: Quantity, range_ms: tuple[int, int]) -> Machines:
    start_ms, end_ms = range_ms
    before_ms = (2 * start_ms - end_ms, start_ms)
    now = cache.kept(f"whole {quantity.name}", range_ms, lambda: _whole(cache, quantity, range_ms), _FRESH_S)
    before = cache.kept(f"mean {quantity.name}", before_ms, lambda: _means(cache, quantity, before_ms), _FRESH_S)
    known = cache.kept("users", (0, EVERYTHING_MS), lambda: _known(cache), _FRESH_S)
    # A machine may have joined since the users were listed: it is there the next time.
    by_row = np.full((4, len(cache.rows.names)), np.nan)
    by_row[:3, now[0]] = now[1:]
    by_row[3, before[0]] = before[1]
    mean, p95, maximum, mean_before = by_row[:, known.rows]
    return replace(known, mean=mean, p95=p95, maximum=maximum, change=mean - mean_before)


def _known(cache: FleetCache) -> Machines:
    """All machines, without statistics."""
    users = cache.store.users()
    names, nothing = users["user_id"].tolist(), np.full(len(users), np.nan)
    return Machines(
        names, cache.rows.of(names), users["os_type"].to_numpy(object), users["cores"].to_numpy(np.int64),
        _epoch_ms(users["last_seen"]), nothing, nothing, nothing, nothing,
    )  # fmt: skip


def _epoch_ms(moments: Any) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = moments.dt.as_unit("ms").astype("int64").to_numpy()
    return values


def _question(quantity: Quantity, range_ms: tuple[int, int]) -> Question:
    start_ms, end_ms = range_ms
    return Question(
        quantity=quantity, start_ms=max(0, start_ms), end_ms=max(0, end_ms), rate_ms=EVERYTHING_MS, by="user"
    )


def _whole(
    cache: FleetCache, quantity: Quantity, range_ms: tuple[int, int]
) -> tuple[Places, Doubles, Doubles, Doubles]:
    """Rows of machines, and the mean, p95 and maximum of each."""
    frame = cache.store.answer(replace(_question(quantity, range_ms), histograms=True))
    rows = cache.rows.of(frame["user"].tolist())
    return rows, statistic(frame, "mean"), statistic(frame, "p95"), statistic(frame, "max")


def _means(cache: FleetCache, quantity: Quantity, range_ms: tuple[int, int]) -> tuple[Places, Doubles]:
    """Rows of machines, and the mean of each."""
    if range_ms[1] <= 0:
        return np.empty(0, np.int64), np.empty(0)
    table = cache.store.answer(replace(_question(quantity, range_ms), cells="mean"))
    return cache.rows.of(table.index.tolist()), table.to_numpy(np.float64)[:, 0]


def _states(
    machines: Machines, asked: PictureQuestion, alerting: frozenset[str], until_ms: int
) -> dict[str, npt.NDArray[np.bool_]]:
    seen = np.isfinite(machines.mean)
    bounded = asked.metric.quantity.bounded
    return {
        "reporting": seen,
        "hot": (machines.p95 >= HOT) & bounded,
        "idle": (machines.p95 < IDLE) & bounded,
        "silent": machines.seen_ms < until_ms - SILENT_MS,
        "alerting": _named(machines, alerting),
    }


def _named(machines: Machines, names: frozenset[str]) -> npt.NDArray[np.bool_]:
    if not names:
        return np.zeros(len(machines.names), np.bool_)
    return np.fromiter((name in names for name in machines.names), np.bool_, len(machines.names))


def _matching(machines: Machines, asked: PictureQuestion, states: dict[str, npt.NDArray[np.bool_]]) -> Places:
    kept = states[asked.state] if asked.state else states["reporting"]
    if asked.os_type:
        kept = kept & (machines.os_type == asked.os_type)
    if asked.text:
        text = asked.text.casefold()
        held = (text in name.casefold() for name in machines.names)
        kept = kept & np.fromiter(held, np.bool_, len(machines.names))
    return np.flatnonzero(kept)


def _order(machines: Machines, sort: Sort, descending: bool, places: Places) -> Places:
    """The order of some machines; those without the number come last either way, equals go by name."""
    if sort == "name":
        return np.arange(len(places))[:: -1 if descending else 1]
    column = {"max": machines.maximum, "seen": machines.seen_ms}.get(sort)
    values = np.asarray(getattr(machines, sort) if column is None else column, np.float64)[places]
    return np.argsort(-values if descending else values, kind="stable")


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
    return [None if value != value else round(value, 6) for value in values.tolist()]


def _machine(machines: Machines, place: int, states: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
    numbers = {name: float(getattr(machines, name)[place]) for name in ("mean", "p95", "maximum", "change")}
    return {
        "user_id": machines.names[place],
        "os_type": machines.os_type[place],
        "cores": int(machines.cores[place]),
        "seen": int(machines.seen_ms[place]),
        "states": [name for name in ("hot", "idle", "silent", "alerting") if states[name][place]],
    } | {name: None if value != value else round(value, 6) for name, value in numbers.items()}


def _extremes(machines: Machines, states: dict[str, npt.NDArray[np.bool_]], *, highest: bool) -> list[dict[str, Any]]:
    places = np.flatnonzero(states["reporting"])
    ordered = places[_order(machines, "p95", highest, places)][:_TOP]
    return [_machine(machines, place, states) for place in ordered.tolist()]


def _silent(machines: Machines, states: dict[str, npt.NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Those that were heard of last come first: they are news."""
    places = np.flatnonzero(states["silent"])
    ordered = places[_order(machines, "seen", True, places)][:_TOP]
    return [_machine(machines, place, states) for place in ordered.tolist()]
