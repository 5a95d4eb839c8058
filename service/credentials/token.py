"""A token: its text, what is kept of it, and its rows in the control database.

A text is `loadlens_<id>_<secret>`, 12 and 64 hexadecimal digits, which scanners for secrets find. The secret has 256
random bits, so its SHA-256 needs no salt and no slow hash to be of no use to who reads it.
"""

import contextlib
import hashlib
import itertools
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from contract import times
from contract.times import format_instant
from service.control.database import ControlDatabase
from service.credentials.identity import Identity, Role

PREFIX = "loadlens_"
PATTERN = re.compile(r"loadlens_[0-9a-f]{12}_[0-9a-f]{64}")
_ID_DIGITS, _SECRET_DIGITS = 12, 64
_ID_AT = len(PREFIX)
_LENGTH = _ID_AT + _ID_DIGITS + 1 + _SECRET_DIGITS
STEPS = [
    """
    CREATE TABLE credentials_token (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        scope TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        revoked_ms INTEGER,
        uses_left INTEGER,
        last_used_ms INTEGER,
        last_address TEXT
    ) STRICT;
    CREATE TABLE credentials_secret (
        token_id TEXT NOT NULL REFERENCES credentials_token (id) ON DELETE CASCADE,
        digest BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER
    ) STRICT;
    CREATE INDEX credentials_secret_by_token ON credentials_secret (token_id);
    """
]
_COLUMNS = "id, name, role, scope, created_ms, expires_ms, revoked_ms, uses_left, last_used_ms, last_address"


class NewText(NamedTuple):
    """A token that was just made: what its owner gets, and what is kept."""

    text: str
    digest: bytes


def new_id() -> str:
    """An id that no other token has, as far as chance can tell."""
    return secrets.token_hex(_ID_DIGITS // 2)


def id_for(user_id: str, known: Collection[str]) -> str:
    """The id of the next token of an agent, of none that are `known`: the same for all who know the same.

    Of two processes that make one at the same moment only one can share it (`service.control.sharing`).
    """
    numbered = (hashlib.sha256(f"{number}:{user_id}".encode()).hexdigest()[:_ID_DIGITS] for number in itertools.count())
    return next(token_id for token_id in numbered if token_id not in known)


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


class Secret(NamedTuple):
    """One text of a token."""

    digest: bytes
    created_ms: int
    expires_ms: int | None
    """When it ends though the token goes on, as a newer one has taken its place; None where it does not."""

    @property
    def name(self) -> str:
        """What tells it from the token's others, and opens nothing."""
        return self.digest[:8].hex()

    def is_valid(self, now_ms: int) -> bool:
        """Whether it opens anything at a moment, as long as its token does."""
        return self.expires_ms is None or now_ms < self.expires_ms


class Token(Struct, kw_only=True):
    """A token as it is kept. Times are epoch milliseconds; a change makes another one, but for the last use."""

    id: str
    name: str
    role: Role
    scope: str
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None = None
    uses_left: int | None = None
    """How often an enrolment token may still be used; None for other roles."""
    last_used_ms: int | None = None
    last_address: str | None = None
    secrets: tuple[Secret, ...] = ()
    identity: Identity

    def is_valid(self, now_ms: int) -> bool:
        """Whether it opens anything at a moment."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)

    def document(self) -> dict[str, Any]:
        """What may be shown of it: everything but what opens."""
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "scope": self.scope,
            "created": format_instant(self.created_ms),
            "expires": _instant(self.expires_ms),
            "revoked": _instant(self.revoked_ms),
            "uses_left": self.uses_left,
            "last_used": _instant(self.last_used_ms),
            "last_address": self.last_address,
            "secrets": [
                {"created": format_instant(secret.created_ms), "expires": _instant(secret.expires_ms)}
                for secret in self.secrets
            ],
        }


class Made(NamedTuple):
    """A token, and the text that nobody can see again."""

    token: Token
    text: str


def made(
    name: str, role: Role, scope: str, expires_ms: int | None, uses: int | None, token_id: str | None = None
) -> Made:
    """A new token, and its text; times are epoch milliseconds. Its id is one that no other has where none is given."""
    token_id = token_id or new_id()
    text = new_text(token_id)
    now_ms = times.now_ms()
    token = Token(
        id=token_id, name=name, role=role, scope=scope, created_ms=now_ms, expires_ms=expires_ms, uses_left=uses,
        secrets=(Secret(text.digest, now_ms, None),), identity=Identity(role, scope, token_id),
    )  # fmt: skip
    return Made(token, text.text)


def insert(db: sqlite3.Connection, token: Token) -> None:
    """Write a token and its secrets, within a transaction."""
    db.execute(
        f"INSERT INTO credentials_token ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.id, token.name, token.role, token.scope, token.created_ms, token.expires_ms, token.revoked_ms,
            token.uses_left, token.last_used_ms, token.last_address,
        ),
    )  # fmt: skip
    db.executemany("INSERT INTO credentials_secret VALUES (?, ?, ?, ?)", [(token.id, *one) for one in token.secrets])


def read(control: ControlDatabase, ids: Collection[str] | None = None) -> Iterable[Token]:
    """The tokens of some ids that are kept; of None all."""
    chosen = None if ids is None else msgspec.json.encode([*ids]).decode()
    among = "(?1 IS NULL OR {} IN (SELECT value FROM json_each(?1)))"
    secrets: dict[str, list[Secret]] = {}
    for token_id, *secret in control.read(
        "SELECT token_id, digest, created_ms, expires_ms FROM credentials_secret"
        f" WHERE {among.format('token_id')} ORDER BY created_ms DESC, rowid",
        (chosen,),
    ):
        secrets.setdefault(token_id, []).append(Secret(*secret))
    for row in control.read(f"SELECT {_COLUMNS} FROM credentials_token WHERE {among.format('id')}", (chosen,)):
        values = dict(zip(_COLUMNS.split(", "), row, strict=True))
        identity = Identity(values["role"], values["scope"], values["id"])
        yield Token(**values, secrets=tuple(secrets.get(values["id"], ())), identity=identity)


def audited(token: Token) -> bytes:
    """What the audit trail keeps of it: all that may be shown but its last use."""
    shown = token.document()
    return msgspec.json.encode({name: value for name, value in shown.items() if not name.startswith("last_")})


def any_kept(path: Path) -> bool:
    """Whether a control database has tokens, without making it."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
            return db.execute("SELECT 1 FROM credentials_token LIMIT 1").fetchone() is not None
    except sqlite3.DatabaseError:
        return False  # a file of before there were tokens, or one that the service itself will complain about


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else format_instant(at_ms)
