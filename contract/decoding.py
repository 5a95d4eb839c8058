"""JSON from elsewhere: whatever is wrong with it is one kind of error."""

from typing import Any, TypeVar, overload

import msgspec

__all__ = ["decode_json", "undecodable"]

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


def undecodable(error: UnicodeDecodeError | RecursionError) -> msgspec.DecodeError:
    """The error that msgspec should have raised."""
    if isinstance(error, UnicodeDecodeError):
        # Its position is that within one string of the document: it would mislead.
        return msgspec.DecodeError(f"JSON is not UTF-8: it has the byte 0x{error.object[error.start]:02x}")
    return msgspec.DecodeError("JSON is nested too deeply")
