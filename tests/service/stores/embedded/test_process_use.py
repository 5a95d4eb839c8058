"""Who used the CPU: sums over windows, machines and hours are right within the bound that is stated."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from service.stores.embedded.process_use import MERGED

from contract.processes import Consumer, ProcessUse
from contract.report import Report, decode_report
from contract.times import DAY_MS, HOUR_MS
from service.stores.embedded.store import EmbeddedStore
from service.stores.process_use import By, UseQuestion
from tests.support.reports import as_json, small

START = 1_700_000_000_000 // HOUR_MS * HOUR_MS
WINDOW_MS = 60_000
WINDOWS = 180
NAMES = [f"program{number}" for number in range(60)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path, keep_processes_ms=400 * DAY_MS)
    yield store
    store.close()


def window(user: str, end_ms: int, used: dict[str, float], unseen_s: float = 0.0) -> Report:
    """A report whose machine did this, of which it names the five that used most."""
    ranked = sorted(used.items(), key=lambda item: -item[1])
    consumers = [Consumer(name, cpu_s, user="root", unit="jobs.service") for name, cpu_s in ranked[:5]]
    use = ProcessUse(
        seconds=60.0, cores=4, busy_s=sum(used.values()) + unseen_s, unseen_s=unseen_s, processes=consumers,
        processes_beyond_s=ranked[5][1] if len(ranked) > 5 else 0.0,
        units=[Consumer("jobs.service", sum(used.values()))],
    )  # fmt: skip
    return replace(decode_report(as_json(small(user, end_ms))), processes=use)


def fill(store: EmbeddedStore, flush_each: int = 50) -> dict[str, Counter[str]]:
    """Windows of two machines over three hours; what each program really used on each."""
    chance = random.Random(1)
    truth: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    for number in range(WINDOWS):
        for user, used_by in truth.items():
            used = {name: chance.random() ** 8 * 10 / (1 + rank) for rank, name in enumerate(NAMES)}
            used_by.update(used)
            store.add(2 * number + (user == "b") + 1, [window(user, START + number * WINDOW_MS, used, unseen_s=0.01)])
        if number % flush_each == flush_each - 1:
            store.flush()
    return truth


def check(store: EmbeddedStore, truth: Counter[str], user: str | None, named_at_least: int = 5) -> None:
    found = store.who(UseQuestion(START, START + DAY_MS, user_id=user, top=len(NAMES)))
    assert len(found.top) >= named_at_least
    busy = sum(truth.values()) + found.machines * WINDOWS * 0.01
    assert found.busy_s == pytest.approx(busy)
    assert sum(one.cpu_s for one in found.top) <= busy + 1e-6
    for one in found.top:
        assert one.cpu_s - 1e-6 <= truth[one.name] <= one.at_most_s + 1e-6
    for name in truth.keys() - {one.name for one in found.top}:
        assert truth[name] <= found.beyond_s + 1e-6


def test_what_each_used_lies_within_the_bound_in_memory_and_on_disk(store: EmbeddedStore) -> None:
    truth = fill(store)
    check(store, truth["a"], "a")
    check(store, truth["a"] + truth["b"], None)
    store.flush()
    check(store, truth["b"], "b")


def test_hours_that_are_merged_keep_the_sums_and_the_bound(store: EmbeddedStore) -> None:
    truth = fill(store)
    store.flush()
    before = store.who(UseQuestion(START, START + DAY_MS, by="unit"))
    store.expire(START + 30 * DAY_MS)
    check(store, truth["a"], "a", named_at_least=MERGED)
    check(store, truth["a"] + truth["b"], None, named_at_least=MERGED)
    after = store.who(UseQuestion(START, START + DAY_MS, by="unit"))
    assert after.top[0].cpu_s == pytest.approx(before.top[0].cpu_s)
    assert (after.seconds, after.core_s) == pytest.approx((before.seconds, before.core_s))


def test_a_window_that_comes_after_its_hour_was_merged_counts_once(store: EmbeddedStore) -> None:
    truth = fill(store)["a"]
    store.flush()
    store.expire(START + 30 * DAY_MS)
    store.add(10_000, [window("a", START + 1, {"late": 9.0})])
    store.flush()
    store.expire(START + 30 * DAY_MS)
    store.expire(START + 30 * DAY_MS)
    found = store.who(UseQuestion(START, START + DAY_MS, user_id="a", top=100))
    assert found.busy_s == pytest.approx(sum(truth.values()) + WINDOWS * 0.01 + 9.0)
    assert next(one for one in found.top if one.name == "late").cpu_s == pytest.approx(9.0)


@pytest.mark.parametrize("by", ["process", "unit"])
def test_buckets_add_up_to_the_range(store: EmbeddedStore, by: By) -> None:
    fill(store)
    found = store.who(UseQuestion(START, START + DAY_MS, by=by, rate_ms=HOUR_MS))
    assert [one.start_ms for one in found.buckets] == [START, START + HOUR_MS, START + 2 * HOUR_MS]
    assert sum(one.busy_s for one in found.buckets) == pytest.approx(found.busy_s)
    for place, one in enumerate(found.top):
        assert sum(bucket.top_s[place] for bucket in found.buckets) == pytest.approx(one.cpu_s)


def test_what_is_kept_long_enough_is_forgotten(store: EmbeddedStore) -> None:
    fill(store)
    store.flush()
    store.expire(START + 401 * DAY_MS)
    assert store.who(UseQuestion(START, START + DAY_MS)).machines == 0


def test_a_store_that_is_opened_again_knows_who(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    truth = fill(store)
    store.close()
    store = EmbeddedStore(tmp_path)
    check(store, truth["a"], "a")
    store.close()


def test_only_machines_that_are_covered_are_asked(store: EmbeddedStore) -> None:
    truth = fill(store)
    found = store.who(UseQuestion(START, START + DAY_MS, covers=lambda user: user == "b", top=60))
    assert found.machines == 1
    assert found.busy_s == pytest.approx(sum(truth["b"].values()) + WINDOWS * 0.01)
