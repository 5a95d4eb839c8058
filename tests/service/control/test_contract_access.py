"""The contract for who may come in, kept by SQLite alone, or alike by two processes.

Each case changes something at one process and asks another: by itself a service is both.
"""

import pytest

from contract import times
from service.credentials.tokens import TokenRefused
from tests.support.deciding import (
    OPERATOR,
    DecidingProcess,
    at_once,
)
from tests.support.deciding_service import MINUTE_MS, Service


def test_a_token_opens_everywhere_as_long_as_it_is_good(service: Service) -> None:
    made = service.here.tokens.create("anna", "reader", "web-*", expires_ms=None, actor=OPERATOR)
    service.settle()
    assert service.there.opens(made.text)
    assert service.there.tokens.get(made.token.id).scope == "web-*"
    service.there.tokens.change(made.token.id, name="berta", actor=OPERATOR)
    turned = service.there.tokens.rotate(made.token.id, overlap_ms=0, actor=OPERATOR)
    service.settle()
    assert service.here.tokens.get(made.token.id).name == "berta"
    assert (service.here.opens(made.text), service.here.opens(turned.text)) == (False, True)
    service.here.tokens.revoke(made.token.id, actor=OPERATOR)
    service.settle()
    assert not service.there.opens(turned.text)
    with pytest.raises(TokenRefused, match="revoked"):
        service.there.tokens.rotate(made.token.id, overlap_ms=0, actor=OPERATOR)


def test_a_text_that_was_rotated_goes_on_for_its_overlap_everywhere(service: Service) -> None:
    made = service.here.tokens.create("anna", "reader", "all", expires_ms=None, actor=OPERATOR)
    service.settle()
    turned = service.there.tokens.rotate(made.token.id, overlap_ms=MINUTE_MS, actor=OPERATOR)
    service.settle()
    for process in service.processes:
        assert process.opens(made.text) and process.opens(turned.text)
        assert process.tokens.identity(made.text, times.now_ms() + 2 * MINUTE_MS, "127.0.0.1") is None


def test_an_enrolment_token_is_used_up_once_by_all(service: Service) -> None:
    made = service.here.tokens.create("fleet", "enrolment", "all", expires_ms=None, actor=OPERATOR, uses=10)
    service.settle()
    enrolled: list[str] = []

    def enrol(process: DecidingProcess, place: str) -> None:
        enrolled.append(process.tokens.enrol(made.token.identity, place, actor=OPERATOR).text)

    def enrol_all(process: DecidingProcess, place: str) -> None:
        for number in range(10):
            enrol(process, f"{place}-{number}")

    raised = at_once(lambda: enrol_all(service.here, "a"), lambda: enrol_all(service.there, "b"))
    service.settle()
    assert len(enrolled) == 10
    assert raised and all(isinstance(error, TokenRefused) for error in raised)
    assert all(process.opens(text) for process in service.processes for text in enrolled)


@pytest.mark.parametrize("attempt", range(3))
def test_somebody_can_always_make_tokens(service: Service, attempt: int) -> None:
    """Where two admins end each other's tokens at once, one stays."""
    one, other = (
        service.here.tokens.create(name, "admin", "all", expires_ms=None, actor=OPERATOR) for name in ("anna", "berta")
    )
    service.settle()
    raised = at_once(
        lambda: service.here.tokens.revoke(one.token.id, actor=OPERATOR),
        lambda: service.there.tokens.revoke(other.token.id, actor=OPERATOR),
    )
    service.settle()
    assert [str(error) for error in raised] == ["it is the last token with the role admin; make another first"]
    for process in service.processes:
        assert sorted([process.opens(one.text), process.opens(other.text)]) == [False, True]


def test_a_session_is_good_everywhere_until_it_or_its_token_ends(service: Service) -> None:
    made = service.here.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    identity = made.token.identity

    def begin(process: DecidingProcess) -> tuple[str, str]:
        session, cookie = process.sessions.begin(identity, address="127.0.0.1", browser="", actor=OPERATOR)
        service.settle()
        return session.id, cookie

    (first, cookie), (second, other) = begin(service.here), begin(service.here)
    assert [session.id for session in service.there.sessions.of(None)] == sorted((first, second))
    assert service.there.sessions.end(first, actor=OPERATOR)
    service.settle()
    assert service.here.sessions.identity(cookie, times.now_ms()) is None
    assert service.here.sessions.identity(other, times.now_ms()) is not None
    service.there.tokens.revoke(made.token.id, actor=OPERATOR)
    service.settle()
    assert service.here.sessions.identity(other, times.now_ms()) is None
