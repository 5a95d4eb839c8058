"""The log of what the rules have come to: a stream of JetStream that every process of a cluster follows."""

import logging

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.cluster.appending import NotLast, append
from service.cluster.connection import Cluster
from service.cluster.control_stream import ControlStream
from service.cluster.errors import ClusterError
from service.control.database import ControlError, ControlOutdated

_log = logging.getLogger("loadlens.service")
_TRY_S = 10.0
"""Longer than the election of a leader takes: what was delivered meanwhile should be noted."""


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
