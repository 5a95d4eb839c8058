"""Asking InfluxDB: InfluxQL over `/query`, the one query language of 1.x, 2.x and 3.x, answered as CSV."""

import base64
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.csv
import urllib3

from analytics.sources.influx_address import Address, Credentials
from analytics.sources.standstill import Breaker, StandsStill
from contract.retry import retry_after_s

_log = logging.getLogger("loadlens.influxdb")
_CONNECT_S = 5.0
_PING_S = 5.0
_LONGEST_URL = 4000
_SHOWN = 300
_LONGEST_RETRY_S = 600.0
_WRONG_STATEMENT = (400, 422)
"""Answers about a statement; 401, 403 and 404 are about who asks, or for what."""


class InfluxError(Exception):
    """InfluxDB did not do what it was asked for; the message has no secret in it."""


class Unreachable(InfluxError):
    """InfluxDB is not there, or cannot answer now: it may be asked again later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TimedOut(Unreachable):
    """It did not answer in time."""


class Refused(InfluxError):
    """It will not, however often it is asked."""

    def __init__(self, status: int, message: str, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        """What it answered."""


class BadStatement(Refused):
    """InfluxDB says that a statement is wrong, which is a defect of whoever made it; the message has its beginning."""


@dataclass(frozen=True, slots=True)
class InfluxServer:
    """Which InfluxDB answers."""

    version: str
    """As it calls itself, such as `1.6.7` or `2.7.12`."""
    number: tuple[int, int]

    @property
    def generation(self) -> int:
        """The generation of its API: 1, 2 or 3."""
        return self.number[0]


class InfluxClient:
    """Asks one database; may be used by many threads.

    Every call raises Unreachable or Refused where there is no answer: after `timeout_s`, a SELECT after `select_s`
    (None: the same), and at once where the server stood still a moment ago.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials | None = None,
        timeout_s: float = 60.0,
        select_s: float | None = None,
    ) -> None:
        self.address = address
        self.credentials = credentials or Credentials()
        self._pool = urllib3.PoolManager(
            maxsize=64, retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=timeout_s)
        )
        self._select_s = timeout_s if select_s is None else select_s
        self._breaker = Breaker(self._answers_ping)
        self._server: InfluxServer | None = None
        self._lock = threading.Lock()

    @property
    def headers(self) -> dict[str, str]:
        """What identifies who asks."""
        who = self.credentials
        if who.token:
            # A header is Latin-1 to http.client: so UTF-8 gets through as it is.
            return {"Authorization": f"Token {who.token}".encode().decode("latin-1")}
        if who.user:
            # urllib3 would write it in Latin-1, which has not all characters; InfluxDB reads UTF-8.
            basic = base64.b64encode(f"{who.user}:{who.password}".encode()).decode()
            return {"Authorization": f"Basic {basic}"}
        return {}

    @property
    def known_server(self) -> InfluxServer | None:
        """Which InfluxDB answered last; None where none has yet."""
        return self._server

    def server(self) -> InfluxServer:
        """Which InfluxDB answers; asked once, and again after `forget_server`."""
        with self._lock:
            if self._server is None:
                self._server = self._ask_version()
                _log.info("%s is InfluxDB %s", self.address, self._server.version)
            return self._server

    def forget_server(self) -> None:
        """It may be another when it is back."""
        self._server = None

    def _ask_version(self) -> InfluxServer:
        answer = self.request("GET", "/ping", timeout_s=_PING_S)
        version = answer.headers.get("X-Influxdb-Version", "")
        if not _number(version):
            answer = self.request("GET", "/health", timeout_s=_PING_S)
            version = str(_json(answer.data).get("version", ""))
        number = _number(version)
        if number is None:
            raise Refused(answer.status, f"{self.address} does not say which InfluxDB it is; is it one?")
        return InfluxServer(version.removeprefix("v"), number)

    def _answers_ping(self) -> bool:
        """Whether it answers at all, whatever it answers."""
        try:
            self._sent("GET", "/ping", {}, self.headers, _PING_S)
        except Unreachable:
            return False
        return True

    def select(self, text: str, types: Mapping[str, pa.DataType]) -> pa.Table:
        """The columns `types` of what a SELECT finds, all null where a column does not exist; `time` is epoch ms."""
        if self.server().generation < 3:
            answer = self._query("GET", text, {"Accept": "application/csv"}, self._select_s)
            if answer.data.startswith(b"error\n"):
                raise Refused(answer.status, answer.data[6 : 6 + _SHOWN].decode(errors="replace").strip())
            if answer.data.strip():
                return _values(answer.data, types)
            # A statement's error is left out of CSV: nothing may mean none, or that it failed. JSON says which.
        # CSV of InfluxDB 3 that fails midway ends like any other, only shorter; JSON does not.
        return _table(self._results(self._query("GET", text, timeout_s=self._select_s)), types)

    def execute(self, text: str, *, change: bool = False) -> list[dict[str, Any]]:
        """The series of a statement's answer, each with `columns` and `values`."""
        return self._results(self._query("POST" if change else "GET", text))

    def _results(self, answer: urllib3.BaseHTTPResponse) -> list[dict[str, Any]]:
        results = _json(answer.data).get("results")
        if results is None:
            raise Unreachable(f"{self.address} ended its answer before it was whole")
        for result in results:
            if "error" in result:
                raise Refused(answer.status, str(result["error"])[:_SHOWN])
        return [series for result in results for series in result.get("series", [])]

    def _query(
        self, method: str, text: str, headers: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> urllib3.BaseHTTPResponse:
        parameters = {"db": self.address.database, "epoch": "ms", "q": text}
        try:
            return self.request(method, "/query", parameters, headers=headers, timeout_s=timeout_s)
        except Refused as error:
            if error.status not in _WRONG_STATEMENT:
                raise
            # What follows WHERE may be long; what is asked for, and of which measurement, tells which statement it is.
            raise BadStatement(error.status, f"{text.partition(' WHERE ')[0][:_SHOWN]}: {error}") from None

    def request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """An answer of status 2xx, within `timeout_s` (None: as long as the client waits)."""
        try:
            self._breaker.check()
        except StandsStill as error:
            raise Unreachable(f"{self.address} stands still: it is asked again soon", error.again_s) from None
        headers = self.headers | dict(headers or {})
        content: dict[str, Any] = {"body": body}
        if body is None and parameters and sum(map(len, parameters.values())) > _LONGEST_URL:
            method, content = "POST", {"fields": dict(parameters), "encode_multipart": False}
        elif parameters:
            path += "?" + urlencode(parameters)
        try:
            answer = self._sent(method, path, content, headers, timeout_s)
        except TimedOut:
            self._breaker.note_timeout()
            raise
        raise_for_status(answer.status, answer.data, answer.headers)
        return answer

    def _sent(
        self, method: str, path: str, content: dict[str, Any], headers: dict[str, str], timeout_s: float | None
    ) -> urllib3.BaseHTTPResponse:
        if timeout_s is not None:
            content["timeout"] = urllib3.Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s)
        try:
            return self._pool.request(method, self.address.url + path, headers=headers, redirect=False, **content)
        except urllib3.exceptions.NewConnectionError as error:
            # To urllib3 it is a timeout too, but a refused connection is answered at once.
            raise Unreachable(f"{self.address} cannot be reached: {_plain(error)}") from None
        except urllib3.exceptions.TimeoutError as error:
            raise TimedOut(f"{self.address} did not answer in time: {_plain(error)}") from None
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self.address} cannot be reached: {_plain(error)}") from None


