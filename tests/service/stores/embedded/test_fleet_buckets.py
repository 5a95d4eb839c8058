"""The buckets of all hosts together: kept as data arrive, and the same as those of the hosts added up."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from contract.metrics import QUANTITIES, Memory, Quantity
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Question
from service.stores.dump import host_of
from service.stores.embedded import catalog, segments
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.store import EmbeddedStore
from service.stores.retention import TIERS
from service.stores.series import fleet_number
from tests.support.five_weeks import START_MS
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments

FIRST_DAY_MS = START_MS // DAY_MS * DAY_MS + DAY_MS
END_MS = FIRST_DAY_MS + 2 * DAY_MS
MEMORY = Memory.quantities[0]


def recorded(seed: int, hosts: range, off_ms: int = 0) -> Recording:
    """Two days of some hosts, a window each ten minutes."""
    rng = np.random.default_rng(seed)
    recording = Recording()
    for end in range(FIRST_DAY_MS + 1 + off_ms, END_MS, 600_000):
        for number in hosts:
            recording.cpu(Host(f"machine-{number}"), end, rng.random(3), [rng.random(3)] * 2)
    recording.other(Host("machine-0"), FIRST_DAY_MS + 7 + off_ms, Memory, {"utilization": rng.random(5)})
    return recording


def joined(*recordings: Recording) -> Recording:
    """What all of them recorded."""
    return Recording([one for some in recordings for one in some.windows], [])


def fill(store: EmbeddedStore, *recordings: Recording) -> None:
    """Put each on disk by itself."""
    last = store.flushed
    for one in recordings:
        last += len(one.reports)
        store.add(last, one.reports)
        store.flush()


def asked(store: EmbeddedStore, quantity: Quantity, rate_ms: int) -> pd.DataFrame:
    return store.answer(Question(quantity, FIRST_DAY_MS, END_MS, rate_ms, histograms=True))


def assert_right(store: EmbeddedStore, recording: Recording) -> None:
    """The fleet's answers are those of all windows."""
    for quantity in (CPU, MEMORY):
        for rate_ms in (900_000, HOUR_MS, DAY_MS):
            expected = recording.buckets(
                quantity, FIRST_DAY_MS, END_MS, rate_ms, lambda window: "" if window.core is None else None
            )
            found = asked(store, quantity, rate_ms)
            assert_same_moments(found, expected)
            assert_quantiles(found, quantity, expected)


def compacted(store: EmbeddedStore) -> None:
    while store.compact():
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with closing(EmbeddedStore(tmp_path / "one", "256MB")) as opened:
        yield opened


def test_the_fleet_is_answered_from_its_own_buckets_alone(store: EmbeddedStore) -> None:
    recording = recorded(1, range(5))
    fill(store, recording)
    for tier in TIERS:
        store._connection.execute(f"DELETE FROM {tier_table(tier)} WHERE series > 0")
    assert_right(store, recording)


def test_a_flush_in_many_parts_keeps_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for part in (segments.PART, 50):
        monkeypatch.setattr(segments, "PART", part)
        with closing(EmbeddedStore(tmp_path / str(part), "256MB")) as opened:
            fill(opened, recorded(1, range(5)))
            (file,) = (tmp_path / str(part) / "raw").iterdir()
            rollups = [opened._connection.sql(f"FROM {tier_table(tier)} ORDER BY ALL").fetchall() for tier in TIERS]
            kept.append((pq.read_table(file).to_pylist(), rollups, opened.newest()))
            groups = pq.ParquetFile(file).num_row_groups
    assert kept[0] == kept[1]
    assert groups > 10


def test_windows_that_come_late_count(store: EmbeddedStore) -> None:
    parts = [recorded(seed, range(seed, 5), off_ms=1000 * seed) for seed in range(5)]
    for count, part in enumerate(parts, 1):
        fill(store, part)
        assert_right(store, joined(*parts[:count]))
    compacted(store)
    assert_right(store, joined(*parts))


def test_a_store_of_an_older_release_is_answered_at_once_and_gets_them_by_compaction(store: EmbeddedStore) -> None:
    parts = [recorded(seed, range(4), off_ms=1000 * seed) for seed in range(2)]
    fill(store, *parts)
    with store._connection.cursor() as cursor, store._versions.change(cursor):
        catalog.forget_fleet(cursor)
    everything = joined(*parts)
    assert_right(store, everything)
    newer = recorded(9, range(6), off_ms=9000)
    fill(store, newer)
    everything = joined(everything, newer)
    while catalog.runs_without_fleet(store._connection):
        assert_right(store, everything)
        assert store.compact()
    for tier in TIERS:
        store._connection.execute(f"DELETE FROM {tier_table(tier)} WHERE series > 0")
    assert_right(store, everything)


def test_buckets_of_another_store_count(store: EmbeddedStore, tmp_path: Path) -> None:
    recording = recorded(3, range(3))
    fill(store, recording)
    users = [f"machine-{number}" for number in range(3)]
    hosts = [host_of(store._index.users[user], store._index) for user in users]
    with closing(EmbeddedStore(tmp_path / "other", "256MB")) as other:
        other.add_rollups(store.rollups(TIERS[0], users, FIRST_DAY_MS, END_MS), hosts)
        assert_right(other, recording)


def test_each_quantity_has_a_number_of_its_own_below_those_of_hosts() -> None:
    numbers = {fleet_number(name) for name in QUANTITIES}
    assert len(numbers) == len(QUANTITIES)
    assert min(numbers) >= -(2**31)
    assert max(numbers) < 0
