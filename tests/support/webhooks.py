"""A receiver of webhooks, as an application would have it: checks signatures, and fails as it is told."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

__all__ = ["KEY", "Received", "Receiver"]

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Received(NamedTuple):
    """One request that carried a valid signature."""

    id: str
    body: dict[str, Any]
    headers: dict[str, str]


class Receiver:
    """Listens on a port of 127.0.0.1; `answer` is called for each request and gives the status, or None to hang."""

    def __init__(self, answer: Callable[[int], int | None] = lambda _: 204) -> None:
        self.requests: list[Received] = []
        self.accepted: list[Received] = []
        self.invalid = 0
        self._answer = answer
        self._closing = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.take(self, body, headers)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook/with-a-secret-path"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def take(self, handler: BaseHTTPRequestHandler, body: bytes, headers: dict[str, str]) -> None:
        """Answer one request."""
        try:
            content: Any = Webhook(KEY).verify(body, headers)
        except WebhookVerificationError:
            self.invalid += 1
            handler.send_response(400)
            handler.end_headers()
            return
        received = Received(headers["webhook-id"], content, headers)
        status = self._answer(len(self.requests))
        self.requests.append(received)
        if status is None:
            self._closing.wait(20)
            return
        if status // 100 == 2:
            self.accepted.append(received)
        handler.send_response(status)
        if status // 100 == 3:
            handler.send_header("Location", self.url)
        handler.end_headers()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
