"""GET /: where a person begins who opens the service in a browser."""

import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import falcon
from falcon.asgi import Request, Response

from analytics.figures.names import display
from analytics.reports.words import moment
from service.parameters import Parameters
from service.problems import ProblemError
from service.stores.base import Store

if TYPE_CHECKING:
    import jinja2

__all__ = ["Index"]

_MOST = 100
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_PAGES = Path(__file__).parents[1] / "pages"


class Index:
    """Links to the reports, the machines and the interface for programs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page; `q` keeps the machines whose names hold it."""
        asked = await Parameters.read(req, ("q",))
        wanted = str(asked.take("q", str, ""))
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "no-store")
        resp.text = await asyncio.to_thread(_page, self._store, wanted, _address(req))


def _address(req: Request) -> str:
    """Where the browser has reached us."""
    try:
        host, port = req.host, req.port
    except ValueError:
        raise ProblemError(
            falcon.HTTP_400, "The header Host is wrong; a name and a port are right, such as localhost:8888."
        ) from None
    return f"{req.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _page(store: Store, wanted: str, url: str) -> str:
    users = store.users().to_dict("records")
    found = [user for user in users if wanted.lower() in str(user["user_id"]).lower()]
    return _template().render(
        known=len(users), found=len(found), shown=[_machine(user) for user in found[:_MOST]], wanted=wanted, url=url
    )


def _machine(user: dict[Any, Any]) -> dict[str, str]:
    cores = user.get("cores")
    return {
        "name": display(str(user["user_id"])),
        "path": quote(str(user["user_id"]), safe=""),
        "system": display(f"{user['os_type']} {user['os_version']}"),
        "cores": "" if cores is None or cores != cores or not cores else f"{cores:.0f}",
        "last_seen": moment(user["last_seen"].value // 1_000_000),
    }


@functools.cache
def _template() -> "jinja2.Template":
    import jinja2

    import analytics.reports.html

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["style"] = analytics.reports.html.style()
    return environment.get_template("index.html.j2")
