"""The hosts of the fleet's picture: what is known of each, which are meant, in what order, and what they are called.

Hosts are told apart, filtered and sorted by exact statistics of their samples of the whole range.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.resampling import EVERYTHING_MS
from analytics.frames.statistics import statistic
from contract.metrics import Quantity
from contract.selectors import host_matcher
from contract.times import MINUTE_MS
from service.dashboard.matrix import FleetCache
from service.stores.base import Question

Sort = Literal["name", "mean", "p95", "max", "change", "cores", "seen"]
State = Literal["hot", "idle", "silent", "alerting"]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HOT: Final = 0.8
"""A host is hot where 5 of 100 of its samples are at or above this, as in reports."""
IDLE: Final = 0.1
"""A host is idle where 95 of 100 of its samples are below this."""
SILENT_MS: Final = 10 * MINUTE_MS
"""A host is silent that has not reported for so long."""
_STATES: Final = ("hot", "idle", "silent", "alerting")
_FRESH_S: Final = 5.0
_EXACT: Final = 15
"""Digits of a number: whoever shows fewer rounds it once, not again after us."""
_TOP: Final = 10
_MAX_VALUES: Final = 100
"""So many values of a label are named, those of most hosts: a label that tells each host apart is no choice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which hosts are shown, and in what order."""

    sort: Sort = "name"
    descending: bool = False
    text: str = ""
    """Hosts whose names hold it, whatever the case."""
    os_type: str | None = None
    label: str = ""
    """Hosts with labels, such as `role=web` (`contract.selectors`)."""
    state: State | None = None
    """None for all that reported."""
    first: int = 0
    """The place in the order of the first host that is shown,"""
    count: int | None = None
    """and how many there are; None for all."""

    @property
    def is_everybody(self) -> bool:
        """Whether it leaves nobody out who reported, whatever the order."""
        return not (self.text or self.os_type or self.label) and not self.asks_for_numbers

    @property
    def asks_for_numbers(self) -> bool:
        """Whether it depends on what hosts did, not only on what they are."""
        return bool(self.state or self.first) or self.count is not None


@dataclass(frozen=True, slots=True)
class Hosts:
    """What is known of n hosts, in order of name, and their exact statistics over a range (NaN without samples)."""

    names: list[str]
    rows: Places
    """Their rows in matrices."""
    os_type: npt.NDArray[np.object_]
    cores: npt.NDArray[np.int64]
    seen_ms: npt.NDArray[np.int64]
    labels: Sequence[Mapping[str, str]]
    mean: Doubles
    p95: Doubles
    maximum: Doubles
    change: Doubles
    """The mean less that of the range of the same length before."""
    known_labels: Mapping[str, Mapping[str, int]]
    """How many hosts have each value of a label."""
    is_labelled: Mask
    """Which have labels at all."""


def hosts_in(cache: FleetCache, quantity: Quantity, range_ms: tuple[int, int]) -> Hosts:
    """All hosts with their statistics over a range (epoch ms, half-open), but for `change`.

    Raises StoreUnavailable.
    """
    now = cache.kept(f"whole {quantity.name}", range_ms, lambda: _whole(cache, quantity, range_ms), _FRESH_S)
    known = _known(cache)
    # A host may have joined since the users were listed: it is there the next time.
    by_row = np.full((3, len(cache.rows.names)), np.nan)
    by_row[:, now[0]] = now[1:]
    mean, p95, maximum = by_row[:, known.rows]
    return replace(known, mean=mean, p95=p95, maximum=maximum)


def with_changes(cache: FleetCache, hosts: Hosts, quantity: Quantity, range_ms: tuple[int, int]) -> Hosts:
    """Hosts of a range with their `change`: the range before it is read for that. Raises StoreUnavailable."""
    before_ms = (2 * range_ms[0] - range_ms[1], range_ms[0])
    rows, means = cache.kept(f"mean {quantity.name}", before_ms, lambda: _means(cache, quantity, before_ms), _FRESH_S)
    by_row = np.full(len(cache.rows.names), np.nan)
    by_row[rows] = means
    return replace(hosts, change=hosts.mean - by_row[hosts.rows])


def _known(cache: FleetCache) -> Hosts:
    """All hosts, without statistics."""
    return cache.kept("users", (0, EVERYTHING_MS), lambda: _listed(cache), _FRESH_S)


def _listed(cache: FleetCache) -> Hosts:
    users = cache.store.users()
    names, nothing = users["user_id"].tolist(), np.full(len(users), np.nan)
    labels = users["labels"].tolist()
    return Hosts(
        names, cache.rows.of(names), users["os_type"].to_numpy(object), users["cores"].to_numpy(np.int64),
        _epoch_ms(users["last_seen"]), labels, nothing, nothing, nothing, nothing,
        labels_of(labels), np.fromiter(map(bool, labels), np.bool_, len(labels)),
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
    """Rows of hosts, and the mean, p95 and maximum of each."""
    if quantity.bounded:
        kept = cache.totals.over(quantity, range_ms)
        if kept is not None:
            return np.arange(len(kept)), kept["mean"].to_numpy(), kept["p95"].to_numpy(), kept["max"].to_numpy()
        table = cache.store.answer(replace(_question(quantity, range_ms), histograms=True, cells="totals"))
        mean, p95, maximum = (table[name].to_numpy(np.float64) for name in ("mean", "p95", "max"))
        return cache.rows.of(table.index.tolist()), mean, p95, maximum
    frame = cache.store.answer(replace(_question(quantity, range_ms), histograms=True))
    rows = cache.rows.of(frame["user"].tolist())
    return rows, statistic(frame, "mean"), statistic(frame, "p95"), statistic(frame, "max")


def _means(cache: FleetCache, quantity: Quantity, range_ms: tuple[int, int]) -> tuple[Places, Doubles]:
    """Rows of hosts, and the mean of each."""
    if range_ms[1] <= 0:
        return np.empty(0, np.int64), np.empty(0)
    table = cache.store.answer(replace(_question(quantity, range_ms), cells="mean"))
    return cache.rows.of(table.index.tolist()), table.to_numpy(np.float64)[:, 0]


@dataclass(frozen=True, slots=True)
class Selected:
    """The hosts that a selection means."""

    states: dict[str, Mask]
    """Which of the hosts that are meant are in each state: where neither a state nor a part of the order is chosen,
    of those with its text, system and label, also who has not reported; else of those that are shown."""
    ordered: Places
    """Those in its state, in its order,"""
    shown: Places
    """and the part of them that is shown."""


def selected(hosts: Hosts, wanted: Selection, quantity: Quantity, alerting: frozenset[str], until_ms: int) -> Selected:
    """The hosts that a selection means, by their statistics and what they do at a moment (epoch ms)."""
    alike = meant(hosts, text=wanted.text, os_type=wanted.os_type, label=wanted.label)
    states = states_of(hosts, quantity, alerting, until_ms, alike)
    matching = np.flatnonzero(states[wanted.state or "reporting"])
    ordered = matching[order_of(hosts, wanted.sort, wanted.descending, matching)]
    shown = ordered[wanted.first : None if wanted.count is None else wanted.first + wanted.count]
    if wanted.asks_for_numbers:
        is_shown = np.zeros(len(hosts.names), np.bool_)
        is_shown[shown] = True
        states = {name: mask & is_shown for name, mask in states.items()}
    return Selected(states, ordered, shown)


def _found(
    cache: FleetCache,
    wanted: Selection,
    quantity: Quantity,
    range_ms: tuple[int, int],
    alerting: frozenset[str],
    now_ms: int,
    *,
    changes: bool = False,
) -> tuple[Hosts, Selected]:
    """All hosts with their statistics over a range, and those of them that are meant; their `change` where asked."""
    with cache.lock:
        hosts = hosts_in(cache, quantity, range_ms)
        if changes or wanted.sort == "change":
            hosts = with_changes(cache, hosts, quantity, range_ms)
    return hosts, selected(hosts, wanted, quantity, alerting, min(now_ms, range_ms[1]))


def names_shown(
    cache: FleetCache,
    wanted: Selection,
    quantity: Quantity,
    range_ms: tuple[int, int],
    alerting: frozenset[str],
    now_ms: int,
) -> frozenset[str]:
    """The names of the hosts that a picture of the range shows. Blocks; raises StoreUnavailable.

    Where no numbers are asked for, also those that have none.
    """
    if not wanted.asks_for_numbers:
        with cache.lock:
            known = _known(cache)
        alike = meant(known, text=wanted.text, os_type=wanted.os_type, label=wanted.label)
        return frozenset(names_of(known, alike))
    hosts, found = _found(cache, wanted, quantity, range_ms, alerting, now_ms)
    return frozenset(names_of(hosts, found.shown))


@dataclass(frozen=True, slots=True)
class ListedHosts:
    """Some of the hosts that a selection means, with their statistics."""

    hosts: Hosts
    places: Places
    """Which of them, in their order."""
    states: dict[str, Mask]
    total: int
    """How many the selection means."""

    def documents(self) -> list[dict[str, Any]]:
        """What `document_of` has of each."""
        return [document_of(self.hosts, place, self.states) for place in self.places.tolist()]

    def table(self) -> pa.Table:
        """A row each: what a document has, statistics to the last bit, and null without samples."""
        hosts, places = self.hosts, self.places
        known = {"mean": hosts.mean, "p95": hosts.p95, "max": hosts.maximum, "change": hosts.change}
        is_in = np.column_stack([self.states[name][places] for name in _STATES])
        ends = np.append(0, np.cumsum(is_in.sum(axis=1))).astype(np.int32)
        words = pa.array(_STATES, pa.string()).take(pa.array(np.nonzero(is_in)[1]))
        return pa.table(
            {
                "user_id": pa.array(names_of(hosts, places), pa.string()),
                "states": pa.ListArray.from_arrays(pa.array(ends), words),
                **{name: pa.array(values[places], from_pandas=True) for name, values in known.items()},
                "cores": pa.array(hosts.cores[places], pa.int32()),
                "os_type": pa.array(hosts.os_type[places], pa.string()),
                "last_seen": pa.array(hosts.seen_ms[places]).cast(pa.timestamp("ms", "UTC")),
                "labels": pa.array(
                    [[*hosts.labels[place].items()] for place in places.tolist()], pa.map_(pa.string(), pa.string())
                ),
            }
        )


def page_of(
    cache: FleetCache,
    wanted: Selection,
    quantity: Quantity,
    range_ms: tuple[int, int],
    alerting: frozenset[str],
    now_ms: int,
    page: tuple[int, int],
) -> ListedHosts:
    """A selection's hosts from one place in their order to another. Blocks; raises StoreUnavailable."""
    hosts, found = _found(cache, wanted, quantity, range_ms, alerting, now_ms, changes=True)
    return ListedHosts(hosts, found.shown[slice(*page)], found.states, len(found.shown))


