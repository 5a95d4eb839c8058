"""What a settings struct declares, read once with msgspec's inspection, and what values it may have, in words."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from msgspec import NODEFAULT, Struct, inspect


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


HIDDEN = "(hidden)"
EXTRAS = {
    "metavar",
    "examples",
    "default",
    "secret",
    "positional",
    "repeatable",
    "expected",
    "parse",
    "format",
    "flag_only",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a settings struct.

    `Meta(extra=...)` of the field may hold `metavar` (the value's name in the help), `examples` (values as text),
    `default` (words for a default that is found out at run time), `secret` (True: never printed),
    `positional` (True: given without a flag), `repeatable` (True: a flag that may be given several times, for a list),
    `flag_only` (True: said each time, never in the environment or the program's table of a file, where the same
    name means another program's setting), `expected` (words for what it may be) and a pair
    `parse`, `format` that turn text such as `30d` into the value and back; `parse` raises ValueError.
    """

    name: str
    hint: Any
    """The field's type with its bounds, as msgspec converts to it."""
    type: inspect.Type
    description: str
    default: object
    """NODEFAULT where the setting must be given."""
    extra: dict[str, Any]

    @property
    def key(self) -> str:
        """Its name in a file: that of the field, where `from_` stands for a word that Python keeps for itself."""
        return self.name.rstrip("_")

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return self.key.upper() if self.positional else "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return "LOADLENS_" + self.key.upper()

    @property
    def file_variable(self) -> str:
        """In the environment, the name of what says in which file a secret stands."""
        return self.variable + "_FILE"

    @property
    def required(self) -> bool:
        """True where there is no default."""
        return self.default is NODEFAULT

    @property
    def secret(self) -> bool:
        """True where its value is never shown."""
        return bool(self.extra.get("secret"))

    @property
    def positional(self) -> bool:
        """True where the command line gives it without a flag."""
        return bool(self.extra.get("positional"))

    @property
    def flag_only(self) -> bool:
        """True where it is neither read from the environment nor from the table of a command's program."""
        return self.positional or bool(self.extra.get("flag_only"))

    @property
    def boolean(self) -> bool:
        """True for a flag without a value."""
        return isinstance(self.type, inspect.BoolType)

    @property
    def many(self) -> bool:
        """True for a list: comma separated in flags and environment."""
        return isinstance(self.type, inspect.ListType | inspect.VarTupleType)

    @property
    def repeatable(self) -> bool:
        """True for a list whose flag may be given several times."""
        return bool(self.extra.get("repeatable"))

    @property
    def parse(self) -> Callable[[str], object] | None:
        """How text becomes a value, where the type alone does not say."""
        return self.extra.get("parse")

    @property
    def expected(self) -> str:
        """What it may be, in words, for `expected X, got Y`."""
        return str(self.extra.get("expected") or in_words(self.type))

    @property
    def default_shown(self) -> str:
        """Its default, in words where it is found out at run time."""
        return str(self.extra.get("default") or self.shown(self.default))

    def shown(self, value: object) -> str:
        """A value as a person would write it."""
        if value is None or value in ("", (), []):
            return "none"
        if self.secret:
            return HIDDEN
        if "format" in self.extra:
            return str(self.extra["format"](value))
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float):
            return str(value).removesuffix(".0")
        if isinstance(value, list | tuple):
            return ",".join(map(str, value))
        return str(value)


class Settings(Struct, frozen=True, kw_only=True):
    """The base of a program's settings: its text hides the secret ones, so that it can be logged."""

    def __repr__(self) -> str:
        members = (
            f"{setting.name}={setting.shown(getattr(self, setting.name))}" for setting in settings_of(type(self))
        )
        return f"{type(self).__name__}({', '.join(members)})"


def settings_of(kind: type[Struct]) -> tuple[Setting, ...]:
    """The settings that a struct declares, in its order."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    hints = get_type_hints(kind, include_extras=True)
    return tuple(_setting(field, hints[field.name]) for field in info.fields)


def _setting(field: inspect.Field, hint: object) -> Setting:
    type_, description = field.type, ""
    extra: dict[str, Any] = {}
    while True:
        if isinstance(type_, inspect.Metadata):
            description = (type_.extra_json_schema or {}).get("description", description)
            extra = (type_.extra or {}) | extra
            type_ = type_.type
        elif isinstance(type_, inspect.UnionType) and len(some := not_none(type_)) == 1:
            type_ = some[0]
        else:
            break
    assert extra.keys() <= EXTRAS, f"{field.name}: {extra.keys() - EXTRAS}"
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    return Setting(field.name, hint, type_, description, default, extra)
