"""A process of a cluster that only writes (`--role writer`): it takes no reports, and answers how it is."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
from falcon.asgi import Request, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.app import Application
from service.cluster.control_stream import ControlBucket
from service.cluster.log import ReplicatedLog
from service.control.audit import Audit
from service.control.data_lock import lock_data_folder
from service.control.database import ControlDatabase
from service.control.sharing import Sharing
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.http.access import RequireOwnHost
from service.http.authentication import Authentication
from service.http.problems import serialize, unexpected
from service.http.request_log import NameRoute, RequestLog
from service.http.resources.health import Health
from service.http.token_limits import TokenLimits
from service.ingest.member import join, new_writer
from service.settings import ServiceSettings

_log = logging.getLogger("loadlens.service")


class WriterProcess:
    """The parts of a process that only writes. Raises ClusterError where NATS cannot be used."""

    def __init__(self, settings: ServiceSettings) -> None:
        folder = Path(settings.data_dir)
        self._lock = lock_data_folder(folder)
        self.requests = RequestLog(settings.requests_logged)
        try:
            self.control = ControlDatabase(folder / "control.db")
            self.audit = Audit(self.control)
            self.tokens = Tokens(self.control, self.audit)
            self._cluster = join(settings)
            self._sharing = Sharing(self.control, self.audit, ControlBucket(self._cluster))
            self.log = ReplicatedLog(self._cluster, settings.journal_bytes, settings.stream_keep)
            self.writer = new_writer(self._cluster, self.log, settings)
        except BaseException:
            self._lock.release()
            raise

    def reload(self) -> None:
        """Nothing: there are no rules here."""

    def end_streams(self) -> None:
        """Nothing: there are no streams here."""

    def close(self) -> None:
        """Write what there is, and hand over."""
        self.writer.stop()
        self.log.close()
        self._sharing.close()
        self._cluster.close()
        self.control.close()
        self._lock.release()
        _log.info("the writer has ended")

    def collect(self) -> Iterator[Metric]:
        """The families for /metrics."""
        yield from self.requests.collect()
        writer, log = self.writer, self.log
        store = writer.store
        for name, text, value in (
            ("loadlens_cluster_connected", "1 where a server of NATS is connected.", float(self._cluster.is_connected)),
            ("loadlens_cluster_writing", "1 where this process writes to the store.", float(writer.is_writing)),
            ("loadlens_journal_behind", "Reports that the store has not, while this process writes.", writer.behind),
            ("loadlens_journal_bytes", "Bytes of reports in the journal that wait for the store.", log.size),
            ("loadlens_journal_limit_bytes", "Bytes at which the journal takes no more.", log.limit_bytes),
            *(("loadlens_store_" + name, text, value) for name, text, value in (store.sizes() if store else ())),
        ):
            yield GaugeMetricFamily(name, text, value=value)


class _WriterLifespan:
    def __init__(self, process: WriterProcess) -> None:
        self._process = process

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._process.writer.start()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        await asyncio.to_thread(self._process.close)


class _Ready:
    """Says whether this process writes, and what is wrong."""

    def __init__(self, process: WriterProcess) -> None:
        self._process = process

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 while it writes, or waits for the lease; 503 with the reason where it should write and cannot."""
        writer = self._process.writer
        resp.media = {"status": "writing" if writer.is_writing else "waiting", "reports_behind": writer.behind}
        if writer.problem:
            resp.status = falcon.HTTP_503
            resp.media |= {"status": "failing", "detail": writer.problem}


class _Numbers:
    """Shows the numbers as Prometheus reads them."""

    def __init__(self, process: WriterProcess) -> None:
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(process)

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer 200 with the metrics in Prometheus' text format."""
        resp.content_type = CONTENT_TYPE_LATEST
        resp.data = await asyncio.to_thread(generate_latest, self._registry)


def create_writer(settings: ServiceSettings) -> Application:
    """The application of a process that only writes."""
    process = WriterProcess(settings)
    tokens = process.tokens
    access: Any = RequireOwnHost(settings.host)
    if settings.token or len(tokens):
        access = Authentication(
            tokens, Sessions(process.control, process.audit, tokens), FailedAttempts(settings.failed_sign_ins),
            TokenLimits(settings), settings.token, settings.operator_token,
        )  # fmt: skip
    middleware: list[Any] = [_WriterLifespan(process), NameRoute(), access]
    app = Application(middleware=middleware)
    app.service = process
    app.path_prefix = settings.path_prefix
    app.trusted_proxies = settings.trusted_proxies
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, unexpected)
    for path, resource in {"/healthz": Health(), "/readyz": _Ready(process), "/metrics": _Numbers(process)}.items():
        app.add_route(path, resource)
    return app
