"""What is wrong with an input, said so that its sender can mend it, and text from outside, made safe to show."""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import msgspec
from msgspec import inspect

_PATH = re.compile(r"^(?P<detail>.*) - at (?:key in )?\$(?P<path>.*)$", re.DOTALL)
_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong member of a JSON document."""

    pointer: str
    """Where: a JSON pointer (RFC 6901), empty for the whole document."""
    detail: str
    """What is wrong: what was expected and what came."""


_NOT_KNOWN = "Invalid enum value "


def problem_of(error: msgspec.DecodeError, kind: Any = None) -> Problem:
    """The problem that msgspec's error describes; its path becomes a JSON pointer.

    With the `kind` of the document it says what is expected where only some values are right.
    """
    text = str(error).replace("`", "")
    match = _PATH.match(text)
    if match is None:
        return Problem("", text)
    # Of an entry of a map, msgspec does not say which: the pointer ends at the map.
    path = match["path"].partition("[...]")[0]
    parts = [name or index for name, index in _PART.findall(path)]
    detail = match["detail"]
    if kind is not None and detail.startswith(_NOT_KNOWN):
        known = sorted(_known(inspect.type_info(kind), parts))
        detail = f"expected one of {', '.join(known)}, got {detail.removeprefix(_NOT_KNOWN)}" if known else detail
    return Problem("".join(f"/{part}" for part in parts), detail)


def _known(kind: Any, parts: list[str]) -> set[str]:
    """The values that are right at a place in a document of a kind; none where there are others too."""
    if isinstance(kind, inspect.Metadata):
        return _known(kind.type, parts)
    if isinstance(kind, inspect.UnionType):
        return {value for one in kind.types for value in _known(one, parts)}
    if not parts:
        return set(map(str, kind.values)) if isinstance(kind, inspect.LiteralType) else set()
    if isinstance(kind, inspect.StructType):
        return {
            value
            for field in kind.fields if field.encode_name == parts[0]
            for value in _known(field.type, parts[1:])
        }  # fmt: skip
    inner = getattr(kind, "item_type", None) or getattr(kind, "value_type", None)
    return set() if inner is None else _known(inner, parts[1:])


_BYTE_ORDER_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))


def without_mark(content: bytes) -> bytes:
    """The bytes of a UTF-8 text without its byte order mark; raises UnicodeError where the mark is another's."""
    for mark, name in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            raise UnicodeError(f"expected UTF-8 text, got {name}: save it as UTF-8")
    return content.removeprefix(codecs.BOM_UTF8)


def utf8(content: bytes) -> str:
    """The text of a file that a person wrote: UTF-8, with or without a byte order mark as editors on Windows leave it.

    Raises UnicodeError, which says what was expected and what came.
    """
    content = without_mark(content)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UnicodeError(f"expected UTF-8 text, got byte 0x{content[error.start]:02x} at {error.start}") from None


def shortened(text: str, length: int = 60) -> str:
    """The text, cut where it is longer than a message should quote."""
    return text if len(text) <= length else text[: length - 3] + "..."


def plural(number: int, thing: str, things: str = "") -> str:
    """Such as `1 host`, `3,079 hosts`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def did_you_mean(wrong: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """` (did you mean X?)` where a known name is close to the wrong one, otherwise nothing.

    `cutoff` is the least likeness, from 0 to 1 (difflib's ratio).
    """
    from difflib import get_close_matches

    close = get_close_matches(wrong, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]}?)" if close else ""


def display(name: str) -> str:
    r"""The name as it may be shown anywhere that escapes markup: what cannot be seen is written out.

    Control characters, marks of direction (which would turn the text around them), unassigned and surrogate code points
    become `\u202e` and the like; so does white space other than the plain space.
    """
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else _written_out(char) for char in name)


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_T = TypeVar("_T")


@overload
def decode_json(body: bytes | memoryview | msgspec.Raw) -> Any: ...
@overload
def decode_json(body: bytes | memoryview | msgspec.Raw, kind: type[_T]) -> _T: ...
def decode_json(body: bytes | memoryview | msgspec.Raw, kind: Any = Any) -> Any:
    """The document of a JSON body, checked to be of a type.

    Raises msgspec.ValidationError where a member is wrong, and msgspec.DecodeError, its base, where the body is not
    JSON, not UTF-8, or nested too deeply.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error) from None
    except msgspec.DecodeError as error:
        raise explained(error, body) from None


_WRITTEN = 256 * 1024
"""Bytes of the largest document that is taken for one that a person wrote."""


def refuse_repeated_names(body: bytes) -> None:
    """Raise msgspec.DecodeError where an object of a JSON document has a name twice: readers differ in which counts.

    For what people write, not for reports: it reads the document once more, unless it is large. It must be one that
    `decode_json` takes.
    """
    import json

    def check(members: list[tuple[str, Any]]) -> None:
        seen = set()
        for name, _ in members:
            if name in seen:
                raise msgspec.DecodeError(f"the member {display(shortened(name))!r} stands twice")
            seen.add(name)

    if len(body) > _WRITTEN:
        return
    try:
        # Numbers are left as they are: Python makes no int of very many digits.
        json.loads(body, object_pairs_hook=check, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise undecodable(error) from None


def explained(error: msgspec.DecodeError, body: bytes | memoryview | msgspec.Raw) -> msgspec.DecodeError:
    """The error, in words that say what to look for where msgspec's do not: a body that ends too early, or is empty."""
    if str(error) != "Input data was truncated":
        return error
    size = len(memoryview(body))
    if not bytes(memoryview(body)[:_WRITTEN]).strip():
        return msgspec.DecodeError("expected JSON, got nothing")
    return msgspec.DecodeError(
        f"expected JSON to its end, got a part of it: it breaks off after {plural(size, 'byte')}"
    )


def undecodable(error: UnicodeDecodeError | RecursionError) -> msgspec.DecodeError:
    """The error that msgspec should have raised."""
    if isinstance(error, UnicodeDecodeError):
        # Its position is that within one string of the document: it would mislead.
        return msgspec.DecodeError(f"JSON is not UTF-8: it has the byte 0x{error.object[error.start]:02x}")
    return msgspec.DecodeError("JSON is nested too deeply")
