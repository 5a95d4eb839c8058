"""Pages of other origins that may use the interface, where the settings name them (CORS, https://fetch.spec.whatwg.org)."""

from falcon.asgi import Request, Response

ANY = "*"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_READING = "GET, HEAD"
_HEADERS = "Authorization, Content-Type, Content-Encoding, If-Match, If-None-Match, Last-Event-ID, X-Loadlens-Actor"
_EXPOSED = "Approximation, Deprecation, ETag, Link, Location, Retry-After, Sunset"
_KEPT_S = "600"


class AllowOrigins:
    """Answers the questions of browsers before they ask for a page of another origin, and marks the answers."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """`origins` may read and change, as far as their tokens allow; `*` lets all others read."""
        self._origins = frozenset(origins)

    def may_change(self, origin: str | None) -> bool:
        """Whether pages of this origin may change something."""
        return origin is not None and origin != ANY and origin in self._origins

    async def process_request(self, req: Request, resp: Response) -> None:
        """Answer a preflight; it comes without a token."""
        origin = req.get_header("Origin")
        if not self._origins or origin is None:
            return
        resp.append_header("Vary", "Origin")
        if origin not in self._origins and ANY not in self._origins:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Expose-Headers", _EXPOSED)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            resp.set_header("Access-Control-Allow-Methods", _METHODS if self.may_change(origin) else _READING)
            resp.set_header("Access-Control-Allow-Headers", _HEADERS)
            resp.set_header("Access-Control-Max-Age", _KEPT_S)
            resp.status = 204
            resp.complete = True
