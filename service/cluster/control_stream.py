"""Streams of JetStream that keep control databases alike: made where they are missing, and followed."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import nats.errors
from nats.js.api import StreamConfig

from service.cluster.connection import CALL_S, Cluster, ensure_stream, stream_info, words_of
from service.cluster.delivery import Message
from service.cluster.errors import ClusterError
from service.cluster.tail import Tail
from service.control.database import ControlError
from service.control.sharing import BucketEntry

_log = logging.getLogger("loadlens.service")
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
