"""Request bodies: read whole, within a limit, compressed or not."""

import zlib
from typing import Any

import falcon
import msgspec
import zstandard
from falcon.asgi import Request

from contract.decoding import decode_json
from service.problems import ProblemError

__all__ = ["MAX_BODY", "read_body", "read_json"]

MAX_BODY = 8 * 1024 * 1024
"""The largest body, in bytes, after decompression."""


async def read_body(req: Request) -> bytes:
    """The body, decompressed as `Content-Encoding` says.

    Raises ProblemError: 413 above `MAX_BODY`, 415 for an unknown encoding, 400 for broken compression.
    """
    length = req.content_length
    if length is not None and length > MAX_BODY:
        raise _too_large()
    body: bytes = await (req.stream.read() if length is not None else req.stream.read(MAX_BODY + 1))
    encoding = req.get_header("Content-Encoding")
    if encoding is not None:
        body = _decompressed(body, encoding.strip().lower())
    if len(body) > MAX_BODY:
        raise _too_large()
    return body


async def read_json(req: Request, *types: str) -> Any:
    """The decoded JSON document of a body whose `Content-Type` is one of `types`.

    Raises as `read_body`; 415 for another type, which also keeps forms of foreign web pages out; 400 for no JSON.
    """
    given = (req.content_type or "").partition(";")[0].strip().lower()
    if given not in types:
        raise ProblemError(falcon.HTTP_415, f"Content-Type {given!r} is not right here; {' or '.join(types)} is.")
    try:
        return decode_json(await read_body(req))
    except msgspec.DecodeError as error:
        raise ProblemError(falcon.HTTP_400, f"The body is not JSON: {error}") from None


def _decompressed(body: bytes, encoding: str) -> bytes:
    try:
        if encoding in ("gzip", "x-gzip"):
            return _gunzip(body)
        if encoding == "zstd":
            with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
                return reader.read(MAX_BODY + 1)
    except (zlib.error, zstandard.ZstdError) as error:
        raise ProblemError(falcon.HTTP_400, f"The body is not {encoding} data: {error}") from None
    if encoding in ("identity", ""):
        return body
    raise ProblemError(
        falcon.HTTP_415,
        f"Content-Encoding {encoding!r} is not known; gzip, zstd or none is right.",
        headers={"Accept-Encoding": "gzip, zstd"},
    )


def _gunzip(body: bytes) -> bytes:
    """The content of all gzip members, read until one byte above the limit."""
    content = b""
    while body and len(content) <= MAX_BODY:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        content += member.decompress(body, MAX_BODY + 1 - len(content))
        if not member.eof and len(content) <= MAX_BODY:
            raise zlib.error("the data ends too early")
        body = member.unused_data
    return content


def _too_large() -> ProblemError:
    return ProblemError(
        falcon.HTTP_413,
        f"The body is larger than {MAX_BODY} bytes (after decompression); send fewer reports at a time.",
    )
