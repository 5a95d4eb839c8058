"""What the methods of `analytics` say of one host: computed in a thread, one at a time, and kept for a while.

Each looks at the past that its method needs, up to the end of the range on the screen: a forecast does not become
another one because somebody zooms. Methods are imported when they are first used, so that the service starts quickly.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from analytics.frames.frame import TooFewData
from analytics.frames.gaps import step_of
from analytics.sources.windowed import Asked, Found, WindowedSource, metrics_of
from contract import times
from contract.metrics import QUANTITIES, NamedMetric
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS, format_duration
from service.alerts.backtest import FiringPeriod, backtest
from service.alerts.rules import Rule
from service.annotations import AnnotationFilter, Annotations
from service.stores.base import Question, Store
from service.stores.process_use import UseQuestion

Kind = Literal["anomalies", "changes", "forecast", "size", "week"]
KINDS: tuple[Kind, ...] = ("anomalies", "changes", "forecast", "size", "week")
MAX_BACKTEST_WINDOWS = 500_000
"""Windows that a backtest may look at: some ten seconds of work."""
_MAX_SLICES = 100
"""And so often it asks for some: one window that is decades old makes a range of thousands of days."""
_PAST_MS: dict[Kind, int] = {
    "anomalies": 7 * DAY_MS, "changes": 28 * DAY_MS, "forecast": 42 * DAY_MS, "size": 42 * DAY_MS, "week": 28 * DAY_MS,
}  # fmt: skip
"""How far each looks back from the end of the range."""
_STEP_MS = 5 * MINUTE_MS
_TARGET = 0.8
_FRESH_S, _KEPT = 60.0, 256
_WAITING = 16
_ANNOTATIONS = 1000
"""Annotations that are looked at, the newest of the range."""
_NOT_BEFORE_MS = 1
"""The width of a bucket for windows as they came."""


class Busy(Exception):
    """Too many analyses wait already; the caller may ask again in a few seconds."""


class Subject(NamedTuple):
    """The host, metric and range that are analysed."""

    user_id: str
    metric: NamedMetric
    start_ms: int
    end_ms: int
    tz: str


class StoreSource(WindowedSource):
    """A store as a source of frames, so that methods get what they get in a notebook. Raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def users(self) -> pd.DataFrame:
        """The users, by name (`analytics.sources.base`)."""
        frame = self.store.users()
        frame.insert(0, "user", frame.pop("user_id").astype("category"))
        return frame

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources.base`)."""
        return metrics_of(QUANTITIES.values())

    def close(self) -> None:
        """Does nothing: the store is closed by its owner."""

    def _windows(self, asked: Asked) -> Found:
        return Found(self._stored(asked))

    def _stored(self, asked: Asked) -> pd.DataFrame:
        assert asked.start_ms is not None
        assert asked.end_ms is not None
        shared: dict[str, Any] = {
            "quantity": asked.quantity, "start_ms": asked.start_ms, "end_ms": asked.end_ms,
            "rate_ms": asked.rate_ms or _NOT_BEFORE_MS, "histograms": asked.histograms,
        }  # fmt: skip
        if asked.user is None:
            return self.store.answer(Question(**shared, by="user", cores="whole" if asked.core is None else asked.core))
        if asked.core is None:
            return self.store.answer(Question(**shared, user_id=asked.user))
        cores = self.store.answer(Question(**shared, user_id=asked.user, cores=asked.core))
        if asked.core != "each":
            return cores
        whole = self.store.answer(Question(**shared, user_id=asked.user))
        return pd.concat([whole.assign(core=pd.array([pd.NA] * len(whole), "Int64")), cores])


class Analyst:
    """Answers on the event loop; the work is done in threads, one at a time over all who ask."""

    def __init__(self, store: Store, annotations: Annotations) -> None:
        self._source = StoreSource(store)
        self._annotations = annotations
        self._turn = asyncio.Semaphore(1)
        self._running: dict[tuple[Any, ...], asyncio.Task[dict[str, Any]]] = {}
        self._kept: OrderedDict[tuple[Any, ...], tuple[float, dict[str, Any]]] = OrderedDict()

    def clear(self) -> None:
        """Keep nothing of what was answered so far."""
        self._kept.clear()

    async def analyse(self, kind: Kind, subject: Subject) -> dict[str, Any]:
        """The answer of a method; one of the last minute, where there is one.

        Has the member `unavailable`, a sentence, where there are too few data. Raises Busy, and StoreUnavailable.
        """
        # A range that ends now ends a little later each time it is asked for.
        to_minute = subject._replace(end_ms=-(-subject.end_ms // MINUTE_MS) * MINUTE_MS)
        answer = await self._once((kind, to_minute), lambda: self._analysed(kind, to_minute))
        # What people note meanwhile is told at once, also of what is kept.
        found = answer.get(kind)
        return answer | {kind: await asyncio.to_thread(self._told, subject, found)} if found else answer

    async def backtest(self, rule: Rule, start_ms: int, end_ms: int, rate: str) -> dict[str, Any]:
        """When a rule would have fired. Raises Busy, and StoreUnavailable."""
        minute = end_ms // MINUTE_MS

        def work() -> dict[str, Any]:
            periods = backtest([rule], self._source, start_ms, end_ms, rate, lambda: None, _MAX_SLICES)
            return {"rule": rule.name, "start": start_ms, "end": end_ms, "rate": rate, "periods": _periods(periods)}

        return await self._once(("backtest", repr(rule), start_ms // MINUTE_MS, minute, rate), work)

    async def _once(self, key: tuple[Any, ...], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `work` gives; whoever asks for the same meanwhile waits for it, and gets it for a minute after."""
        made_s, known = self._kept.get(key, (0.0, None))
        if known is not None and time.monotonic() - made_s < _FRESH_S:
            return known
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= _WAITING:
                raise Busy
            task = self._running[key] = asyncio.create_task(self._work(key, work))
            task.add_done_callback(lambda _: self._running.pop(key, None))
        return await asyncio.shield(task)

    async def _work(self, key: tuple[Any, ...], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        async with self._turn:
            result = await asyncio.to_thread(work)
        self._kept[key] = (time.monotonic(), result)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result

    def _told(self, subject: Subject, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Anomalies or changes, each with what it came shortly after: `follows`, null where there is nothing."""
        from analytics.reports.context import AFTER_MS, ReportAnnotation, shortly_after

        wanted = AnnotationFilter(subject.start_ms - AFTER_MS, subject.end_ms, user=subject.user_id)
        newest = self._annotations.page(wanted, after=None, limit=_ANNOTATIONS, newest_first=True)
        told = [ReportAnnotation(one.time_ms, one.end_ms, one.text, one.user) for one in reversed(newest)]
        return [
            one | {"follows": shortly_after(told, one["time"], one["width"]) or None} | self._who(subject, one)
            for one in found
        ]

    def _who(self, subject: Subject, found: dict[str, Any]) -> dict[str, Any]:
        """Who used most of the CPU then: `who`, where the host said so."""
        question = UseQuestion(found["time"], found["time"] + found["width"], top=3, user_id=subject.user_id)
        used = self._source.store.who(question)
        if not used.busy_s:
            return {}
        return {"who": [{"name": one.name, "unit": one.unit, "share": one.cpu_s / used.busy_s} for one in used.top]}

    def _analysed(self, kind: Kind, subject: Subject) -> dict[str, Any]:
        try:
            return _METHODS[kind](self._source, subject)
        except TooFewData as error:
            return {"unavailable": f"Not enough data: {error}."}


def _past(source: StoreSource, subject: Subject, kind: Kind, rate_ms: int) -> tuple[pd.Timestamp, pd.Timestamp, str]:
    """The range that a method looks at, and the width of its buckets."""
    start_ms = max(0, min(subject.start_ms, subject.end_ms - _PAST_MS[kind]))
    start, end = (pd.Timestamp(moment, unit="ms", tz="UTC") for moment in (start_ms, subject.end_ms))
    # So far back windows may be merged into rollups already.
    finest_ms = source.store.finest_ms(start_ms, times.now_ms())
    return start, end, format_duration(-(-rate_ms // finest_ms) * finest_ms)


def _history(source: StoreSource, subject: Subject, kind: Kind, rate_ms: int, *, histograms: bool) -> pd.DataFrame:
    start, end, rate = _past(source, subject, kind, rate_ms)
    frame = source.history(subject.user_id, subject.metric.name, start=start, end=end, rate=rate, histograms=histograms)
    _check_reported(frame)
    return frame


def _check_reported(frame: pd.DataFrame) -> None:
    if frame.empty:
        raise TooFewData("nothing was reported up to this time")


def _width_ms(frame: pd.DataFrame) -> int:
    """The usual distance of the buckets: a moment that is told is known so exactly."""
    return int(step_of(pd.DatetimeIndex(frame.index)).total_seconds() * 1000)


def _anomalies(source: StoreSource, subject: Subject) -> dict[str, Any]:
    from analytics.methods.anomalies import Tuning, anomalies

    frame = _history(source, subject, "anomalies", _STEP_MS, histograms=False)
    width_ms = _width_ms(frame)
    verdicts = anomalies(frame, tuning=Tuning.for_step(_STEP_MS))
    found = verdicts[verdicts["anomaly"] & (verdicts.index >= pd.Timestamp(subject.start_ms, unit="ms", tz="UTC"))]
    return {
        "anomalies": [
            {
                "time": at, "width": width_ms, "value": value, "expected": _number(expected), "score": score,
                "kind": str(kind),
            }
            for at, value, expected, score, kind in zip(
                _ms(found.index), found["value"], found["expected"], found["score"], found["kind"], strict=True
            )
        ],
    }  # fmt: skip


def _changes(source: StoreSource, subject: Subject) -> dict[str, Any]:
    from analytics.methods.change_points import change_points

    frame = _history(source, subject, "changes", _STEP_MS, histograms=False)
    width_ms = _width_ms(frame)
    found = change_points(frame, rate="1h")
    return {
        "changes": [
            {
                "time": at,
                "width": HOUR_MS if kind == "spread" else width_ms,
                "kind": str(kind),
                "before": _number(before),
                "after": _number(after),
            }
            for at, kind, before, after in zip(
                _ms(found.index), found["kind"], found["before"], found["after"], strict=True
            )
            if subject.start_ms <= at < subject.end_ms
        ]
    }


def _forecast(source: StoreSource, subject: Subject) -> dict[str, Any]:
    from analytics.methods.forecasting import forecast

    frame = _history(source, subject, "forecast", HOUR_MS, histograms=False)
    # The hour that has only begun is no whole step.
    whole = frame[frame.index < pd.Timestamp(subject.end_ms // HOUR_MS * HOUR_MS, unit="ms", tz="UTC")]
    span_ms = subject.end_ms - subject.start_ms
    hours = int(np.clip(span_ms // 2 // HOUR_MS, 6, 7 * 24))
    made = forecast(whole if len(whole) else frame, f"{hours}h", (0.8,), rate="1h")
    return {
        "time": _ms(made.frame.index),
        "mean": _numbers(made.frame["mean"]),
        "lower": _numbers(made.frame["lower_80"]),
        "upper": _numbers(made.frame["upper_80"]),
        "level": 0.8,
        "rate": HOUR_MS,
        "summary": made.summary,
    }


def _size(source: StoreSource, subject: Subject) -> dict[str, Any]:
    from analytics.methods.right_sizing import size_hosts
    from analytics.sources.base import windows_with_cores

    if subject.metric.quantity.name != "cpu.utilization":
        raise TooFewData("sizes are told from CPU utilization")
    start, end, rate = _past(source, subject, "size", HOUR_MS)
    windows = windows_with_cores(source, subject.user_id, subject.metric.name, start=start, end=end, rate=rate)
    _check_reported(windows)
    sizes = size_hosts(windows, source.users(), _TARGET)
    [row] = sizes.table.to_dict("records")
    return {
        name: _number(row[name]) for name in ("now", "needed", "lower", "upper", "recommended", "saved", "confidence")
    } | {
        "unit": sizes.unit, "target": _TARGET, "verdict": str(row["verdict"]), "why": str(row["why"]),
        "days": int(row["days"]),
    }  # fmt: skip


def _week(source: StoreSource, subject: Subject) -> dict[str, Any]:
    from analytics.methods.week_profiles import hour_of_week_profile

    profile = hour_of_week_profile(_history(source, subject, "week", HOUR_MS, histograms=True), subject.tz)
    return {"tz": subject.tz, "mean": _numbers(profile["mean"]), "p95": _numbers(profile["p95"])}


_METHODS: dict[Kind, Callable[[StoreSource, Subject], dict[str, Any]]] = {
    "anomalies": _anomalies, "changes": _changes, "forecast": _forecast, "size": _size, "week": _week,
}  # fmt: skip


def _periods(periods: Sequence[FiringPeriod]) -> list[dict[str, Any]]:
    return [
        {"user": one.user, "fired": one.fired_ms, "resolved": one.resolved_ms, "value": one.value} for one in periods
    ]


def _ms(index: pd.Index) -> list[int]:
    moments: list[int] = pd.DatetimeIndex(index).as_unit("ms").asi8.tolist()
    return moments


def _numbers(values: "pd.Series[float]") -> list[float | None]:
    return [*map(_number, values.tolist())]


def _number(value: Any) -> float | None:
    """A number as JSON has it: missing and infinite ones are null."""
    return float(value) if value is not None and np.isfinite(value) else None
