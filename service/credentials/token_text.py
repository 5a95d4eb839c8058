"""Tokens as texts: `loadlens_<id>_<secret>`, 12 and 64 hexadecimal digits, which scanners for secrets find.

The secret has 256 random bits, so its SHA-256 needs no salt and no slow hash to be of no use to who reads it.
"""

import hashlib
import re
import secrets
from typing import NamedTuple

PREFIX = "loadlens_"
PATTERN = re.compile(r"loadlens_[0-9a-f]{12}_[0-9a-f]{64}")
_ID_DIGITS, _SECRET_DIGITS = 12, 64
_ID_AT = len(PREFIX)
_LENGTH = _ID_AT + _ID_DIGITS + 1 + _SECRET_DIGITS


class NewText(NamedTuple):
    """A token that was just made: what its owner gets, and what is kept."""

    text: str
    digest: bytes


def new_id() -> str:
    """An id that no other token has, as far as chance can tell."""
    return secrets.token_hex(_ID_DIGITS // 2)


def new_text(token_id: str) -> NewText:
    """A text for a token."""
    text = f"{PREFIX}{token_id}_{secrets.token_hex(_SECRET_DIGITS // 2)}"
    return NewText(text, digest(text))


def id_of(text: str) -> str:
    """The id in a text, without a look at the rest; empty where the text cannot be a token."""
    if len(text) != _LENGTH or not text.startswith(PREFIX):
        return ""
    return text[_ID_AT : _ID_AT + _ID_DIGITS]


def digest(text: str) -> bytes:
    """What is kept of a text."""
    return hashlib.sha256(text.encode()).digest()
