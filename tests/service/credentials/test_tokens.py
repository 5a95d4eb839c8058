"""Tokens open what they are for, until they end; what is kept of them opens nothing."""

import contextlib
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.credentials.token import PATTERN, Made
from service.credentials.tokens import TokenRefused, Tokens
from tests.support.access import HOUR_MS, TEST

ADDRESS = "192.0.2.7"


@pytest.fixture
def tokens(control: ControlDatabase) -> Tokens:
    return Tokens(control, Audit(control))


def agent(tokens: Tokens, expires_ms: int | None = None) -> Made:
    return tokens.create("web", "agent", "web-1", expires_ms=expires_ms, actor=TEST)


def test_a_token_is_known_by_its_form_and_never_the_same(tokens: Tokens) -> None:
    texts = [agent(tokens).text for _ in range(50)]
    assert len({*texts}) == 50
    assert all(PATTERN.fullmatch(text) for text in texts)


def test_a_token_says_who_shows_it_until_its_end(tokens: Tokens) -> None:
    made = agent(tokens, expires_ms=5000)
    identity = tokens.identity(made.text, 4999, ADDRESS)
    assert identity is not None
    assert (identity.role, identity.scope, identity.token) == ("agent", "web-1", made.token.id)
    assert tokens.identity(made.text, 5000, ADDRESS) is None


