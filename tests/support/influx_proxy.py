"""InfluxDB 2 and 3 as their documentation describes them, in front of a real InfluxDB 1 that keeps the points.

What is assumed of each generation is listed in docs/influxdb.md, with its source. Faults are answered instead where a
test asks for them.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import urllib3

from tests.support.influxd import RunningInflux

__all__ = ["Fault", "InfluxProxy", "Request"]

VERSIONS = {1: "1.8.10", 2: "v2.7.12", 3: "3.4.1"}


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

    def __init__(self, influx: RunningInflux, generation: int, token: str = "", bucket: str | None = None) -> None:
        self.influx = influx
        self.generation = generation
        self.token = token
        self.buckets = set() if bucket is None else {bucket}
        self.requests: list[Request] = []
        self.written: dict[tuple[str, str, str], str] = {}
        """The fields of every point that was taken, by bucket, series and time."""
        self.overwritten: list[tuple[str, str, str]] = []
        """Those that were written again with other fields."""
        self.fault: Callable[[Request], Fault | None] = lambda _: None
        self._pool = urllib3.PoolManager(retries=False, maxsize=8)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
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
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
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
        if request.path == "/api/v2/write":
            return self._write(request)
        if self.generation == 2 and request.path == "/api/v2/orgs":
            return _json(200, {"orgs": [{"id": "00aa", "name": "acme"}]})
        if self.generation == 2 and request.path == "/api/v2/buckets":
            return self._buckets(request)
        if self.generation == 3 and request.path == "/api/v3/configure/database":
            name = json.loads(request.body)["db"]
            if name in self.buckets:
                return _json(409, {"error": "attempted to create a resource that already exists"})
            self.make(name)
            return _json(200, {})
        return self._error(404, "not found", "path not found")

    def _ping(self) -> Fault:
        version = {"X-Influxdb-Version": VERSIONS[self.generation]}
        if self.generation < 3:
            return Fault(204, headers=version)
        return Fault(200, json.dumps({"version": VERSIONS[3], "revision": "83b589b883"}).encode(), version)

    def make(self, name: str) -> None:
        """Make a bucket or database."""
        self.buckets.add(name)
        self.influx.query(f'CREATE DATABASE "{name}"')

    def _buckets(self, request: Request) -> Fault:
        if request.method == "GET":
            return _json(200, {"buckets": [{"name": name} for name in self.buckets & {request.parameters["name"]}]})
        asked = json.loads(request.body)
        assert asked["orgID"] == "00aa"
        self.make(asked["name"])
        return _json(201, asked)

    def _query(self, request: Request) -> Fault:
        name = request.parameters["db"]
        if self.generation == 2 and name not in self.buckets:
            return self._error(404, "not found", f'no dbrp mapping found for "{name}"')
        if self.generation == 3:
            assert ";" not in request.parameters["q"].strip(";"), "3.x takes one statement at a time"
        answer = self._pool.request(
            "POST", f"{self.influx.url}/query", fields=request.parameters, encode_multipart=False,
            headers={"Accept": request.accept},
        )  # fmt: skip
        return Fault(answer.status, answer.data, {"Content-Type": answer.headers["Content-Type"]})

    def _write(self, request: Request) -> Fault:
        name = request.parameters["bucket"]
        assert request.parameters["precision"] == "ms"
        if name not in self.buckets:
            if self.generation == 2:
                return self._error(404, "not found", f'bucket "{name}" not found')
            self.make(name)
        path = f"/write?{urlencode({'db': name, 'precision': 'ms'})}"
        points = dict(_points(name, request.body.decode()))
        if self.generation == 3:
            # Of two points of one series and time either may be answered, for ever: this server keeps the first.
            new = [f"{series} {fields} {time}" for (_, series, time), fields in points.items()
                   if (name, series, time) not in self.written]  # fmt: skip
            request = request._replace(body="\n".join(new).encode())
        answer = self._pool.request("POST", self.influx.url + path, body=request.body)
        if answer.status == 204:
            self.overwritten += [key for key, fields in points.items() if self.written.get(key, fields) != fields]
            self.written = points | self.written if self.generation == 3 else self.written | points
            return Fault(204)
        message = json.loads(answer.data)["error"]
        if self.generation == 3:
            return _json(
                400, {"error": "partial write of line protocol occurred", "data": [{"error_message": message}]}
            )
        if "partial write" in message and "unable to parse" not in message:
            return self._error(422, "unprocessable entity", message)
        return self._error(answer.status, "invalid", message)

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


_LINE = re.compile(r"((?:\\[ ,=]|[^ ])+) (.*) (-?\d+)")


def _points(bucket: str, body: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The fields of each line, by bucket, series and time."""
    for line in body.split("\n"):
        found = _LINE.fullmatch(line)
        if found:
            yield (bucket, found[1], found[3]), found[2]


def _json(status: int, content: object) -> Fault:
    return Fault(status, json.dumps(content).encode(), {"Content-Type": "application/json"})
