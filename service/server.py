"""The server: gunicorn with one uvicorn worker, which owns the store, or with several that share one elsewhere."""

import asyncio
import ctypes
import ipaddress
import logging
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn
from urllib.parse import urlsplit

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from msgspec.structs import replace
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from analytics.sources.influx_address import Address, is_influx
from contract import __version__
from contract.logs import fields
from contract.service_address import is_loopback
from service import interpreter
from service.alerts.rule_set import RuleFileError
from service.app import Application, begin_app, preload
from service.cluster import ClusterError
from service.connections import CertifiedWebSocket, LimitedProtocol
from service.control.data_lock import DataFolderError
from service.control.database import ControlError
from service.credentials.token import any_kept
from service.settings import ServiceSettings
from service.stores.base import StoreError, StoreUnavailable
from service.stores.memory import keep_little
from service.tls import Tls, TlsError

_log = logging.getLogger("loadlens.service")
_STARTUP_S = 600
"""A worker may take so long to replay its journal before it counts as hung."""
_SHUTDOWN_S = 7
"""A worker that has not ended so long after it was asked to is killed; its journal has what is not in the store."""
_ANSWERS_S = 3
"""So long answers under way may go on then."""
_STALLED_MS = 300_000
_AHEAD_S = 0.5
"""So long after it listens a process imports what answers questions, if nobody asks one before."""
_OTHER_FILES = 2048
"""Open files besides streams: connections of those who report and ask, and the store's own."""


class ServerError(Exception):
    """The server cannot start; the message says why."""


class SettingError(ValueError):
    """Settings that do not go together; the message says what would."""


def _say_cut(record: logging.LogRecord) -> bool:
    """A filter: an answer that is cut short, for want of the store or of time, is one line: no fault of ours."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if isinstance(error, StoreUnavailable):
        record.msg, record.args, record.exc_info = "an answer was cut short: %s", (error,), None
    elif isinstance(error, asyncio.CancelledError | ClientDisconnected):
        record.msg, record.args, record.exc_info = (
            "a request was cut short: its client or the service ends",
            (),
            None,
        )
    return True


class _Uvicorn(Server):
    """Ends the answers that would go on for ever before it waits for those under way."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        rest = self.config.app.rest  # type: ignore[union-attr]  # it is our Application
        if rest is not None:
            # Whoever waits for the service to be ready asks now, and has the interpreter to itself.
            asyncio.get_running_loop().call_later(_AHEAD_S, rest.begin)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _log.info("the service ends: requests under way go on for a moment")
        app: Any = self.config.app
        if app.rest is not None:
            app.rest.end()
        app.service.end_streams()
        await super().shutdown(sockets)


class _Arbiter(Arbiter):
    """SIGHUP makes the worker read its rules and its certificate again, instead of starting a second worker beside it.

    A worker that cannot open its application has said why: nothing is added, and the exit code is 1.
    """

    def setup(self, app: BaseApplication) -> None:
        """As gunicorn's; repeated lines of its log are left out."""
        super().setup(app)
        self.log.error_log.addFilter(_is_news)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """End the program; with exit code 1 where the application could not be loaded."""
        if exit_status == self.APP_LOAD_ERROR:
            self.log.error_log.setLevel(logging.CRITICAL)
            exit_status = 1
        super().halt(reason, exit_status)

    def handle_hup(self) -> None:
        """Send SIGHUP on to the worker."""
        self.kill_workers(signal.SIGHUP)


def _is_news(record: logging.LogRecord) -> bool:
    return not (isinstance(record.args, tuple) and record.args[1:] == (Arbiter.APP_LOAD_ERROR,))


