"""The bucket of records that all processes of a cluster have alike: a key-value bucket of JetStream."""

import logging

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.cluster.appending import WRONG_LAST
from service.cluster.connection import Cluster, words_of
from service.cluster.control_stream import ControlStream
from service.control.database import ControlError, ControlOutdated

_log = logging.getLogger("loadlens.service")
_PUT_S = 2.0
"""So long a change waits for JetStream: whoever made it is told to try again, and nobody waits behind it for long."""


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
