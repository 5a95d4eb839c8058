"""What is kept long enough goes: windows as whole files, rollups as rows; coarser rollups go on answering."""

from pathlib import Path

import numpy as np
import pytest

from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import CPU, Host, Recording, times_of

NOW_MS = 1_760_000_000_000 // DAY_MS * DAY_MS
OLD_MS, NEW_MS = NOW_MS - 10 * DAY_MS, NOW_MS - HOUR_MS
RETENTION = (2 * DAY_MS, 5 * DAY_MS, None, None)


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    """An old window and a new one, each in a file of its own; windows are kept for two days."""
    store = EmbeddedStore(tmp_path, retention=RETENTION)
    for offset, end_ms in enumerate((OLD_MS, NEW_MS), 1):
        recording = Recording()
        recording.cpu(Host("one"), end_ms, np.array([0.25, 0.75]))
        store.add(offset, recording.reports)
        store.flush()
    return store


def times(store: EmbeddedStore, rate_ms: int) -> list[int]:
    found: list[int] = times_of(store.answer(Question(CPU, 0, NOW_MS, rate_ms, "one")))
    return found


def test_nothing_goes_before_its_time(store: EmbeddedStore) -> None:
    store.expire(OLD_MS + DAY_MS)
    assert [len(times(store, rate)) for rate in (1000, 300_000, HOUR_MS, DAY_MS)] == [2, 2, 2, 2]


def test_old_windows_and_fine_rollups_go_and_coarse_ones_answer(store: EmbeddedStore, tmp_path: Path) -> None:
    store.expire(NOW_MS)
    assert times(store, 1000) == [NEW_MS]
    assert times(store, 300_000) == [NEW_MS]
    assert times(store, HOUR_MS) == [OLD_MS, NEW_MS]
    assert times(store, DAY_MS) == [OLD_MS, NEW_MS // DAY_MS * DAY_MS]
    assert len(list((tmp_path / "raw").iterdir())) == 1
    store.close()
    assert times(EmbeddedStore(tmp_path, retention=RETENTION), HOUR_MS) == [OLD_MS, NEW_MS]


def test_what_is_kept_tells_which_rates_and_reports_make_sense(store: EmbeddedStore) -> None:
    assert store.finest_ms(NEW_MS, NOW_MS) == 1
    assert store.finest_ms(NOW_MS - 3 * DAY_MS, NOW_MS) == 300_000
    assert store.finest_ms(OLD_MS, NOW_MS) == HOUR_MS
    assert store.oldest_ms(NOW_MS) == NOW_MS - 2 * DAY_MS
