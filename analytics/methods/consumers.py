"""Who used the CPU: the processes and units of a host, or of all, over a range."""

from typing import Any, Literal

import pandas as pd

from analytics.frames.arguments import FrameError, instance, one_of, shown, whole
from analytics.frames.checking import check_index
from analytics.sources.base import Moment, epoch_ms
from analytics.sources.service import Client
from analytics.sources.service_answers import OTHERS, USE_KEYS, is_others

_NEEDED = {*USE_KEYS, "cpu_s", "busy_s"}


def who(
    source: "Client | pd.DataFrame",
    start: Moment | None = None,
    end: Moment | None = None,
    *,
    host: str | None = None,
    by: Literal["process", "unit"] = "process",
    top: int = 5,
) -> pd.DataFrame:
    """Those that used most CPU time between `start` and `end`, the most first, and behind them all others together.

    `source` is a service (`analytics.connect`), which is asked about one `host`, or about all hosts without one; or
    a frame over time that such a service answered (`service.who(..., rate="5m")`), whose buckets that start in the
    range are added up. `by` is not looked at then, for the frame has one already.

    The frame has the columns `name`, `user`, `unit`, `command`, `cpu_s` (CPU seconds) and `share`, of all CPU time that
    was used, so that they add up to 1; of a service also `at_most_s`, what each can have used at most, `resident_bytes`
    and `machines`. The last row is called `others` and has no user. It is empty where no host told of its processes.
    Raises FrameError for a frame of another kind and another argument that is wrong, and what the service raises.
    """
    one_of(by, "by", ("process", "unit"))
    top = whole(top, "top", "a number of at least 1", lambda number: number >= 1)
    if host is not None:
        instance(host, "host", str, "the name of a host, or None for all")
    begin_ms, end_ms = _moment_ms(start, "start"), _moment_ms(end, "end")
    if not isinstance(source, pd.DataFrame):
        if not isinstance(source, Client):
            raise FrameError(
                f"source: expected a service or a frame of service.who(..., rate=...), got {shown(source)}"
            )
        return source.who(host, start=begin_ms, end=end_ms, by=by, top=top)
    if host is not None:
        raise FrameError(f"host: expected None, got {host!r}: a frame of service.who(host, rate=...) is of one already")
    if not _NEEDED.issubset(source.columns):
        raise FrameError(
            f"expected a frame of service.who(..., rate=...), got the columns {', '.join(map(str, source.columns))}"
        )
    check_index(source)
    time = pd.DatetimeIndex(source.index).as_unit("ms").asi8
    chosen = source
    if begin_ms is not None:
        chosen = chosen[time >= begin_ms]
    if end_ms is not None:
        chosen = chosen[pd.DatetimeIndex(chosen.index).as_unit("ms").asi8 < end_ms]
    busy_s = float(chosen.groupby(level=0)["busy_s"].first().sum())
    used = chosen[~is_others(chosen)].groupby([*USE_KEYS], sort=False)["cpu_s"].sum().sort_values(ascending=False)
    rows: list[tuple[Any, ...]] = [(*key, cpu_s) for key, cpu_s in used.head(top).items()]  # type: ignore[misc]
    if rows or busy_s:
        rows.append((OTHERS, "", "", "", max(0.0, busy_s - sum(row[-1] for row in rows))))
    frame = pd.DataFrame(rows, columns=[*USE_KEYS, "cpu_s"])
    return frame.assign(share=frame["cpu_s"] / busy_s if busy_s else 0.0)


def _moment_ms(moment: Moment | None, name: str) -> int | None:
    try:
        return None if moment is None else epoch_ms(moment)
    except (ValueError, TypeError, OverflowError):
        raise FrameError(f"{name}: expected a moment such as 2024-03-04T12:00Z, got {shown(moment)}") from None
