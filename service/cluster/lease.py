"""Leases: which of many processes does what one does at a time. Each is a key that JetStream forgets when it is stale.

A lease keeps two from working at once as long as clocks run. It does not fence: a process that was paused notices only
when it runs again. What must not happen twice is refused by the ledger (`service.cluster.ledger`).
"""

import logging
import socket
import threading
import time

import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from service.cluster.connection import CALL_S, Cluster, patiently, words_of
from service.cluster.errors import ClusterError

_log = logging.getLogger("loadlens.service")
STALE_S = 4.0
"""So long after it was renewed last a lease is free."""
RENEW_S = 0.8
"""So often it is renewed, or asked for."""
_SURE_S = 3.0
"""So long after it was renewed last its holder relies on it."""


class Lease:
    """One lease, asked for and renewed by a thread of its own. Any thread may call."""

    def __init__(self, cluster: Cluster, name: str, holder: str) -> None:
        """Begin to ask for the lease `name`; others see `holder`. Raises ClusterError."""
        self._cluster = cluster
        self._name = name
        self._holder = msgspec.json.encode({"holder": holder, "machine": socket.gethostname()})
        self._revision: int | None = None
        self._renewed = 0.0
        self._stopping = threading.Event()
        try:
            cluster.call(patiently(cluster, self._ensure), 3 * CALL_S)
            self._bucket: KeyValue = cluster.call(
                patiently(cluster, lambda _: cluster.jetstream.key_value(self._bucket_name), is_there=True), 3 * CALL_S
            )
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._thread = threading.Thread(target=self._run, name=f"lease {name}", daemon=True)

    @property
    def _bucket_name(self) -> str:
        return f"{self._cluster.address.name}-leases"

    async def _ensure(self, jetstream: JetStreamContext) -> None:
        try:
            await jetstream.key_value(self._bucket_name)
        except nats.js.errors.BucketNotFoundError:
            config = KeyValueConfig(
                bucket=self._bucket_name, ttl=STALE_S, storage=StorageType.FILE, replicas=self._cluster.replicas
            )
            await jetstream.create_key_value(config)

    def start(self) -> None:
        """Start the thread that keeps the lease."""
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether this process has it."""
        return self._revision is not None and time.monotonic() - self._renewed < _SURE_S

    def stop(self) -> None:
        """Let go of it, so that another has it at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._revision is not None:
            try:
                self._cluster.call(self._bucket.delete(self._name, last=self._revision))
            except (nats.errors.Error, TimeoutError) as error:
                _log.debug("the lease %s becomes stale: %s", self._name, error)
            self._revision = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            asked = time.monotonic()
            try:
                if self._revision is None:
                    self._revision = self._cluster.call(self._bucket.create(self._name, self._holder))
                    _log.info("this process has the lease of the %s", self._name)
                else:
                    renewing = self._bucket.update(self._name, self._holder, last=self._revision)
                    self._revision = self._cluster.call(renewing)
                self._renewed = asked
            except nats.js.errors.APIError:
                if self._revision is not None:
                    _log.warning("this process has lost the lease of the %s", self._name)
                self._revision = None
            except (nats.errors.Error, TimeoutError) as error:
                # Whether it was renewed is not known; if it was not, the next time tells.
                _log.debug("the lease %s: %s", self._name, error)
            self._stopping.wait(RENEW_S)
