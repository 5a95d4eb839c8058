"""The listening thread: a stream kept open, so that what the service asks is heard at once."""

import http.client
import logging
import time
from threading import Event

from agent.connection import Connection, ServiceUnreachable, reason_of
from agent.remote_configuration import RemoteConfigurationClient
from contract.retry import Backoff, retry_after_s
from contract.server_sent_events import EventStreamParser, EventTooLarge

SILENCE_S = 40.0
"""A stream that is silent for longer is dead: the service says something every 15 s."""
UNFINISHED_S = 30.0
"""The longest that one event may take to arrive."""
STEADY_S = 60.0
"""A stream that lasted longer was a good one: the next is tried soon."""
CAP_S = 300.0
"""The longest bound of the wait between attempts; instructions come with answers to reports meanwhile."""
HOPELESS_S = 600.0
"""The least wait where only a person, or a newer service, can help."""
MAX_EVENT_BYTES = 256 * 1024
_READ_BYTES = 16 * 1024

_log = logging.getLogger(__name__)


class _Broken(Exception):
    """The stream is over; the message says why."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Listener:
    """Opens the stream again and again, ever more slowly while that fails. Its failure harms nothing."""

    def __init__(
        self,
        user_id: str,
        connection: Connection,
        remote: RemoteConfigurationClient,
        closing: Event,
        *,
        backoff: Backoff | None = None,
        silence_s: float = SILENCE_S,
        unfinished_s: float = UNFINISHED_S,
    ) -> None:
        """Events go to `remote`; `closing` ends the waits between attempts."""
        self._user_id = user_id
        self._connection = connection
        self._remote = remote
        self._closing = closing
        self._backoff = backoff or Backoff(cap_s=CAP_S)
        self._silence_s = silence_s
        self._unfinished_s = unfinished_s
        self._problem = ""

    def run(self) -> None:
        """Listen until the agent ends."""
        while not self._closing.is_set():
            self._remote.registered.wait()
            started = time.monotonic()
            try:
                self._listen()
            except (_Broken, ServiceUnreachable) as error:
                if time.monotonic() - started > STEADY_S:
                    self._backoff.reset()
                self._closing.wait(self._later(str(error), getattr(error, "retry_after_s", 0.0)))
            finally:
                self._remote.listening = False
                self._connection.close()

    def _listen(self) -> None:
        """Hand on what comes; raises _Broken at the end of the stream, ServiceUnreachable without one."""
        response = self._connection.listen(self._user_id, self._remote.newest_version or "none", self._silence_s)
        self._check(response)
        parser = EventStreamParser(MAX_EVENT_BYTES)
        begun_at: float | None = None
        while True:
            content = _read(response)
            try:
                for event in parser.feed(content):
                    if event.type == "instructions":
                        self._remote.receive(event.data.encode())
                    elif event.type == "end":
                        raise _Broken(event.data)
            except EventTooLarge as error:
                raise _Broken(str(error)) from None
            self._heard()
            now = time.monotonic()
            begun_at = (begun_at or now) if parser.amid else None
            if begun_at is not None and now - begun_at > self._unfinished_s:
                raise _Broken("an event does not come to its end")

    def _check(self, response: http.client.HTTPResponse) -> None:
        """Raise _Broken for any answer but a stream."""
        if response.status == 200 and response.headers.get_content_type() == "text/event-stream":
            return
        wait_s = retry_after_s(response.getheader("Retry-After")) or 0.0
        if response.status == 404:
            self._remote.register_again()
        elif response.status not in (429, 502, 503, 504):
            wait_s = max(wait_s, HOPELESS_S)
        raise _Broken(f"it answered {response.status}", wait_s)

    def _heard(self) -> None:
        if not self._remote.listening:
            self._remote.listening = True
            _log.log(logging.INFO if self._problem else logging.DEBUG, "listening to the service")
            self._problem = ""

    def _later(self, reason: str, least_s: float) -> float:
        wait_s = self._backoff.next_s(least_s)
        level = logging.DEBUG if reason == self._problem else logging.INFO
        self._problem = reason
        _log.log(level, "no stream from the service: %s; next attempt in %.1f s", reason, wait_s)
        return wait_s


def _read(response: http.client.HTTPResponse) -> bytes:
    """What has arrived, at least a byte; raises _Broken at the end, and after too long a silence."""
    try:
        content = response.read1(_READ_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(reason_of(error)) from None
    if not content:
        raise _Broken("the service has closed it")
    return content
