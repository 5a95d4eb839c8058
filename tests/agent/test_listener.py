"""The listening thread, with servers that misbehave in every way, and the remote control behind it."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from agent.connection import Connection
from agent.identity import HostIdentity
from agent.listener import Listener
from agent.plan import CommandBox
from agent.remote_configuration import RemoteConfigurationClient, RemoteStateFile
from contract.agent_protocol import SettingsInForce
from contract.retry import Backoff
from tests.support.agents import wait_until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOLD = b'event: instructions\nid: v\ndata: {"version":"v","settings":{"samples":7}}\n\n'


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


class Server:
    """Answers each connection with the next of some lists of pieces, and keeps the last open."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.requests: list[str] = []
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError):
                self.requests.append(client.recv(65536).decode())
                for piece in self._answers.pop(0) if self._answers else [HEAD]:
                    client.sendall(piece)
            if self._answers:
                client.close()
            else:
                self._open.append(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for client in self._open:
            client.close()


@contextlib.contextmanager
def listened(tmp_path: Path, server: Server, **bounds: float) -> Iterator[RemoteConfigurationClient]:
    """A listener to a server, that tries again soon whatever the server asks for."""
    soon = Backoff(uniform=lambda _least, _most: 0.02, retry_after_cap_s=0.0)
    url = f"http://127.0.0.1:{server.port}"
    own = SettingsInForce(interval=0.05, samples=100, metrics=["cpu"])
    remote = RemoteConfigurationClient(
        own, HostIdentity("a/b c", "Linux", "x"), RemoteStateFile(tmp_path, url), Connection(url, None), CommandBox()
    )
    remote.registered.set()
    closing = Event()
    thread = Thread(target=Listener("a/b c", Connection(url, "secret"), remote, closing, backoff=soon, **bounds).run)
    thread.start()
    try:
        yield remote
    finally:
        closing.set()
        server.close()
        thread.join()


def told(remote: RemoteConfigurationClient) -> bool:
    return remote._received is not None and remote._received.version == "v"


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + chunk(TOLD)],
        [HEAD, chunk(TOLD[:9]), chunk(TOLD[9:])],
        [HEAD, *(chunk(bytes([byte])) for byte in TOLD)],
        [HEAD, chunk(b": hello\nretry: 2000\n\n"), chunk(TOLD.replace(b"\n", b"\r\n"))],
        [HEAD, chunk(TOLD.replace(b'"v",', b'"v",\ndata: '))],
        [HEAD, chunk(b"event: future\ndata: {}\n\n" + TOLD)],
        [HEAD, chunk(b"event: instructions\ndata: no JSON\n\n" + TOLD)],
        [HEAD.replace(b"Transfer-Encoding: chunked\r\n", b""), TOLD],
    ],
    ids=["at once", "in two", "byte by byte", "CRLF", "two lines of data", "unknown event", "no JSON", "not chunked"],
)
def test_what_the_service_says_is_heard_however_it_comes(tmp_path: Path, pieces: list[bytes]) -> None:
    server = Server(pieces)
    with listened(tmp_path, server) as remote:
        wait_until(lambda: told(remote), "the instructions")
    assert server.requests[0].startswith("GET /api/v1/agents/a%2Fb%20c/commands HTTP/1.1\r\n")
    assert "Last-Event-ID: none\r\n" in server.requests[0]
    assert "Authorization: Bearer secret\r\n" in server.requests[0]


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"nonsense\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n" + b"hello"],
        [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"],
        [b"HTTP/1.1 503 Busy\r\nRetry-After: 300\r\nContent-Length: 0\r\n\r\n"],
        [HEAD, b"5\r\nabc"],
        [HEAD, b"zz\r\nabc"],
        [HEAD, chunk(b"data: " + b"x" * 300_000)],
        [HEAD, chunk(b"event: end\ndata: replaced\n\n")],
        [HEAD, b"0\r\n\r\n"],
    ],
    ids=["hangs up", "no HTTP", "a page", "redirect", "503", "cut", "bad chunk", "huge line", "end", "empty"],
)
def test_after_a_stream_that_fails_the_next_is_tried(tmp_path: Path, pieces: list[bytes]) -> None:
    server = Server(pieces, [HEAD, chunk(TOLD)])
    with listened(tmp_path, server) as remote:
        wait_until(lambda: told(remote), "the instructions")
        assert remote.listening
    assert len(server.requests) == 2


def test_a_silent_stream_is_given_up(tmp_path: Path) -> None:
    server = Server()
    with listened(tmp_path, server, silence_s=0.2):
        wait_until(lambda: len(server.requests) >= 3, "further attempts")


def test_an_event_that_dribbles_in_for_ever_is_given_up(tmp_path: Path) -> None:
    server = Server([HEAD, *(chunk(b"data: x\n") for _ in range(100))], [HEAD, chunk(TOLD)])
    with listened(tmp_path, server, unfinished_s=0.0) as remote:
        wait_until(lambda: told(remote), "the next stream's instructions")


def test_a_service_that_does_not_know_the_agent_hears_its_state_first(tmp_path: Path) -> None:
    server = Server([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], [HEAD, chunk(TOLD)])
    with listened(tmp_path, server) as remote:
        wait_until(lambda: not remote.registered.is_set(), "the wish to be registered")
        assert len(server.requests) == 1
        remote.registered.set()
        wait_until(lambda: told(remote), "the instructions")
