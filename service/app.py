"""The composition root: settings in, application out."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import falcon
import falcon.asgi
import msgspec
from falcon.asgi import Request, Response

from contract.report import Report
from service.access import RequireToken
from service.ingest import Ingest
from service.journal import Journal
from service.problems import serialize, unexpected
from service.resources.fleet import Fleet
from service.resources.health import Health, Ready
from service.resources.history import History
from service.resources.metrics import Metrics
from service.resources.prometheus import Prometheus
from service.resources.users import Users
from service.resources.windows import FleetWindows, Sending, UserWindows
from service.settings import ServiceSettings
from service.stores.base import Store
from service.stores.embedded.store import EmbeddedStore
from service.upkeep import Upkeep

__all__ = ["Service", "create_app"]

_log = logging.getLogger("loadlens.service")
_REPORTS = msgspec.json.Decoder(list[Report])


class Service:
    """The parts of a running service; `open` and `close` are what starts and ends them."""

    def __init__(self, settings: ServiceSettings) -> None:
        folder = Path(settings.data_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self.store: Store = EmbeddedStore(folder, settings.store_memory, settings.retention())
        self.journal = Journal(folder / "journal", settings.journal_bytes)
        self.journal.advance_to(self.store.flushed)
        replayed = replay(self.journal, self.store)
        if replayed:
            _log.info("%d reports replayed from the journal", replayed)
        self.ingest = Ingest(self.journal, self.store)
        self.upkeep = Upkeep(self.journal, self.store, settings.flush_interval)

    def open(self) -> None:
        """Start the work in the background."""
        self.upkeep.start()

    def close(self) -> None:
        """Put everything on the store's disk and let go of the files."""
        self.ingest.close()
        self.upkeep.stop()
        self.store.close()
        # In this order: the file that is written to is pruned only once it is closed.
        self.journal.close()
        self.journal.prune(self.store.flushed)


def replay(journal: Journal, store: Store) -> int:
    """Give the store what it had not put on its own disk; returns how many reports that were."""
    count = 0
    for entry in journal.read(after=store.flushed):
        reports = _REPORTS.decode(entry.body)
        store.add(entry.last, reports)
        count += len(reports)
    return count


class _Lifespan:
    """Opens and closes the service with the server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._service.open()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        await asyncio.to_thread(self._service.close)


def create_app(settings: ServiceSettings) -> falcon.asgi.App[Request, Response]:
    """The application, with its store open.

    Raises StoreError where the store cannot be used.
    """
    service = Service(settings)
    middleware: list[Any] = [_Lifespan(service)]
    if settings.token:
        middleware.append(RequireToken(settings.token))
    app = falcon.asgi.App(middleware=middleware)
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, unexpected)
    store = service.store
    app.add_route("/api/v1/metrics", Metrics(service.ingest, store))
    app.add_route("/api/v1/metrics/{metric}/byUser/{user_id:path}", History(store))
    app.add_route("/api/v1/metrics/{metric}/fleet", Fleet(store))
    sending = Sending(store)
    app.add_route("/api/v1/windows/byUser/{user_id:path}", UserWindows(store, sending))
    app.add_route("/api/v1/windows/fleet", FleetWindows(store, sending))
    app.add_route("/api/v1/users", Users(store))
    app.add_route("/healthz", Health())
    app.add_route("/readyz", Ready(service))
    app.add_route("/metrics", Prometheus(service))
    return app
