"""The OpenAPI 3.1 document of the interface (https://spec.openapis.org/oas/v3.1.1.html)."""

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from contract import __version__
from contract.metrics import NAMES
from contract.selectors import MAX_USER_ID
from service.dashboard.analysis import KINDS
from service.http.answers import JSON
from service.http.openapi.documents import ProblemDocument
from service.http.openapi.operations import OPERATIONS, PROBLEM, Operation
from service.http.parameters import names_of

_TAGS = {
    "values": "Ask for values, windows and reports, and follow them.",
    "reports": "Send reports.",
    "agents": "See agents, and say how they are to sample.",
    "alerts": "Rules, what they have found, and who is told.",
    "annotations": "What people say of moments.",
    "schedules": "Reports that the service makes by itself.",
    "operations": "For those who run the service.",
    "access": "Tokens: who may do what.",
}
_MEANINGS = {
    400: "The body is not JSON in UTF-8, or its compression is broken.",
    401: "The token is missing or wrong.",
    403: "The token's role or scope is not good for this, or a page of another site wants to change something.",
    404: "No such metric, user, core or thing.",
    405: "The path does not have this method.",
    406: "None of the forms in Accept is known.",
    409: "It does not go with what is there.",
    412: "The version that was to be changed is not the newest.",
    413: "The body is too large.",
    415: "The body's type or encoding is not known.",
    421: "Host is not a name of this service.",
    422: "A parameter or a member is wrong.",
    428: "The change does not say which version it is meant for.",
    429: "Too many wait already, the token is at a limit, or too many wrong tokens have come from this address.",
    501: "The store cannot do it; the detail says what to do instead.",
    503: "It cannot be done now; try again after Retry-After seconds.",
}
_EVERYWHERE = (401, 403, 421, 429)
"""What the door may answer, whatever is asked."""
_TEMPLATE = "#/components/schemas/{name}"
_PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "metric": {"enum": sorted(NAMES)},
    "user_id": {"type": "string", "minLength": 1, "maxLength": MAX_USER_ID, "examples": ["6a:d6:96:d3:45:35"]},
    "kind": {"enum": [*KINDS]},
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$", "examples": ["hot"]},
    "command_id": {"type": "string", "examples": ["00112233"]},
    "silence_id": {"type": "string", "examples": ["00112233"]},
    "message_id": {"type": "string", "examples": ["msg_1"]},
    "token_id": {"type": "string", "pattern": "^[0-9a-f]{12}$", "examples": ["001122334455"]},
    "session_id": {"type": "string", "examples": ["0011223344556677"]},
    "annotation_id": {"type": "integer", "minimum": 1, "maximum": 10**15},
    "schedule_id": {"type": "integer", "minimum": 1, "maximum": 10**15},
}
_CONDITIONS: Mapping[Literal["change", "read"], tuple[tuple[str, str, str], ...]] = {
    "change": (
        ("If-Match", "The ETag of the version that is changed, or `*` for any; one of both is needed.", "*"),
        ("If-None-Match", "`*`, in its place, for what is not there yet.", ""),
    ),
    "read": (("If-None-Match", "The ETag of the version that is known.", '"0"'),),
}


def openapi(resources: Mapping[str, object], server: str = "/") -> dict[str, Any]:
    """The document of some resources, by the path of their routes; those that no program asks are left out.

    `server` is the path that all are under.
    """
    paths = {path: resource for route, resource in resources.items() if (path := path_of(route)) in OPERATIONS}
    types = [kind for path in paths for operation in OPERATIONS[path].values() for kind in _types(operation)]
    schemas, components = msgspec.json.schema_components([*types, ProblemDocument], ref_template=_TEMPLATE)
    schema_of = dict(zip(map(_key, [*types, ProblemDocument]), schemas, strict=True))
    builder = _Builder(schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Loadlens",
            "version": __version__,
            "description": "CPU analytics for fleets: summaries that merge exactly.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"token": []}, {}],
        "paths": {path: builder.path(path, resource) for path, resource in paths.items()},
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where the service asks for one."}
            },
        },
    }


def path_of(route: str) -> str:
    """The path of a route as OpenAPI writes it."""
    return route.replace(":path}", "}")


