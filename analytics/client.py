"""Questions to a Loadlens service, answered as DataFrames.

Answers travel as Arrow streams, so 500,000 windows are neither printed nor parsed as text, and are read while the
service still sends.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
import pandas as pd

from analytics.answers import (
    CutShortError,
    ServiceError,
    UnreachableError,
    check,
    read_records,
    read_values,
    read_windows,
)
from analytics.sources import Grouping, Moment, check_windows_by, epoch_ms
from contract.metrics import NAMES, Statistic
from contract.service_address import check_service_url

__all__ = ["Client"]

_ARROW = "application/vnd.apache.arrow.stream"
_JSON = "application/json"
_USERS = ("user_id", "os_type", "os_version", "cores", "first_seen", "last_seen")
_METRICS = ("name", "title", "unit", "statistic", "by_core", "type", "stored")
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


class Client:
    """Asks the service at `url`, with `token` where it asks for one; a source as `analytics.sources` describes it.

    By default it answers the last day. Nothing is sent before the first question. Raises ValueError for what is not an
    http(s) address. Every question raises UnreachableError where the service does not answer, and ProblemError, with
    the service's own words, where it refuses: an unknown metric or user, a wrong range, rate or token; CutShortError
    where an answer ends before it is whole. Metrics that compare cores, such as `cpuCoreLoadAvgMax`, have no windows:
    they are answered as values.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        check_service_url(url)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.HTTPTransport(retries=1)  # a second try to connect, as the first may meet a closing socket
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

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
        """The windows of one user, or with `stat` its values (`analytics.sources`)."""
        query = {"start": start, "end": end, "resample_rate": rate, "core": core}
        if stat is None and not _compares_cores(metric):
            query |= {"metric": metric, "histograms": histograms}
            return self._windows(f"windows/byUser/{_escaped(user)}", f"{metric} of {user}", query)
        if rate == "raw" or core == "each":
            raise ValueError("rate='raw' and core='each' are for windows, without stat")
        return self._values(f"metrics/{_escaped(metric)}/byUser/{_escaped(user)}", metric, query | {"stat": stat})

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
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources`)."""
        query = {"start": start, "end": end, "resample_rate": rate, "by": by}
        if stat is None:
            check_windows_by(by, top)
            query |= {"metric": metric, "histograms": histograms}
            return self._windows("windows/fleet", f"{metric} of the fleet", query)
        return self._values(f"metrics/{_escaped(metric)}/fleet", metric, query | {"top": top, "stat": stat})

    def users(self) -> pd.DataFrame:
        """The users that have reported, and what each last said of itself (`analytics.sources`)."""
        users = read_records(self._get("users"), "users", _USERS).rename(columns={"user_id": "user"})
        for name in ("first_seen", "last_seen"):
            users[name] = pd.to_datetime(users[name], utc=True, format="ISO8601").dt.as_unit("ms")
        return users.set_index("user")

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources`)."""
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
        return read_values(self._get(path, query, accept=_ARROW), metric, query["stat"])

    def _windows(self, path: str, what: str, query: Mapping[str, Any]) -> pd.DataFrame:
        with self._asked(path, query, _ARROW) as response:
            return read_windows(response.iter_raw(), what)

    def _get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = _JSON) -> bytes:
        with self._asked(path, query or {}, accept) as response:
            return response.read()

    @contextmanager
    def _asked(self, path: str, query: Mapping[str, Any], accept: str) -> Iterator[httpx.Response]:
        """The answer to a question, which is one of the media type `accept`, before its body is read."""
        moments = {name: epoch_ms(query[name]) for name in ("start", "end") if query.get(name) is not None}
        parameters = {name: _parameter(value) for name, value in {**query, **moments}.items() if value is not None}
        begun = False
        try:
            with self._http.stream("GET", f"api/v1/{path}", params=parameters, headers={"Accept": accept}) as response:
                begun = True
                media_type = response.headers.get("Content-Type", "")
                if response.status_code != 200 or media_type.partition(";")[0] != accept:
                    check(response.status_code, media_type, response.read(), accept)
                yield response
        except httpx.TimeoutException as error:
            raise UnreachableError(f"{self._http.base_url} did not answer in time") from error
        except httpx.TransportError as error:
            if begun:
                raise CutShortError(f"{self._http.base_url}: the answer ended early; ask again") from error
            raise UnreachableError(f"{self._http.base_url} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._http.base_url} gave an answer that cannot be read: {error}") from error


def _parameter(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _compares_cores(metric: str) -> bool:
    named = NAMES.get(metric)
    return named is not None and named.over_cores is not None


def _escaped(segment: str) -> str:
    """A segment of a path, whatever characters it has; `..` would otherwise be another path."""
    return segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe="")
