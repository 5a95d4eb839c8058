"""HTTP to the service, with real servers on this machine."""

import contextlib
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from threading import Event, Thread

import pytest

from agent.connection import Connection, ServiceUnreachable, reports_url
from tests.agent.test_sender import report
from tests.support.agents import Answering, FakeService, serving

ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("url", "posts_to"),
    [
        ("http://localhost:8888", "http://localhost:8888/api/v1/metrics"),
        ("http://localhost:8888/", "http://localhost:8888/api/v1/metrics"),
        ("http://localhost:8888/api/v1/metrics", "http://localhost:8888/api/v1/metrics"),
        ("https://example.org/loadlens", "https://example.org/loadlens/api/v1/metrics"),
    ],
)
def test_the_original_systems_address_is_taken_as_it_is(url: str, posts_to: str) -> None:
    assert reports_url(url) == posts_to


@contextlib.contextmanager
def raw_server(answers: list[bytes], context: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[int]]]:
    """A server that gives each connection some answers and then closes it; its port, and requests per connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[int] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            requests.append(0)
            with (
                contextlib.suppress(OSError),
                client,
                context.wrap_socket(client, server_side=True) if context else client as stream,
            ):
                for answer in answers:
                    if not read_request(stream):
                        break
                    requests[-1] += 1
                    stream.sendall(answer)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def read_request(stream: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        part = stream.recv(65536)
        if not part:
            return b""
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    [length] = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while len(body) < length:
        body += stream.recv(65536)
    return body


def test_a_connection_is_kept_for_the_next_report() -> None:
    with raw_server([ACCEPTED] * 3) as (port, requests):
        connection = Connection(f"http://127.0.0.1:{port}", None)
        for number in range(3):
            assert connection.post([report(number)], 5.0).status == 202
        connection.close()
    assert requests == [3]


def test_a_connection_that_the_service_closed_meanwhile_is_opened_again() -> None:
    with raw_server([ACCEPTED]) as (port, requests):
        connection = Connection(f"http://127.0.0.1:{port}", None)
        for number in range(3):
            assert connection.post([report(number)], 5.0).status == 202
        connection.close()
    assert requests == [1, 1, 1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "Remote end closed connection without response"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        (b"HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\n{}", "IncompleteRead"),
    ],
)
def test_what_is_no_answer_is_said_in_words(answer: bytes, reason: str) -> None:
    with raw_server([answer]) as (port, _):
        connection = Connection(f"http://127.0.0.1:{port}", None)
        with pytest.raises(ServiceUnreachable, match=reason):
            connection.post([report(0)], 5.0)


def test_nobody_listening_is_said_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ServiceUnreachable, match="Connection refused"):
        Connection(f"http://127.0.0.1:{port}", None).post([report(0)], 5.0)


def test_a_service_that_hangs_is_given_up() -> None:
    service = FakeService()
    service.hang = Event()
    with serving(service):
        connection = Connection(service.url, None)
        with pytest.raises(ServiceUnreachable, match="no answer in time"):
            connection.post([report(0)], 0.2)
        service.hang.set()


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7.0, 7.0),
        ("0", 0.0, 0.0),
        ("-5", 0.0, 0.0),
        ("soon", 0.0, 0.0),
        ("in an hour", 3300.0, 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, least: float, most: float) -> None:
    if header == "in an hour":
        header = formatdate(time.time() + 3600, usegmt=True)
    service = FakeService()
    service.answers = [Answering(503, headers={"Retry-After": header})]
    with serving(service):
        connection = Connection(service.url, None)
        assert least <= connection.post([report(0)], 5.0).retry_after_s <= most
        connection.close()


def test_several_reports_are_a_compressed_json_array() -> None:
    bodies: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            bodies.append(read_request(client))
            client.sendall(ACCEPTED)

    thread = Thread(target=serve)
    thread.start()
    connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", None)
    connection.post([report(0), report(1), report(2)], 5.0)
    connection.close()
    thread.join()
    listener.close()
    assert json.loads(gzip.decompress(bodies[0])) == [json.loads(report(number)) for number in range(3)]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, chain


def test_https_is_checked_against_the_systems_authorities(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, chain = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    with raw_server([ACCEPTED], context) as (port, _):
        with pytest.raises(ServiceUnreachable, match="certificate verify failed"):
            Connection(f"https://localhost:{port}", None).post([report(0)], 5.0)
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        connection = Connection(f"https://localhost:{port}", None)
        assert connection.post([report(0)], 5.0).status == 202
        connection.close()


def test_a_server_that_drips_holds_nobody_longer_than_one_that_is_silent() -> None:
    stop = Event()

    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            read_request(client)
            client.sendall(b"HTTP/1.1 202 Accepted\r\n")
            while not stop.wait(0.05):
                with contextlib.suppress(OSError):
                    client.sendall(b"X")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=drip, args=(listener,))
        server.start()
        try:
            connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", None)
            with pytest.raises(ServiceUnreachable, match="no answer in time"):
                connection.post([report(0)], 0.5)
        finally:
            stop.set()
            server.join()


@contextlib.contextmanager
def proxy_that_answers(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy on 127.0.0.1 that gives one answer to all: its port, and the heads that it got."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    received = client.recv(65536)
                    if received == b"end":
                        return
                    heads.append(received.partition(b"\r\n\r\n")[0])
                    client.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heads
        finally:
            with socket.create_connection(listener.getsockname()) as last:
                last.sendall(b"end")
            thread.join()


def test_a_proxy_is_asked_for_the_whole_address_with_its_own_credentials() -> None:
    with proxy_that_answers(ACCEPTED) as (port, heads):
        connection = Connection("http://loadlens.example.org:8888", "t", f"http://ann:s%20t@127.0.0.1:{port}")
        assert connection.post([report(0)], 5.0).status == 202
        connection.close()
    head = heads[0].decode()
    assert head.startswith("POST http://loadlens.example.org:8888/api/v1/metrics HTTP/1.1")
    assert "Host: loadlens.example.org:8888" in head
    assert "Proxy-Authorization: Basic YW5uOnMgdA==" in head


def test_an_encrypted_service_is_reached_by_a_tunnel_that_sees_no_token() -> None:
    with proxy_that_answers(b"HTTP/1.1 403 Forbidden\r\n\r\n") as (port, heads):
        connection = Connection("https://loadlens.example.org", "secret", f"http://ann:x@127.0.0.1:{port}")
        with pytest.raises(ServiceUnreachable, match="403"):
            connection.post([report(0)], 5.0)
    head = heads[0].decode()
    assert head.startswith("CONNECT loadlens.example.org:443 HTTP/1.")
    assert "Proxy-Authorization: Basic" in head
    assert "secret" not in head
