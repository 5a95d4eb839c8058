"""Requests read: bodies within a limit, and the parameters of a question from query string or JSON body."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Self

import falcon
import msgspec
import zstandard
from falcon.asgi import Request

from contract.problems import Problem, decode_json, did_you_mean
from contract.times import parse_duration
from service.http.problems import ProblemError, invalid

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


class Parameters:
    """What a request asks, taken one by one; what is wrong is gathered, and told all at once by `check`."""

    def __init__(self, values: Mapping[str, Any], prefix: str) -> None:
        self._values = values
        self._prefix = prefix
        self._problems: list[Problem] = []

    @classmethod
    async def read(cls, req: Request, names: tuple[str, ...], several: tuple[str, ...] = ()) -> Self:
        """Those of a request, of which those of `several` may come more than once, and are lists then.

        Raises ProblemError: 422 for others than `names`, 400 for a body that is no object.
        """
        body = await read_body(req) if req.content_length or req.get_header("Transfer-Encoding") else b""
        if body.strip():
            try:
                return cls(decode_json(body, dict[str, Any]), "/")
            except msgspec.DecodeError as error:
                raise ProblemError(
                    falcon.HTTP_400,
                    f'The body is not a JSON object such as {{"start": "2018-07-12T12:15:00Z"}}: {error}',
                ) from None
        for name, value in req.params.items():
            if name not in names:
                raise invalid(name, f"expected one of {', '.join(names)}, got {name}{did_you_mean(name, names)}")
            if not isinstance(value, str) and name not in several:
                raise invalid(name, "is given more than once")
        return cls({name: value for name, value in req.params.items() if value}, "")

    def take(self, name: str, convert: Callable[[Any], Any], default: Any) -> Any:
        """The value of a parameter, `default` where it is not given or where `convert` raises ValueError."""
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.refuse(name, str(error))
            return default

    def refuse(self, name: str, detail: str) -> None:
        """Say what would be right for a parameter."""
        self._problems.append(Problem(self._prefix + name, detail))

    @property
    def refused(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._problems)

    def check(self) -> None:
        """Raise ProblemError 422 if anything is wrong."""
        if self._problems:
            raise ProblemError(falcon.HTTP_422, "The query is invalid.", self._problems)


def duration(value: Any) -> int:
    """The milliseconds of a duration such as `15m`; raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; a text such as 15m is right")
    return parse_duration(value)
