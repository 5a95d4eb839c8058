"""Those who follow the live stream: server-sent events, parsed as the standard says, in a thread of their own."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import httpx
import msgspec

from tests.support.running import wait_until

__all__ = ["STREAM", "Event", "Follower", "events_of"]

STREAM = "/api/v1/stream"


class Event(NamedTuple):
    """One event."""

    id: int
    name: str
    data: Any


def lines_of(parts: Iterator[bytes]) -> Iterator[str]:
    """The lines of a stream. httpx's own `iter_lines` ends lines at characters that are none here, such as U+2028."""
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from (line.decode() for line in lines)


def events_of(lines: Iterator[str]) -> Iterator[Event]:
    """The events of a stream; one without data, a heartbeat, has the name `heartbeat`."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "id" in fields:
            data = msgspec.json.decode(fields["data"]) if "data" in fields else None
            name = fields.get("event", "message" if "data" in fields else "heartbeat")
            yield Event(int(fields["id"]), name, data)
            fields = {}
        else:
            fields = {}


class Follower:
    """Follows until it is closed or the service ends; `resume` goes on behind the last event it got."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, **parameters: Any) -> None:
        self.events: list[Event] = []
        self.last_id: int | None = None
        self._parameters = parameters
        self._headers = dict(headers or {})
        self.resume(url)

    def resume(self, url: str) -> None:
        """Follow the service at `url`."""
        self._opened = threading.Event()
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(url,), daemon=True)
        self._thread.start()
        assert self._opened.wait(30), "the stream did not begin"
        if self._error:
            raise self._error

    def _run(self, url: str) -> None:
        headers = self._headers | ({} if self.last_id is None else {"Last-Event-ID": str(self.last_id)})
        try:
            with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
                with client.stream("GET", STREAM, params=self._parameters, headers=headers) as response:
                    if response.status_code != 200:
                        response.read()
                        response.raise_for_status()
                    for event in events_of(lines_of(response.iter_raw())):
                        self.last_id = event.id
                        if event.name != "heartbeat":
                            self.events.append(event)
                        self._opened.set()
                        if self._closing:
                            return
        except httpx.HTTPStatusError as error:
            self._error = error
        except httpx.TransportError:
            pass  # The service ended, perhaps in the middle.
        finally:
            self._opened.set()

    @property
    def reports(self) -> list[Event]:
        """The reports it got."""
        return [event for event in self.events if event.name == "message"]

    @property
    def users(self) -> list[str]:
        """Whose reports it got."""
        return [event.data["user_id"] for event in self.reports]

    @property
    def ended(self) -> bool:
        """Whether the service has ended the stream."""
        return not self._thread.is_alive()

    def wait_for(self, reports: int) -> None:
        """Wait until it has so many reports."""
        wait_until(lambda: len(self.reports) >= reports, f"{reports} reports on the stream")

    def close(self) -> None:
        """Hang up with the next event or heartbeat."""
        self._closing = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