class Worker(UvicornWorker):
    """uvicorn on uvloop and httptools, without a log line a request."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": LimitedProtocol,
        "timeout_graceful_shutdown": _ANSWERS_S,
        "access_log": False,
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "ws": CertifiedWebSocket,
        # Reports that many consumers get would be compressed for each of them anew.
        "ws_per_message_deflate": False,
        "ws_max_size": 64 * 1024,
    }

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self.config.proxy_headers = bool(self.wsgi.trusted_proxies)
        self.config.forwarded_allow_ips = _as_seen(self.wsgi.trusted_proxies)
        self.config.load()
        tls: Tls | None = self.wsgi.tls
        watching = None
        if tls is not None:
            self.config.ssl = tls.context
            watching = asyncio.create_task(tls.watch())
        server = _Uvicorn(self.config)
        logging.getLogger("uvicorn.error").addFilter(_say_cut)
        self._install_sigquit_handler()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        own = self.wsgi.own_socket
        await server.serve(sockets=self.sockets if own is None else [*self.sockets, own])
        if watching is not None:
            watching.cancel()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _reload(self) -> None:
        self.wsgi.service.reload()
        if self.wsgi.tls is not None:
            self.wsgi.tls.reload()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End as after SIGTERM. gunicorn turns a SIGINT into SIGQUIT for its worker, which uvicorn does not know."""
        os.kill(os.getpid(), signal.SIGTERM)


class _JsonLog(Logger):
    """gunicorn's log, and so uvicorn's, in the lines of all others."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn's, but for who writes."""
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers = [*logging.getLogger().handlers]


class _Server(BaseApplication):
    def __init__(self, settings: ServiceSettings, listener: socket.socket, tls: Tls | None) -> None:
        self._settings = settings
        self._tls = tls
        self._listener = listener
        self.number = 0
        """Of this worker, from 0 on; one that is started in place of another has its number."""
        self._first_is_ready = multiprocessing.get_context("fork").Event()
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": f"fd://{self._listener.fileno()}",
            "workers": self._settings.workers,
            "worker_class": "service.server.Worker",
            "timeout": _STARTUP_S,
            "graceful_timeout": _SHUTDOWN_S,
            "keepalive": 75,
            "loglevel": "warning",
            "logger_class": _JsonLog if self._settings.log_format == "json" else Logger,
            "proc_name": "loadlens-service",
            "pre_fork": _number,
            "post_fork": _begin_worker,
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Run until a signal ends it."""
        _Arbiter(self).run()

    def load(self) -> Application:
        settings = self._settings
        if self.number:
            # The first brings the tokens that were made before the start; without any, others would ask for none.
            self._first_is_ready.wait(_STARTUP_S)
            settings = replace(settings, data_dir=str(Path(settings.data_dir) / f"worker-{self.number + 1}"))
        own = self._own_socket() if settings.workers > 1 else None
        try:
            app = _create(settings, "" if own is None else _address_of(own) + settings.path_prefix)
        except (
            StoreError, StoreUnavailable, RuleFileError, ControlError, DataFolderError, ClusterError, OSError
        ) as error:  # fmt: skip
            print(f"loadlens-service: error: {error}", file=sys.stderr, flush=True)
            sys.exit(Arbiter.APP_LOAD_ERROR)
        app.tls = self._tls
        app.own_socket = own
        self._first_is_ready.set()
        interpreter.share_it()
        return app

    def _own_socket(self) -> socket.socket:
        """Where this worker alone answers: reports are made by asking there, and its numbers can be read there."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)
        own = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        _log.info("worker %d of %d answers at %s too", self.number + 1, self._settings.workers, _address_of(own))
        return own


def _number(arbiter: Any, worker: Any) -> None:
    """Give a worker the lowest number that none has who lives."""
    taken = {one.number for one in arbiter.WORKERS.values()}
    worker.number = min({*range(arbiter.num_workers + 1)} - taken)


def _begin_worker(arbiter: Any, worker: Any) -> None:
    keep_little()
    worker.app.number = worker.number
    _die_with_parent(arbiter, worker)