def names_of(hosts: Hosts, which: Places | Mask) -> list[str]:
    """The names of some hosts."""
    places = np.flatnonzero(which) if which.dtype == np.bool_ else which
    return [hosts.names[place] for place in places.tolist()]


def states_of(
    hosts: Hosts, quantity: Quantity, alerting: frozenset[str], until_ms: int, meant: Mask
) -> dict[str, Mask]:
    """Which of the hosts that are `meant` reported, are hot, idle, silent at a moment, and alerting."""
    seen = np.isfinite(hosts.mean)
    found = {
        "reporting": seen,
        "hot": (hosts.p95 >= HOT) & quantity.bounded,
        "idle": (hosts.p95 < IDLE) & quantity.bounded,
        "silent": hosts.seen_ms < until_ms - SILENT_MS,
        "alerting": _named(hosts, alerting),
    }
    return {name: mask & meant for name, mask in found.items()}


def _named(hosts: Hosts, names: frozenset[str]) -> Mask:
    if not names:
        return np.zeros(len(hosts.names), np.bool_)
    return np.fromiter((name in names for name in hosts.names), np.bool_, len(hosts.names))


def meant(hosts: Hosts, *, text: str = "", os_type: str | None = None, label: str = "") -> Mask:
    """The hosts whose names hold a text, that run a system, and that have labels (`contract.selectors`)."""
    count = len(hosts.names)
    kept = np.ones(count, np.bool_)
    if os_type:
        kept &= hosts.os_type == os_type
    if text:
        wanted = text.casefold()
        kept &= np.fromiter((wanted in name.casefold() for name in hosts.names), np.bool_, count)
    if label:
        matches = host_matcher([label])
        kept &= np.fromiter((matches("", labels) for labels in hosts.labels), np.bool_, count)
    return kept