def _types(operation: Operation) -> Iterator[Any]:
    yield from (kind for kind in (operation.query, operation.body, operation.answer) if kind is not None)


def _key(kind: Any) -> str:
    return repr(kind)


class _Builder:
    """Writes the operations of paths."""

    def __init__(self, schema_of: Mapping[str, Any], components: Mapping[str, Any]) -> None:
        self._schema_of = schema_of
        self._components = components

    def path(self, path: str, resource: object) -> dict[str, Any]:
        """A path with its parameters and methods."""
        names = re.findall(r"\{(\w+)\}", path)
        item: dict[str, Any] = {}
        if names:
            item["parameters"] = [
                {"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]} for name in names
            ]
        for method, operation in OPERATIONS[path].items():
            item[method.lower()] = self._operation(method, path, operation, resource)
        return item

    def _operation(self, method: str, path: str, operation: Operation, resource: object) -> dict[str, Any]:
        responder = getattr(resource, f"on_{method.lower()}")
        written: dict[str, Any] = {
            "operationId": _operation_id(method, path),
            "tags": [operation.tag],
            "summary": (inspect.getdoc(type(resource)) or "").partition("\n")[0],
            "description": inspect.getdoc(responder) or "",
            "parameters": [*self._query(operation), *_conditions(operation)],
            "responses": self._responses(operation),
        }
        if operation.body is not None:
            schema = self._schema_of[_key(operation.body)]
            written["requestBody"] = {
                "required": True,
                "content": {name: {"schema": _body_schema(name, schema)} for name in operation.body_types},
            }
        return written

    def _query(self, operation: Operation) -> Iterator[dict[str, Any]]:
        if operation.query is None:
            return
        reference = self._schema_of[_key(operation.query)]["$ref"].rpartition("/")[2]
        schema = self._components[reference]
        for name in names_of(operation.query):
            of_name = {**schema["properties"][name]}
            description = of_name.pop("description", None)
            parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in schema.get("required", ())}
            if description:
                parameter["description"] = description
            if of_name.pop("deprecated", False):
                parameter["deprecated"] = True
            yield parameter | {"schema": _without_null(of_name)}

    def _responses(self, operation: Operation) -> dict[str, Any]:
        answered: dict[str, Any] = {"description": "What was asked for."}
        if operation.forms and operation.status != 204 and (operation.answer is not None or operation.forms != (JSON,)):
            answered["content"] = {form: self._content(form, operation) for form in operation.forms}
        responses = {str(operation.status): answered}
        for status, text in operation.also.items():
            responses[str(status)] = {"description": text} | (
                {"content": answered["content"]} if status != 304 and "content" in answered else {}
            )
        problem = {PROBLEM: {"schema": self._schema_of[_key(ProblemDocument)]}}
        for status in (*_EVERYWHERE, *operation.refusals):
            responses.setdefault(str(status), {"description": _MEANINGS[status], "content": problem})
        return dict(sorted(responses.items()))

    def _content(self, form: str, operation: Operation) -> dict[str, Any]:
        if form.partition(";")[0] == JSON:
            return {"schema": self._schema_of[_key(operation.answer)]}
        return {"schema": {"type": "string"}} if form.startswith("text/") else {}


def _body_schema(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "string"} if media_type.endswith("ndjson") else schema


def _conditions(operation: Operation) -> Iterator[dict[str, Any]]:
    if operation.conditional is None:
        return
    for name, description, example in _CONDITIONS[operation.conditional]:
        yield {
            "name": name, "in": "header", "required": False, "description": description,
            "schema": {"type": "string"} | ({"examples": [example]} if example else {}),
        }  # fmt: skip


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter, which is left out rather than null."""
    if schema.get("default", ...) is None:
        schema = {name: value for name, value in schema.items() if name != "default"}
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
        rest = {name: value for name, value in schema.items() if name != "anyOf"}
        return rest | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
    if None in schema.get("enum", ()):
        return schema | {"enum": [value for value in schema["enum"] if value is not None]}
    return schema


def _operation_id(method: str, path: str) -> str:
    words = re.findall(r"\w+", path.removeprefix("/api/v1") if path.startswith("/api/v1") else f"service{path}")
    return "_".join([method.lower(), *words])
