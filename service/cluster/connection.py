"""A connection to NATS, on an event loop in a thread of its own, so that code without a loop can use it too."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import nats
import nats.errors
import nats.js.errors
import uvloop
from nats.aio.client import Server
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig, StreamInfo

from service.cluster import ClusterError
from service.cluster.client import ShortClient

_log = logging.getLogger("loadlens.service")
T = TypeVar("T")
CALL_S = 5.0
"""So long an answer of JetStream may take: longer than the election of a leader does."""
_ASK_AGAIN_S, _PAUSE_S = 1.0, 0.05
_CONNECT_S = 15.0
_RECONNECT_S = 0.1
_PING_S = 1
"""Two pings without an answer end a connection to a node that is cut off: two to three seconds after."""
_QUORUM = 3
NOT_FOUND = 10059
"""JetStream's code for a stream that is not there."""


class ClusterAddress(NamedTuple):
    """The servers of a NATS cluster, and what of it is ours."""

    servers: tuple[str, ...]
    name: str
    """The prefix of our streams and buckets: several fleets can share a NATS."""

    @classmethod
    def parse(cls, text: str) -> "ClusterAddress":
        """Read `nats://HOST[:PORT],HOST.../NAME`; `tls://` for TLS. Raises ValueError."""
        scheme, _, rest = text.partition("://")
        hosts, _, name = rest.partition("/")
        who, at, hosts = hosts.rpartition("@")
        servers = tuple(f"{scheme}://{who}{at}{host}" for host in hosts.split(",") if host)
        name = name or "loadlens"
        try:
            is_good = all(urlsplit(server).hostname and urlsplit(server).port != 0 for server in servers)
        except ValueError:
            is_good = False
        if scheme not in ("nats", "tls") or not servers or not is_good or not name.replace("-", "").isalnum():
            raise ValueError(
                "expected nats://HOST:PORT,HOST:PORT/NAME, or tls:// (not shown, as it may hold a password)"
            )
        return cls(servers, name)

    def __str__(self) -> str:
        """The address without the password."""
        parts = [urlsplit(server) for server in self.servers]
        return f"{parts[0].scheme}://{','.join(part.netloc.rpartition('@')[2] for part in parts)}/{self.name}"