@pytest.mark.parametrize("ended", ["revoked", "expires", "rotated", "its text is over", "its end is nearer"])
def test_a_token_that_was_just_let_in_is_not_once_it_has_ended(tokens: Tokens, ended: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    made = agent(tokens, expires_ms=now_ms + HOUR_MS)
    assert tokens.identity(made.text, now_ms, ADDRESS)
    later_ms = now_ms
    if ended == "revoked":
        tokens.revoke(made.token.id, actor=TEST)
    if ended == "expires":
        later_ms = now_ms + HOUR_MS
    if ended in ("rotated", "its text is over"):
        overlap_ms = 0 if ended == "rotated" else HOUR_MS // 2
        tokens.rotate(made.token.id, overlap_ms=overlap_ms, actor=TEST)
        assert bool(tokens.identity(made.text, now_ms, ADDRESS)) == bool(overlap_ms)
        later_ms = now_ms + HOUR_MS // 2 + 60_000
    if ended == "its end is nearer":
        tokens.change(made.token.id, actor=TEST, expires_ms=now_ms + 1)
        assert tokens.identity(made.text, now_ms, ADDRESS)
        later_ms = now_ms + 1
    for _ in range(2):
        assert tokens.identity(made.text, later_ms, ADDRESS) is None


def test_what_is_known_of_a_token_lets_no_other_text_in(tokens: Tokens) -> None:
    made = agent(tokens)
    assert tokens.identity(made.text, 0, ADDRESS)
    other = made.text[:-1] + ("0" if made.text[-1] != "0" else "1")
    for text in (other, made.text.upper(), made.text + " ", made.text[:-1]):
        assert tokens.identity(text, 0, ADDRESS) is None
    identity = tokens.identity(made.text, 1, "192.0.2.8")
    assert identity is not None
    assert (made.token.last_used_ms, made.token.last_address) == (1, "192.0.2.8")


def test_an_agents_scope_is_one_id_whatever_its_characters(tokens: Tokens) -> None:
    made = tokens.create("web", "agent", "web-[1]*", expires_ms=None, actor=TEST)
    identity = tokens.identity(made.text, 0, ADDRESS)
    assert identity is not None
    assert identity.covers("web-[1]*")
    assert not identity.covers("web-1")
    assert not identity.covers("web-[1]*x")


def test_what_is_on_disk_opens_nothing(tokens: Tokens, control: ControlDatabase, tmp_path: Path) -> None:
    made = agent(tokens)
    tokens.rotate(made.token.id, overlap_ms=HOUR_MS, actor=TEST)
    control.close()
    secret = made.text.rpartition("_")[2]
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert secret.encode() not in content
        assert bytes.fromhex(secret) not in content


def test_all_is_as_it_was_after_a_restart(tokens: Tokens, control: ControlDatabase) -> None:
    kept, revoked = agent(tokens), agent(tokens)
    tokens.identity(kept.text, 123_456, ADDRESS)
    tokens.revoke(revoked.token.id, actor=TEST)
    rotated = tokens.rotate(kept.token.id, overlap_ms=HOUR_MS, actor=TEST)
    tokens.write_uses()
    again = Tokens(control, Audit(control))
    assert [token.document() for token in again.all()] == [token.document() for token in tokens.all()]
    assert again.all()[0].last_address == ADDRESS or again.all()[1].last_address == ADDRESS
    now_ms = time.time_ns() // 1_000_000
    assert again.identity(kept.text, now_ms, ADDRESS)
    assert again.identity(rotated.text, now_ms, ADDRESS)
    assert again.identity(revoked.text, now_ms, ADDRESS) is None


def test_two_texts_are_good_at_a_time_and_the_third_ends_the_first(tokens: Tokens) -> None:
    first = agent(tokens)
    second = tokens.rotate(first.token.id, overlap_ms=HOUR_MS, actor=TEST)
    now_ms = time.time_ns() // 1_000_000
    shown = [tokens.identity(one.text, now_ms, ADDRESS) for one in (first, second)]
    assert [one and one.token for one in shown] == [first.token.id] * 2
    assert tokens.identity(first.text, now_ms + 2 * HOUR_MS, ADDRESS) is None
    assert tokens.identity(second.text, now_ms + 2 * HOUR_MS, ADDRESS) is not None
    third = tokens.rotate(first.token.id, overlap_ms=HOUR_MS, actor=TEST)
    assert [bool(tokens.identity(one.text, now_ms, ADDRESS)) for one in (first, second, third)] == [False, True, True]
    tokens.rotate(first.token.id, overlap_ms=0, actor=TEST)
    assert tokens.identity(third.text, now_ms, ADDRESS) is None


def test_what_is_revoked_stays_so(tokens: Tokens) -> None:
    made = agent(tokens)
    identity = tokens.identity(made.text, 0, ADDRESS)
    assert identity is not None
    assert tokens.is_valid(identity)
    tokens.revoke(made.token.id, actor=TEST)
    assert tokens.identity(made.text, 0, ADDRESS) is None
    assert not tokens.is_valid(identity)
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.change(made.token.id, name="x", expires_ms=None, actor=TEST)
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.rotate(made.token.id, overlap_ms=0, actor=TEST)


def test_the_last_admin_locks_nobody_out(tokens: Tokens) -> None:
    first = tokens.create("me", "admin", "*", expires_ms=None, actor=TEST)
    with pytest.raises(TokenRefused, match="last"):
        tokens.revoke(first.token.id, actor=TEST)
    with pytest.raises(TokenRefused, match="last"):
        tokens.change(first.token.id, expires_ms=1, actor=TEST)
    tokens.create("you", "admin", "*", expires_ms=None, actor=TEST)
    tokens.revoke(first.token.id, actor=TEST)


def test_each_change_is_audited_without_what_opens(tokens: Tokens, control: ControlDatabase) -> None:
    made = agent(tokens)
    tokens.change(made.token.id, name="other", actor=TEST)
    text = tokens.rotate(made.token.id, overlap_ms=0, actor=TEST).text
    tokens.revoke(made.token.id, actor=TEST)
    entries = Audit(control).entries(target=f"token:{made.token.id}", before=None, limit=10)
    assert [entry["action"] for entry in entries] == ["token revoke", "token rotate", "token change", "token create"]
    written = repr([(bytes(entry["before"] or b""), bytes(entry["after"] or b"")) for entry in entries])
    assert text[22:] not in written
    assert not re.search("[0-9a-f]{64}", written)


def test_what_is_no_token_opens_nothing(tokens: Tokens) -> None:
    text = agent(tokens).text
    for wrong in (
        "",
        "loadlens_",
        text[:-1],
        text + "0",
        text.upper(),
        "x" * len(text),
        text.replace("_", "-"),
        "ü" * 86,
    ):
        assert tokens.identity(wrong, 0, ADDRESS) is None


def test_a_token_that_is_passed_on_is_listed_nowhere_and_ends(tokens: Tokens) -> None:
    identity = tokens.identity(agent(tokens).text, 0, ADDRESS)
    assert identity is not None
    now_ms = time.time_ns() // 1_000_000
    text = tokens.pass_on(identity, HOUR_MS)
    passed = tokens.identity(text, now_ms, ADDRESS)
    assert passed is not None
    assert (passed.role, passed.scope) == ("agent", "web-1")
    assert tokens.identity(text, now_ms + 2 * HOUR_MS, ADDRESS) is None
    assert len(tokens.all()) == 1


def test_agents_tokens_that_were_over_long_ago_are_forgotten(tokens: Tokens, control: ControlDatabase) -> None:
    agent(tokens, expires_ms=1)
    kept = tokens.create("old reader", "reader", "*", expires_ms=1, actor=TEST)
    assert [token.id for token in Tokens(control, Audit(control)).all()] == [kept.token.id]


def test_a_service_with_agents_tokens_only_never_comes_to_ask_for_none(
    tokens: Tokens, control: ControlDatabase
) -> None:
    over = agent(tokens, expires_ms=1)
    for _ in range(2):
        assert [token.id for token in Tokens(control, Audit(control)).all()] == [over.token.id]


def test_who_was_let_in_by_a_text_that_is_over_is_not_let_go_on(tokens: Tokens, control: ControlDatabase) -> None:
    made = agent(tokens)
    now_ms = time.time_ns() // 1_000_000
    first = tokens.identity(made.text, now_ms, ADDRESS)
    assert first is not None
    second_text = tokens.rotate(made.token.id, overlap_ms=HOUR_MS, actor=TEST).text
    assert tokens.is_valid(first)
    second = tokens.identity(second_text, now_ms, ADDRESS)
    assert second is not None
    tokens.rotate(made.token.id, overlap_ms=HOUR_MS, actor=TEST)
    assert not tokens.is_valid(first)
    assert tokens.is_valid(second)
    tokens.rotate(made.token.id, overlap_ms=0, actor=TEST)
    assert not tokens.is_valid(second)
    assert Tokens(control, Audit(control)).is_valid(second) is False


class _SlowControl(ControlDatabase):
    """Gives others time behind each transaction, which is on disk by then."""

    waiting: threading.Barrier | None = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with super().transaction() as db:
            yield db
        if self.waiting is not None:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.waiting.wait(1.0)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[_SlowControl]:
    control = _SlowControl(tmp_path / "slow.db")
    yield control
    control.close()


def test_of_two_agents_that_enrol_at_a_time_as_one_user_one_gets_a_token(slow: _SlowControl) -> None:
    tokens = Tokens(slow, Audit(slow))
    made = tokens.create("racks", "enrolment", "*", expires_ms=None, uses=5, actor=TEST)
    slow.waiting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(tokens.enrol, made.token.identity, "web-1", actor=TEST) for _ in range(2)]
        assert sum(isinstance(one.exception(), TokenRefused) for one in asked) == 1
    assert [token.role for token in tokens.all()].count("agent") == 1


def test_two_admins_that_revoke_each_other_at_a_time_lock_nobody_out(slow: _SlowControl) -> None:
    tokens = Tokens(slow, Audit(slow))
    admins = [tokens.create("me", "admin", "*", expires_ms=None, actor=TEST).token for _ in range(2)]
    slow.waiting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(tokens.revoke, one.id, actor=TEST) for one in admins]
        assert sum(isinstance(one.exception(), TokenRefused) for one in asked) == 1
    assert [token.revoked_ms for token in tokens.all()].count(None) == 1
