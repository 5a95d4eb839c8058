"""InfluxDB 2 and 3 as their documentation describes them, in front of a real InfluxDB 1 that keeps the points.

What is assumed of each generation is listed in docs/influxdb.md, with its source. Faults are answered instead where a
test asks for them.
"""

import json
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3

from tests.support.influxd import RunningInflux

__all__ = ["Fault", "InfluxProxy", "Request"]

VERSIONS = {1: "1.8.10", 2: "v2.7.12", 3: "3.10.1"}
ORGANIZATION = "00000000000000aa"
_FILE_MS, _FILES = 600_000, 432
Points = dict[tuple[str, str, str], str]
"""Fields by bucket, series and time."""


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    parameters: dict[str, str]
    body: bytes
    accept: str


class Fault(NamedTuple):
    """What is answered instead."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}


class InfluxProxy:
    """A server of a generation on a free port; `fault` decides what to answer instead, None for the right answer."""

    def __init__(
        self, influx: RunningInflux, generation: int, token: str = "", bucket: str | None = None, version: str = ""
    ) -> None:
        self.influx = influx
        self.generation = generation
        self.version = version or VERSIONS[generation]
        self.token = token
        self.buckets = set() if bucket is None else {bucket}
        self.requests: list[Request] = []
        self.written: Points = {}
        """The fields of every point that was taken, by bucket, series and time."""
        self.files: dict[tuple[str, str], set[int]] = {}
        """By bucket and measurement: the times of the files that 3.x has of it, in units of ten minutes."""
        self.mapped: dict[str, str] = {}
        """In 2.x: the buckets of databases that are mapped to others than that of their name."""
        self.kept: dict[str, int] = {}
        """How long the points of a bucket are kept, ms; those that are not here for ever."""
        self._columns: dict[tuple[str, str, str], str] = {}
        self.overwritten: list[tuple[str, str, str]] = []
        """Those that were written again with other fields."""
        self.fault: Callable[[Request], Fault | None] = lambda _: None
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one segment: a second one would wait 40 ms for the acknowledgement of the first.
            wbufsize = -1

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_DELETE(self) -> None:
                self._answer()

            def _answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parameters = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                if "form-urlencoded" in self.headers.get("Content-Type", ""):
                    parameters |= {name: values[0] for name, values in parse_qs(body.decode()).items()}
                request = Request(self.command, parts.path, parameters, body, self.headers.get("Accept", "*/*"))
                proxy.requests.append(request)
                answer = proxy.fault(request) or proxy.answer(request, self.headers)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def address(self, database: str) -> str:
        """The address of a database, for `--store`."""
        return self.url.replace("http:", "influx:") + "/" + database

    def answer(self, request: Request, headers: Any) -> Fault:
        """As the generation's documentation says."""
        is_known = not self.token or headers.get("Authorization") == f"Token {self.token}"
        if request.path == "/ping" and (is_known or self.generation < 3):
            return self._ping()
        if not is_known:
            return self._error(401, "unauthorized", "unauthorized access")
        if request.path == "/query":
            return self._query(request)
        if request.path == ("/api/v3/write_lp" if self.generation == 3 else "/api/v2/write"):
            return self._write_lp(request) if self.generation == 3 else self._write(request)
        if self.generation == 1 and request.path == "/write":
            return self._forward(request.parameters["db"], request.body)
        if request.method == "DELETE":
            return self._delete(request)
        if self.generation == 2 and request.path.startswith(("/api/v2/orgs", "/api/v2/dbrps", "/api/v2/buckets")):
            return self._resources(request)
        if self.generation == 3 and request.path == "/api/v3/configure/database":
            return self._configure(json.loads(request.body))
        return self._error(404, "not found", "path not found")

    def _configure(self, asked: dict[str, str]) -> Fault:
        """Make a database of 3.x; before 3.2 it knows nothing of a retention period."""
        name = asked["db"]
        if not _NAME_3.fullmatch(name):
            return self._error(400, "", _WRONG_NAME_3)
        if name in self.buckets:
            return _json(409, {"error": "attempted to create a resource that already exists"})
        number = tuple(map(int, self.version.split(".")[:2]))
        period = asked.get("retention_period") if number >= (3, 2) else None
        assert asked.keys() <= {"db", "retention_period"}
        self.make(name, None if period is None else int(period.removesuffix("s")) * 1000)
        return _json(200, {})

    def _resources(self, request: Request) -> Fault:
        """Organizations, buckets, and the mappings of databases to buckets, of which those of buckets' own names are
        virtual since 2.4.0."""
        if request.path == "/api/v2/orgs":
            return _json(200, {"orgs": [{"id": ORGANIZATION, "name": "acme"}]})
        if request.path == "/api/v2/buckets":
            return self._buckets(request)
        if request.path.startswith("/api/v2/buckets/"):
            return self._bucket(request.path.rpartition("/")[2])
        name = request.parameters["db"]
        found = [{"bucketID": _id(self.mapped[name])}] if name in self.mapped else []
        virtual = [{"bucketID": _id(name), "virtual": True}] if name in self.buckets else []
        about = {"database": name, "orgID": ORGANIZATION}
        mappings = [about | mapping | {"default": not place} for place, mapping in enumerate((*found, *virtual))]
        return _json(200, {"content": mappings})

    def _ping(self) -> Fault:
        version = {"X-Influxdb-Version": self.version}
        if self.generation < 3:
            return Fault(204, headers=version)
        return Fault(200, json.dumps({"version": self.version, "revision": "83b589b883"}).encode(), version)

    def make(self, name: str, kept_ms: int | None = None) -> None:
        """Make a bucket or database, to keep points for so long (None: for ever)."""
        self.buckets.add(name)
        self.influx.query(f'CREATE DATABASE "{name}"')
        if kept_ms is not None:
            self.keep(name, kept_ms)

    def keep(self, name: str, span_ms: int) -> None:
        """Keep the points of a bucket or database for so long."""
        self.kept[name] = span_ms
        self.influx.query(f'ALTER RETENTION POLICY "autogen" ON "{name}" DURATION {span_ms}ms SHARD DURATION 1h')

    def _delete(self, request: Request) -> Fault:
        """A bucket by its id in 2.x, a database by its name in 3.x, with all that is in it."""
        names = {request.parameters.get("db", "")}
        if self.generation == 2:
            names = {one for one in self.buckets if request.path == f"/api/v2/buckets/{_id(one)}"}
        if not names & self.buckets:
            return self._error(404, "not found", "not found")
        for name in names:
            self.buckets.discard(name)
            self.influx.query(f'DROP DATABASE "{name}"')
        return Fault(204 if self.generation == 2 else 200)

    def _bucket(self, number: str) -> Fault:
        for name in self.buckets:
            if _id(name) == number:
                rules = [{"type": "expire", "everySeconds": self.kept[name] // 1000}] if name in self.kept else []
                return _json(200, {"id": number, "name": name, "orgID": ORGANIZATION, "retentionRules": rules})
        return self._error(404, "not found", "bucket not found")

    def _buckets(self, request: Request) -> Fault:
        if request.method == "GET":
            names = self.buckets & {request.parameters["name"]}
            return _json(200, {"buckets": [{"id": _id(name), "name": name, "orgID": ORGANIZATION} for name in names]})
        asked = json.loads(request.body)
        assert asked["orgID"] == ORGANIZATION
        rules = asked.get("retentionRules", [])
        if len(rules) > 1 or any(rule["type"] != "expire" or rule["everySeconds"] < 0 for rule in rules):
            return self._error(422, "unprocessable entity", "unexpected retention rules")
        self.make(asked["name"], next((rule["everySeconds"] * 1000 for rule in rules if rule["everySeconds"]), None))
        return _json(201, asked | {"id": _id(asked["name"])})

    def _query(self, request: Request) -> Fault:
        name = request.parameters["db"]
        name = self.mapped.get(name, name)
        request.parameters["db"] = name
        if self.generation == 2 and name not in self.buckets:
            return self._error(404, "not found", f'no dbrp mapping found for "{name}"')
        if self.generation == 3:
            assert ";" not in request.parameters["q"].strip(";"), "3.x takes one statement at a time"
            if refused := self._refused(name, request.parameters["q"]):
                return refused
        answer = self._pool.request(
            "POST", f"{self.influx.url}/query", fields=request.parameters, encode_multipart=False,
            headers={"Accept": request.accept},
        )  # fmt: skip
        return Fault(answer.status, answer.data, {"Content-Type": answer.headers["Content-Type"]})

    def _refused(self, name: str, text: str) -> Fault | None:
        """What 3.x does not do: delete, touch many files, and look back for tags further than a day by itself."""
        if text.startswith(("DELETE", "DROP")):
            return self._error(405, "", "This feature is not implemented: DELETE")
        if text.startswith("SHOW TAG VALUES") and "time" not in text:
            recent = (time.time() - 86_400) * 1000
            [key] = re.findall(r'WITH KEY = "(\w+)"', text)
            found = {
                value for _, series, end in self.written if float(end) >= recent
                for value in re.findall(rf",{key}=((?:\\.|[^, ])+)", series)
            }  # fmt: skip
            rows = [[key, value] for value in sorted(found)]
            series = [{"name": "measurements", "columns": ["key", "value"], "values": rows}]
            return _json(200, {"results": [{"statement_id": 0} | ({"series": series} if rows else {})]})
        measurement = re.search(r'FROM "(\w+)"', text)
        if not text.startswith("SELECT") or measurement is None or "now()" in text:
            return None
        first, last = (re.search(rf"time {sign} (-?\d+)ms", text) for sign in (">=", "<"))
        start = int(first[1]) // _FILE_MS if first else -(1 << 62)
        end = int(last[1]) // _FILE_MS if last else 1 << 62
        touched = sum(start <= chunk <= end for chunk in self.files.get((name, measurement[1]), ()))
        if touched > _FILES:
            return Fault(500, f"Query would scan {touched} Parquet files, exceeding the file limit.".encode())
        return None

    def _write(self, request: Request) -> Fault:
        """The organization and the bucket are looked up, each by its name or id, then the points are checked."""
        assert request.parameters["precision"] == "ms"
        if request.parameters["org"] not in (ORGANIZATION, "acme"):
            return self._error(404, "not found", f'organization name "{request.parameters["org"]}" not found')
        name = next((one for one in self.buckets if request.parameters["bucket"] in (one, _id(one))), None)
        if name is None:
            return self._error(404, "not found", f'bucket "{request.parameters["bucket"]}" not found')
        answer = self._forward(name, request.body)
        if answer.status == 204:
            return answer
        message = json.loads(answer.body)["error"]
        if "partial write" in message and "unable to parse" not in message:
            return self._error(422, "unprocessable entity", message)
        return self._error(answer.status, "invalid", message)

    def _write_lp(self, request: Request) -> Fault:
        """Nothing is written where a line is wrong, and the first that is gets named (influxdb3_server/src/http.rs)."""
        name = request.parameters["db"]
        assert (request.parameters["precision"], request.parameters["accept_partial"]) == ("millisecond", "false")
        if not _NAME_3.fullmatch(name):
            return self._error(400, "", _WRONG_NAME_3)
        if name not in self.buckets:
            self.make(name)
        for number, (line, fields) in enumerate(_types(request.body.decode()), 1):
            for field, kind in fields.items():
                measurement = line.partition(",")[0].partition(" ")[0]
                if self._columns.setdefault((name, measurement, field), kind) != kind:
                    wrong = f"invalid column type for column '{field}', got iox::column_type::field::{kind}"
                    data = {"original_line": line[:32], "line_number": number, "error_message": wrong}
                    return _json(400, {"error": "line protocol parsing error", "data": data})
        # Of the values that a field has in points of one series and time any may be answered, for ever: this server
        # keeps the first. Fields of which only one of the points has a value are all answered (iox_query's
        # provider/deduplicate/algo.rs).
        points: Points = {}
        for key, fields in _points(name, request.body.decode()):
            if key in points:
                self.overwritten.append(key)
            points[key] = _united(points.get(key, fields), fields)
        new = [f"{key[1]} {_united(self.written.get(key, fields), fields)} {key[2]}"
               for key, fields in points.items() if self.written.get(key) != fields]  # fmt: skip
        # Without a time of its own a point gets the server's.
        new += [line for line in request.body.decode().split("\n") if line and not _LINE.fullmatch(line)]
        answer = self._forward(name, "\n".join(new).encode(), points)
        if answer.status == 400 and b"points beyond retention policy" in answer.body:
            # 3.x takes such points, and leaves them out of answers; the server behind has written the others.
            self._remember(name, points)
            return Fault(204)
        assert answer.status == 204, answer.body
        return answer

    def _forward(self, name: str, body: bytes, points: Points | None = None) -> Fault:
        """Write to the InfluxDB behind, and remember what is written."""
        path = f"/write?{urlencode({'db': name, 'precision': 'ms'})}"
        answer = self._pool.request("POST", self.influx.url + path, body=body)
        if answer.status == 204:
            self._remember(name, dict(_points(name, body.decode())) if points is None else points)
        return Fault(answer.status, answer.data)

    def _remember(self, name: str, points: Points) -> None:
        """That points were written."""
        for key, fields in points.items():
            before = self.written.get(key, fields)
            if before != fields:
                self.overwritten.append(key)
            measurement = re.split("[ ,]", key[1])[0]
            self.files.setdefault((name, measurement), set()).add(int(key[2]) // _FILE_MS)
            self.written[key] = _united(before, fields) if self.generation == 3 else _united(fields, before)

    def _error(self, status: int, code: str, message: str) -> Fault:
        if self.generation == 3:
            return _json(status, {"error": message})
        return _json(status, {"code": code, "message": message})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._pool.clear()


_NAME_3 = re.compile("[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)?")
_WRONG_NAME_3 = "invalid character in database or rp name: must be ASCII, containing only letters, numbers, underscores"
_LINE = re.compile(r"((?:\\[ ,=]|[^ ])+) (.*) (-?\d+)")
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^,]*)')


def _points(bucket: str, body: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The fields of each line, by bucket, series and time."""
    for line in body.split("\n"):
        found = _LINE.fullmatch(line)
        if found:
            yield (bucket, found[1], found[3]), found[2]


def _united(first: str, second: str) -> str:
    """The fields of two points; those that both have with the values of the first."""
    if first == second:
        return first
    fields = dict(_FIELD.findall(second)) | dict(_FIELD.findall(first))
    return ",".join(f"{name}={value}" for name, value in fields.items())


def _types(body: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line, with the types of its fields."""
    for line in body.split("\n"):
        found = _LINE.fullmatch(line)
        if found:
            yield line, {name: _type(value) for name, value in _FIELD.findall(found[2])}


def _type(value: str) -> str:
    if value.startswith('"'):
        return "string"
    return "boolean" if value in ("true", "false") else "integer" if value.endswith("i") else "float"


def _id(bucket: str) -> str:
    """A bucket's id."""
    return f"{zlib.crc32(bucket.encode()):016x}"


def _json(status: int, content: object) -> Fault:
    return Fault(status, json.dumps(content).encode(), {"Content-Type": "application/json"})
