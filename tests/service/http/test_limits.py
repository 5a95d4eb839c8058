"""One request does not stop the others: what is sent has a length and a deadline, and so has the end of the service."""

import asyncio
import contextlib
import gzip
import signal
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Self

import httpx
import pytest
import zstandard

from tests.service.conftest import StartService
from tests.support.agent_states import state
from tests.support.hostile import FLEET, HEAVY
from tests.support.reports import END_MS, METRICS, as_json, entries, history, original, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

CPU_S = 2.0
"""What a heavy request may take of the processor; what was quadratic took 7 to 10 s."""


class Watch:
    """How much of the processor the service takes meanwhile."""

    def __init__(self, service: RunningService) -> None:
        self._worker = service.worker()
        self.cpu_s = 0.0

    def _taken(self) -> float:
        times = self._worker.cpu_times()
        return float(times.user + times.system)

    def __enter__(self) -> Self:
        self._before = self._taken()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = self._taken() - self._before


def raw(port: int, content: bytes) -> bytes:
    """What is answered to some bytes, until the service closes, or has answered without closing."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(content)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                answer += part
                if b"connection: close" not in answer.lower():
                    break
        return answer


@pytest.mark.parametrize("what", HEAVY)
def test_a_heavy_request_is_refused_quickly_and_in_few_words(service: RunningService, what: str) -> None:
    heavy = HEAVY[what]
    with service.client() as client:
        assert client.get("/readyz").status_code == 200
        with Watch(service) as watch:
            answer = client.request(heavy.method, heavy.url, content=heavy.body, headers=[*heavy.headers])
    assert 400 <= answer.status_code < 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.content) < 50_000
    assert watch.cpu_s < CPU_S


@pytest.mark.parametrize("form", ["lines", "lines, said to be JSON", "an array"])
def test_of_many_wrong_reports_a_hundred_are_listed_and_all_are_counted(
    client: httpx.Client, user: str, form: str
) -> None:
    many = [as_json(small(user, END_MS)), *[b"{}"] * 1000]
    content = b"[" + b",".join(many) + b"]" if form == "an array" else b"\n".join(many)
    media_type = "application/x-ndjson" if form == "lines" else "application/json"
    answer = client.post(METRICS, content=content, headers={"Content-Type": media_type})
    assert answer.status_code == 202
    document = answer.json()
    assert (document["accepted"], document["rejected_count"]) == (1, 1000)
    assert [one["index"] for one in document["rejected"]] == [*range(1, 101)]
    few = client.post(METRICS, content=b"1\n" * 3, headers={"Content-Type": "application/x-ndjson"}).json()
    assert len(few["rejected"]) == 3
    assert "rejected_count" not in few


def test_gzip_members_and_zstd_frames_one_behind_the_other_are_one_body(client: httpx.Client, user: str) -> None:
    body = as_json(small(user, END_MS)) + b" " * 200_000
    for place, (encoding, compress) in enumerate((("gzip", gzip.compress), ("zstd", zstandard.compress))):
        body = as_json(small(user, END_MS + place)) + b" " * 200_000
        parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
        content = b"".join(map(compress, parts))
        answer = client.post(METRICS, content=content, headers={"Content-Encoding": encoding})
        assert answer.json() == {"accepted": 1, "duplicates": 0}, encoding


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_compressed_body_that_is_cut_short_is_refused_wherever_it_is_cut(
    client: httpx.Client, user: str, encoding: str
) -> None:
    # The report is whole early on: what follows is white space.
    body = as_json(small(user, END_MS)) + b" " * 100
    content = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
    for end in range(1, len(content)):
        answer = client.post(METRICS, content=content[:end], headers={"Content-Encoding": encoding})
        assert answer.status_code == 400, f"cut at {end} of {len(content)}"
    assert client.post(METRICS, content=content, headers={"Content-Encoding": encoding}).json()["accepted"] == 1


def test_the_head_of_a_request_has_a_limit(service: RunningService) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 4_000_000,
    ):
        answer = raw(service.port, head)
        assert not answer or answer.startswith(b"HTTP/1.1 431 "), answer[:100]


def test_a_head_that_goes_on_for_ever_takes_no_memory(service: RunningService) -> None:
    before = service.worker().memory_info().rss
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port)) as connection, contextlib.suppress(OSError):
        connection.settimeout(60)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        for _ in range(150):
            connection.sendall(b"X: " + b"a" * (1 << 20) + b"\r\n")
            sent += 1
    assert sent < 20
    assert service.worker().memory_info().rss - before < 50 << 20


@pytest.mark.parametrize("line", [b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\nHost: localhost\r\n\r\n"])
def test_other_versions_of_http_are_refused(service: RunningService, line: bytes) -> None:
    assert raw(service.port, line).startswith(b"HTTP/1.1 505 ")


def test_a_request_that_is_never_finished_is_closed(start: StartService) -> None:
    service = start()
    beginnings = {
        b"": 15,
        b"GET / HT": 15,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n": 15,
        b"POST /api/v1/metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{": 60,
        b"POST /api/v1/metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{": 60,
    }

    async def closed(beginning: bytes, expected_s: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        began = time.monotonic()
        writer.write(beginning)
        answer = await asyncio.wait_for(reader.read(), expected_s + 30)
        assert time.monotonic() - began > expected_s - 2
        assert not answer or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")), answer[:60]
        writer.close()

    async def all_closed() -> None:
        await asyncio.gather(*(closed(*one) for one in beginnings.items()))

    with service.client() as client:
        assert client.get("/readyz").status_code == 200
        asyncio.run(all_closed())
        assert client.get("/readyz").status_code == 200
    assert service.stop() == 0


@pytest.fixture
def held(start: StartService) -> Iterator[tuple[RunningService, list[socket.socket]]]:
    """A service with clients of all kinds that never end what they began."""
    service = start("--flush-interval", "3600")
    with service.client() as client:
        for number in range(50):
            post(
                client,
                original("one", end_timestamp=END_MS + number * 6000, start_timestamp=END_MS + number * 6000 - 5),
            )
    host = b"Host: localhost\r\n"
    requests = [
        b"",
        b"GET / HTT",
        b"GET / HTTP/1.1\r\n" + host,
        b"POST /api/v1/metrics HTTP/1.1\r\n" + host + b"Content-Length: 1000\r\n\r\n{",
        b"POST /api/v1/metrics HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n3\r\n{",
        b"GET /api/v1/stream HTTP/1.1\r\n" + host + b"\r\n",
        2 * (b"GET /api/v1/stream HTTP/1.1\r\n" + host + b"\r\n") + b"GET / HTT",
        b"GET /api/v1/windows/byUser/one?resample_rate=raw&start=0 HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /api/v1/stream HTTP/1.1\r\n" + host + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ]
    connections = []
    for request in requests:
        connections.append(socket.create_connection(("127.0.0.1", service.port)))
        connections[-1].sendall(request)
    yield service, connections
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_service_ends_within_eight_seconds_whatever_clients_do(
    held: tuple[RunningService, list[socket.socket]], start: StartService, end: signal.Signals
) -> None:
    service, _ = held
    with service.client() as client:
        wait_until(lambda: "loadlens_stream_consumers 3.0" in client.get("/metrics").text, "the streams")
    service.process.send_signal(end)
    # Below the minute that a body without end once took; what is beyond eight seconds is a busy host's.
    assert service.process.wait(50) == 0
    assert "Traceback" not in service.log
    with start().client() as client:
        query = {"start": END_MS - 1000, "end": END_MS + 1_000_000, "stat": "count", "resample_rate": "1d"}
        assert sum(value for _, value in entries(history(client, "one", **query))) == 5000


# Users


def test_more_users_than_are_let_in_get_429_and_known_ones_go_on(start: StartService) -> None:
    service = start("--max-users", "10", "--flush-interval", "3600")
    with service.client() as client:
        for number in range(10):
            assert post(client, small(f"u{number}", END_MS)).status_code == 202
        refused = client.post(METRICS, content=as_json(small("one more", END_MS)))
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert "--max-users" in refused.json()["errors"][0]["detail"]
        assert post(client, small("u3", END_MS + 1000)).status_code == 202
        mixed = [small("u4", END_MS + 2000), small("another", END_MS), small("u5", END_MS + 2000)]
        answer = client.post(METRICS, content=as_json(mixed))
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 2
        assert [one["index"] for one in answer.json()["rejected"]] == [1]
        assert client.post(METRICS, content=as_json([small("x", END_MS), small("y", END_MS)])).status_code == 429
        assert "--max-users" in str(client.get("/readyz").json()["problems"])
        assert len(client.get("/api/v1/users").json()["users"]) == 10
        said = client.post("/api/v1/agents/one more/state", json=state())
        assert (said.status_code, "--max-users" in said.text) == (429, True)
        assert client.post("/api/v1/agents/u3/state", json=state()).status_code == 200
    service.stop()
    service = start("--max-users", "11")
    with service.client() as client:
        assert post(client, small("one more", END_MS)).status_code == 202
        assert client.post(METRICS, content=as_json(small("another", END_MS))).status_code == 429


def test_more_series_than_are_let_in_get_429_and_known_ones_go_on(start: StartService) -> None:
    service = start("--max-series", "200", "--flush-interval", "3600")
    with service.client() as client:

        def sent(user: str, count: int, later_ms: int = 0, **members: object) -> httpx.Response:
            metric = {"type": "CPU", "avg_utilization": 0.5, "avg_utilization_by_core": [0.5] * count, **members}
            return client.post(METRICS, content=as_json(small(user, END_MS + later_ms) | {"metrics": [metric]}))

        assert sent("big", 150).status_code == 202
        refused = sent("bigger", 60)
        assert (refused.status_code, "--max-series" in refused.text, "61 new ones" in refused.text) == (429, True, True)
        assert int(refused.headers["Retry-After"]) > 0
        assert "--max-series" in str(client.get("/readyz").json()["problems"])
        # Hosts and cores that are known go on, and so does what still has room.
        assert sent("big", 150, 1000).status_code == 202
        assert sent("small", 40).status_code == 202
        # Cores under other numbers are new ones.
        assert sent("small", 40, 1000, cores=[*range(1000, 1040)]).status_code == 429
        answer = client.post(METRICS, content=as_json([small(f"many {number}", END_MS) for number in range(9)]))
        assert (answer.status_code, answer.json()["accepted"]) == (202, 8)
        assert [one["index"] for one in answer.json()["rejected"]] == [8]
        # A host that is sent over and over in one batch counts once.
        assert client.post(METRICS, content=as_json([small("late", END_MS + n) for n in range(3)])).status_code == 429
        assert "bigger" not in [user["user_id"] for user in client.get("/api/v1/users").json()["users"]]
    service.stop()
    service = start("--max-series", "400")
    with service.client() as client:
        assert client.post(METRICS, content=as_json([small("late", END_MS + n) for n in range(300)])).status_code == 202
        assert sent("bigger", 60).status_code == 202


def test_fifty_thousand_users_take_bounded_memory_and_listing_them_holds_nobody_up(start: StartService) -> None:
    service = start("--max-users", "50000")
    with service.client() as client:
        client.get("/readyz")
        before = service.worker().memory_info().rss
        for first in range(0, 60_000, 5_000):
            lines = b"\n".join(as_json(small(f"user-{number:06}", END_MS)) for number in range(first, first + 5_000))
            content = zlib.compress(lines, wbits=31)
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}
            assert client.post(METRICS, content=content, headers=headers).status_code == (
                202 if first < 50_000 else 429
            )
        grown = service.worker().memory_info().rss - before
        assert grown / 50_000 < 8_000, f"{grown / 50_000:.0f} bytes a user"
        with Watch(service) as watch:
            page = client.get("/api/v1/users").json()
            for path in ("/", "/metrics", "/api/v1/agents", FLEET):
                assert client.get(path).status_code == 200
        assert page["next"]
        assert watch.cpu_s < 3 * CPU_S


# What was wrong without being said


def test_unknown_members_of_a_body_are_refused_and_those_of_the_original_work(client: httpx.Client, user: str) -> None:
    post(client, original(user))
    path = f"{METRICS}/cpuLoadAvg/byUser/{user}"
    for url, member, meant in ((path, "strat", "start"), (FLEET, "core", ""), (path, "by", ""), (path, "stop", "")):
        answer = client.request("GET", url, json={member: 0})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == f"/{member}"
        assert meant in answer.json()["errors"][0]["detail"]
    body = {"start": "2018-07-12T12:15:00Z", "end": "2018-07-12T16:15:00Z", "resample_rate": "15m"}
    assert client.request("GET", path, json=body).status_code == 200
    assert len(client.request("GET", path, json=body).json()["entries"]) == 1


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/metrics", "/api/v1/users", METRICS, FLEET])
def test_head_answers_what_get_would_without_its_body(client: httpx.Client, path: str) -> None:
    answer, whole = client.head(path), client.get(path)
    assert answer.status_code == whole.status_code == 200
    assert answer.content == b""
    assert answer.headers["Content-Type"] == whole.headers["Content-Type"]


def test_text_of_a_report_that_is_not_utf_8_is_refused(client: httpx.Client, user: str) -> None:
    body = as_json(small(user, END_MS, note="x"))
    assert client.post(METRICS, content=body.replace(b'"x"', b'"\xff\xfe"')).status_code == 400
    assert client.post(METRICS, content=body).status_code == 202


def test_a_number_beyond_any_quantity_is_refused(client: httpx.Client, user: str) -> None:
    def network(value: float) -> dict[str, object]:
        return {"type": "NETWORK", "received_bytes": {"avg": value, "max": value}, "sent_bytes": {"avg": 0}}

    refused = client.post(METRICS, content=as_json(original(user, metrics=[network(1e300)])))
    assert refused.status_code == 422
    assert "1e+18" in refused.json()["errors"][0]["detail"]
    for place in range(3):
        report = original(user, metrics=[network(10.0 ** (6 * place + 6))], end_timestamp=END_MS + place)
        assert client.post(METRICS, content=as_json(report)).status_code == 202
    for stat in ("mean", "var", "std", "min", "max", "p95", "count"):
        answer = history(client, user, "networkReceivedBytes", stat=stat, resample_rate="1d")
        assert all(isinstance(value, float | int) and value < 1e37 for _, value in entries(answer))


@pytest.mark.parametrize("accept", ["text/html,", ",text/html", "text/html, ,", "text/html,,*/*;q=0.1"])
def test_empty_elements_of_accept_count_for_nothing(client: httpx.Client, user: str, accept: str) -> None:
    post(client, original(user))
    csv = client.get(FLEET, headers={"Accept": accept.replace("html", "csv")})
    assert csv.status_code == 200
    assert csv.headers["Content-Type"].startswith("text/csv")


def test_the_scheme_of_a_token_may_be_in_lower_case(start: StartService) -> None:
    with start("--token", "secret").client() as client:
        for scheme, status in (("Bearer", 200), ("bearer", 200), ("BEARER", 200), ("Basic", 401)):
            answer = client.get("/api/v1/users", headers={"Authorization": f"{scheme} secret"})
            assert answer.status_code == status, scheme


@pytest.mark.parametrize(
    "limit", ["9" * 30, "-1", "1e3", "\u0663", "0x10", "", "0" * 19 + "59999", "0" * 19 + "1" + "9" * 30]
)
@pytest.mark.parametrize("parameter", ["after", "before", "limit"])
def test_numbers_of_pages_are_checked(client: httpx.Client, parameter: str, limit: str) -> None:
    answer = client.get("/api/v1/audit", params={parameter: limit})
    assert answer.status_code == (422 if limit else 200)


@pytest.mark.parametrize("name", ["a%0Ab", "a%0D", "a%00b", "%E2%80%A8", "a" * 3000])
def test_a_rules_name_is_a_line_of_text(client: httpx.Client, name: str) -> None:
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "for": "1m"}
    answer = client.put(f"/api/v1/rules/{name}", json=rule, headers={"If-None-Match": "*"})
    assert 400 <= answer.status_code < 500


def test_both_conditions_of_a_change_count(client: httpx.Client) -> None:
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "for": "1m"}
    url = "/api/v1/rules/both"
    assert client.put(url, json=rule, headers={"If-None-Match": "*"}).status_code in (200, 201)
    assert client.put(url, json=rule, headers={"If-Match": "*", "If-None-Match": "*"}).status_code == 412
    assert client.delete(url, headers={"If-Match": "*"}).status_code in (200, 204)
