"""Sessions: a browser that has shown a token once, and shows a cookie from then on."""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from contract import times
from contract.times import format_instant
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, RecordKey, SharedRecords
from service.credentials.identity import Identity, Role
from service.credentials.tokens import Tokens

LIFETIME_MS = 12 * 60 * 60 * 1000
"""A session ends after so long, however much it is used; and with its token."""
KEPT = 10_000
"""Sessions at a time, of all tokens; the oldest end first."""
KEPT_OF_TOKEN = 1000
"""Sessions at a time of one token or person, so that nobody can end those of all others by signing in very often."""
FOR_PEOPLE: frozenset[Role] = frozenset(("reader", "operator", "admin"))
"""Roles that a browser signs in with."""
_MAX_BROWSER = 200
_STEPS = [
    """
    CREATE TABLE credentials_session (
        id TEXT PRIMARY KEY,
        digest BLOB NOT NULL,
        token_id TEXT NOT NULL,
        role TEXT NOT NULL,
        scope TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        address TEXT NOT NULL,
        browser TEXT NOT NULL
    ) STRICT;
    """,
    "ALTER TABLE credentials_session ADD COLUMN text TEXT NOT NULL DEFAULT ''",
]


class Session(NamedTuple):
    """A browser that has signed in. Times are epoch milliseconds."""

    id: str
    digest: bytes
    identity: Identity
    created_ms: int
    expires_ms: int
    address: str
    browser: str
    """What it says it is."""

    def document(self) -> dict[str, Any]:
        """What may be shown of it."""
        return {
            "id": self.id,
            "token": self.identity.token,
            "role": self.identity.role,
            "created": format_instant(self.created_ms),
            "expires": format_instant(self.expires_ms),
            "address": self.address,
            "browser": self.browser,
        }


class Sessions:
    """Begins, checks and ends sessions; beginnings and ends are in the audit trail.

    Those of the settings' tokens are kept in memory only: after a restart these tokens may be others. The processes of
    a cluster have the others alike.
    """

    def __init__(self, control: ControlDatabase, audit: Audit, tokens: Tokens) -> None:
        self._control = control
        self._audit = audit
        self._tokens = tokens
        control.migrate("credentials.sessions", _STEPS)
        control.shared.append(SharedRecords("credentials_session", "id", self._changed_elsewhere))
        with control.transaction() as db:
            db.execute("DELETE FROM credentials_session WHERE expires_ms <= ?", (times.now_ms(),))
        self._sessions = {session.id: session for session in _read(control)}

    def begin(self, identity: Identity, *, address: str, browser: str, actor: Actor) -> tuple[Session, str]:
        """Let a browser in as `identity`; the session, and the cookie's value. Raises ControlError."""
        session_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        now_ms = times.now_ms()
        session = Session(
            session_id, _digest(secret), replace(identity, session=session_id), now_ms, now_ms + LIFETIME_MS, address,
            browser[:_MAX_BROWSER],
        )  # fmt: skip
        self._control.attempt(partial(self._begin, session, actor))
        return session, f"{session_id}.{secret}"

    def _begin(self, session: Session, actor: Actor) -> None:
        token_id = session.identity.token
        with self._control.transaction() as db:
            self._audit.note(db, actor, "session begin", f"session:{session.id}")
            if self._tokens.get(token_id) is not None:
                _insert(db, session)
            over = self._over(session.created_ms, token_id)
            db.executemany("DELETE FROM credentials_session WHERE id = ?", ((one,) for one in over))
        for one in over:
            self._sessions.pop(one, None)
        self._sessions[session.id] = session

    def identity(self, cookie: str, now_ms: int) -> Identity | None:
        """Who shows this cookie; None where it opens nothing (any more)."""
        session_id, _, secret = cookie.partition(".")
        session = self._sessions.get(session_id)
        if session is None or not hmac.compare_digest(_digest(secret), session.digest):
            return None
        return session.identity if self._is_valid(session, now_ms) else None

    def is_valid(self, identity: Identity) -> bool:
        """Whether who was let in would be let in now: for answers that go on for long."""
        if identity.session:
            session = self._sessions.get(identity.session)
            return session is not None and self._is_valid(session, times.now_ms())
        return self._tokens.is_valid(identity)

    def of(self, token_id: str | None) -> list[Session]:
        """The sessions of a token, or of all for None, by id."""
        now_ms = times.now_ms()
        found = (one for one in list(self._sessions.values()) if token_id is None or one.identity.token == token_id)
        return sorted((one for one in found if self._is_valid(one, now_ms)), key=lambda one: one.id)

    def end(self, session_id: str, *, actor: Actor, allowed: Callable[[Session], bool] = lambda _: True) -> bool:
        """End a session that `allowed` holds for; False where there is none. Raises ControlError."""
        return self._control.attempt(lambda: self._end(session_id, actor, allowed))

    def _end(self, session_id: str, actor: Actor, allowed: Callable[[Session], bool]) -> bool:
        session = self._sessions.get(session_id)
        if session is None or not allowed(session):
            return False
        with self._control.transaction() as db:
            db.execute("DELETE FROM credentials_session WHERE id = ?", (session_id,))
            self._audit.note(db, actor, "session end", f"session:{session_id}")
        self._sessions.pop(session_id, None)
        return True

    def _changed_elsewhere(self, keys: Iterable[RecordKey]) -> None:
        ids = {*map(str, keys)}
        there = {session.id: session for session in _read(self._control) if session.id in ids}
        for session_id in ids:
            if session_id in there:
                self._sessions[session_id] = there[session_id]
            else:
                self._sessions.pop(session_id, None)

    def _is_valid(self, session: Session, now_ms: int) -> bool:
        return now_ms < session.expires_ms and self._tokens.is_valid(session.identity)

    def _over(self, now_ms: int, token_id: str) -> list[str]:
        """Sessions that have ended, and the oldest where there are too many of this token or of all for another."""
        oldest = sorted(self._sessions.values(), key=lambda one: one.created_ms)
        over = [one.id for one in oldest if now_ms >= one.expires_ms]
        going_on = [one for one in oldest if now_ms < one.expires_ms]
        of_token = [one.id for one in going_on if one.identity.token == token_id]
        over += of_token[: max(0, len(of_token) - KEPT_OF_TOKEN + 1)]
        many = len(oldest) - len(over) - KEPT + 1
        if many > 0:
            over += [one.id for one in going_on if one.id not in over][:many]
        return over


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _insert(db: sqlite3.Connection, session: Session) -> None:
    identity = session.identity
    db.execute(
        "INSERT INTO credentials_session VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session.id, session.digest, identity.token, identity.role, identity.scope, session.created_ms,
            session.expires_ms, session.address, session.browser, identity.text,
        ),
    )  # fmt: skip


def _read(control: ControlDatabase) -> Iterable[Session]:
    for session_id, digest, token, role, scope, created_ms, expires_ms, address, browser, text in control.read(
        "SELECT id, digest, token_id, role, scope, created_ms, expires_ms, address, browser, text"
        " FROM credentials_session"
    ):
        identity = Identity(role, scope, token, session_id, text)
        yield Session(session_id, digest, identity, created_ms, expires_ms, address, browser)
