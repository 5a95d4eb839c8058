"""The composition root: settings in, application out."""

import asyncio
import contextlib
import gc
import importlib
import logging
import socket
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, Self

import falcon.asgi
from falcon.asgi import Request, Response
from falcon.routing import CompiledRouter

from service.control.database import ControlError
from service.credentials.rates import FailedAttempts
from service.http.access import OnlyEncrypted, RefuseForeignPages, RequireOwnHost
from service.http.authentication import Authentication
from service.http.direct_reports import DirectReports
from service.http.encoding import Compress, add_head
from service.http.problems import serialize, unavailable, uncontrolled, unexpected
from service.http.request_log import NameRoute, RequestLog
from service.http.resources.health import Health, Ready, member_looks, other_looks, refusing_looks, unasked_tokens_look
from service.http.resources.ingest import Metrics
from service.http.resources.page import STATIC, VIEWS, Dashboard, StaticFile
from service.http.routing import (
    HEALTH,
    REPORTS,
    AllowOrigins,
    RefuseUnknownParameters,
    Slashes,
    elsewhere,
    ending,
    under,
)
from service.http.token_limits import AddressLimit
from service.parts import Service
from service.settings import ServiceSettings
from service.stores.base import StoreUnavailable
from service.tls import Tls

if TYPE_CHECKING:
    from service.answers import Answering

_log = logging.getLogger("loadlens.service")
_SWITCH_S, _PAUSE_S = 0.0005, 0.002
_OUR_OWN = frozenset({"agent", "analytics", "contract", "service"})
_PICTURES = ("service.answers", "service.stores.selection")
_PICTURES_EMBEDDED = ("service.stores.embedded.reading",)
"""What the dashboard's first picture is read with."""
_LATER = ("service.answering",)
_LATER_EMBEDDED = ("service.stores.embedded.ends", "service.stores.embedded.dump", "service.stores.use_tables")