def _address_of(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _create(settings: ServiceSettings, own_address: str) -> Application:
    if settings.role == "writer":
        from service.writer_process import create_writer

        return create_writer(settings)
    return begin_app(settings, own_address)


def _die_with_parent(server: Any, worker: Any) -> None:
    """On Linux, end the worker with its parent, even one that was killed: the store must not stay locked."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
        if os.getppid() != worker.ppid:  # it ended before we asked to be told; in a container it is process 1
            os._exit(1)


def _allow_connections(files: int) -> None:
    """Have the system allow so many open files; each stream is one."""
    if os.name == "nt":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
    if resource.RLIM_INFINITY != soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < files:
        _log.warning("the system allows %d open files; %d streams may need %d", allowed, files - _OTHER_FILES, files)


def _as_seen(proxies: Sequence[str]) -> list[str]:
    """Addresses and networks as connections may show them: over `--host ::` those of IPv4 come mapped to IPv6."""
    networks = [ipaddress.ip_network(proxy) for proxy in proxies]
    mapped = [f"::ffff:{one.network_address}/{96 + one.prefixlen}" for one in networks if one.version == 4]
    return [*proxies, *mapped]


def _warn_of_open_secrets(settings: ServiceSettings) -> None:
    """Say it where whoever listens on the way to InfluxDB learns the token or the password."""
    if not is_influx(settings.store) or not (settings.store_token or settings.store_password):
        return
    url = urlsplit(Address.parse(settings.store).url)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        secret = "token" if settings.store_token else "password"
        _log.warning(
            "--store %s sends the %s unencrypted to another host: use influxs:// wherever others could listen",
            settings.store, secret,
        )  # fmt: skip


def _tls(settings: ServiceSettings) -> Tls | None:
    """What connections are encrypted with; None where they are not. Raises SettingError."""
    if settings.tls_certificate is None:
        return None
    try:
        return Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    except TlsError as error:
        raise SettingError(f"--tls-certificate, --tls-key, --tls-client-ca: {error}") from None


def serve(settings: ServiceSettings) -> NoReturn:
    """Run until SIGTERM or SIGINT; what was accepted is then on the store's disk.

    Raises SettingError for an address that must not be used without a token, ServerError for one that is taken.
    """
    asks = settings.token or settings.openid_issuer or any_kept(Path(settings.data_dir) / "control.db")
    if not is_loopback(settings.host) and not asks:
        raise SettingError(
            f"--host {settings.host} lets other hosts in; make a token that they must send "
            "(loadlens-service tokens create --offline --role admin NAME, or the old way --token or LOADLENS_TOKEN), "
            "or listen on 127.0.0.1"
        )
    tls = _tls(settings)
    try:
        Path(settings.data_dir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"--data-dir {settings.data_dir} cannot be made: {os.strerror(error.errno or 0)}") from None
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
            # Every address of this machine, those of IPv4 too; some systems leave them out unasked.
            dualstack_ipv6=settings.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise ServerError(
            f"cannot listen on {settings.host}:{settings.port}: {os.strerror(error.errno or 0)}; "
            "choose another --port, or stop what uses this one"
        ) from None
    listener.set_inheritable(True)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Connections inherit it: whoever takes nothing for so long is cut off, so that it holds no place on a stream.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_MS)
    _allow_connections(settings.agent_streams + settings.stream_consumers + _OTHER_FILES)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = listener.getsockname()[1]
    _log.info(
        "Loadlens service on %s://%s:%d%s", "http" if tls is None else "https", host, port, settings.path_prefix,
        extra=fields(version=__version__, host=settings.host, port=port, data_dir=settings.data_dir),
    )  # fmt: skip
    _warn_of_open_secrets(settings)
    if settings.workers > 1:
        preload(settings)
    # Whatever port was asked for, this is the one: reports of schedules ask the service there.
    _Server(replace(settings, port=port), listener, tls).run()
    raise AssertionError("gunicorn ends the process")
