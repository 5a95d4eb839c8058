"""Requests read: bodies within a limit, and the parameters of a question from query string or JSON body."""

import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

import falcon
import msgspec
import zstandard
from falcon.asgi import Request

from contract.later import later
from contract.problems import (
    Problem,
    decode_json,
    did_you_mean,
    problem_of,
    refuse_repeated_names,
    shortened,
    without_mark,
)
from contract.times import parse_duration
from service.http.problems import HTTPProblem, invalid

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = later("pyarrow")

T = TypeVar("T")
MAX_BODY = 8 * 1024 * 1024
"""The largest body, in bytes, after decompression."""
MERGE_PATCH = "application/merge-patch+json"
"""RFC 7396: null takes a member out, the others are set."""
_MAX_MEMBERS = 1000
_PART_BYTES = 64 * 1024
_END = b"the end of a zstd body"
_END_FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(_END)
_MAX_TEXT = 1000
"""Characters of a parameter; most have closer limits of their own."""
_MAX_DETAIL, _MAX_PROBLEMS = 300, 20


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
    try:
        return without_mark(body)
    except UnicodeError as error:
        raise HTTPProblem(falcon.HTTP_400, f"The body is not JSON: {error}.") from None


async def read_json(req: Request, *types: str) -> Any:
    """The decoded JSON document of a body whose `Content-Type` is one of `types`.

    Raises as `read_body`; 415 for another type, which also keeps forms of foreign web pages out; 400 for no JSON.
    """
    given = (req.content_type or "").partition(";")[0].strip().lower()
    if given not in types:
        raise HTTPProblem(falcon.HTTP_415, f"Content-Type {given!r} is not right here; {' or '.join(types)} is.")
    body = await read_body(req)
    try:
        document = decode_json(body)
        refuse_repeated_names(body)
    except msgspec.DecodeError as error:
        raise HTTPProblem(falcon.HTTP_400, f"The body is not JSON: {error}") from None
    return document


async def read_as(req: Request, kind: type[T], refusal: str, *types: str) -> T:
    """The JSON document of a body as a `kind`; `types` of content are taken besides `application/json`.

    Raises as `read_json`; 422 with `refusal` and what is wrong where it is none.
    """
    document = await read_json(req, "application/json", *types)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise HTTPProblem(falcon.HTTP_422, refusal, [problem_of(error, kind)]) from None


def _decompressed(body: bytes, encoding: str) -> bytes:
    try:
        if encoding in ("gzip", "x-gzip"):
            return _gunzip(body)
        if encoding == "zstd":
            return _unzstd(body)
        if encoding == "snappy":
            return _unsnappy(body)
    except (zlib.error, zstandard.ZstdError, pa.ArrowException, OSError) as error:
        raise HTTPProblem(falcon.HTTP_400, f"The body is not {encoding} data: {error}") from None
    if encoding in ("identity", ""):
        return body
    raise HTTPProblem(
        falcon.HTTP_415,
        f"Expected as Content-Encoding gzip, zstd, snappy or none, got {encoding!r}.",
        headers={"Accept-Encoding": "gzip, zstd, snappy"},
    )


def _gunzip(body: bytes) -> bytes:
    """The content of all gzip members, read until one byte above the limit."""
    content = bytearray()
    place = members = 0
    while place < len(body) and len(content) <= MAX_BODY:
        members += 1
        if members > _MAX_MEMBERS:
            raise zlib.error(f"expected at most {_MAX_MEMBERS} gzip members")
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        # In parts: what is left behind a member is copied.
        while not member.eof and len(content) <= MAX_BODY:
            part = member.unconsumed_tail or body[place : place + _PART_BYTES]
            if not part:
                raise zlib.error("the data ends too early")
            if not member.unconsumed_tail:
                place += len(part)
            content += member.decompress(part, MAX_BODY + 1 - len(content))
        place -= len(member.unused_data)
    return bytes(content)


