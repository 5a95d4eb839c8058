"""Threads that fail: said, and started again, while the sampling goes on."""

from threading import Event

import pytest

from agent.run import supervised
from contract.retry import Backoff


def soon() -> Backoff:
    return Backoff(lambda _least, _most: 0.0)


def test_work_that_fails_is_done_again_and_each_fault_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) < 4:
            raise KeyError("a fault")

    supervised(work, Event(), soon())
    assert len(attempts) == 4
    assert caplog.text.count("KeyError: 'a fault'") == 3


def test_work_that_fails_when_the_agent_ends_is_not_done_again() -> None:
    closing = Event()
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        closing.set()
        raise OSError("a fault")

    supervised(work, closing, soon())
    assert len(attempts) == 1
