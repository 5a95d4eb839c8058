"""Who used the CPU: every store says it within the bound that is stated, whatever it has done with the windows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from analytics.sources.influx_address import Address, Credentials
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Store
from service.stores.influx.store import InfluxStore
from service.stores.process_use import By, UseQuestion
from tests.support.process_uses import NAMES, START, WINDOWS, check, fill, window
from tests.support.stores import InfluxPlace, Place

OpenAt = Callable[[int], Store]


@pytest.fixture
def open_at(place: Place) -> Iterator[OpenAt]:
    """Opens the store at a time, and closes what a test left open. The embedded store's answers go by no clock."""
    with ExitStack() as stack:

        def opened(now_ms: int) -> Store:
            if not isinstance(place, InfluxPlace):
                return stack.enter_context(closing(place.open()))
            address = Address(place.influx.url, place.database)
            store = InfluxStore(address, Credentials(), place.folder, now_ms=lambda: now_ms)
            return stack.enter_context(closing(store))

        yield opened


MOMENTS = {
    "meanwhile": START + HOUR_MS + 20 * MINUTE_MS,
    "an hour later": START + 4 * HOUR_MS,
    "later": START + 9 * DAY_MS,
}
moments = pytest.mark.parametrize("now_ms", MOMENTS.values(), ids=MOMENTS.keys())


@moments
def test_what_each_used_lies_within_the_bound_in_memory_and_flushed(open_at: OpenAt, now_ms: int) -> None:
    store = open_at(now_ms)
    truth = fill(store)
    check(store, truth["a"], "a")
    check(store, truth["a"] + truth["b"], None)
    store.flush()
    check(store, truth["b"], "b")
    check(store, truth["a"] + truth["b"], None)


def test_a_store_that_is_opened_again_later_knows_who(open_at: OpenAt) -> None:
    store = open_at(MOMENTS["meanwhile"])
    truth = fill(store)
    store.close()
    store = open_at(MOMENTS["later"])
    store.flush()
    # From here on windows are answered from the hours that they were merged into.
    store.expire(MOMENTS["later"])
    check(store, truth["a"], "a")
    check(store, truth["a"] + truth["b"], None)


@pytest.mark.parametrize(("by", "at"), [("process", "later"), ("unit", "meanwhile")])
def test_buckets_add_up_to_the_range(open_at: OpenAt, by: By, at: str) -> None:
    store = open_at(MOMENTS[at])
    fill(store)
    store.flush()
    found = store.who(UseQuestion(START, START + DAY_MS, by=by, rate_ms=HOUR_MS))
    assert [one.start_ms for one in found.buckets] == [START, START + HOUR_MS, START + 2 * HOUR_MS]
    assert sum(one.busy_s for one in found.buckets) == pytest.approx(found.busy_s)
    for place, one in enumerate(found.top):
        assert sum(bucket.top_s[place] for bucket in found.buckets) == pytest.approx(one.cpu_s)


def test_minutes_are_told_of_windows_while_these_are_kept(open_at: OpenAt) -> None:
    store = open_at(MOMENTS["an hour later"])
    fill(store)
    store.flush()
    found = store.who(UseQuestion(START + 90_000, START + HOUR_MS + 30_000, user_id="a", rate_ms=MINUTE_MS))
    assert [one.start_ms for one in found.buckets] == [START + 2 * place * MINUTE_MS for place in range(1, 31)]
    assert (found.hosts, found.seconds) == (1, 30 * 60.0)


@moments
def test_a_window_that_comes_late_counts_once(open_at: OpenAt, now_ms: int) -> None:
    store = open_at(now_ms)
    truth = fill(store)["a"]
    store.flush()
    for number in range(2):
        store.add(10_000 + number, [window("a", START + 1 + number, {"late": 9.0})])
        store.flush()
    found = store.who(UseQuestion(START, START + DAY_MS, user_id="a", top=100))
    assert found.busy_s == pytest.approx(sum(truth.values()) + WINDOWS * 0.01 + 18.0)
    assert next(one for one in found.top if one.name == "late").cpu_s == pytest.approx(18.0)


def test_only_hosts_that_are_covered_are_asked(open_at: OpenAt) -> None:
    store = open_at(MOMENTS["an hour later"])
    truth = fill(store)
    for _ in range(2):
        found = store.who(UseQuestion(START, START + DAY_MS, covers=lambda user: user == "b", top=len(NAMES)))
        assert found.hosts == 1
        assert found.busy_s == pytest.approx(sum(truth["b"].values()) + WINDOWS * 0.01)
        store.flush()


def test_after_a_crash_what_was_flushed_and_what_comes_again_count_once(place: Place) -> None:
    store = place.open()
    truth = fill(store, flush_each=35)
    flushed = store.flushed
    store = place.crash(store)
    assert store.flushed == flushed
    again = fill_behind(store, flushed)
    store.flush()
    check(store, truth["a"], "a")
    assert again
    store.close()


def fill_behind(store: Store, offset: int) -> int:
    """Give the store again what is behind an offset of the journal; how much that was."""
    given = []

    class _Behind:
        def add(self, last: int, reports: list[object]) -> None:
            if last > offset:
                given.append(last)
                store.add(last, reports)  # type: ignore[arg-type]

        def flush(self) -> None:
            """Nothing: the store is flushed at the end."""

    fill(_Behind())  # type: ignore[arg-type]
    return len(given)
