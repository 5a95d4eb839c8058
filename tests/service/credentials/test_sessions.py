"""Sessions are somebody's own: what one does ends none of another's."""

from pathlib import Path

import pytest

from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.credentials import sessions as module
from service.credentials.sessions import Session, Sessions
from service.credentials.token import Made
from service.credentials.tokens import Tokens
from tests.support.access import TEST


def test_who_signs_in_very_often_ends_their_own_sessions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 5)
    monkeypatch.setattr(module, "KEPT_OF_TOKEN", 3)
    control = ControlDatabase(tmp_path / "control.db")
    tokens = Tokens(control, Audit(control))
    sessions = Sessions(control, Audit(control), tokens)
    admin, reader = (tokens.create("me", role, "*", expires_ms=None, actor=TEST) for role in ("admin", "reader"))

    def begin(made: Made) -> Session:
        return sessions.begin(made.token.identity, address="", browser="", actor=TEST)[0]

    admins = begin(admin)
    begun = [begin(reader) for _ in range(9)]
    assert [one.id for one in sessions.of(admin.token.id)] == [admins.id]
    assert {one.id for one in sessions.of(reader.token.id)} == {one.id for one in begun[-3:]}
    control.close()
