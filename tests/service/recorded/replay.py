"""Sends recorded requests to a real service, one after the other, and says what it answers.

A request is a JSON object:

`service`   which start of the service is asked: `first`, `second` and `main` share a data folder, each puts what it has
            in memory on disk when it ends; `guarded` has a folder of its own, tokens, and keeps nothing for long
`ask`       method, path and query as they stand in the request line; method `WEBSOCKET` opens one
`headers`   beside Host
`body`      one of `json`, `text`, `base64` and `text` with `times`; `encoding` (gzip, zstd) compresses it, `chunked`
            sends it without its length
`until`     a pattern in the body: it is asked again until it is there, for what the service does by and by
`blocks`    of an answer without an end, how many events are read
`keep`      names for members of the answer, by their place (`notifications.0.id`); `${name}` in later requests
"""

import base64
import contextlib
import gzip
import http.client
import io
import json
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.service.recorded.masks import masked
from tests.support.running import RunningService, clean_environment
from tests.support.webhooks import KEY, Receiver

__all__ = ["EXCHANGES", "JsonObject", "read_exchanges", "replay", "write_exchanges"]

JsonObject = dict[str, Any]
EXCHANGES = Path(__file__).with_name("exchanges.jsonl")
_RULES = Path(__file__).with_name("rules.toml")
_TOKENS = {"LOADLENS_TOKEN": "agents", "LOADLENS_OPERATOR_TOKEN": "operator"}
_NEVER = ("--flush-interval", "3600")
_SERVICES: dict[str, tuple[str, tuple[str, ...]]] = {
    "first": ("fleet", _NEVER),
    "second": ("fleet", _NEVER),
    "main": ("fleet", (*_NEVER, "--notify-private", "--rules", str(_RULES))),
    "guarded": (
        "guarded",
        (
            *_NEVER, "--agent-streams", "0", "--stream-consumers", "0",
            "--keep-windows", "30d", "--keep-5m", "60d", "--keep-1h", "90d",
        ),
    ),
}  # fmt: skip
"""The data folder and the arguments of each start."""
_OF_TRANSPORT = ("date", "server", "content-length", "connection", "x-request-id")
"""Headers that are not compared: the clock's, the server's and made by chance; the length is that of the body."""
_DEADLINE_S = 120.0
_LOOK_EVERY_S = 0.02


