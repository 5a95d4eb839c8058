"""Requests written down in short; `replay` says what each member means."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

__all__ = ["API", "JSON", "delete", "get", "of", "patch", "post", "put", "query", "segment", "send"]

JsonObject = dict[str, Any]
API = "/api/v1"
JSON = "application/json"
MERGE = "application/merge-patch+json"


def of(service: str, requests: Iterable[JsonObject]) -> list[JsonObject]:
    """Requests to one start of the service."""
    return [{"service": service} | request for request in requests]


def send(method: str, target: str, body: JsonObject | None = None, /, **options: Any) -> JsonObject:
    """Any request; `headers` by their names with underscores, other `options` as they are."""
    members = {name: options.pop(name) for name in ("until", "blocks", "keep") if name in options}
    headers = {name.replace("_", "-"): value for name, value in options.items()}
    request: JsonObject = {"ask": f"{method} {target}"}
    if headers:
        request["headers"] = headers
    if body is not None:
        request["body"] = body
    return request | members


def get(target: str, **options: Any) -> JsonObject:
    """A GET of a path below /api/v1, or of one that begins at the root with `//`."""
    return send("GET", _placed(target), **options)


def post(target: str, document: Any, **options: Any) -> JsonObject:
    """A POST of a JSON document."""
    return send("POST", _placed(target), {"json": document}, **{"Content_Type": JSON} | options)


def put(target: str, document: Any, **options: Any) -> JsonObject:
    """A PUT of a JSON document."""
    return send("PUT", _placed(target), {"json": document}, **{"Content_Type": JSON} | options)


def patch(target: str, document: Any, **options: Any) -> JsonObject:
    """A merge patch."""
    return send("PATCH", _placed(target), {"json": document}, **{"Content_Type": MERGE} | options)


def delete(target: str, **options: Any) -> JsonObject:
    """A DELETE."""
    return send("DELETE", _placed(target), **options)


def query(parameters: Mapping[str, Any]) -> str:
    """The query string of parameters."""
    return f"?{urlencode(parameters)}" if parameters else ""


def segment(text: str) -> str:
    """A text as a segment of a path."""
    return quote(text, safe="")


def _placed(target: str) -> str:
    return target.removeprefix("/") if target.startswith("//") else f"{API}{target}"
