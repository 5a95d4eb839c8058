"""Query strings that say what nobody reads are refused: a parameter that is misspelt would change the wrong thing."""

from functools import cache
from typing import Any, get_origin, get_type_hints

from falcon.asgi import Request, Response
from msgspec import Struct

from contract.problems import shortened
from service.http.problems import invalid
from service.http.requests import unknown_parameter
from service.http.routing import REPORTS


class RefuseUnknownParameters:
    """Middleware for the operations of the API. Reports are taken with whatever a sender puts behind the address."""

    async def process_resource(self, req: Request, resp: Response, resource: object, params: dict[str, Any]) -> None:
        """Raise ProblemError 422 for a parameter that the operation does not have, or that comes more than once."""
        if not req.query_string or (req.method == "POST" and req.uri_template == REPORTS):
            return
        # What all operations are made of is much, and nobody waits for it who sends reports.
        from service.http.openapi.operations import OPERATIONS

        operation = OPERATIONS.get((req.uri_template or "").replace(":path", ""), {}).get(
            "GET" if req.method == "HEAD" else req.method
        )
        if operation is None or (operation.tag == "reports" and req.method == "POST"):
            return
        names, several = _names(operation.query) if operation.query else ((), frozenset[str]())
        for name, value in req.params.items():
            if name not in names:
                raise invalid(shortened(name), unknown_parameter(name, names))
            if not isinstance(value, str) and name not in several:
                raise invalid(name, "is given more than once")


@cache
def _names(query: type[Struct]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of the parameters, and of those that may come more than once."""
    from service.http.parameters import names_of

    kinds = get_type_hints(query)
    return names_of(query), frozenset(name for name, kind in kinds.items() if get_origin(kind) is list)
