"""Readers of the embedded store while it flushes and compacts: never a missing file, never a doubled window."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.metrics import Cpu
from contract.report import Report
from contract.times import DAY_MS
from service.stores.base import Key, Question, Store
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import CPU, times_of

START_MS = 1_706_572_800_000
ROUNDS = 30
BATCH = 20
STEP_MS = 7_000
"""A window's distance from the next: many fall into a bucket of every tier."""


def window(number: int) -> Report:
    """One sample: the number of samples that are answered is the number of windows."""
    end = START_MS + number * STEP_MS
    return Report("one", end - 1000, end, 1, "Linux", "12", [Cpu(0.5, 0.0, [0.5], [0.0])])


class Readers:
    """Asks all the time, and compares with what was added before the question and before the answer."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.announced = 0
        self.added = 0
        """While nothing is being added, both are the same, and only one answer is right."""
        self.done = threading.Event()

    def ask(self, rate_ms: int, by_user: bool) -> int:
        """Ask until done; returns how many answers were right."""
        asked = 0
        while not self.done.is_set():
            least = self.added
            user = "one" if by_user else None
            windows = self.store.answer(Question(CPU, 0, 1 << 50, rate_ms, user, histograms=asked % 2 == 0))
            total, most = int(windows["count"].sum()), self.announced
            assert least <= total <= most
            assert len(set(times_of(windows))) == len(windows)
            asked += 1
        return asked

    def look_up(self) -> int:
        """Ask whether windows are known until done."""
        asked = 0
        while not self.done.is_set():
            added = self.added
            # The newest are just being flushed, the oldest just being compacted.
            numbers = {*range(max(1, added - 30), added + 1), *range(1, min(added, 30) + 1)}
            keys = {Key("one", Cpu, START_MS + number * STEP_MS) for number in numbers}
            others = {Key("one", Cpu, key.end_ms + 1) for key in keys}
            assert asyncio.run(self.store.known(keys | others)) == keys
            asked += 1
        return asked


@pytest.mark.slow
def test_answers_are_right_at_every_moment_of_flushes_and_compactions(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, "256MB")
    readers = Readers(store)
    with ThreadPoolExecutor() as pool:
        questions = [(1000, True), (300_000, True), (3_600_000, False), (DAY_MS, True)]
        asking = [*(pool.submit(readers.ask, *question) for question in questions), pool.submit(readers.look_up)]
        merged = 0
        try:
            for number in range(ROUNDS):
                first = number * BATCH + 1
                readers.announced = first + BATCH - 1
                store.add(readers.announced, [window(n) for n in range(first, first + BATCH)])
                readers.added = readers.announced
                store.flush()
                merged += store.compact()
        finally:
            readers.done.set()
        answered = [future.result() for future in asking]
    assert min(answered) > 3, "readers are not held up"
    assert merged > ROUNDS / 6
    while store.compact():
        pass
    # With nobody reading, only the files that are listed are left.
    listed = {name: value for name, _, value in store.sizes()}["segments"]
    assert len([*(tmp_path / "raw").iterdir()]) == listed < 10
    store.close()


@pytest.mark.slow
def test_many_flushes_leave_few_files(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, "256MB")
    for number in range(1, 51):
        store.add(number, [window(number)])
        store.flush()
        while store.compact():
            pass
    assert len([*(tmp_path / "raw").iterdir()]) <= 3 * 3
    assert store.answer(Question(CPU, 0, 1 << 50, DAY_MS, "one"))["count"].tolist() == [50]
    store.close()


def test_a_store_closes_when_the_questions_under_way_are_answered(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    asking, go_on = threading.Event(), threading.Event()
    answers: list[list[tuple[int]]] = []

    def read(_: object) -> list[tuple[int]]:
        asking.set()
        assert go_on.wait(60)
        return store._connection.cursor().sql("SELECT 1").fetchall()

    with ThreadPoolExecutor(2) as threads:
        asked = threads.submit(lambda: answers.append(store._versions.consistent(read)))
        assert asking.wait(60)
        closed = threads.submit(store.close)
        assert not asked.done() and not closed.done()
        go_on.set()
        asked.result(60)
        closed.result(60)
    assert answers == [[(1,)]]
