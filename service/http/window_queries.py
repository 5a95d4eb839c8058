"""Windows themselves: what is asked, and the answer in pieces small enough for memory."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from falcon.asgi import Request
from msgspec import Struct

from analytics.frames.exchange import schema_of, table_of
from analytics.frames.resampling import RAW_MS
from analytics.frames.weights import Weight
from contract import times
from contract.devices import Names
from contract.metrics import NamedMetric
from contract.times import DAY_MS, format_duration, parse_timestamp, wrong_end
from service.dashboard.hosts import Selection
from service.http.buckets import check_kept, fitting_rate
from service.http.listing import take_selection
from service.http.parameters import FleetWindowsParameters, UserWindowsParameters, names_of
from service.http.queries import core_number, device_name, devices_of, named_metric
from service.http.requests import Parameters, duration
from service.http.table_query import user_patterns
from service.http.weighing import PieceWeights, a_weight, with_cores
from service.stores.base import Question, Store

MAX_WINDOWS = 20_000_000
"""What one answer may hold: a fleet of 10,000 for a month at 30 minutes, or a host's windows of three years."""
EACH = "each"
"""In place of a core's number or a device's name: the host, and each that it has."""
_SHORTEST_MS = 5000
"""Between two windows of one host, as agents report them."""
_DEFAULT_RATE_MS = 15 * 60 * 1000


class WindowsQuery(Struct, frozen=True, kw_only=True):
    """A checked query. Times are epoch milliseconds, the range is half-open."""

    metric: NamedMetric
    start_ms: int
    end_ms: int
    rate_ms: int
    core: int | Literal["each"] | None
    """One core, the host and each of its cores, or the host alone; where a `device` is named its number."""
    by_user: bool
    histograms: bool
    device: str | None = None
    """One disk or interface by its name, or `EACH` for the host and each of them, of metrics that name them."""
    weight: Weight = "samples"
    """How users count in what is said of all together."""
    users: tuple[str, ...] = ()
    """Of the fleet: patterns of those that are meant; none for everybody."""
    selection: Selection = Selection()
    """Of the fleet: of these, the hosts that a picture of the range shows."""

    @property
    def weighs(self) -> bool:
        """Whether users are put together otherwise than by their samples."""
        return self.weight != "samples" and not self.by_user

    @property
    def tells_cores(self) -> bool:
        """Whether each window of a host says how many cores it had."""
        return self.weight == "cores" and self.by_user

    @property
    def window_ms(self) -> int:
        """How far apart the windows of a series are expected."""
        return _SHORTEST_MS if self.rate_ms == RAW_MS else self.rate_ms


async def read_windows_query(req: Request, store: Store, *, fleet: bool) -> WindowsQuery:
    """The query of a request to `store`.

    Missing members get their defaults: CPU utilization, the day before now, 15 minutes, the whole host or all
    together, without histograms. Raises ProblemError (422, 404 for an unknown metric, 400 for a body that is no
    object) that names the wrong member.
    """
    asked = await Parameters.read(req, names_of(FleetWindowsParameters if fleet else UserWindowsParameters), ("user",))
    now_ms = times.now_ms()
    metric = named_metric(asked.take("metric", _text, "cpuUtilization"))
    if metric.over_cores:
        asked.refuse("metric", f"{metric.name} compares cores: core=each with cpuUtilization has their windows")
    end_ms = asked.take("end", parse_timestamp, now_ms)
    query = WindowsQuery(
        metric=metric,
        start_ms=asked.take("start", parse_timestamp, end_ms - DAY_MS),
        end_ms=end_ms,
        rate_ms=asked.take("resample_rate", _rate, _DEFAULT_RATE_MS),
        core=asked.take("core", lambda value: _core(value, metric), None),
        device=asked.take("device", lambda value: device_name(value, metric), None),
        by_user=asked.take("by", _by, False),
        histograms=asked.take("histograms", _flag, False),
        weight=asked.take("weight", a_weight, "samples"),
        users=asked.take("user", user_patterns, ()),
        selection=Selection(**take_selection(req, asked)) if fleet else Selection(),
    )
    if query.end_ms < query.start_ms:
        asked.refuse("end", wrong_end(query.start_ms, query.end_ms, may_be_empty=True))
    if not asked.refused:
        check_kept(asked, store, query.start_ms, query.rate_ms, now_ms)
    asked.check()
    return query


