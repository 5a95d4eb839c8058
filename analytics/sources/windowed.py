"""What sources share that read windows themselves: they answer history and fleet by resampling what they read."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, NamedTuple, Self

import pandas as pd

from analytics.frames.frame import FrameError, of_metric
from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.statistics import highest, values_of
from analytics.frames.weights import Weight, cores_at, cores_or_now
from analytics.sources.base import Grouping, Moment, check_windows_by, epoch_ms, of_groups, weighed_together
from contract.metrics import BY_DEVICE, NAMES, TYPES, Quantity, Statistic, type_name
from contract.times import HOUR_MS, parse_duration


@dataclass(frozen=True, slots=True)
class Asked:
    """Which windows are wanted."""

    quantity: Quantity
    start_ms: int | None
    end_ms: int | None
    user: str | None
    """None for all of them."""
    core: int | Literal["each"] | None
    """None for the host; `each` for the host and its cores."""
    device: str | None
    """As `core`: a disk or an interface by its name."""
    rate_ms: int | None
    """How finely they must come at least; None as they were reported."""
    histograms: bool
    users: bool = True
    """Whether it matters whose they are."""


class Found(NamedTuple):
    """Windows that a source found."""

    frame: pd.DataFrame
    """In any order, with the columns `user`, `core` and `device` where the source names them; `user` may be left out
    where it does not matter."""
    merged: bool = False
    """Whether they are in buckets of the rate that was asked for, as `analytics.resample` gives them."""


class WindowedSource(ABC):
    """A source as `analytics.sources.base` describes it, made of one that gives windows.

    Without `start` and `end` everything is answered.
    """

    @abstractmethod
    def _windows(self, asked: Asked) -> Found:
        """What is asked for. Raises LookupError where nothing is known of the metric, the core or the device."""

    @abstractmethod
    def users(self) -> pd.DataFrame:
        """The users, by name (`analytics.sources.base`)."""

    def history(
        self,
        user: str,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        stat: Statistic | None = None,
        core: int | Literal["each"] | None = None,
        device: str | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user, or with `stat` its values (`analytics.sources.base`)."""
        asked = _asked(
            metric, start, end, rate, user=user, core=core, device=device, histograms=histograms or stat is not None
        )
        frame, merged = self._windows(asked)
        if "user" in frame:
            if frame.empty and user not in {*self.users()["user"]}:
                raise LookupError(f"{user!r} is not known here; users() lists those that are")
            frame = frame.drop(columns="user")
        return _answer(Found(frame, merged), metric, rate, stat)

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        by: Grouping | None = None,
        top: int | None = None,
        stat: Statistic | None = None,
        histograms: bool = True,
        weight: Weight = "samples",
    ) -> pd.DataFrame:
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources.base`)."""
        check_windows_by(by, top if stat is None else None)
        if weight != "samples" and by is None:
            # Weighed in parts: in a wide bucket a host that was seen for an hour would look as if it sampled seldom,
            # and each part has the cores of its time.
            parts = _parts_of(rate)
            each = self.fleet(metric, start=start, end=end, rate=parts, by="user", histograms=histograms or bool(stat))
            together = weighed_together(each, weight, self.users, lambda: self._cores(start, end, parts))
            if parts != rate:
                together = resample(together, rate)
            return together if stat is None else values_of(together, stat)
        if top is not None and by is None:
            raise ValueError("top goes with by: it keeps the groups with the highest values")
        found = self._windows(
            _asked(metric, start, end, rate, histograms=histograms or stat is not None, users=by is not None)
        )
        frame, merged = found
        if weight == "cores" and by == "user" and stat is None and "user" in frame:
            frame = _answer(found, metric, rate, None)
            single = self._cores(start, end, rate)
            known = frame if single is None else frame.assign(cores=cores_at(frame, single).to_numpy())
            frame.insert(list(frame.columns).index("count"), "cores", cores_or_now(known, self.users()))
            return frame
        if by is None and "user" in frame:
            frame, merged = frame.drop(columns="user"), False
        elif by is not None and "user" not in frame:
            raise FrameError("no users are named here; a column user or user_id would be right")
        return _answer(Found(frame, merged), metric, rate, stat, by, top)

    def _cores(self, start: Moment | None, end: Moment | None, rate: str) -> pd.DataFrame | None:
        """The windows of single cores of all users; None where there are none."""
        try:
            found = self._windows(_asked("cpuLoadAvg", start, end, rate, core="each", histograms=False))
        except LookupError:
            return None
        frame = found.frame
        single = frame[frame["core"].notna()] if {"user", "core"} <= {*frame.columns} else frame.iloc[:0]
        return None if single.empty else _answer(Found(single, found.merged), "cpuLoadAvg", rate, None)

    @abstractmethod
    def close(self) -> None:
        """Close the connections and files that the source has opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts_of(rate: str) -> str:
    """An hour where it divides the buckets, else the buckets themselves."""
    rate_ms = RAW_MS if rate == "raw" else parse_duration(rate)
    return "1h" if rate_ms > HOUR_MS and rate_ms % HOUR_MS == 0 else rate


def metrics_of(quantities: Iterable[Quantity]) -> pd.DataFrame:
    """The metrics of windows that can be asked of some quantities, as `Source.metrics` answers them."""
    held = set(quantities)
    rows = [
        {
            "metric": one.name, "title": one.title, "unit": one.quantity.unit, "statistic": one.statistic,
            "by_core": one.by_core, "by_device": one.by_device, "type": type_name(kind), "stored": one.quantity.name,
        }
        for one in NAMES.values() for kind in TYPES
        if one.quantity in kind.quantities and one.quantity in held and one.over_cores is None
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _asked(
    metric: str,
    start: Moment | None,
    end: Moment | None,
    rate: str,
    *,
    user: str | None = None,
    core: int | Literal["each"] | None = None,
    device: str | None = None,
    histograms: bool,
    users: bool = True,
) -> Asked:
    named = NAMES.get(metric)
    if named is None or named.over_cores is not None:
        raise ValueError(f"{metric!r} is not a metric of windows; metrics() lists those there are")
    if device is not None and not named.by_device:
        raise ValueError(f"device does not go with {metric}; it goes with {', '.join(BY_DEVICE)}")
    return Asked(
        quantity=named.quantity,
        start_ms=None if start is None else epoch_ms(start),
        end_ms=None if end is None else epoch_ms(end),
        user=user,
        core=core,
        device=device,
        rate_ms=None if rate == "raw" else parse_duration(rate),
        histograms=histograms,
        users=users,
    )


def _answer(
    found: Found, metric: str, rate: str, stat: Statistic | None, by: Grouping | None = None, top: int | None = None
) -> pd.DataFrame:
    frame = of_metric(found.frame, metric)
    if rate == "raw" and stat is None:
        return frame
    if not found.merged:
        frame = resample(frame, RAW_MS if rate == "raw" else rate)
    if stat is None:
        return frame
    return of_groups(values_of(frame if top is None else highest(frame, top, stat), stat), by)