def labels_of(hosts: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """How many hosts have each value of a label, by name and value, those of most hosts first."""
    counts = Counter((name, value) for labels in hosts for name, value in labels.items())
    found: dict[str, dict[str, int]] = {name: {} for name in sorted({name for name, _ in counts})}
    for (name, value), count in counts.most_common():
        if len(found[name]) < _MAX_VALUES:
            found[name][value] = count
    return found


def order_of(hosts: Hosts, sort: Sort, descending: bool, places: Places) -> Places:
    """The order of some hosts; those without the number come last either way, equals go by name."""
    if sort == "name":
        return np.arange(len(places))[:: -1 if descending else 1]
    column = {"max": hosts.maximum, "seen": hosts.seen_ms}.get(sort)
    values = np.asarray(getattr(hosts, sort) if column is None else column, np.float64)[places]
    return np.argsort(-values if descending else values, kind="stable")


def document_of(hosts: Hosts, place: int, states: dict[str, Mask]) -> dict[str, Any]:
    """A host as the picture's header has it."""
    numbers = {name: float(getattr(hosts, name)[place]) for name in ("mean", "p95", "maximum", "change")}
    return {
        "user_id": hosts.names[place],
        "os_type": hosts.os_type[place],
        "cores": int(hosts.cores[place]),
        "labels": hosts.labels[place],
        "seen": int(hosts.seen_ms[place]),
        "states": [name for name in _STATES if states[name][place]],
    } | {name: None if value != value else round(value, _EXACT) for name, value in numbers.items()}


def extremes(hosts: Hosts, states: dict[str, Mask], *, highest: bool) -> list[dict[str, Any]]:
    """The hottest hosts, or the idlest, by the 95th percentiles of their samples."""
    places = np.flatnonzero(states["reporting"])
    ordered = places[order_of(hosts, "p95", highest, places)][:_TOP]
    return [document_of(hosts, place, states) for place in ordered.tolist()]


def silent(hosts: Hosts, states: dict[str, Mask]) -> list[dict[str, Any]]:
    """Those that are silent; who was heard of last comes first, as that is news."""
    places = np.flatnonzero(states["silent"])
    ordered = places[order_of(hosts, "seen", True, places)][:_TOP]
    return [document_of(hosts, place, states) for place in ordered.tolist()]