def _values(text: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns `types` of an answer as CSV."""
    try:
        return _read_csv(text, types)
    except pa.ArrowInvalid:
        # Somebody else's program may have written a field with another type: such a value is none of ours.
        texts = _read_csv(text, dict.fromkeys(types, pa.string()))
        columns = [_parsed(texts[name], kind) for name, kind in types.items()]
        return pa.table(columns, schema=pa.schema(list(types.items())))


def _read_csv(text: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    return pa.csv.read_csv(
        io.BytesIO(text),
        parse_options=pa.csv.ParseOptions(newlines_in_values=False),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict(types), include_columns=list(types), include_missing_columns=True,
            null_values=[""], quoted_strings_can_be_null=True, strings_can_be_null=True,
        ),
    )  # fmt: skip


def _parsed(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """The values of a column; null where they are of another type."""
    parse: Callable[[str], float] | None
    parse = float if pa.types.is_floating(kind) else int if pa.types.is_integer(kind) else None
    if parse is None:
        return texts.combine_chunks().cast(kind)
    values: list[float | None] = []
    for text in texts.to_pylist():
        try:
            values.append(None if text is None else parse(text))
        except ValueError:
            values.append(None)
    return pa.array(values, kind)


def _table(found: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """The columns `types` of the series of a SELECT, one series after the other."""
    empty = pa.schema(list(types.items())).empty_table()
    tables = [empty]
    for series in found:
        columns = dict(zip(series["columns"], zip(*series["values"], strict=True), strict=True))
        rows = len(series["values"])
        arrays = [_column(columns.get(name), rows, kind) for name, kind in types.items()]
        tables.append(pa.table(arrays, names=list(types)))
    return pa.concat_tables(tables).unify_dictionaries()


def _column(values: Sequence[Any] | None, rows: int, kind: pa.DataType) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    if pa.types.is_dictionary(kind):
        return pa.array([value or None for value in values], pa.string()).dictionary_encode()
    if pa.types.is_string(kind):
        return pa.array([value or None for value in values], kind)
    return pa.array(values, pa.float64() if pa.types.is_floating(kind) else None).cast(kind)


def raise_for_status(status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Nothing for 2xx; Unreachable for what may pass by, Refused for what stays wrong."""
    if 200 <= status < 300:
        return
    message = f"InfluxDB answers {status}: {message_of(body)}"
    if status in (408, 429) or status >= 500:
        wait_s = retry_after_s(headers.get("Retry-After"))
        raise Unreachable(message, None if wait_s is None else min(wait_s, _LONGEST_RETRY_S))
    raise Refused(status, message, body)


def message_of(body: bytes) -> str:
    """What an error's body says: `error` in 1.x and 3.x, `message` in 2.x."""
    content = _json(body)
    text = content.get("error") or content.get("message") or body.decode(errors="replace")
    return " ".join(str(text).split())[:_SHOWN] or "nothing"


def _json(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _number(version: str) -> tuple[int, int] | None:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _plain(error: Exception) -> str:
    """An error of the connection without the objects that urllib3 shows in it."""
    return re.sub(r"<[^>]*>:? ?", "", str(error)).strip() or type(error).__name__
