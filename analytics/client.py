"""Questions to a Loadlens service, answered as DataFrames.

    from analytics.client import connect

    with connect("http://localhost:8888") as service:
        load = service.history("6a:d6:96:d3:45:35", start="2018-07-12", rate="15m", stat="p95")

Numbers travel as an Arrow stream, so an answer of 100,000 values is neither printed nor parsed as text.
"""

from collections.abc import Mapping
from datetime import date
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import httpx
import pandas as pd

from analytics.answers import ServiceError, UnreachableError, check, read_records, read_values
from contract.metrics import Statistic
from contract.timestamps import parse_timestamp

__all__ = ["Client", "Moment", "connect"]

Moment = str | int | date | pd.Timestamp
"""ISO 8601 text, epoch milliseconds, or a datetime; UTC where there is no offset."""

_ARROW = "application/vnd.apache.arrow.stream"
_USERS = ("user_id", "os_type", "os_version", "cores", "first_seen", "last_seen")
_METRICS = ("name", "title", "unit", "statistic", "by_core", "type", "stored")
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


def connect(url: str = "http://localhost:8888", token: str | None = None) -> "Client":
    """A client of the service at `url`; `token` where the service asks for one.

    Nothing is sent before the first question. Raises ValueError for what is not an http(s) address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a service; http://localhost:8888 would be one")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.HTTPTransport(retries=1)  # a second try to connect, as the first may meet a closing socket
    return Client(httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport))


class Client:
    """Asks a service; made by `connect`. Close it, or use it in a `with`.

    Every question raises UnreachableError where the service does not answer, and ProblemError, with the
    service's own words, where it refuses: an unknown metric or user, a wrong range, rate or token.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def history(
        self,
        user: str,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        stat: Statistic | None = None,
        core: int | None = None,
    ) -> pd.DataFrame:
        """The values of one user: index `time` (UTC, start of the bucket), column `value` (float64).

        One row for each bucket of `rate` (InfluxQL duration, 1s to 52w) in [`start`, `end`) that has data, in
        order of time; by default the last day. `stat` takes another statistic than the metric's own, `core`
        one core instead of the machine. `attrs` of the frame hold `metric`, `unit`, `stat`, and `approximation`
        where the values are approximate: a sentence that says how.
        """
        query = {"start": start, "end": end, "resample_rate": rate, "stat": stat, "core": core}
        return self._values(f"metrics/{_escaped(metric)}/byUser/{_escaped(user)}", metric, query)

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        by: Literal["os_type", "os_version", "user"] | None = None,
        top: int | None = None,
        stat: Statistic | None = None,
    ) -> pd.DataFrame:
        """The values of all users together; with `by`, of each group of them, named by a column `group`.

        `top` keeps the groups that are highest over the whole range. Otherwise as `history`; with groups,
        rows are in order of group, then time.
        """
        query = {"start": start, "end": end, "resample_rate": rate, "by": by, "top": top, "stat": stat}
        return self._values(f"metrics/{_escaped(metric)}/fleet", metric, query)

    def users(self) -> pd.DataFrame:
        """The users that have reported, by name: index `user`; what each last said of itself (`os_type`,
        `os_version`, `cores`), when its first window began, `first_seen`, and its last one ended, `last_seen` (UTC).
        """
        users = read_records(self._get("users"), "users", _USERS).rename(columns={"user_id": "user"})
        for name in ("first_seen", "last_seen"):
            users[name] = pd.to_datetime(users[name], utc=True, format="ISO8601").dt.as_unit("ms")
        return users.set_index("user")

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for: index `name`; `title`, `unit`, the default `statistic`, `by_core`
        (whether single cores can be asked for), `type` and the name of the `stored` quantity.
        """
        return read_records(self._get("metrics"), "metrics", _METRICS).set_index("name")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _values(self, path: str, metric: str, query: Mapping[str, Any]) -> pd.DataFrame:
        values = {name: value for name, value in query.items() if value is not None}
        for name in ("start", "end"):
            if name in values:
                values[name] = _epoch_ms(values[name])
        return read_values(self._get(path, values, accept=_ARROW), metric, values.get("stat"))

    def _get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = "application/json") -> bytes:
        try:
            response = self._http.get(f"api/v1/{path}", params=dict(query or {}), headers={"Accept": accept})
        except httpx.TimeoutException as error:
            raise UnreachableError(f"{self._http.base_url} did not answer in time") from error
        except httpx.TransportError as error:
            raise UnreachableError(f"{self._http.base_url} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._http.base_url} gave an answer that cannot be read: {error}") from error
        return check(response.status_code, response.headers.get("Content-Type", ""), response.content, accept)


def _escaped(segment: str) -> str:
    """A segment of a path, whatever characters it has; `..` would otherwise be another path."""
    return segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe="")


def _epoch_ms(moment: Moment) -> int:
    """Epoch milliseconds; less than a millisecond is rounded up, as the service does. Raises ValueError."""
    if isinstance(moment, str | int | float):
        return parse_timestamp(moment)
    stamp = pd.Timestamp(moment)
    if pd.isna(stamp):
        raise ValueError("NaT is not a moment")
    stamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")
    return parse_timestamp(stamp.isoformat())
