"""The command: follows the stream of a service, and keeps how far it came in a file of its own."""

import logging
import os
import queue
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from analytics.sources.live import Event, LostEvent, ReportEvent, Stream, stream
from analytics.sources.service_api import ServiceError
from contract.logs import configure
from contract.problems import decode_json
from contract.service_address import ServiceAddress, check_service_url
from contract.settings import load
from contract.times import now_ms
from service.commands import failed
from service.commands.forward.series import Point, number, points_of
from service.commands.forward.target import ForwardTarget, Protocol, Stopped

_PROGRAM = "loadlens-service forward"
_DESCRIPTION = """\
Follows the reports of a service as they are acknowledged, and writes them to
Prometheus, Mimir, VictoriaMetrics or another receiver of remote write: numbers
of each window, and native histograms of its samples. It goes on where it ended,
by a file of its own; what the receiver does not take is tried again.
Ctrl-C ends it."""
_EPILOG = """examples:
  loadlens-service forward --to http://localhost:9090/api/v1/write
  loadlens-service forward --to https://mimir.example.org/api/v1/push --to-header X-Scope-OrgID:1
  loadlens-service forward --user 'web-*' --protocol 1 --to http://localhost:8428/api/v1/write"""
_log = logging.getLogger("loadlens.forward")
_REPORTS: Final = 200
"""Reports in a request at most."""
_WAITING: Final = 2_000
"""Events in memory; while there are more, the service keeps them in its journal."""
_GATHER_S: Final = 1.0


class ForwardSettings(ServiceAddress, frozen=True, kw_only=True):
    """What `loadlens-service forward` can be told."""

    to: Annotated[
        str,
        Meta(
            description="Where the receiver takes remote write.",
            extra={"metavar": "URL", "examples": ["http://localhost:9090/api/v1/write"]},
        ),
    ]
    to_token: Annotated[
        str, Meta(description="Sent to the receiver as a bearer token.", extra={"metavar": "TOKEN", "secret": True})
    ] = ""
    to_header: Annotated[
        tuple[str, ...],
        Meta(description="Sent to the receiver too.", extra={"metavar": "NAME:VALUE", "examples": ["X-Scope-OrgID:1"]}),
    ] = ()
    protocol: Annotated[
        Protocol,
        Meta(
            description="The version of remote write; `auto` is 2, and 1 where the receiver knows of no other.",
            extra={"metavar": "VERSION", "expected": "auto, 1 or 2"},
        ),
    ] = "auto"
    user: Annotated[
        tuple[str, ...],
        Meta(
            description="Of these hosts: names or patterns.",
            extra={"metavar": "PATTERN", "default": "all", "examples": ["web-*"]},
        ),
    ] = ()
    cores: Annotated[bool, Meta(description="Write each core too.")] = False
    checkpoint: Annotated[
        Path,
        Meta(
            description="File that keeps how far it came. Without one it begins with what comes next.",
            extra={"metavar": "FILE"},
        ),
    ] = Path("var/loadlens-forward.json")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            check_service_url(self.to)
        except ValueError as error:
            raise ValueError(f"--to: {error}") from None
        for header in self.to_header:
            name, colon, value = header.partition(":")
            if not colon or not name.replace("-", "").isalnum() or not name.isascii() or not value.isprintable():
                raise ValueError(f"--to-header: expected NAME:VALUE, got {header!r}")


class ForwardCheckpoint(Struct, frozen=True):
    """Up to where points were forwarded, and to whom."""

    url: str
    """The service, and"""
    to: str
    """the receiver."""
    after: int
    """The offset of the last report that the receiver has taken or refused."""


class CheckpointError(Exception):
    """The file cannot be used; the message says why."""


