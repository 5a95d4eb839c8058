"""The breaker: a server that stands still is asked by one at a time, and not again at once."""

import pytest

from analytics.sources import standstill
from analytics.sources.standstill import Breaker, StandsStill


class Server:
    """Counts how often it is tried."""

    def __init__(self) -> None:
        self.is_alive = True
        self.tries = 0

    def __call__(self) -> bool:
        self.tries += 1
        return self.is_alive


def test_who_asks_for_much_does_not_shut_out_others() -> None:
    server = Server()
    breaker = Breaker(server)
    breaker.note_timeout()
    breaker.check()
    assert server.tries == 1


def test_a_server_that_stands_still_is_not_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    breaker = Breaker(server)
    server.is_alive = False
    monkeypatch.setattr(standstill, "AGAIN_S", 3600.0)
    for _ in range(5):
        breaker.note_timeout()
    for _ in range(5):
        with pytest.raises(StandsStill) as still:
            breaker.check()
        assert 0 < still.value.again_s <= 3600
    assert server.tries == 1


def test_it_is_asked_again_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    breaker = Breaker(server)
    server.is_alive = False
    monkeypatch.setattr(standstill, "AGAIN_S", 0.0)
    breaker.note_timeout()
    with pytest.raises(StandsStill):
        breaker.check()
    server.is_alive = True
    breaker.check()
    tries = server.tries
    breaker.check()
    assert server.tries == tries
