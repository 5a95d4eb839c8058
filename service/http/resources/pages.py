"""Pages for people: where a browser begins, and reports made on demand."""

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import falcon
from falcon.asgi import Request, Response

from analytics.reports.text import moment
from contract.problems import display
from contract.times import parse_timestamp, wrong_end
from service.credentials.identity import ANYBODY
from service.credentials.tokens import Tokens
from service.http.answers import preferred
from service.http.authentication import identity_of
from service.http.buckets import zone_of
from service.http.operation_parameters import ReportParameters
from service.http.pages import environment
from service.http.parameters import names_of
from service.http.problems import HTTPProblem
from service.http.requests import Parameters, duration
from service.reporting.maker import ReportFailed, ReportMaker, TooManyReports
from service.reporting.worker import ReportFormat, ReportRefused, ReportRequest
from service.stores.base import Store

if TYPE_CHECKING:
    import jinja2

_MAX = 100
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


class Index:
    """Links to the reports, the hosts and the interface for programs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page; `q` keeps the hosts whose names hold it."""
        asked = await Parameters.read(req, ("q",))
        wanted = str(asked.take("q", str, ""))
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "no-store")
        resp.text = await asyncio.to_thread(_page, self._store, wanted, _address(req), req.root_path)


def _address(req: Request) -> str:
    """Where the browser has reached us."""
    try:
        host, port = req.host, req.port
    except ValueError:
        raise HTTPProblem(
            falcon.HTTP_400,
            f"Expected in the header Host a name and a port, such as localhost:8888, got {req.get_header('Host')!r}.",
        ) from None
    return f"{req.scheme}://{f'[{host}]' if ':' in host else host}:{port}{req.root_path}"


def _page(store: Store, wanted: str, url: str, base: str) -> str:
    users = store.users().to_dict("records")
    found = [user for user in users if wanted.lower() in str(user["user_id"]).lower()]
    return _template().render(
        known=len(users),
        found=len(found),
        shown=[_host(user) for user in found[:_MAX]],
        wanted=wanted,
        url=url,
        base=base,
    )


def _host(user: dict[Any, Any]) -> dict[str, str]:
    cores = user.get("cores")
    return {
        "name": display(str(user["user_id"])),
        # Whatever the escape, a browser takes these two for a step in the path.
        "path": "" if user["user_id"] in (".", "..") else quote(str(user["user_id"]), safe=""),
        "system": display(f"{user['os_type']} {user['os_version']}"),
        "cores": "" if cores is None or cores != cores or not cores else f"{cores:.0f}",
        "last_seen": moment(user["last_seen"].value // 1_000_000),
    }


@functools.cache
def _template() -> "jinja2.Template":
    import analytics.reports.html

    page = environment()
    page.globals["style"] = analytics.reports.html.style()
    return page.get_template("index.html.j2")


_log = logging.getLogger("loadlens.service")
_TYPES: dict[str, ReportFormat] = {"text/html": "html", "text/markdown": "md", "application/json": "json"}
_RETRY_S = 10
_PASSED_ON_MS = 3_600_000
"""Longer than a report waits for its turn and is made."""


class _Reports:
    def __init__(self, report_maker: ReportMaker, store: Store, tokens: Tokens) -> None:
        self._report_maker = report_maker
        self._store = store
        self._tokens = tokens

    def _token_for(self, req: Request) -> Callable[[], str] | None:
        """What makes a token for the process that makes the report, which asks as whoever asks us."""
        identity = identity_of(req)
        if identity is ANYBODY:
            return None
        return lambda: self._tokens.pass_on(identity, _PASSED_ON_MS)

    async def _answer(self, req: Request, resp: Response, user_id: str | None) -> None:
        request = await _report_request(req, user_id)
        try:
            made = await self._report_maker.report(
                request, _own_address(req), self._token_for(req), identity_of(req).scope
            )
        except TooManyReports:
            raise HTTPProblem(
                falcon.HTTP_503, "Several reports are being made; ask again in a few seconds.",
                headers={"Retry-After": str(_RETRY_S)},
            ) from None  # fmt: skip
        except ReportFailed as error:
            _log.error("A report could not be made: %s", error)
            raise falcon.HTTPInternalServerError(
                description="The report could not be made; the log says why."
            ) from None
        if isinstance(made, ReportRefused):
            headers = {"Retry-After": str(_RETRY_S)} if made.status == 503 else None
            raise HTTPProblem(falcon.code_to_http_status(made.status), made.detail, headers=headers)
        resp.etag = made.etag
        resp.set_header("Cache-Control", f"private, max-age={int(made.fresh_s)}")
        resp.set_header("Vary", "Accept, Authorization, Cookie")
        if req.if_none_match and any(tag in ("*", made.etag) for tag in req.if_none_match):
            resp.status = falcon.HTTP_304
            return
        resp.content_type = next(name for name, form in _TYPES.items() if form == request.form) + "; charset=utf-8"
        if made.policy:
            resp.set_header("Content-Security-Policy", f"{made.policy}; frame-ancestors 'none'")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.data = made.content


class FleetReport(_Reports):
    """The report on all hosts."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the report; 404 where nothing was reported then, 503 if too many are made or the store is away."""
        await self._answer(req, resp, None)


class UserReport(_Reports):
    """The report on one host."""

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with the report; 404 for a host that is not known, 503 as for the fleet."""
        if not self._store.has_user(user_id):
            raise HTTPProblem(
                falcon.HTTP_404, f"No report of user {user_id!r} has come in. GET /api/v1/users lists those that have."
            )
        await self._answer(req, resp, user_id)


async def _report_request(req: Request, user_id: str | None) -> ReportRequest:
    asked = await Parameters.read(req, names_of(ReportParameters))
    start_ms, end_ms = asked.take("start", parse_timestamp, None), asked.take("end", parse_timestamp, None)
    last_ms = asked.take("last", duration, None)
    request = ReportRequest(
        user_id=user_id,
        form=asked.take("format", _form, None) or _accepted(req),
        start_ms=start_ms,
        end_ms=end_ms,
        last_ms=last_ms,
        compare_ms=asked.take("compare", duration, None),
        target=asked.take("target", _target, 0.8),
        tz="UTC" if (zone := asked.take("tz", zone_of, None)) is None else zone.key,
    )
    if start_ms is not None and last_ms is not None:
        asked.refuse("last", "expected start or last, got both, which say where the range begins")
    if start_ms is not None and end_ms is not None and end_ms <= start_ms:
        asked.refuse("end", wrong_end(start_ms, end_ms))
    asked.check()
    return request


def _form(value: Any) -> ReportFormat:
    for form in _TYPES.values():
        if value == form:
            return form
    raise ValueError(
        f"expected one of {', '.join(_TYPES.values())}, got {value!r}; loadlens-analytics makes pdf and png"
    )


def _accepted(req: Request) -> ReportFormat:
    chosen = preferred(req, _TYPES)
    if chosen is None:
        raise HTTPProblem(falcon.HTTP_406, f"Accept: {req.accept} asks for none of {', '.join(_TYPES)}.")
    return _TYPES[chosen]


def _target(value: Any) -> float:
    target = float(value) if isinstance(value, str) else value
    # A JSON body may hold anything; true would be 1.
    if type(target) not in (int, float) or not 0 < target <= 1:
        raise ValueError(f"expected a share above 0 and of at most 1, such as 0.8, got {value}")
    return float(target)


def _own_address(req: Request) -> str:
    """The host, port and prefix where this request has reached us: the process that makes the report asks there."""
    host, port = req.scope["server"]
    return f"{f'[{host}]' if ':' in host else host}:{port}{req.root_path}"
