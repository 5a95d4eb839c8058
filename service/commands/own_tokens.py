"""Tokens that `loadlens-service up` makes for its own children, where the service asks for some; before it starts."""

from pathlib import Path

from service.control.audit import Actor, Audit
from service.control.data_lock import DataLock
from service.control.database import ControlDatabase
from service.credentials.identity import EVERYONE, Role
from service.credentials.token import any_kept
from service.credentials.tokens import Tokens, end_of

_UP = "loadlens-service up"
_DEMO_LIFETIME = "1h"


def own_token(folder: Path, role: Role, scope: str = EVERYONE, *, asked: bool = False) -> str | None:
    """A token in the service's data folder, the same one with another text if there was one; None where none is asked.

    `asked` says that the service asks for one though none is kept. An agent's has no end; another's has. Raises
    DataFolderInUse and ControlError.
    """
    if not asked and not any_kept(folder / "control.db"):
        return None
    with DataLock(folder):
        control = ControlDatabase(folder / "control.db")
        try:
            return _made(Tokens(control, Audit(control)), role, scope)
        finally:
            control.close()


def _made(tokens: Tokens, role: Role, scope: str) -> str:
    actor = Actor("offline", "", _UP)
    expires_ms = None if role == "agent" else end_of(_DEMO_LIFETIME)
    for token in tokens.all():
        if (token.name, token.role, token.scope) == (_UP, role, scope) and token.revoked_ms is None:
            tokens.change(token.id, expires_ms=expires_ms, actor=actor)
            return tokens.rotate(token.id, overlap_ms=0, actor=actor).text
    return tokens.create(_UP, role, scope, expires_ms=expires_ms, actor=actor).text
