"""Tokens in the control database, and all of them in memory: a request is checked by two look-ups.

The first request with a token costs a SHA-256 and a comparison in constant time besides.
"""

import asyncio
import hmac
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from contract import times
from contract.times import DAY_MS, parse_duration
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, ControlError, RecordKey, SharedRecords
from service.credentials.identity import EVERYONE, Identity, Role
from service.credentials.token import (
    STEPS,
    Made,
    Secret,
    Token,
    audited,
    digest,
    id_for,
    id_of,
    insert,
    made,
    new_text,
    read,
)

_log = logging.getLogger("loadlens.service")
KEPT = 200_000
"""Tokens that are kept, with those that are revoked or have expired."""
SECRETS = 2
"""Texts of a token that may be valid at a time."""
_KNOWN = 50_000
"""Texts of tokens that are remembered; then all are looked at anew."""
_WRITE_EVERY_S = 30.0
LONGEST_MS = 100 * 366 * DAY_MS
"""No token is made for longer, unless for ever."""
_FORGOTTEN_MS = 90 * DAY_MS
"""Tokens of agents that were revoked or expired so long ago are forgotten; those of people stay, and where there are
none of these all: a service that has a token asks for one."""


class TokenRefused(Exception):
    """A change that cannot be made; the message says why."""


class _VerifiedToken(NamedTuple):
    """A text that was found right."""

    token: Token
    """As it was then: a change makes another one, and what is known of this one does not count any more."""
    end_ms: float
    identity: Identity


