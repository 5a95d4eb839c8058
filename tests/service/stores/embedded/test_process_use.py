"""Who used the CPU, in the catalogue: merged hours keep the sums and the bound."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.times import DAY_MS
from service.stores.embedded.store import EmbeddedStore
from service.stores.process_use import UseQuestion
from service.stores.use_tables import MERGED
from tests.support.process_uses import START, WINDOWS, check, fill, window


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path, keep_processes_ms=400 * DAY_MS)
    yield store
    store.close()


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


def test_what_is_kept_long_enough_is_forgotten(store: EmbeddedStore) -> None:
    fill(store)
    store.flush()
    store.expire(START + 401 * DAY_MS)
    assert store.who(UseQuestion(START, START + DAY_MS)).hosts == 0
