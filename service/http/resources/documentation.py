"""/openapi.json and /docs: the interface, described for programs and for people."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from service.http.pages import PAGES, environment

_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class OpenApi:
    """The interface as an OpenAPI 3.1 document."""

    def __init__(self, describe: Callable[[], dict[str, Any]]) -> None:
        """`describe` makes the document; it is asked once, when somebody asks."""
        self._describe = describe

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """What is answered."""
        return self._describe()

    @functools.cached_property
    def encoded(self) -> bytes:
        """The document as JSON."""
        return msgspec.json.encode(self.document)

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the document."""
        resp.content_type = falcon.MEDIA_JSON
        resp.cache_control = ["no-cache"]
        resp.data = self.encoded


class Docs:
    """The same for people, a page without scripts."""

    def __init__(self, openapi: OpenApi, base: str = "") -> None:
        """`base` is the path that the service is under."""
        self._openapi = openapi
        self._base = base

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page."""
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "same-origin")
        resp.cache_control = ["no-cache"]
        resp.text = self._page

    @functools.cached_property
    def _page(self) -> str:
        page = environment()
        page.filters["kind"] = _kind
        page.filters["text"] = _plain
        return page.get_template("docs.html.j2").render(document=self._openapi.document, base=self._base)


class DocsStyle:
    """The style of that page."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the style sheet."""
        resp.content_type = "text/css; charset=utf-8"
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.cache_control = ["max-age=3600"]
        resp.data = (PAGES / "docs.css").read_bytes()


def _plain(text: str) -> str:
    """A description on one line, without the marks of code."""
    return " ".join(text.split()).replace("`", "")


def _kind(schema: Mapping[str, Any]) -> str:
    """What a schema allows, in short."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    bounds = [f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join([kind, *bounds])


_BOUNDS = {
    "minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "minLength": "length ≥",
    "maxLength": "length ≤",
}  # fmt: skip
