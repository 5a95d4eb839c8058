"""Tokens for tests: made where the data are, before the service starts."""

import time
from pathlib import Path

from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.credentials.identity import Role
from service.credentials.token import Made
from service.credentials.tokens import Tokens

TEST = Actor("test", "")
HOUR_MS = 3_600_000


def make_tokens(folder: Path, *asked: tuple[str, Role, str]) -> dict[str, str]:
    """Tokens by name, as (name, role, scope) ask for them. One whose name begins with `expired` ends at once."""
    folder.mkdir(parents=True, exist_ok=True)
    control = ControlDatabase(folder / "control.db")
    tokens = Tokens(control, Audit(control))
    made: dict[str, Made] = {}
    now_ms = time.time_ns() // 1_000_000
    for name, role, scope in asked:
        end_ms = now_ms - 1 if name.startswith("expired") else now_ms + HOUR_MS
        made[name] = tokens.create(name, role, scope, expires_ms=end_ms, actor=TEST)
        if name.startswith("revoked"):
            tokens.revoke(made[name].token.id, actor=TEST)
    control.close()
    return {name: one.text for name, one in made.items()}


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}
