"""Readers of InfluxDB while a flush writes: each window once, at every moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contract.times import DAY_MS
from tests.service.stores.embedded.test_readers import BATCH, Readers, window
from tests.service.stores.influx.conftest import OpenStore
from tests.support.influx_proxy import Fault, InfluxProxy, Request

pytestmark = pytest.mark.server

ROUNDS = 12
QUESTIONS = [(1000, True), (300_000, True), (900_000, False), (DAY_MS, True)]


def test_answers_are_right_at_every_moment_of_flushes(open_store: OpenStore) -> None:
    store = open_store()
    readers = Readers(store)
    with ThreadPoolExecutor() as pool:
        asking = [*(pool.submit(readers.ask, *question) for question in QUESTIONS), pool.submit(readers.look_up)]
        try:
            for number in range(ROUNDS):
                first = number * BATCH + 1
                readers.announced = first + BATCH - 1
                store.add(readers.announced, [window(n) for n in range(first, first + BATCH)])
                readers.added = readers.announced
                store.flush()
        finally:
            readers.done.set()
    assert all(asked.result() > 3 for asked in asking)


def test_answers_are_right_between_any_two_writes_of_a_flush(open_store: OpenStore, proxy: InfluxProxy) -> None:
    store = open_store(url=proxy.url)
    readers = Readers(store)
    store.add(BATCH, [window(n) for n in range(1, BATCH + 1)])
    store.flush()
    asked: list[int] = []

    def ask_between(request: Request) -> Fault | None:
        if "write" in request.path:
            asked.extend(_once(readers, rate_ms, by_user) for rate_ms, by_user in QUESTIONS)
        return None

    proxy.fault = ask_between
    readers.announced = readers.added = 2 * BATCH
    store.add(2 * BATCH, [window(n) for n in range(BATCH + 1, 2 * BATCH + 1)])
    store.flush()
    assert len(asked) > 20
    assert set(asked) == {1}


def _once(readers: Readers, rate_ms: int, by_user: bool) -> int:
    """Ask once."""
    readers.done = _After(1)
    return readers.ask(rate_ms, by_user)


class _After(threading.Event):
    """Set after it was looked at so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._left = times

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0