def _unzstd(body: bytes) -> bytes:
    """The content of all zstd frames, read until one byte above the limit.

    zstandard does not say when the last frame is cut short: only behind a whole one the frame of ours is one.
    """
    with zstandard.ZstdDecompressor().stream_reader(body + _END_FRAME, read_across_frames=True) as reader:
        content = reader.read(MAX_BODY + 1 + len(_END))
    if len(content) > MAX_BODY + len(_END):
        return content
    if not content.endswith(_END):
        raise zlib.error("the data ends too early")
    return content[: -len(_END)]


def _unsnappy(body: bytes) -> bytes:
    """The content of a block: https://github.com/google/snappy/blob/main/format_description.txt

    It begins with the length of what it unpacks to, seven bits a byte, the least first; that is looked at before.
    """
    length = 0
    for place, byte in enumerate(body[:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    else:
        raise zlib.error("expected its length at the beginning")
    if length > MAX_BODY:
        raise _too_large()
    return bytes(pa.Codec("snappy").decompress(body, decompressed_size=length, asbytes=True))


def _too_large() -> HTTPProblem:
    return HTTPProblem(
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

        Raises ProblemError: 422 for others than `names` and for some in a body and others in the query string, 400 for
        a body that is no object.
        """
        body = await read_body(req) if req.content_length or req.get_header("Transfer-Encoding") else b""
        if body.strip():
            try:
                values = decode_json(body, dict[str, Any])
                refuse_repeated_names(body)
            except msgspec.DecodeError as error:
                raise HTTPProblem(
                    falcon.HTTP_400,
                    f'The body is not a JSON object such as {{"start": "2018-07-12T12:15:00Z"}}: {error}',
                ) from None
            unknown = [name for name in values if name not in names]
            problems = [
                Problem(f"/{shortened(name)}", unknown_parameter(name, names)) for name in unknown[:_MAX_PROBLEMS]
            ]
            problems += [
                Problem(shortened(name), "expected all parameters in the body or all in the query string, got both")
                for name in [*req.params][:_MAX_PROBLEMS]
            ]
            if problems:
                raise HTTPProblem(falcon.HTTP_422, "The query is invalid.", problems)
            return cls(values, "/")
        for name, value in req.params.items():
            if name not in names:
                raise invalid(shortened(name), unknown_parameter(name, names))
            if not isinstance(value, str) and name not in several:
                raise invalid(name, "is given more than once")
        return cls({name: value for name, value in req.params.items() if value}, "")

    def take(self, name: str, convert: Callable[[Any], Any], default: Any) -> Any:
        """The value of a parameter, `default` where it is not given or where `convert` raises ValueError."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            self.refuse(name, f"expected at most {_MAX_TEXT} characters, got {len(value)}")
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.refuse(name, str(error))
            return default

    def refuse(self, name: str, detail: str) -> None:
        """Say what would be right for a parameter."""
        self._problems.append(Problem(self._prefix + name, shortened(detail, _MAX_DETAIL)))

    @property
    def refused(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._problems)

    def check(self) -> None:
        """Raise ProblemError 422 if anything is wrong."""
        if self._problems:
            raise HTTPProblem(falcon.HTTP_422, "The query is invalid.", self._problems)


def unknown_parameter(name: str, names: tuple[str, ...]) -> str:
    """What is right in place of a parameter that is not known."""
    if not names:
        return f"expected no parameters, got {shortened(name)}"
    return f"expected one of {', '.join(names)}, got {shortened(name)}{did_you_mean(shortened(name), names)}"


def text(value: Any) -> str:
    """A text, as the query string gives it; raises ValueError for what else a JSON body may have there."""
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {shortened(str(value))}")
    return value


def duration(value: Any) -> int:
    """The milliseconds of a duration such as `15m`; raises ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f"expected a duration such as 15m, got {value!r}")
    return parse_duration(value)
