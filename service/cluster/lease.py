"""Leases: which of many processes does what one does at a time. Each is a key that JetStream forgets when it is stale.

A lease keeps two from working at once as long as clocks run. It does not fence: a process that was paused notices only
when it runs again. What must not happen twice is refused by the ledger (`service.cluster.ledger`).
"""

import logging
import secrets
import socket
import threading
import time

import msgspec
import nats.errors
import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from service.cluster import ClusterError
from service.cluster.connection import CALL_S, Cluster, patiently, words_of

_log = logging.getLogger("loadlens.service")
STALE_S = 4.0
"""So long after it was renewed last a lease is free."""
RENEW_S = 0.8
"""So often it is renewed, or asked for."""
_SURE_S = 3.0
"""So long after it was renewed last its holder relies on it."""
_ANSWER_S = 1.0
"""So long an answer is waited for: where one is lost there is time to ask again while the lease is good."""


class Lease:
    """One lease, asked for and renewed by a thread of its own. Any thread may call."""

    def __init__(self, cluster: Cluster, name: str, holder: str) -> None:
        """Begin to ask for the lease `name`; others see `holder`. Raises ClusterError."""
        self._cluster = cluster
        self._name = name
        this = {"holder": holder, "machine": socket.gethostname(), "process": secrets.token_hex(8)}
        self._holder = msgspec.json.encode(this)
        self._revision: int | None = None
        self._is_unsure = False
        """Whether what was asked last had no answer: the lease may be had, or renewed, all the same."""
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
            self._ask()
            self._stopping.wait(RENEW_S)

    def _ask(self) -> None:
        """Ask for the lease, or renew it."""
        asked = time.monotonic()
        before = self._revision
        try:
            self._revision = self._cluster.call(self._renewed_or_made(), _ANSWER_S)
        except nats.js.errors.APIError:
            if before is not None:
                _log.warning("this process has lost the lease of the %s", self._name)
            self._revision, self._is_unsure = None, False
        except (nats.errors.Error, TimeoutError) as error:
            self._is_unsure = True
            _log.debug("the lease %s: %s", self._name, words_of(error))
        except Exception:  # noqa: BLE001 - a fault of ours must not keep it from being asked for
            self._is_unsure = True
            _log.exception("the lease %s", self._name)
        else:
            self._renewed, self._is_unsure = asked, False
            if before is None:
                _log.info("this process has the lease of the %s", self._name)

    async def _renewed_or_made(self) -> int:
        if self._is_unsure and (mine := await self._own_revision()) is not None:
            self._revision = mine
        if self._revision is None:
            return await self._bucket.create(self._name, self._holder)
        return await self._bucket.update(self._name, self._holder, last=self._revision)

    async def _own_revision(self) -> int | None:
        """The revision of the lease where this process has it, though it was not told so."""
        try:
            entry = await self._bucket.get(self._name)
        except nats.js.errors.NotFoundError:
            return None
        return entry.revision if entry.value == self._holder else None
