"""Which store the settings name, opened, and where its journal is."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from analytics.sources.influx_address import Address, Credentials
from service.settings import ServiceSettings
from service.stores.base import Store

if TYPE_CHECKING:
    from service.stores.influx.replica import InfluxReplica
    from service.stores.influx.shared_checkpoint import SharedCheckpoint
    from service.stores.influx.store import InfluxStore


def home_of(settings: ServiceSettings) -> Path:
    """The folder of what a store has on this machine, its journal among it.

    Each store has a journal of its own: offsets of one say nothing of another.
    """
    folder = Path(settings.data_dir)
    return folder if settings.store == "embedded" else influx_folder(folder, Address.parse(settings.store))


def open_store(settings: ServiceSettings, holds: Callable[[int, int], bool], *, has_reports: bool) -> Store:
    """The store; `holds` says whether its journal can give all reports behind an offset up to another.

    `has_reports` says whether there are any in its journal.

    Raises StoreError where it cannot be used.
    """
    folder = Path(settings.data_dir)
    if settings.store == "embedded":
        from service.stores.embedded.store import EmbeddedStore

        return EmbeddedStore(
            folder, settings.store_memory, settings.retention(), holds, keep_processes_ms=settings.keep_processes_ms
        )
    from service.stores.influx.checkpoint import refuse_without_checkpoint
    from service.stores.influx.store import InfluxStore

    home = home_of(settings)
    refuse_without_checkpoint(home, has_reports=has_reports)
    return InfluxStore(
        Address.parse(settings.store), _credentials(settings), home, settings.retention(),
        keep_processes_ms=settings.keep_processes_ms,
    )  # fmt: skip


def open_shared(settings: ServiceSettings, checkpoint: "SharedCheckpoint") -> "InfluxStore":
    """The store, for the writer of a cluster. Raises StoreError where it cannot be used."""
    from service.stores.influx.store import InfluxStore

    address, credentials = Address.parse(settings.store), _credentials(settings)
    return InfluxStore(
        address, credentials, home_of(settings), settings.retention(), checkpoint=checkpoint,
        keep_processes_ms=settings.keep_processes_ms,
    )  # fmt: skip


def open_replica(settings: ServiceSettings, refresh: Callable[[], None]) -> "InfluxReplica":
    """The store, for a process that does not write; `refresh` as there. Raises StoreError where it cannot be used."""
    from service.stores.influx.replica import InfluxReplica

    address, credentials = Address.parse(settings.store), _credentials(settings)
    return InfluxReplica(address, credentials, home_of(settings), refresh, settings.retention())


def _credentials(settings: ServiceSettings) -> Credentials:
    return Credentials(settings.store_token, settings.store_user, settings.store_password, settings.store_org)


def influx_folder(data_dir: Path, address: Address) -> Path:
    """Where this machine keeps the journal of an InfluxDB, and what it knows of it."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", address.database).strip(".-") or "database"
    return data_dir / "influxdb" / f"{name}-{hashlib.sha256(str(address).encode()).hexdigest()[:12]}"
