"""What the embedded store forgets, and what it goes on answering."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments

T0 = 1_704_067_200_000  # 2024-01-01, the start of a bucket of every tier
DAYS = 10
NOW_MS = T0 + DAYS * DAY_MS
FOREVER = (None, None, None, None)


def filled(folder: Path, retention: Sequence[int | None]) -> tuple[EmbeddedStore, Recording]:
    """A store with a window every 17 minutes, flushed once a day."""
    random = np.random.default_rng(12)
    recording = Recording()
    store = EmbeddedStore(folder, "256MB", retention)
    given = 0
    for day in range(DAYS):
        for end in range(T0 + day * DAY_MS, T0 + (day + 1) * DAY_MS, 17 * MINUTE_MS):
            recording.cpu(Host("one"), end, random.random(3))
        store.add(len(recording.reports), recording.reports[given:])
        given = len(recording.reports)
        store.flush()
    return store, recording


def assert_exact(store: EmbeddedStore, recording: Recording, start_ms: int, rate_ms: int) -> None:
    expected = recording.buckets(CPU, start_ms, NOW_MS, rate_ms, lambda _: "")
    windows = store.answer(Question(CPU, start_ms, NOW_MS, rate_ms, "one", histograms=True))
    assert_same_moments(windows, expected)
    assert_quantiles(windows, CPU, expected)


def counted(store: EmbeddedStore, rate_ms: int) -> int:
    """The samples that are still answered at a rate that only tiers from `rate_ms` on can serve."""
    return int(store.answer(Question(CPU, T0, NOW_MS, rate_ms, "one"))["count"].sum())


def test_what_is_kept_forever_is_never_forgotten(tmp_path: Path) -> None:
    store, recording = filled(tmp_path, FOREVER)
    store.expire(NOW_MS + 100 * 366 * DAY_MS)
    for rate_ms in (1000, 5 * MINUTE_MS, HOUR_MS, DAY_MS):
        assert_exact(store, recording, T0, rate_ms)
    assert store.oldest_ms(NOW_MS) == 0
    assert store.finest_ms(T0, NOW_MS) == 1
    store.close()


def test_rollups_answer_for_times_whose_windows_are_forgotten(tmp_path: Path) -> None:
    store, recording = filled(tmp_path, (3 * DAY_MS, None, None, None))
    store.expire(NOW_MS)
    assert len([*(tmp_path / "raw").iterdir()]) == 3
    assert 0 < counted(store, MINUTE_MS) < counted(store, 5 * MINUTE_MS)
    assert_exact(store, recording, NOW_MS - 3 * DAY_MS, MINUTE_MS)
    for rate_ms in (5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS):
        assert_exact(store, recording, T0, rate_ms)
    store.close()


def test_each_tier_is_kept_for_its_own_time(tmp_path: Path) -> None:
    store, recording = filled(tmp_path, (2 * DAY_MS, 4 * DAY_MS, 6 * DAY_MS, None))
    for _ in range(2):
        store.expire(NOW_MS)
        while store.compact():
            pass
        for rate_ms, days in ((MINUTE_MS, 2), (5 * MINUTE_MS, 4), (HOUR_MS, 6), (DAY_MS, 10)):
            assert_exact(store, recording, NOW_MS - days * DAY_MS, rate_ms)
        parts = [counted(store, rate_ms) for rate_ms in (MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS)]
        assert parts == sorted(set(parts))
        store.close()
        store = EmbeddedStore(tmp_path, "256MB", (2 * DAY_MS, 4 * DAY_MS, 6 * DAY_MS, None))
    store.close()


def test_it_is_said_which_rates_and_reports_go_with_what_is_kept(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path, "256MB", (2 * DAY_MS, 4 * DAY_MS, 6 * DAY_MS, 8 * DAY_MS))
    assert store.oldest_ms(NOW_MS) == NOW_MS - 2 * DAY_MS
    for days, finest in (
        (1, 1),
        (2, 1),
        (3, 5 * MINUTE_MS),
        (4, 5 * MINUTE_MS),
        (5, HOUR_MS),
        (7, DAY_MS),
        (9, DAY_MS),
    ):
        assert store.finest_ms(NOW_MS - days * DAY_MS, NOW_MS) == finest
    store.close()


def test_users_are_known_though_all_their_windows_are_forgotten(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, (HOUR_MS,) * 4)
    users = store.users()
    store.expire(NOW_MS + 100 * DAY_MS)
    assert counted(store, DAY_MS) == 0
    store.close()
    store = EmbeddedStore(tmp_path)
    assert store.has_user("one")
    assert store.users().equals(users)
    assert [*store.newest().values()] == [users["last_seen"][0].value // 1_000_000]
    store.close()


def test_a_crash_while_forgetting_leaves_every_answer_that_is_still_owed(tmp_path: Path) -> None:
    retention = (2 * DAY_MS, 4 * DAY_MS, 6 * DAY_MS, None)
    store, recording = filled(tmp_path / "store", FOREVER)
    store.close()
    # A reader that began before keeps the files: what is left then is what a crash before their removal leaves.
    shutil.copytree(tmp_path / "store" / "raw", tmp_path / "files")
    store = EmbeddedStore(tmp_path / "store", "256MB", retention)
    store.expire(NOW_MS)
    store.close()
    shutil.copytree(tmp_path / "files", tmp_path / "store" / "raw", dirs_exist_ok=True)
    store = EmbeddedStore(tmp_path / "store", "256MB", retention)
    assert len([*(tmp_path / "store" / "raw").iterdir()]) == 2
    for rate_ms, days in ((MINUTE_MS, 2), (5 * MINUTE_MS, 4), (HOUR_MS, 6), (DAY_MS, 10)):
        assert_exact(store, recording, NOW_MS - days * DAY_MS, rate_ms)
    store.close()
