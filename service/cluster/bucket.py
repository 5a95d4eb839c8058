"""The bucket of records that all processes of a cluster have alike: a key-value bucket of JetStream."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.cluster.connection import CALL_S, Cluster, ensure_stream, words_of
from service.cluster.errors import ClusterError
from service.cluster.ledger import WRONG_LAST
from service.cluster.tail import Message, Tail
from service.control.database import ControlError, ControlOutdated
from service.control.sharing import Entry

_log = logging.getLogger("loadlens.service")
_PUT_S = 2.0
"""So long a change waits for JetStream: whoever made it is told to try again, and nobody waits behind it for long."""
_RETRY_S = 1.0


class ControlBucket:
    """The bucket `NAME-control`, as `service.control.sharing.Bucket` says; any thread may call."""

    def __init__(self, cluster: Cluster) -> None:
        """Open it, made where it is missing. Raises ClusterError."""
        self._cluster = cluster
        name = f"{cluster.address.name}-control"
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        try:
            cluster.call(self._ensure(), 3 * CALL_S)
            self.identity = str(cluster.call(cluster.jetstream.stream_info(self._stream)).created)
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._following: Future[None] | None = None
        self._closing = threading.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="shared records")

    async def _ensure(self) -> None:
        """As JetStream's clients make buckets, so that `nats kv` shows it."""
        wanted = StreamConfig(
            name=self._stream, subjects=[f"{self._prefix}>"], storage=StorageType.FILE, discard=DiscardPolicy.NEW,
            retention=RetentionPolicy.LIMITS, num_replicas=self._cluster.replicas, max_msgs=-1, max_age=0,
            max_bytes=-1, max_msgs_per_subject=1, duplicate_window=120.0, allow_rollup_hdrs=True, deny_delete=True,
            allow_direct=True,
        )  # fmt: skip
        await ensure_stream(self._cluster, wanted)

    def put(self, key: str, value: bytes, revision: int) -> int:
        """Put a value where the newest revision of its key is `revision`; its own revision."""
        if not self._cluster.is_connected:
            # The client would keep it, and send it when nobody expects it any more.
            raise ControlError(f"no server of {self._cluster.address} can be reached, so nothing can be changed")
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        putting = self._cluster.jetstream.publish(self._prefix + key, value, timeout=_PUT_S, headers=headers)
        try:
            return self._cluster.call(putting).seq
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_LAST:
                raise ControlOutdated("another process has changed it at the same moment; try again") from None
            raise ControlError(f"{self._cluster.address}: {error.description}") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise ControlError(f"{self._cluster.address} keeps no changes now: {words_of(error)}") from None

    def newest(self) -> int:
        """The newest revision of all keys."""
        try:
            return self._cluster.call(self._cluster.jetstream.stream_info(self._stream)).state.last_seq
        except (nats.errors.Error, TimeoutError) as error:
            raise ControlError(f"{self._cluster.address}: {words_of(error)}") from None

    def purge(self, key: str, revision: int) -> None:
        """Forget a key, unless it has been put again since `revision`."""
        purging = self._cluster.jetstream.purge_stream(self._stream, seq=revision + 1, subject=self._prefix + key)
        try:
            self._cluster.call(purging)
        except (nats.errors.Error, TimeoutError) as error:
            _log.debug("%s: %s", self._stream, words_of(error))

    def follow(self, take: Callable[[Sequence[Entry]], None]) -> None:
        """Have `take` called with the newest value of every key, then with each change."""
        tail = Tail(self._cluster, self._stream, 0)

        async def hand_on(messages: Sequence[Message]) -> None:
            entries = [Entry(message.sequence, message.payload) for message in messages]
            if entries:
                await asyncio.get_running_loop().run_in_executor(self._worker, self._take, take, entries)

        self._following = asyncio.run_coroutine_threadsafe(tail.follow(hand_on), self._cluster.loop)

    def _take(self, take: Callable[[Sequence[Entry]], None], entries: Sequence[Entry]) -> None:
        """Hand entries on until they are taken: a disk that is full has room again some time."""
        while not self._closing.is_set():
            try:
                take(entries)
            except Exception:  # noqa: BLE001 - whatever it is, nothing may be left out
                _log.exception("what other processes have changed could not be taken; trying again")
                self._closing.wait(_RETRY_S)
            else:
                return

    def close(self) -> None:
        """Follow no more."""
        self._closing.set()
        if self._following is not None:
            self._following.cancel()
        self._worker.shutdown()
