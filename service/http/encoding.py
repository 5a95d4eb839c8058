"""Answers compressed as the client accepts, with zstd or gzip, and HEAD wherever GET is."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import zstandard
from falcon import ETag
from falcon.asgi import Request, Response

MIN_BYTES = 1024
"""Smaller answers stay as they are: they fit into one packet anyway."""
_IN_THREAD_BYTES = 1 << 16
"""Larger ones are compressed beside the event loop."""
_TYPES = (
    "application/json", "application/problem+json", "application/vnd.apache.arrow.stream",
    "application/openmetrics-text", "text/html", "text/css", "text/csv", "text/markdown", "text/plain",
    "text/javascript", "image/svg+xml",
)  # fmt: skip
"""What becomes smaller. Parquet is compressed already, events have to go at once."""
_ZSTD_LEVEL, _GZIP_LEVEL = 3, 5


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


_ENCODINGS: dict[str, Callable[[], Any]] = {
    "zstd": lambda: zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj(),
    "gzip": lambda: zlib.compressobj(_GZIP_LEVEL, wbits=16 + zlib.MAX_WBITS),
}
"""By the name of a content coding, the preferred one first."""


class Compress:
    """Compresses answers (RFC 9110, 12.5.3)."""

    async def process_response(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        """Compress what is to be sent, if that is worth it and the client accepts it."""
        media_type = (resp.content_type or "").partition(";")[0].strip()
        if media_type not in _TYPES or resp.sse is not None or resp.get_header("Content-Encoding"):
            return
        if resp.stream is None and resp.data is None and resp.text is None and resp.media is None:
            return
        _vary(resp, "Accept-Encoding")
        coding = preferred(req.get_header("Accept-Encoding") or "")
        if coding is None:
            return
        if resp.stream is not None:
            resp.stream = _compressed(resp.stream, _ENCODINGS[coding]())
        else:
            content = await resp.render_body()
            if content is None or len(content) < MIN_BYTES:
                return
            resp.data, resp.text, resp.media = await whole(content, coding), None, None
        resp.set_header("Content-Encoding", coding)
        _weaken(resp)


def preferred(accepted: str) -> str | None:
    """The coding to use for an Accept-Encoding; None for none of ours. Those of equal weight in our order."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _weight(parameters)
    offered = {name: weights.get(name, weights.get("*", 0.0)) for name in _ENCODINGS}
    best = max(offered, key=lambda name: offered[name])
    return best if offered[best] > 0 else None


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


async def whole(content: bytes, coding: str) -> bytes:
    """All of an answer, compressed by the name of a coding."""

    def work() -> bytes:
        compressor: _Compressor = _ENCODINGS[coding]()
        return compressor.compress(content) + compressor.flush()

    return await asyncio.to_thread(work) if len(content) > _IN_THREAD_BYTES else work()


async def _compressed(parts: Any, compressor: _Compressor) -> AsyncIterator[bytes]:
    async for part in parts:
        if smaller := await asyncio.to_thread(compressor.compress, part):
            yield smaller
    yield compressor.flush()


def _vary(resp: Response, name: str) -> None:
    given = resp.get_header("Vary")
    if given is None or name not in given:
        resp.append_header("Vary", name)


def _weaken(resp: Response) -> None:
    """A strong tag names bytes, and these are others now; a weak one names what they say."""
    tag = resp.get_header("ETag")
    if tag is not None and not tag.startswith("W/"):
        weak = ETag(tag.strip('"'))
        weak.is_weak = True
        resp.etag = weak


def add_head(resource: Any) -> None:
    """Let a resource answer HEAD as GET without its body (RFC 9110, 9.3.2), which falcon leaves out."""
    if hasattr(resource, "on_get") and not hasattr(resource, "on_head"):
        resource.on_head = resource.on_get
