"""Names and texts inside InfluxQL and line protocol: everything is escaped here, and nowhere else.

Line protocol has no way to write a tag that ends in a backslash: it would escape what follows. Such a tag is stored
with a zero-width space behind it, which no valid name of ours has (names are printable), so no two names meet.
"""

__all__ = ["between", "identifier", "literal", "string_field", "tag", "tag_literal", "tag_value"]

_LAST_MS = (2**63 - 1) // 1_000_000
_BEHIND_BACKSLASH = "\u200b"
_QUERY = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_FIELD = str.maketrans({"\\": "\\\\", '"': '\\"'})


def identifier(name: str) -> str:
    """The name of a measurement, tag, field or database in InfluxQL."""
    return '"' + name.translate(_QUERY).replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """A text in InfluxQL."""
    return "'" + text.translate(_QUERY).replace("'", "\\'") + "'"


def tag_literal(text: str) -> str:
    """The value of a tag in InfluxQL, as `tag` stored it."""
    return literal(_stored(text))


def tag(name: str, value: str) -> str:
    """A tag of a point in line protocol, with its comma in front; nothing for an empty value, which cannot be stored.

    Raises ValueError for a line break, which would end the point.
    """
    if "\n" in value:
        raise ValueError("a tag has no line breaks")
    return f",{name}={_stored(value).translate(_TAG)}" if value else ""


def tag_value(stored: str) -> str:
    """The value of a tag that InfluxDB answers."""
    return stored.removesuffix(_BEHIND_BACKSLASH)


def string_field(text: str) -> str:
    """A text as the value of a field in line protocol."""
    return '"' + text.translate(_FIELD) + '"'


def _stored(value: str) -> str:
    return value + _BEHIND_BACKSLASH if value.endswith("\\") else value


def between(start_ms: int, end_ms: int) -> str:
    """The condition of times in [start, end), cut to the years 1677 to 2262, which are all that InfluxDB has."""
    start_ms, end_ms = (min(max(time, -_LAST_MS), _LAST_MS) for time in (start_ms, end_ms))
    return f"time >= {start_ms}ms AND time < {end_ms}ms"