class Cluster:
    """The connection. Any thread may call, but for those that run on its loop."""

    def __init__(self, address: ClusterAddress) -> None:
        """Connect. Raises ClusterError."""
        self.address = address
        self.loop = uvloop.new_event_loop()
        self.connection = ShortClient()
        self.on_lost: set[Callable[[], object]] = set()
        """Called on the loop when the connection is lost: what is under way by it is not answered any more."""
        self._at: str | None = None
        """The server that is connected, or was last."""
        self._attempts = 0
        """To reach another since."""
        self._thread = threading.Thread(target=self.loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        try:
            self.call(self._connect(), _CONNECT_S)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            self._end()
            raise ClusterError(f"{address} cannot be reached: {words_of(error)}") from None
        self.jetstream: JetStreamContext = self.connection.jetstream(timeout=CALL_S)

    async def _connect(self) -> None:
        await self.connection.connect(
            list(self.address.servers), name="loadlens", max_reconnect_attempts=-1,
            reconnect_time_wait=_RECONNECT_S,  # type: ignore[arg-type]  # a fraction does, too
            connect_timeout=2, ping_interval=_PING_S, max_outstanding_pings=2, error_cb=_say,
            disconnected_cb=self._note_lost, reconnected_cb=self._note_connected,
            reconnect_to_server_handler=self._next_server, skip_subject_validation=True,
        )  # fmt: skip
        await self._note_connected()

    async def _note_connected(self) -> None:
        url = self.connection.connected_url
        self._at, self._attempts = url.netloc if url else None, 0

    async def _note_lost(self) -> None:
        for lost in [*self.on_lost]:
            lost()

    def _next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """Where to connect to, and after how many seconds: to the one that was lost when the others were tried."""
        servers = sorted(servers, key=lambda server: server.uri.netloc == self._at)
        place, self._attempts = self._attempts % len(servers), self._attempts + 1
        return servers[place], 0.0 if self._attempts <= len(servers) else _RECONNECT_S

    def call(self, work: Coroutine[Any, Any, T], timeout_s: float = CALL_S) -> T:
        """Wait for what is done on the loop. Raises what it raises, and TimeoutError."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    @property
    def is_connected(self) -> bool:
        """Whether a server of the cluster is connected."""
        return bool(self.connection.is_connected)

    @property
    def replicas(self) -> int:
        """On how many nodes everything is kept: three where there are as many, or else one."""
        return _QUORUM if len(self.connection.servers) >= _QUORUM else 1

    def close(self) -> None:
        """Close the connection."""
        # A connection that was cut has the loop say that it is closed.
        with contextlib.suppress(nats.errors.Error, TimeoutError, RuntimeError):
            self.call(self.connection.close())
        self._end()

    def _end(self) -> None:
        with contextlib.suppress(TimeoutError):
            self.call(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CALL_S)


def words_of(error: BaseException) -> str:
    """What an error says; some of NATS say nothing but what they are."""
    return str(error) or type(error).__name__


async def _cancel_others() -> None:
    """End all that runs on this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _say(error: Exception) -> None:
    _log.debug("NATS: %s", words_of(error))


async def patiently(cluster: Cluster, ask: Callable[[JetStreamContext], Awaitable[T]], *, is_there: bool = False) -> T:
    """What JetStream answers, asked again where it does not for a second; where it `is_there`, also if not found.

    Of several who make the same thing at once NATS 2.9 leaves all but one without an answer, and what was made a server
    may not know for a moment. Raises TimeoutError, or what JetStream said last.
    """
    passing: tuple[type[Exception], ...] = (nats.errors.TimeoutError, nats.js.errors.ServiceUnavailableError)
    passing += (nats.js.errors.NotFoundError,) if is_there else ()
    jetstream = cluster.connection.jetstream(timeout=_ASK_AGAIN_S)
    end = time.monotonic() + 2 * CALL_S
    while True:
        try:
            return await ask(jetstream)
        except passing:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(_PAUSE_S)


async def asked_again(ask: Callable[[], Awaitable[T]], every_s: float, within_s: float, *, at_once: int = 1) -> T:
    """The first good answer of a server, asked every so many seconds: what is asked while no server leads is lost.

    It is asked `at_once` times each time, and sooner where all were refused. Raises TimeoutError, or what came last.
    """
    asking: set[asyncio.Future[T]] = set()
    problem: BaseException = TimeoutError()
    end = time.monotonic() + within_s
    try:
        while (now := time.monotonic()) < end:
            more: list[asyncio.Future[T]] = [asyncio.ensure_future(ask()) for _ in range(at_once)]
            for one in more:
                one.add_done_callback(_looked_at)
            asking.update(more)
            while asking and (left := now + every_s - time.monotonic()) > 0:
                done, asking = await asyncio.wait(asking, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    if (error := one.exception()) is None:
                        return one.result()
                    problem = error
            if not asking:
                await asyncio.sleep(_PAUSE_S)
        raise problem
    finally:
        for one in asking:
            one.cancel()


def _looked_at(asked: "asyncio.Future[Any]") -> None:
    if not asked.cancelled():
        asked.exception()


async def stream_info(cluster: Cluster, stream: str) -> StreamInfo:
    """What the stream's leader says of it, as soon as it has one. Raises TimeoutError."""
    return await patiently(cluster, lambda jetstream: jetstream.stream_info(stream), is_there=True)


async def _found_or_made(cluster: Cluster, jetstream: JetStreamContext, wanted: StreamConfig) -> StreamConfig:
    assert wanted.name is not None
    try:
        return (await jetstream.stream_info(wanted.name)).config
    except nats.js.errors.NotFoundError:
        made = (await jetstream.add_stream(wanted)).config
        _log.info("%s: made the stream %s, %d times on disk", cluster.address, wanted.name, made.num_replicas or 1)
        return made


async def ensure_stream(cluster: Cluster, wanted: StreamConfig) -> None:
    """Make a stream where it is missing, and see that it keeps what it is given.

    Raises ClusterError where one is there that would lose or turn away what it should keep.
    """
    found = await patiently(cluster, lambda jetstream: _found_or_made(cluster, jetstream, wanted))
    problems = [*_wrong(wanted, found)]
    if problems:
        raise ClusterError(f"the stream {wanted.name} of {cluster.address}: {'; '.join(problems)}")
    if (found.num_replicas or 1) < _QUORUM:
        _log.warning(
            "the stream %s is on one node of %s only: what is acknowledged is lost with that node's disk. A cluster of "
            "three nodes keeps it on three",
            wanted.name, cluster.address,
        )  # fmt: skip


def _wrong(wanted: StreamConfig, found: StreamConfig) -> list[str]:
    """What of a stream's configuration breaks a promise, in words."""
    checks = (
        ("storage", StorageType.FILE, found.storage),
        ("discard", DiscardPolicy.NEW, found.discard),
        ("retention", RetentionPolicy.LIMITS, found.retention or RetentionPolicy.LIMITS),
        ("subjects", wanted.subjects, found.subjects),
        ("max_age", 0, found.max_age or 0),
        ("max_msgs", -1, found.max_msgs or -1),
        ("sealed", False, found.sealed),
    )
    wrong = [f"expected {name} {_word(right)}, got {_word(is_)}" for name, right, is_ in checks if is_ != right]
    if found.duplicate_window < wanted.duplicate_window:
        least, got = wanted.duplicate_window, found.duplicate_window
        wrong.append(f"expected duplicate_window of {least:.0f} s or longer, got {got:.0f} s")
    if wanted.num_replicas and (found.num_replicas or 1) < wanted.num_replicas:
        wrong.append(
            f"expected num_replicas {wanted.num_replicas}, got {found.num_replicas}: "
            f"nats stream edit --replicas {wanted.num_replicas} {wanted.name}"
        )
    return wrong


def _word(value: object) -> object:
    return getattr(value, "value", value)