class Tokens:
    """Makes, changes and checks tokens; each change is in the audit trail, in the same transaction.

    Checking is for the event loop. Changes wait for the disk, and are made in threads.
    """

    def __init__(self, control: ControlDatabase, audit: Audit) -> None:
        self._control = control
        self._audit = audit
        control.migrate("credentials.tokens", STEPS)
        # When a token was used last, each process says of itself.
        local = frozenset(("last_used_ms", "last_address"))
        parts = {"credentials_secret": "token_id"}
        control.shared.append(SharedRecords("credentials_token", "id", self._changed_elsewhere, parts, local))
        self._tokens: dict[str, Token] = {}
        self._passing: dict[str, Token] = {}
        """Tokens for processes of the service's own, which nobody lists and no disk holds."""
        self._known: dict[str, _VerifiedToken] = {}
        """Texts that need no SHA-256 again: those that were found right, as long as their token is the same."""
        self._used: set[str] = set()
        """Ids whose last use is not written yet."""
        self._writing: asyncio.Task[None] | None = None
        self._forget_old()
        for token in read(control):
            self._tokens[token.id] = token

    def __len__(self) -> int:
        return len(self._tokens)

    def identity(self, text: str, now_ms: int, address: str) -> Identity | None:
        """Who shows this text; None where it opens nothing (any more). Notes the use."""
        known = self._known.get(text)
        if known is None or now_ms >= known.end_ms or self._tokens.get(known.token.id) is not known.token:
            known = self._look_up(text, now_ms)
            if known is None:
                return None
        token = known.token
        token.last_used_ms = now_ms
        token.last_address = address
        self._used.add(token.id)
        return known.identity

    def _look_up(self, text: str, now_ms: int) -> _VerifiedToken | None:
        """The token whose text this is, if it opens anything now; remembered where its token is one of those kept."""
        self._known.pop(text, None)
        token_id = id_of(text)
        token = self._tokens.get(token_id) or self._passing.get(token_id)
        if token is None or not token.is_valid(now_ms):
            return None
        given = digest(text)
        for secret in token.secrets:
            if hmac.compare_digest(given, secret.digest) and secret.is_valid(now_ms):
                ends = (end_ms for end_ms in (token.expires_ms, secret.expires_ms) if end_ms is not None)
                known = _VerifiedToken(token, min(ends, default=math.inf), replace(token.identity, text=secret.name))
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[text] = known
                return known
        return None

    def is_valid(self, identity: Identity) -> bool:
        """Whether who was let in would be let in now, by the same text: for answers that go on for long."""
        token, now_ms = self._tokens.get(identity.token), times.now_ms()
        if token is None:
            return True
        secrets = [secret for secret in token.secrets if identity.text in ("", secret.name)]
        return token.is_valid(now_ms) and any(secret.is_valid(now_ms) for secret in secrets)

    def get(self, token_id: str) -> Token | None:
        """A token by its id."""
        return self._tokens.get(token_id)

    def all(self) -> list[Token]:
        """All tokens, those that open nothing any more too, by id."""
        return [self._tokens[token_id] for token_id in sorted(self._tokens)]

    def create(
        self,
        name: str,
        role: Role,
        scope: str,
        *,
        expires_ms: int | None,
        actor: Actor,
        uses: int | None = None,
    ) -> Made:
        """Make a token. Raises TokenRefused where there are too many, and ControlError."""
        return self._control.attempt(lambda: self._create(name, role, scope, expires_ms, actor, uses))

    def _create(
        self, name: str, role: Role, scope: str, expires_ms: int | None, actor: Actor, uses: int | None
    ) -> Made:
        if len(self._tokens) >= KEPT:
            raise TokenRefused(f"{len(self._tokens)} tokens are kept already; no more fit")
        with self._control.transaction() as db:
            token, text = made(name, role, scope, expires_ms, (uses or 1) if role == "enrolment" else None)
            insert(db, token)
            self._note(db, actor, "create", None, token)
        self._tokens[token.id] = token
        return Made(token, text)

    def change(
        self, token_id: str, *, actor: Actor, name: str | None = None, expires_ms: int | UnsetType | None = UNSET
    ) -> Token:
        """Give a token another name or another end. Raises KeyError, TokenRefused and ControlError."""

        def changed(token: Token) -> Token:
            kept = token.expires_ms if expires_ms is UNSET else expires_ms
            return replace(token, name=token.name if name is None else name, expires_ms=kept)

        return self._change(token_id, actor, "change", changed)

    def revoke(self, token_id: str, *, actor: Actor) -> Token:
        """End a token for good. Raises KeyError, TokenRefused and ControlError."""
        return self._change(token_id, actor, "revoke", lambda token: replace(token, revoked_ms=times.now_ms()))

    def rotate(self, token_id: str, *, overlap_ms: int, actor: Actor) -> Made:
        """Give a token a new text; the one before goes on for `overlap_ms`, older ones end now.

        Raises KeyError, TokenRefused and ControlError.
        """
        text = new_text(token_id)
        now_ms = times.now_ms()

        def changed(token: Token) -> Token:
            before = token.secrets[0]
            end_ms = now_ms + overlap_ms
            if before.expires_ms is not None:
                end_ms = min(end_ms, before.expires_ms)
            kept = () if overlap_ms == 0 else (before._replace(expires_ms=end_ms),)
            return replace(token, secrets=(Secret(text.digest, now_ms, None), *kept)[:SECRETS])

        return Made(self._change(token_id, actor, "rotate", changed), text.text)

    def enrol(self, enrolment: Identity, user_id: str, *, actor: Actor) -> Made:
        """A token for the agent of `user_id`, by an enrolment token, which it uses up a little.

        Raises TokenRefused where that is used up, or the agent has a token already; and ControlError.
        """
        return self._control.attempt(lambda: self._enrol(enrolment, user_id, actor))

    def _enrol(self, enrolment: Identity, user_id: str, actor: Actor) -> Made:
        with self._control.transaction() as db:
            before = self._tokens[enrolment.token]
            now_ms = times.now_ms()
            if not before.uses_left or not before.is_valid(now_ms):
                raise TokenRefused("the enrolment token is used up")
            agents = (one for one in list(self._tokens.values()) if one.role == "agent" and one.scope == user_id)
            if any(one.is_valid(now_ms) for one in agents):
                raise TokenRefused("this user id has a token already; an admin revokes it first")
            if len(self._tokens) >= KEPT:
                raise TokenRefused(f"{len(self._tokens)} tokens are kept already; no more fit")
            used = replace(before, uses_left=before.uses_left - 1)
            token, text = made(before.name, "agent", user_id, None, None, id_for(user_id, self._tokens))
            # First what is used up: where another process makes this agent's token at the same moment, by another
            # enrolment token, ours is refused and that use is lost. The other way round a token that nobody has the
            # text of would stay.
            db.execute("UPDATE credentials_token SET uses_left = ? WHERE id = ?", (used.uses_left, used.id))
            insert(db, token)
            self._note(db, actor, "enrol", None, token)
        self._tokens[used.id] = used
        self._tokens[token.id] = token
        return Made(token, text)

    def pass_on(self, identity: Identity, for_ms: int) -> str:
        """A token for a process of the service's own that acts for somebody, and ends by itself."""
        now_ms = times.now_ms()
        self._passing = {key: token for key, token in self._passing.items() if token.is_valid(now_ms)}
        token, text = made("", identity.role, identity.scope, now_ms + for_ms, None)
        self._passing[token.id] = token
        return text

    def start(self) -> None:
        """Write last uses now and then; called on the event loop."""
        self._writing = asyncio.create_task(self._keep_writing())

    async def stop(self) -> None:
        """Stop the thread that writes when tokens were last used."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                await asyncio.to_thread(self.write_uses)
            except ControlError as error:
                _log.warning("when tokens were last used could not be written: %s", error)

    def write_uses(self) -> None:
        """Put last uses on disk. Raises ControlError."""
        used, self._used = self._used, set()
        known = [token for token_id in used if (token := self._tokens.get(token_id))]
        if not known:
            return
        with self._control.transaction() as db:
            db.executemany(
                "UPDATE credentials_token SET last_used_ms = ?, last_address = ? WHERE id = ?",
                [(token.last_used_ms, token.last_address, token.id) for token in known],
            )

    def _change(self, token_id: str, actor: Actor, action: str, changed: Callable[[Token], Token]) -> Token:
        return self._control.attempt(lambda: self._change_alone(token_id, actor, action, changed))

    def _change_alone(self, token_id: str, actor: Actor, action: str, changed: Callable[[Token], Token]) -> Token:
        before = self._tokens[token_id]
        if before.revoked_ms is not None:
            raise TokenRefused("it is revoked; make another")
        token = changed(before)
        self._refuse_to_lock_out(before, token)
        with self._control.transaction() as db:
            db.execute("DELETE FROM credentials_token WHERE id = ?", (token_id,))
            insert(db, token)
            self._note(db, actor, action, before, token)
        self._tokens[token_id] = token
        return token

    def _changed_elsewhere(self, keys: Iterable[RecordKey]) -> None:
        """Take what another process has changed; what is known of texts does not count any more."""
        ids = {*map(str, keys)}
        there = {token.id: token for token in read(self._control, ids)}
        for token_id in ids:
            token, before = there.get(token_id), self._tokens.get(token_id)
            if token is None:
                self._tokens.pop(token_id, None)
                continue
            if before is not None:
                token.last_used_ms, token.last_address = before.last_used_ms, before.last_address
            self._tokens[token_id] = token

    def _refuse_to_lock_out(self, before: Token, after: Token) -> None:
        """Raise TokenRefused where nobody could make tokens any more."""
        now_ms = times.now_ms()
        if before.role != "admin" or not before.is_valid(now_ms) or after.is_valid(now_ms):
            return
        others = (one for one in list(self._tokens.values()) if one.role == "admin" and one.id != before.id)
        stays = next((one for one in others if one.is_valid(now_ms)), None)
        if stays is None:
            raise TokenRefused("it is the last token with the role admin; make another first")
        if self._control.sharers:
            # Another process may end that one just now, as this one stays. Each shares the one that it counts on first,
            # as it is: then the other's end is refused, or this is.
            with self._control.transaction() as db:
                db.execute("UPDATE credentials_token SET name = name WHERE id = ?", (stays.id,))

    def _note(self, db: sqlite3.Connection, actor: Actor, action: str, before: Token | None, after: Token) -> None:
        self._audit.note(
            db, actor, f"token {action}", f"token:{after.id}",
            before=None if before is None else audited(before), after=audited(after),
        )  # fmt: skip

    def _forget_old(self) -> None:
        with self._control.transaction() as db:
            db.execute(
                "DELETE FROM credentials_token WHERE role = 'agent' AND min(ifnull(revoked_ms, expires_ms),"
                " ifnull(expires_ms, revoked_ms)) < ?"
                " AND EXISTS (SELECT 1 FROM credentials_token WHERE role <> 'agent')",
                (times.now_ms() - _FORGOTTEN_MS,),
            )


def scope_problem(role: Role, scope: str, uses: int | None) -> tuple[str, str] | None:
    """Which value does not go with the role, and what would; None where all is right."""
    if role == "agent" and scope == EVERYONE:
        return "scope", "expected the one user id that the agent reports as, got all"
    if role in ("operator", "admin") and scope != EVERYONE:
        return "scope", f"expected {EVERYONE}, got {scope!r}: who operates, operates all"
    if role == "agent" and not scope.isprintable():
        return "scope", "expected printable characters"
    if role != "enrolment" and uses is not None:
        return "uses", "goes with the role enrolment"
    return None


def end_of(lifetime: str | None) -> int | None:
    """The moment in epoch milliseconds at which a duration from now is over; None without one.

    Raises ValueError for what is no duration of 1 s to 100 years.
    """
    if lifetime is None:
        return None
    return times.now_ms() + parse_duration(lifetime, least_ms=1000, most_ms=LONGEST_MS)