def read_exchanges(path: Path = EXCHANGES) -> list[JsonObject]:
    """The recorded exchanges, each with its `request` and its `answer`, in order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_exchanges(exchanges: Iterable[JsonObject], path: Path = EXCHANGES) -> None:
    """Write exchanges, a line each."""
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in exchanges), encoding="utf-8")


def replay(requests: Iterable[JsonObject], folder: Path) -> Iterator[JsonObject]:
    """The answer to each request, as it is compared. Services are started when a request first names them."""
    kept: dict[str, str] = {}
    with Receiver() as ops, Receiver(lambda _: 410) as gone:
        hooks = {"RECORDED_OPS": ops.url, "RECORDED_GONE": gone.url, "RECORDED_SECRET": KEY}
        running, name = None, ""
        try:
            for request in requests:
                if request["service"] != name:
                    if running is not None:
                        _end(running)
                    name = request["service"]
                    running = _start(name, folder, hooks)
                assert running is not None
                yield _Asking(running.port, _filled_in(request, kept)).answer(kept)
            if running is not None:
                _end(running)
        finally:
            if running is not None:
                running.kill()


def _start(name: str, folder: Path, hooks: dict[str, str]) -> RunningService:
    data, arguments = _SERVICES[name]
    environment = clean_environment(**hooks, **(_TOKENS if name == "guarded" else {}))
    return RunningService(folder / data, *arguments, environment=environment)


def _end(service: RunningService) -> None:
    assert service.stop() == 0, service.log
    assert "Traceback" not in service.log, service.log


def _filled_in(request: JsonObject, kept: dict[str, str]) -> JsonObject:
    text = json.dumps(request, ensure_ascii=False)
    filled: JsonObject = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: kept[match[1]], text))
    return filled


class _Asking:
    """One request on its way."""

    def __init__(self, port: int, request: JsonObject) -> None:
        self._port = port
        self._request = request
        self._method, self._target = request["ask"].split(" ", 1)
        self._path = self._target.partition("?")[0]

    def answer(self, kept: dict[str, str]) -> JsonObject:
        """What is answered, once it is what the request waits for."""
        if self._method == "WEBSOCKET":
            return self._over_websocket()
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            response, body = self._once()
            if re.search(self._request.get("until", ""), body.decode("latin-1")):
                break
            assert time.monotonic() < deadline, f"{self._request}: waited {_DEADLINE_S} s; the last was {body!r}"
            time.sleep(_LOOK_EVERY_S)
        for name, place in self._request.get("keep", {}).items():
            kept[name] = _member(json.loads(body), place)
        media_type = response.headers.get("Content-Type", "")
        return {"status": response.status, "headers": self._headers(response)} | self._body(media_type, body)

    def _once(self) -> tuple[http.client.HTTPResponse, bytes]:
        body = _content(self._request.get("body"))
        chunked = bool((self._request.get("body") or {}).get("chunked"))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_DEADLINE_S)
        with contextlib.closing(connection):
            connection.putrequest(self._method, self._target, skip_host=True, skip_accept_encoding=True)
            headers = {"Host": "localhost:8888"} | self._request.get("headers", {})
            if body is not None:
                length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
                headers = length | headers
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body, encode_chunked=chunked)
            response = connection.getresponse()
            blocks = self._request.get("blocks")
            return response, response.read() if blocks is None else _blocks(response, blocks)

    def _headers(self, response: http.client.HTTPResponse) -> dict[str, str]:
        named: dict[str, str] = {}
        for name, value in response.getheaders():
            lower = name.lower()
            if lower not in _OF_TRANSPORT:
                named[lower] = f"{named[lower]}, {value}" if lower in named else value
        shown = [masked(self._path, f"{name}: {value}") for name, value in sorted(named.items())]
        return dict(one.split(": ", 1) for one in shown)

    def _body(self, media_type: str, body: bytes) -> JsonObject:
        if media_type == "application/vnd.apache.arrow.stream":
            return {"table": _shown(pa.ipc.open_stream(body).read_all())}
        if media_type == "application/vnd.apache.parquet":
            file = pq.ParquetFile(io.BytesIO(body))
            codecs = {file.metadata.row_group(0).column(0).compression} if file.num_row_groups else set()
            return {"table": _shown(file.read()), "codecs": sorted(codecs)}
        return {"body": masked(self._path, body.decode())}

    def _over_websocket(self) -> JsonObject:
        wanted = self._request.get("blocks", 0)
        url = f"ws://127.0.0.1:{self._port}{self._target}"
        lines: list[str] = []
        try:
            with connect(
                url, additional_headers=self._request.get("headers", {}), proxy=None, open_timeout=60
            ) as socket:
                while not wanted or len(lines) < wanted:
                    lines += str(socket.recv(_DEADLINE_S)).splitlines()
        except InvalidStatus as error:
            return {"status": error.response.status_code, "body": error.response.body.decode()}
        except ConnectionClosed as error:
            closed = error.rcvd
            return {"status": 101, "body": lines, "closed": [closed.code, closed.reason] if closed else None}
        return {"status": 101, "body": lines[:wanted]}


def _content(body: JsonObject | None) -> bytes | None:
    """The bytes of a request's body."""
    if body is None:
        return None
    if "json" in body:
        content = json.dumps(body["json"], ensure_ascii=False).encode()
    elif "base64" in body:
        content = base64.b64decode(body["base64"])
    else:
        content = body["text"].encode() * body.get("times", 1)
    encoding = body.get("encoding")
    if encoding == "gzip":
        return gzip.compress(content, mtime=0)
    return zstandard.compress(content) if encoding == "zstd" else content


def _blocks(response: http.client.HTTPResponse, count: int) -> bytes:
    """The first so many events of an answer that has no end."""
    body = b""
    while body.count(b"\n\n") < count:
        part = response.read1(65536)
        assert part, f"the stream ended after {body!r}"
        body += part
    return b"".join(block + b"\n\n" for block in body.split(b"\n\n")[:count])


def _member(document: Any, place: str) -> str:
    for name in place.split("."):
        document = document[int(name)] if isinstance(document, list) else document[name]
    return str(document)


def _shown(table: pa.Table) -> JsonObject:
    """A table as JSON that is equal for equal tables only: types, metadata, and each value without rounding."""
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    columns = {}
    for field in table.schema:
        values = table[field.name].to_pylist()
        nullable = "" if field.nullable else " not null"
        columns[f"{field.name}: {field.type}{nullable}"] = [_plain(value) for value in values]
    return {"metadata": metadata, "columns": columns}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float) else value.isoformat()
