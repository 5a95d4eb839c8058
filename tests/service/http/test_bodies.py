"""Request bodies: one report, arrays, lines; plain or compressed; within a limit."""

import gzip
import socket
import zlib
from collections.abc import Iterator

import httpx
import pytest
import zstandard

from tests.support.reports import END_MS, METRICS, as_json, entries, history, original, small
from tests.support.running import RunningService

pytestmark = pytest.mark.server

LIMIT = 8 * 1024 * 1024
ENCODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}


def counted(client: httpx.Client, user: str) -> list[float]:
    return [value for _, value in entries(history(client, user, stat="count"))]


def test_one_report_is_accepted(client: httpx.Client, user: str) -> None:
    answer = client.post(METRICS, content=as_json(original(user)))
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0})
    assert answer.headers["Content-Type"].startswith("application/json")
    assert counted(client, user) == [100]


@pytest.mark.parametrize("space", [b"", b" \r\n\t"])
def test_an_array_of_reports_is_accepted(client: httpx.Client, user: str, space: bytes) -> None:
    texts = [as_json(small(user, END_MS + number)) for number in range(500)]
    body = space + b"[" + space + (space + b"," + space).join(texts) + space + b"]" + space
    assert client.post(METRICS, content=body).json() == {"accepted": 500, "duplicates": 0}
    assert counted(client, user) == [500]


@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/jsonl; charset=utf-8", "application/json", "text/plain", None]
)
def test_lines_are_accepted_whatever_they_are_called(client: httpx.Client, user: str, content_type: str | None) -> None:
    body = b"\n".join(as_json(small(user, END_MS + number)) for number in range(10)) + b"\n"
    headers = {"Content-Type": content_type} if content_type else {}
    assert client.post(METRICS, content=body, headers=headers).json() == {"accepted": 10, "duplicates": 0}
    assert counted(client, user) == [10]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_bodies_are_accepted(client: httpx.Client, user: str, encoding: str) -> None:
    body = b"\n".join(as_json(small(user, END_MS + number)) for number in range(100))
    headers = {"Content-Encoding": encoding, "Content-Type": "application/x-ndjson"}
    answer = client.post(METRICS, content=ENCODINGS[encoding](body), headers=headers)
    assert answer.json() == {"accepted": 100, "duplicates": 0}
    assert counted(client, user) == [100]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_data_may_come_in_several_members(client: httpx.Client, user: str, encoding: str) -> None:
    parts = [as_json(small(user, END_MS + number)) + b"\n" for number in range(3)]
    body = b"".join(map(ENCODINGS[encoding], parts))
    assert client.post(METRICS, content=body, headers={"Content-Encoding": encoding}).json()["accepted"] == 3


def test_names_of_encodings_are_read_in_any_case(client: httpx.Client, user: str) -> None:
    for number, encoding in enumerate(("GZIP", "Identity", "")):
        body = as_json(small(user, END_MS + number))
        sent = gzip.compress(body) if encoding == "GZIP" else body
        answer = client.post(METRICS, content=sent, headers={"Content-Encoding": encoding})
        assert answer.json() == {"accepted": 1, "duplicates": 0}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_broken_compression_is_refused(client: httpx.Client, user: str, encoding: str) -> None:
    whole = ENCODINGS[encoding](as_json(original(user)))
    for broken in (b"no compression", whole[:-9], whole[:20], whole[:10] + b"\0" + whole[11:], b""):
        answer = client.post(METRICS, content=broken, headers={"Content-Encoding": encoding})
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert history(client, user).status_code == 404


@pytest.mark.parametrize("encoding", ["br", "deflate", "compress", "gzip, zstd", "\u00e4"])
def test_an_unknown_encoding_is_refused_with_those_that_are_known(
    client: httpx.Client, user: str, encoding: str
) -> None:
    body = zlib.compress(as_json(original(user)))
    answer = client.post(METRICS, content=body, headers={b"Content-Encoding": encoding.encode()})
    assert answer.status_code == 415
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "gzip, zstd" in answer.headers["Accept-Encoding"]


def padded(user: str, length: int) -> bytes:
    """The JSON of a report in exactly `length` bytes."""
    body = as_json(original(user))
    return body + b" " * (length - len(body))


def test_a_body_at_the_limit_is_accepted_and_one_byte_more_is_not(client: httpx.Client, user: str) -> None:
    answer = client.post(METRICS, content=padded(user, LIMIT + 1))
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert str(LIMIT) in answer.json()["detail"]
    assert history(client, user).status_code == 404
    assert client.post(METRICS, content=padded(user, LIMIT)).status_code == 202


def test_the_limit_holds_for_chunked_bodies(client: httpx.Client, user: str) -> None:
    def chunks(length: int) -> Iterator[bytes]:
        body = padded(user, length)
        yield from (body[place : place + 100_000] for place in range(0, length, 100_000))

    assert client.post(METRICS, content=chunks(LIMIT + 1)).status_code == 413
    assert history(client, user).status_code == 404
    assert client.post(METRICS, content=chunks(LIMIT)).status_code == 202


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_limit_holds_after_decompression(client: httpx.Client, user: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    for length in (LIMIT + 1, 40 * LIMIT):
        body = ENCODINGS[encoding](padded(user, length))
        assert len(body) < LIMIT
        assert client.post(METRICS, content=body, headers=headers).status_code == 413
    assert history(client, user).status_code == 404
    assert client.post(METRICS, content=ENCODINGS[encoding](padded(user, LIMIT)), headers=headers).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_many_small_bombs_are_one_large_one(client: httpx.Client, user: str, encoding: str) -> None:
    bomb = ENCODINGS[encoding](b" " * LIMIT)
    answer = client.post(METRICS, content=bomb * 50, headers={"Content-Encoding": encoding})
    assert answer.status_code == 413


def test_a_client_that_hangs_up_in_the_middle_of_a_body_leaves_no_trace(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    body = as_json(original(user))
    for sent in (b"", body[:100], body[:-1]):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            head = f"POST {METRICS} HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + sent)
    assert client.get("/healthz").status_code == 200
    assert history(client, user).status_code == 404


def test_requests_may_be_sent_one_behind_the_other_without_waiting(service: RunningService, user: str) -> None:
    requests = []
    for number in range(20):
        body = as_json(small(user, END_MS + number))
        requests.append(f"POST {METRICS} HTTP/1.1\r\nHost: [::]\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(b"".join(requests))
        answers = b""
        while answers.count(b'"duplicates":0}') < 20:
            received = connection.recv(65536)
            assert received, answers
            answers += received
    assert answers.count(b"HTTP/1.1 202") == 20