class _Lifespan:
    """Opens and closes the service with the server."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._service.open()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        self._service.end_streams()
        await self._service.scheduler.stop()
        await self._service.remote_configuration.stop()
        await self._service.tokens.stop()
        if self._service.forgetting is not None:
            await self._service.forgetting.stop()
        await asyncio.to_thread(self._service.close)


class Serving(Protocol):
    """What the server needs of what it serves."""

    requests: RequestLog

    def end_streams(self) -> None:
        """Let answers end that would go on for ever."""

    def reload(self) -> None:
        """Read rules again, where there are any."""


class Application(falcon.asgi.App[Request, Response]):
    """The application, and the service behind it.

    It takes reports and tells its health at once. What else it answers is imported beside that: who asks for it before
    it is there waits for it.
    """

    service: "Serving"
    path_prefix: str = ""
    trusted_proxies: tuple[str, ...] = ()
    tls: Tls | None = None
    """What the server encrypts with, where it does."""
    direct: DirectReports | None = None
    """What takes single reports before all else, where it may."""
    own_socket: socket.socket | None = None
    """Where this process alone listens, where others listen at the service's port."""
    rest: "_Rest | None" = None
    """What else it is to answer; None where it does."""
    early: Mapping[str, object] = MappingProxyType({})
    """The resources that are there from the start, by path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # type: ignore[override]  # as falcon's own
        """Answer a request, as ASGI asks for it; those of HTTP are counted and logged."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        below = under(self.path_prefix, scope)
        if self.direct is not None and below is not None and _is_of_reports(below):
            await self.direct(below, receive, send)
        else:
            await self.answer(below, scope, receive, send)

    async def answer(self, below: Any, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, given its scope `below` the prefix, if it is there."""
        app, scope = (elsewhere, scope) if below is None else (super().__call__, below)
        if self.rest is not None and below is not None and not await self._is_there(scope):
            app = ending
        if scope["type"] == "http":
            await self.service.requests.answer(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    async def _is_there(self, scope: Any) -> bool:
        """Wait until a request can be answered; false where it is not any more."""
        assert self.rest is not None
        if _is_early(scope):
            return True
        if _is_page(scope):
            # What it asks for next is hurried for, and not waited for.
            self.rest.hurry()
            return True
        return await self.rest.is_there()

    def add(self, routes: Mapping[str, object]) -> None:
        """Answer at these paths."""
        for path, resource in routes.items():
            add_head(resource)
            self.add_route(path, resource)


class _Rest:
    """All that an application is to answer besides what it does from the start."""

    def __init__(
        self, app: Application, service: Service, settings: ServiceSettings, authentication: Authentication | None
    ) -> None:
        self._app, self._service, self._settings, self._authentication = app, service, settings, authentication
        self._coming: asyncio.Task[None] | None = None
        self._imports = _Imports()
        self._answering: Answering | None = None
        self.problem: str | None = None
        """Why it cannot be imported."""

    def begin(self) -> None:
        """Import it, in a thread, unless the service ends."""
        if self._coming is None and not self._imports.is_ended:
            self._coming = asyncio.get_running_loop().create_task(self._come())

    def end(self) -> None:
        """Import no more, unless somebody waits for it: to close the store is not to wait for what nobody needs."""
        self._imports.end()

    def hurry(self) -> None:
        """Import it as soon as can be: somebody waits."""
        self._imports.hurry()
        self.begin()

    async def is_there(self) -> bool:
        """Wait until it is answered; false where it is not any more, as the service ends."""
        self.hurry()
        if self._coming is not None:
            await asyncio.shield(self._coming)
        return self._app.rest is None

    async def _come(self) -> None:
        try:
            await asyncio.to_thread(_preload, _pictures(self._settings), self._imports)
            if self._imports.is_ended:
                return
            self._keep_answers()
            await asyncio.to_thread(_preload, _later(self._settings), self._imports)
        except _Ended:
            return
        except Exception as error:
            self.problem = f"nothing can be asked: {error}"
            _log.exception("what answers questions cannot be imported")
            raise
        self.add()
        # All of that stays, and need not be looked at for garbage.
        gc.freeze()
        _log.debug("questions are answered from now on")

    def add(self) -> None:
        """Add it, imported or not."""
        from service.answering import later_routes

        answering = self._keep_answers()
        self._app.add(later_routes(self._service, answering, self._settings, self._authentication, self._app.early))
        self._app.rest = None

    def _keep_answers(self) -> "Answering":
        """Keep what is answered from now on, and begin to read ahead: the rest is imported meanwhile."""
        if self._answering is None:
            from service.answers import Answering

            self._service.answering = self._answering = Answering(self._service)
            if self._service.is_open:
                self._service.read_ahead()
        return self._answering


class _Ended(ImportError):
    """Nobody needs what would be imported."""


class _Imports:
    """Imports of one thread beside others' work; an import hook, which is asked before each module.

    Until it is hurried it lets the others have the interpreter for a moment each time. Once it is ended, it begins none
    of our own modules: of them nothing is left half done, as may be of a library whose import is broken off.
    """

    def __init__(self) -> None:
        self._hurried = threading.Event()
        self._thread: int | None = None
        self.is_ended = False

    def hurry(self) -> None:
        """Make no more pauses: somebody waits for it, and has it whole."""
        self._hurried.set()

    def end(self) -> None:
        """Come to an end where nobody waits for it."""
        self.is_ended = not self._hurried.is_set()
        self._hurried.set()

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Nothing is found here: whoever is asked next finds it."""
        if threading.get_ident() == self._thread:
            self._hurried.wait(_PAUSE_S)
            if self.is_ended and name.partition(".")[0] in _OUR_OWN:
                raise _Ended(f"{name} is not needed any more")


def preload(settings: ServiceSettings) -> None:
    """Import what questions need, for a process that forks several: they share the memory of what it has imported."""
    _preload((*_pictures(settings), *_later(settings)), contextlib.nullcontext())


def _pictures(settings: ServiceSettings) -> Sequence[str]:
    return (*_PICTURES, *(_PICTURES_EMBEDDED if settings.store == "embedded" else ()))


def _later(settings: ServiceSettings) -> Sequence[str]:
    return (*_LATER, *(_LATER_EMBEDDED if settings.store == "embedded" else ()))


def _preload(modules: Iterable[str], imports: contextlib.AbstractContextManager[object]) -> None:
    """Import what takes longer than all that a start waits for."""
    collects, interval_s = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    # Reports come in on another thread meanwhile, which is to have the interpreter as soon as it asks.
    sys.setswitchinterval(_SWITCH_S)
    try:
        with imports:
            for module in modules:
                importlib.import_module(module)
    finally:
        sys.setswitchinterval(interval_s)
        if collects:
            gc.enable()


def _is_early(scope: Any) -> bool:
    """Whether a request is answered from the start on: reports with any parameters, health without."""
    return _is_of_reports(scope) or (scope["path"] in HEALTH and not scope["query_string"])


def _is_of_reports(scope: Any) -> bool:
    return bool(scope["path"] == REPORTS and scope.get("method") == "POST")


def _is_page(scope: Any) -> bool:
    """Whether a page of the dashboard is asked for, or one of its files: they are there from the start on."""
    return scope["type"] == "http" and (scope["path"] in VIEWS or scope["path"].startswith(STATIC))


def create_app(settings: ServiceSettings, own_address: str = "") -> Application:
    """The application, with its store open, and all that it answers; otherwise as `begin_app`."""
    app = begin_app(settings, own_address)
    assert app.rest is not None
    app.rest.add()
    return app


def begin_app(settings: ServiceSettings, own_address: str = "") -> Application:
    """The application, with its store open, which takes reports; the rest of it comes when it serves.

    `own_address` is where this process alone answers, if others share the service's port. Raises StoreError where the
    store cannot be used.
    """
    service = Service(settings, own_address)
    authentication = None
    if settings.token or len(service.tokens) or settings.tls_client_ca or settings.openid_issuer:
        authentication = Authentication(
            service.tokens, service.sessions, FailedAttempts(settings.failed_sign_ins), service.token_limits,
            settings.token, settings.operator_token,
        )  # fmt: skip
    access = authentication or RequireOwnHost(settings.host)
    cors = AllowOrigins(settings.cors_origins)
    middleware: list[Any] = [
        _Lifespan(service),
        NameRoute(),
        Compress(),
        cors,
        access,
        RefuseForeignPages(cors.may_change),
        RefuseUnknownParameters(),
    ]
    if settings.address_requests:
        middleware.insert(middleware.index(access), AddressLimit(settings.address_requests))
    if settings.tls_certificate or settings.trusted_proxies:
        middleware.insert(0, OnlyEncrypted())
    router = CompiledRouter()
    app = Application(middleware=middleware, router=router)
    app.service = service
    app.path_prefix = settings.path_prefix
    app.trusted_proxies = settings.trusted_proxies
    app.set_error_serializer(serialize)
    app.add_error_handler(Exception, unexpected)
    app.add_error_handler(StoreUnavailable, unavailable)
    app.add_error_handler(ControlError, uncontrolled)
    app.rest = rest = _Rest(app, service, settings, authentication)
    metrics = Metrics(
        service.ingest, service.admission, service.store, service.remote_configuration, service.token_limits
    )
    app.early = _early_routes(service, metrics, rest, asks_for_token=authentication is not None)
    app.add(app.early)
    if not settings.address_requests:
        app.direct = DirectReports(
            lambda scope, receive, send: app.answer(scope, scope, receive, send), metrics, access, service.token_limits,
            service.requests,
        )  # fmt: skip
    app.add_sink(Slashes(router), "/api/v1/agents/")
    return app


def _early_routes(service: Service, metrics: Metrics, rest: _Rest, *, asks_for_token: bool) -> dict[str, object]:
    """The resource at each path that is there from the start: reports, and how the service is."""
    store, remote, rules = service.store, service.remote_configuration, service.rules
    return {
        **dict.fromkeys(VIEWS, Dashboard()),
        f"{STATIC}{{version}}/{{name:path}}": StaticFile(),
        REPORTS: metrics,
        "/healthz": Health(),
        "/readyz": Ready(
            store,
            refusing_looks(service.journal),
            [
                *other_looks(
                    store, service.admission, service.maintenance, rules, remote.registry, service.control, service.lost
                ),
                *member_looks(service.member),
                unasked_tokens_look(service.tokens, asks_for_token),
                lambda: service.forgetting.problem if service.forgetting else None,
                lambda: rest.problem,
            ],
            service.member.lag if service.member else None,
        ),
    }
