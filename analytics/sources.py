"""Where windows come from: what a service, a store and files of windows answer alike."""

from datetime import date
from types import TracebackType
from typing import Literal, Protocol, Self

import pandas as pd

from contract.metrics import Statistic
from contract.times import parse_timestamp

__all__ = ["Grouping", "Moment", "Source", "check_windows_by", "epoch_ms"]

Moment = str | int | date | pd.Timestamp
"""ISO 8601 text, epoch milliseconds, or a datetime; UTC where there is no offset."""

Grouping = Literal["user", "os_type", "os_version"]


class Source(Protocol):
    """Answers frames; made by `analytics.connect`. Close it, or use it in a `with`."""

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
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user as a frame (`analytics.frames`), or with `stat` single values.

        One row for each bucket of `rate` (InfluxQL duration, 1s to 52w) in [`start`, `end`) that has data, in order
        of time; `raw` gives the windows as they were reported. `core` takes one core instead of the machine, `each`
        the machine and each of its cores, in a column `core`. Without `histograms` the answer is smaller, but no
        quantile can be taken of it.

        With `stat` the frame has the index `time` and the column `value` (float64) of that statistic instead.
        `attrs` hold `metric` and `unit`, with `stat` also that, and `approximation`, a sentence, where values are
        approximate. Raises ValueError for what cannot be asked, LookupError or ServiceError for what is not there.
        """

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
    ) -> pd.DataFrame:
        """The windows of all users together; with `by="user"` of each, named by the column `user`.

        With `stat` single values, as of `history`; the column `group` then names the groups that `by` makes, and
        `top` keeps those that are highest over the whole range.
        """

    def users(self) -> pd.DataFrame:
        """The users, by name: index `user`; `os_type`, `os_version` and `cores`, missing where that is not known, and
        when the first window began and the last one ended, `first_seen` and `last_seen` (UTC).
        """

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for: index `name`; `title`, `unit`, the default `statistic`, `by_core`
        (whether single cores can be asked for), `type` and the name of the `stored` quantity.
        """

    def close(self) -> None:
        """Let go of connections and files."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def epoch_ms(moment: Moment) -> int:
    """Epoch milliseconds; less than a millisecond is rounded up, as the service does. Raises ValueError."""
    if isinstance(moment, str | int | float):
        return parse_timestamp(moment)
    stamp = pd.Timestamp(moment)
    if pd.isna(stamp):
        raise ValueError("NaT is not a moment")
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return parse_timestamp(stamp.isoformat())


def check_windows_by(by: str | None, top: int | None) -> None:
    """Raise ValueError for groups that windows do not come in."""
    if top is not None:
        raise ValueError("top goes with stat: it keeps the groups whose value is highest")
    if by not in (None, "user"):
        raise ValueError(f"windows come by='user', not by={by!r}; with stat there are values of each {by}")
