"""Streams of JetStream that keep control databases alike: what operators decide, and what the rules have come to."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.cluster import ClusterError
from service.cluster.connection import CALL_S, Cluster, ensure_stream, stream_info, words_of
from service.cluster.delivery import Message
from service.cluster.publishing import WRONG_LAST, NotLast, append
from service.cluster.tail import Tail
from service.control.database import ControlError, ControlOutdated
from service.control.sharing import BucketEntry

_log = logging.getLogger("loadlens.service")
_PUT_S = 2.0
"""So long a change waits for JetStream: whoever made it is told to try again, and nobody waits behind it for long."""
_TRY_S = 10.0
"""Longer than the election of a leader takes: what was delivered meanwhile should be noted."""

_RETRY_S = 1.0


class ControlStream:
    """A stream; any thread may call."""

    def __init__(self, cluster: Cluster, wanted: StreamConfig) -> None:
        """Open it, made where it is missing. Raises ClusterError."""
        assert wanted.name is not None
        self._cluster = cluster
        self._stream = wanted.name
        try:
            cluster.call(ensure_stream(cluster, wanted), 3 * CALL_S)
            self.identity = str(cluster.call(stream_info(cluster, self._stream), 3 * CALL_S).created)
            """Another one where the stream was made anew, and sequences begin again."""
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._following: Future[None] | None = None
        self._closing = threading.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="shared records")

    def newest(self) -> int:
        """The sequence of the newest entry. Raises ControlError."""
        try:
            return self._cluster.call(self._cluster.jetstream.stream_info(self._stream)).state.last_seq
        except (nats.errors.Error, TimeoutError) as error:
            raise ControlError(f"{self._cluster.address}: {words_of(error)}") from None

    def follow(self, take: Callable[[Sequence[BucketEntry]], None], anew: Callable[[], None], after: int = 0) -> None:
        """Have `take` called in a thread with the entries behind sequence `after`, as they come.

        `anew` is called there too, before they come again from the first on, with other sequences.
        """

        async def begin_anew() -> None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._done, anew)

        tail = Tail(self._cluster, self._stream, after, anew=begin_anew)

        async def hand_on(messages: Sequence[Message]) -> None:
            entries = [BucketEntry(message.sequence, message.payload) for message in messages]
            if entries:
                await asyncio.get_running_loop().run_in_executor(self._worker, self._done, partial(take, entries))

        self._following = asyncio.run_coroutine_threadsafe(tail.follow(hand_on), self._cluster.loop)

    def _done(self, take: Callable[[], None]) -> None:
        """Hand entries on until they are taken: a disk that is full has room again some time."""
        while not self._closing.is_set():
            try:
                take()
            except Exception:  # noqa: BLE001 - whatever it is, nothing may be left out
                _log.exception("what other processes have changed could not be taken; trying again")
                self._closing.wait(_RETRY_S)
            else:
                return

    def _purge(self, before: int, subject: str | None = None) -> None:
        """Forget the entries before a sequence, of one subject or all. Where it fails they stay, which does no harm."""
        try:
            self._cluster.call(self._cluster.jetstream.purge_stream(self._stream, seq=before, subject=subject))
        except (nats.errors.Error, TimeoutError) as error:
            _log.debug("%s: %s", self._stream, words_of(error))

    def close(self) -> None:
        """Stop following the stream."""
        self._closing.set()
        if self._following is not None:
            self._following.cancel()
        self._worker.shutdown()


class ControlBucket(ControlStream):
    """The bucket `NAME-control`, as `service.control.sharing.Bucket` says; any thread may call."""

    def __init__(self, cluster: Cluster) -> None:
        """Open it, made where it is missing. Raises ClusterError."""
        name = f"{cluster.address.name}-control"
        self._prefix = f"$KV.{name}."
        # As JetStream's clients make buckets, so that `nats kv` shows it.
        wanted = StreamConfig(
            name=f"KV_{name}", subjects=[f"{self._prefix}>"], storage=StorageType.FILE, discard=DiscardPolicy.NEW,
            retention=RetentionPolicy.LIMITS, num_replicas=cluster.replicas, max_msgs=-1, max_age=0,
            max_bytes=-1, max_msgs_per_subject=1, duplicate_window=120.0, allow_rollup_hdrs=True, deny_delete=True,
            allow_direct=True,
        )  # fmt: skip
        super().__init__(cluster, wanted)

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

    def purge(self, key: str, revision: int) -> None:
        """Forget a key, unless it has been put again since `revision`."""
        self._purge(revision + 1, self._prefix + key)


class ChangeStream(ControlStream):
    """The stream `NAME-rules`, as `service.control.replication.ChangeLog` says; any thread may call."""

    def __init__(self, cluster: Cluster) -> None:
        """Open it, made where it is missing. Raises ClusterError."""
        self._subject = f"{cluster.address.name}.rules"
        wanted = StreamConfig(
            name=f"{cluster.address.name}-rules", subjects=[self._subject], storage=StorageType.FILE,
            discard=DiscardPolicy.NEW, retention=RetentionPolicy.LIMITS, num_replicas=cluster.replicas,
            max_msgs=-1, max_age=0, max_bytes=-1, duplicate_window=120.0,
        )  # fmt: skip
        super().__init__(cluster, wanted)

    def put(self, payload: bytes, after: int) -> int:
        """Put an entry where the newest is at `after`; its sequence."""
        try:
            return append(self._cluster, self._subject, payload, after, _TRY_S)
        except NotLast:
            raise ControlOutdated("another process has changed something at the same moment; try again") from None
        except ClusterError as error:
            raise ControlError(str(error)) from None

    def forget(self, before: int) -> None:
        """Forget the entries before a sequence."""
        self._purge(before)
