"""InfluxDB as a store of a process that does not write to it: of a cluster's writer it reads the ledger."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxError, Unreachable
from contract import times
from service.stores.base import Key, StoreError
from service.stores.influx import database
from service.stores.influx.publication import Views
from service.stores.influx.replica_views import Progress, ReplicaViews
from service.stores.influx.store import InfluxStore

_log = logging.getLogger("loadlens.service")


class InfluxReplica(InfluxStore):
    """Answers from InfluxDB and from the newest reports of the log, which `add` is given in order.

    `folder` keeps the users that are known, for a start while InfluxDB is away; `refresh` returns when `apply` was told
    everything that the writer has noted, and raises OSError where that cannot be known.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        folder: Path,
        refresh: Callable[[], None],
        retention: Sequence[int | None] = (None,) * 4,
        timeout_s: float = 60.0,
        now_ms: Callable[[], int] = times.now_ms,
    ) -> None:
        self._refresh = refresh
        super().__init__(address, credentials, folder, retention, timeout_s, now_ms, read_only=True)

    def _open(self) -> Views:
        """Take up what is known of the users."""
        users = {user.user_id: user for user in self._checkpoint.users()}
        try:
            self._find()
            _, found = database.taken_up(self._client, self._now_ms())
            for user in found:
                users[user.user_id] = users[user.user_id].merged(user) if user.user_id in users else user
            self._checkpoint.put({}, users.values())
        except InfluxError as error:
            if not users:
                raise StoreError(f"{error}") from None
            self._problems["asking"] = str(error)
            _log.warning("%s; reports are taken, queries wait until it is back", error)
        self._catalog.restore(list(users.values()))
        self._replica = ReplicaViews(self._index, self._now_ms, self._known_now)
        return self._replica

    def _known_now(self) -> None:
        try:
            self._refresh()
        except OSError as error:
            raise Unreachable(f"what the writer does cannot be known: {error}") from None

    def apply(self, progress: Progress) -> None:
        """Take what the writer has told."""
        self._replica.apply(progress)

    @property
    def flushed(self) -> int:
        """The offset through which InfluxDB has everything."""
        return self._replica.written_through

    @property
    def waiting_s(self) -> float:
        """How long at least the oldest report has waited for the writer, seconds."""
        return self._replica.waiting_s

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already. Raises StoreUnavailable where InfluxDB cannot be asked."""
        mine = [key for key in keys if self._index.stream(key.user_id, key.type) is not None]

        def look() -> set[Key]:
            # A window leaves the memory only when it is in InfluxDB, which is asked after it.
            return self._stored.known(self._replica.now(), mine)

        return await asyncio.to_thread(self._asked, look) if mine else set()

    def flush(self) -> None:
        """Nothing is written here; what the writer has written is added up for queries."""
        self._replica.tidy()

    def compact(self) -> bool:
        """Nothing: the writer does."""
        return False

    def expire(self, now_ms: int) -> None:
        """Nothing: the writer does."""

    def close(self) -> None:
        """Let go of the file."""
        if not self._closed:
            self._closed = True
            self._checkpoint.close()
