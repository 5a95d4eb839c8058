"""What would be right, in words, read from a setting's type."""

from collections.abc import Iterable

from msgspec import inspect

__all__ = ["in_words", "not_none"]


def in_words(kind: inspect.Type) -> str:
    """What values of this type may be, such as `a whole number from 1 to 100`."""
    match kind:
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType():
            return _either(str(value) for value in kind.values)
        case inspect.ListType() | inspect.VarTupleType():
            return "a list, each " + in_words(kind.item_type)
        case inspect.CustomType():
            return "a path"
        case inspect.Metadata():
            return in_words(kind.type)
        case inspect.StrType():
            return _text(kind)
        case inspect.UnionType():
            return " or ".join(map(in_words, not_none(kind)))
        case _:
            return "another value"


def not_none(union: inspect.UnionType) -> list[inspect.Type]:
    """The members of a union but None, which only the absence of a setting gives."""
    return [member for member in union.types if not isinstance(member, inspect.NoneType)]


def _text(kind: inspect.StrType) -> str:
    if kind.pattern:
        return f"text that matches {kind.pattern}"
    least = kind.min_length or 0
    most = f" of at most {kind.max_length} characters" if kind.max_length else ""
    return "text" + most + (", not empty" if least == 1 else f" of at least {least} characters" if least else "")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return " from {} to {}".format(*(str(bound).removesuffix(".0") for bound in (kind.ge, kind.le)))
    words = (("of at least", kind.ge), ("above", kind.gt), ("of at most", kind.le), ("below", kind.lt))
    parts = [f"{word} {bound}" for word, bound in words if bound is not None]
    return " " + " and ".join(parts) if parts else ""


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