class Forwarder:
    """Takes events off the stream, and has them written in order."""

    def __init__(self, settings: ForwardSettings, target: ForwardTarget, stopping: threading.Event) -> None:
        self._settings = settings
        self._target = target
        self._stopping = stopping
        self._events: queue.Queue[Event | Exception] = queue.Queue(_WAITING)
        self._is_kept = settings.checkpoint.exists()
        self.sent = self.refused = self.lost = 0
        """Reports, since it started."""

    def follow(self, source: Stream) -> None:
        """Bring the events of a service; ends with the process."""
        try:
            for event in source:
                self._events.put(event)
        except Exception as error:  # noqa: BLE001 - it is told where it is read
            self._events.put(error)

    def run(self) -> None:
        """Write what comes until it is to stop. Raises ServiceError where the service refuses."""
        while not self._stopping.is_set():
            events = self._next()
            if events:
                self._write(events)

    def _next(self) -> list[Event]:
        """The events that are there, once the first has come."""
        found: list[Event] = []
        while len(found) < _REPORTS:
            try:
                one = self._events.get(timeout=0.0 if found else _GATHER_S)
            except queue.Empty:
                break
            if isinstance(one, Exception):
                if found:
                    # What came before it is written first.
                    self._events.put(one)
                    break
                raise one
            found.append(one)
        return found

    def _write(self, events: Sequence[Event]) -> None:
        if not self._is_kept:
            # Who ends before the receiver has taken the first goes on with it, not behind it.
            keep(self._settings, max(0, events[0].id - 1))
            self._is_kept = True
        points: list[Point] = []
        reports = 0
        for event in events:
            if isinstance(event, ReportEvent):
                reports += 1
                points += points_of(event.report, cores=self._settings.cores)
            elif isinstance(event, LostEvent):
                self.lost += event.last - event.first + 1
                _log.error("reports %d to %d will not come: the service has them no more", event.first, event.last)
        if points:
            failures = self._target.failures
            if self._target.send([*points, *self._own()]):
                self.sent += reports
            else:
                self.refused += reports
                _log.error("%s: %d reports are not taken, whole or in part", self._target.problem, reports)
            if self._target.failures > failures:
                _log.warning("the receiver takes again, after %d failures", self._target.failures - failures)
        keep(self._settings, events[-1].id)

    def _own(self) -> list[Point]:
        """What it says of itself, with everything that it writes."""
        at_ms, host = now_ms(), socket.gethostname()
        counters = {
            "reports": self.sent, "refused_reports": self.refused, "lost_reports": self.lost,
            "failures": self._target.failures,
        }  # fmt: skip
        return [
            number(f"loadlens_forward_{name}_total", float(count), at_ms, instance=host, job="loadlens-forward")
            for name, count in counters.items()
        ]


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0 when it was ended, 1 for a failure, 2 for a wrong setting."""
    settings = load(ForwardSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    configure("info", "text")
    # It would have a line for each request.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stopping = threading.Event()
    for number_ in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number_, lambda *_: stopping.set())
    headers = [(name, value.strip()) for name, _, value in (one.partition(":") for one in settings.to_header)]
    if settings.to_token:
        headers.append(("Authorization", f"Bearer {settings.to_token}"))
    target = ForwardTarget(settings.to, headers, settings.protocol, stopping)
    try:
        source = stream(
            settings.url, token=settings.token, ca_file=settings.ca_file, user=settings.user or None,
            after=begin(settings),
        )  # fmt: skip
        forwarder = Forwarder(settings, target, stopping)
        threading.Thread(target=forwarder.follow, args=(source,), name="stream", daemon=True).start()
        forwarder.run()
    except Stopped:
        pass
    except (ServiceError, CheckpointError, OSError, ValueError) as error:
        return failed(_PROGRAM, error)
    finally:
        target.close()
    _log.info("ended; %d reports were written, %d refused, %d lost", forwarder.sent, forwarder.refused, forwarder.lost)
    return 0


def begin(settings: ForwardSettings) -> int | None:
    """Behind which report to begin; None for what comes next. Raises CheckpointError."""
    try:
        kept = decode_json(settings.checkpoint.read_bytes(), ForwardCheckpoint)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{settings.checkpoint}: expected a checkpoint: {error}") from None
    if (kept.url, kept.to) != (settings.url, settings.to):
        raise CheckpointError(
            f"{settings.checkpoint} says how far it came from {kept.url} to {kept.to}; name another --checkpoint"
        )
    return kept.after


def keep(settings: ForwardSettings, after: int) -> None:
    """Note how far it came: the file is whole at any time, and on disk when this returns."""
    path = settings.checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(ForwardCheckpoint(settings.url, settings.to, after)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