def check_size(asked: WindowsQuery, series: int) -> None:
    """Raise ProblemError 422 where `series` series would have more than `MAX_WINDOWS` windows."""
    range_ms = asked.end_ms - asked.start_ms
    expected = series * -(-range_ms // asked.window_ms)
    if expected > MAX_WINDOWS:
        shown = "raw" if asked.rate_ms == RAW_MS else format_duration(asked.rate_ms)
        problems = Parameters({}, "")
        problems.refuse(
            "resample_rate",
            f"{shown} makes up to {expected} windows of this range; at most {MAX_WINDOWS} are answered: "
            f"{fitting_rate(range_ms, MAX_WINDOWS // series)}",
        )
        problems.check()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected the name of a metric, such as cpuUtilization, got {value!r}")
    return value


def _rate(value: Any) -> int:
    return RAW_MS if value == "raw" else duration(value)


def _core(value: Any, metric: NamedMetric) -> int | Literal["each"]:
    if value == "each" and metric.by_core:
        return "each"
    return core_number(value, metric)


def _by(value: Any) -> bool:
    if value != "user":
        raise ValueError(f"expected user, or nothing for all together, got {value!r}")
    return True


def _flag(value: Any) -> bool:
    if value in (True, "true", "1"):
        return True
    if value in (False, "false", "0"):
        return False
    raise ValueError(f"{value!r} is neither true nor false")


_PIECE_WINDOWS = 1 << 17
"""Windows in a piece: some 10 MB, with histograms up to 50 MB while they are merged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a question is answered: ranges one after the other, each at once."""

    query: WindowsQuery
    user_id: str | None
    series: int
    """How many series are read."""
    users: frozenset[str] | None = None
    """Of the fleet: those that are meant; None for everybody."""
    told: list[PieceWeights] = field(default_factory=list)
    """The weights of the answer, as soon as they are told."""
    seams: Sequence[int] = ()
    """Moments where it is best cut, ascending."""

    def along(self, store: Store) -> "Plan":
        """The same, cut where that spares the store to read anything twice."""
        query = self.query
        if query.rate_ms != RAW_MS or self.user_id is None:
            return self
        seams = (
            moment for question in self._questions(query.start_ms, query.end_ms) for moment in store.seams(question)
        )
        return replace(self, seams=sorted({*seams}))

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answer; its metadata say the metric, its unit and how many pieces come."""
        query = self.query
        schema = schema_of(
            users=query.by_user, cores=query.core is not None and query.device is None,
            devices=query.device is not None, histograms=query.histograms, sizes=query.tells_cores,
        )  # fmt: skip
        pieces = str(len(self.ranges()))
        metric = query.metric
        return schema.with_metadata({"metric": metric.name, "unit": metric.quantity.unit, "pieces": pieces})

    def ranges(self) -> Sequence[tuple[int, int]]:
        """The pieces of [start, end), cut at edges of buckets."""
        query = self.query
        width_ms = max(1, _PIECE_WINDOWS // self.series) * query.window_ms
        edge = query.start_ms // query.rate_ms * query.rate_ms + width_ms
        edges = [query.start_ms]
        while edge < query.end_ms:
            # As near as possible, but no further than another piece away.
            near = bisect_right(self.seams, edge + width_ms)
            if near and self.seams[near - 1] > edges[-1]:
                edge = self.seams[near - 1]
            if edge >= query.end_ms:
                break
            edges.append(edge)
            edge += width_ms
        return [*pairwise([*edges, query.end_ms])]

    def answer(self, store: Store, start_ms: int, end_ms: int) -> pa.Table:
        """The windows of one piece, sorted by user, core (the whole host first) and time."""
        if self.query.weighs:
            [question] = self._questions(start_ms, end_ms)
            return table_of(self._weights(store).together(question), self.schema)
        if self.query.tells_cores:
            [question] = self._questions(start_ms, end_ms)
            return table_of(with_cores(store.answer(question), store, question), self.schema)
        frames = [store.answer(question) for question in self._questions(start_ms, end_ms)]
        if EACH in (self.query.core, self.query.device):
            whole, cores = frames
            frames = [whole.assign(core=pd.array([pd.NA] * len(whole), "Int64")), cores]
        if self.query.device is not None:
            frames = [self._with_devices(store, frame) for frame in frames]
        return pa.concat_tables([table_of(frame, self.schema) for frame in frames])

    def _with_devices(self, store: Store, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame with the names of devices in the place of their numbers, which stores have as those of cores."""
        assert self.user_id is not None
        names = Names(devices_of(store, self.user_id, self.query.metric.quantity))
        told = [None if pd.isna(number) else names[number] for number in frame["core"]]
        in_order = sorted(range(len(told)), key=lambda row: told[row] or "")
        named = frame.assign(device=pd.array(told, dtype="str")).drop(columns="core")
        return named if in_order == [*range(len(told))] else named.iloc[in_order]

    def _weights(self, store: Store) -> PieceWeights:
        """The weights of all pieces, told of the whole range by the first."""
        if not self.told:
            [question] = self._questions(self.query.start_ms, self.query.end_ms)
            self.told.append(PieceWeights(store, replace(question, by="user"), self.query.weight))
        return self.told[0]

    @property
    def _cores(self) -> Sequence[int | Literal["whole", "each"]]:
        """Whose windows are asked for, one after the other."""
        query = self.query
        if EACH in (query.core, query.device):
            return "whole", "each"
        return ("whole" if query.core is None else query.core,)

    def caveat(self, store: Store) -> str | None:
        """What the answer lacks for damage on disk, as far as is known; None where it lacks nothing."""
        questions = self._questions(self.query.start_ms, self.query.end_ms)
        return next((caveat for question in questions if (caveat := store.caveat(question))), None)

    def _questions(self, start_ms: int, end_ms: int) -> Iterator[Question]:
        query = self.query
        for cores in self._cores:
            yield Question(
                quantity=query.metric.quantity,
                start_ms=start_ms,
                end_ms=end_ms,
                rate_ms=query.rate_ms,
                user_id=self.user_id,
                cores=cores,
                by="user" if query.by_user else None,
                users=self.users,
                histograms=query.histograms,
            )
