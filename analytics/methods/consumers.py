"""Who used the CPU: the processes and units of a machine, or of all, over a range."""

from typing import Any, Literal

import pandas as pd

from analytics.frames.frame import FrameError
from analytics.sources.base import Moment, epoch_ms
from analytics.sources.service import OTHERS, USE_KEYS, Client, is_others

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

    `source` is a service (`analytics.connect`), which is asked about one `host`, or about all machines without one; or
    a frame over time that such a service answered (`service.who(..., rate="5m")`), whose buckets that start in the
    range are added up. `by` is not looked at then, for the frame has one already.

    The frame has the columns `name`, `user`, `unit`, `command`, `cpu_s` (CPU seconds) and `share`, of all CPU time that
    was used, so that they add up to 1; of a service also `at_most_s`, what each can have used at most, `resident_bytes`
    and `machines`. The last row is called `others` and has no user. It is empty where no machine told of its processes.
    Raises FrameError for a frame of another kind, and what the service raises.
    """
    if not isinstance(source, pd.DataFrame):
        return source.who(host, start=start, end=end, by=by, top=top)
    if not _NEEDED.issubset(source.columns):
        raise FrameError(f"expected a frame of service.who(..., rate=...), got the columns {', '.join(source.columns)}")
    time = pd.DatetimeIndex(source.index).as_unit("ms").asi8
    chosen = source
    if start is not None:
        chosen = chosen[time >= epoch_ms(start)]
    if end is not None:
        chosen = chosen[pd.DatetimeIndex(chosen.index).as_unit("ms").asi8 < epoch_ms(end)]
    busy_s = float(chosen.groupby(level=0)["busy_s"].first().sum())
    used = chosen[~is_others(chosen)].groupby([*USE_KEYS], sort=False)["cpu_s"].sum().sort_values(ascending=False)
    rows: list[tuple[Any, ...]] = [(*key, cpu_s) for key, cpu_s in used.head(top).items()]  # type: ignore[misc]
    if rows or busy_s:
        rows.append((OTHERS, "", "", "", max(0.0, busy_s - sum(row[-1] for row in rows))))
    frame = pd.DataFrame(rows, columns=[*USE_KEYS, "cpu_s"])
    return frame.assign(share=frame["cpu_s"] / busy_s if busy_s else 0.0)
