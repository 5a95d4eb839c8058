"""The dashboard's page and its files.

They are answered from the start on, while what the page asks for is still imported: nothing here needs it.
"""

import asyncio
import functools
import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import falcon
from falcon.asgi import Request, Response

from contract.metrics import NAMES
from service.credentials.identity import ANYBODY
from service.http.authentication import identity_of
from service.http.pages import PAGES, environment
from service.http.problems import HTTPProblem

if TYPE_CHECKING:
    import jinja2

P = ParamSpec("P")
T = TypeVar("T")
_STATIC = PAGES / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"
VIEWS = {
    "/": "Fleet", "/host": "Host", "/compare": "Compare", "/alerts": "Alerts", "/agents": "Agents",
    "/reports": "Reports",
}  # fmt: skip
"""The views of the page, by path."""
STATIC = "/static/"
"""What the paths of its files begin with."""


@dataclass(frozen=True, slots=True)
class _StaticContent:
    content: bytes
    compressed: bytes
    media_type: str


async def _beside(make: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What is made once: beside the event loop, where reports come in, as it takes a tenth of a second."""
    if _files.cache_info().currsize and _template.cache_info().currsize:
        return make(*arguments, **named)
    return await asyncio.to_thread(make, *arguments, **named)


@functools.cache
def _files() -> Mapping[str, _StaticContent]:
    """What the page loads, by path."""
    return {
        path.relative_to(_STATIC).as_posix(): _StaticContent(
            content, gzip.compress(content, 9, mtime=0), _TYPES[path.suffix]
        )
        for path in sorted(_STATIC.rglob("*"))
        if path.suffix in _TYPES
        for content in [path.read_bytes()]
    }


@functools.cache
def _version() -> str:
    """Names the content of all files, so that a browser may keep them for good."""
    digest = hashlib.sha256()
    for name, file in _files().items():
        digest.update(name.encode() + b"\0" + file.content)
    return digest.hexdigest()[:16]


@functools.cache
def _template() -> "jinja2.Template":
    page = environment()
    return page.get_template("dashboard.html.j2")


class Dashboard:
    """The page of a view; what it shows the page asks for itself."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page."""
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "same-origin")
        resp.set_header("Cache-Control", "no-cache")
        asks_for_token = identity_of(req) is not ANYBODY
        resp.text = await _beside(_page, req.path.rstrip("/") or "/", req.root_path, asks_for_token=asks_for_token)


@functools.cache
def _page(path: str, base: str, *, asks_for_token: bool) -> str:
    metrics = [metric for metric in NAMES.values() if metric.over_cores is None and metric.name != "cpuLoadAvg"]
    shown = [metric for metric in metrics if metric.statistic == "mean"]
    # Named here, so that a browser fetches all of them at once, not each when it has read who imports it.
    modules = [name for name in _files() if name.endswith(".js") and not name.startswith(("vendor/", "theme", "app"))]
    return _template().render(
        version=_version(), views=VIEWS, path=path, title=VIEWS[path], metrics=shown, base=base, modules=modules,
        asks_for_token=asks_for_token,
    )  # fmt: skip


class StaticFile:
    """Scripts and styles, under an address that names their content."""

    async def on_get(self, req: Request, resp: Response, version: str, name: str) -> None:
        """200, to be kept for good; 404 for what is not there (any more)."""
        file = (await _beside(_files)).get(name)
        if file is None or version != _version():
            raise HTTPProblem(falcon.HTTP_404, "No such file in this version of the page; load the page anew.")
        resp.content_type = file.media_type
        resp.set_header("Cache-Control", _FOREVER)
        resp.set_header("X-Content-Type-Options", "nosniff")
        _send(req, resp, file.content, file.compressed)


def _send(req: Request, resp: Response, content: bytes, compressed: bytes) -> None:
    resp.set_header("Vary", "Accept-Encoding")
    if "gzip" in (req.get_header("Accept-Encoding") or ""):
        resp.set_header("Content-Encoding", "gzip")
        resp.data = compressed
    else:
        resp.data = content
