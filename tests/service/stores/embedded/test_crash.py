"""The embedded store after a crash: whole steps only, nothing lost that was flushed, nothing twice."""

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.report import Report
from contract.times import DAY_MS
from service.stores.base import Question
from service.stores.embedded import catalog, reading, segments
from service.stores.embedded.store import EmbeddedStore
from service.stores.retention import TIERS
from tests.support import flusher
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments, times_of
from tests.support.running import ROOT

FOREVER_MS = 1 << 50
ALL: Callable[[int, int], bool] = lambda after, through: True  # noqa: E731 - a journal that holds everything
FOLDER_OF_SEGMENTS = "raw"


class Images:
    """Copies of a store's folder, made at every step of what it does: each is what a crash there would leave."""

    def __init__(self, folder: Path, images: Path) -> None:
        self._folder = folder
        self._images = images
        self._numbers = count(1)
        self._newest: list[tuple[Path, int, int]] = []

    def take(self) -> None:
        """Make an image where the newest is not the same."""
        files = [path for path in sorted(self._folder.rglob("*")) if path.is_file()]
        state = [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        if state != self._newest:
            self._newest = state
            shutil.copytree(self._folder, self._images / f"{next(self._numbers):03}")

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with an image before and after it."""

        @wraps(function)
        def observed(*args: Any, **kwargs: Any) -> Any:
            self.take()
            result = function(*args, **kwargs)
            self.take()
            return result

        return observed

    def all(self) -> list[Path]:
        return sorted(self._images.iterdir())


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """Images of the store in tmp_path / "store", at every call of a function that touches its disk."""
    images = Images(tmp_path / "store", tmp_path / "images")
    for name, function in inspect.getmembers(catalog, inspect.isfunction):
        if function.__module__ == catalog.__name__ and name not in ("open_catalog", "tier_table") and name[0] != "_":
            monkeypatch.setattr(catalog, name, images.around(function))
    monkeypatch.setattr(segments, "write_segment", images.around(segments.write_segment))
    monkeypatch.setattr(reading, "append_rollup", images.around(reading.append_rollup))
    return images


def fill(store: EmbeddedStore, recording: Recording, flushes: int) -> None:
    random = np.random.default_rng(len(recording.reports))
    for _ in range(flushes):
        for _ in range(3):
            end = flusher.START_MS + int(random.integers(0, 3 * DAY_MS))
            recording.cpu(Host("one"), end, random.random(3), [random.random(3)])
        store.add(len(recording.reports), recording.reports[-3:])
        store.flush()


def segments_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / FOLDER_OF_SEGMENTS).iterdir()}


def assert_whole(image: Path, recording: Recording) -> int:
    """Once the journal is replayed, everything is answered exactly; returns what was flushed before."""
    store = EmbeddedStore(image, "256MB", holds=ALL)
    flushed = store.flushed
    listed = {name: value for name, _, value in store.sizes()}["segments"]
    assert len(segments_of(image)) == listed, "files that are not listed are removed"
    if recording.reports[flushed:]:
        store.add(len(recording.reports), recording.reports[flushed:])
    for rate_ms in (1000, *TIERS):
        windows = store.answer(Question(CPU, 0, FOREVER_MS, rate_ms, "one", histograms=True))
        expected = recording.buckets(CPU, 0, FOREVER_MS, rate_ms, lambda one: "" if one.core is None else None)
        assert_same_moments(windows, expected)
        assert_quantiles(windows, CPU, expected)
    store.close()
    return flushed


def test_a_crash_at_any_step_of_a_flush_leaves_all_of_it_or_nothing(tmp_path: Path, images: Images) -> None:
    recording = Recording()
    store = EmbeddedStore(tmp_path / "store", "256MB", holds=ALL)
    fill(store, recording, 1)
    before = len(images.all())
    fill(store, recording, 1)
    images.take()
    store.close()
    found = images.all()[before:]
    orphans = [image for image in found if len(segments_of(image)) == 2]
    outcomes = [assert_whole(image, recording) for image in found]
    assert set(outcomes) == {3, 6}
    assert outcomes == sorted(outcomes)
    assert outcomes[found.index(orphans[0])] == 3, "the segment is written before it is committed"


def test_a_crash_at_any_step_of_a_compaction_changes_no_answer(tmp_path: Path, images: Images) -> None:
    recording = Recording()
    store = EmbeddedStore(tmp_path / "store", "256MB", holds=ALL)
    fill(store, recording, 4)
    before = len(images.all())
    while store.compact():
        images.take()
    store.close()
    found = images.all()[before:]
    files = [len(segments_of(image)) for image in found]
    assert (files[0], max(files), files[-1]) == (4, 5, 1), "merged beside the old ones, which are removed at the end"
    for image in found:
        assert assert_whole(image, recording) == len(recording.reports)


@pytest.mark.slow
def test_a_crash_at_any_step_of_forgetting_leaves_the_user_or_removes_it_whole(tmp_path: Path, images: Images) -> None:
    recording = Recording()
    store = EmbeddedStore(tmp_path / "store", "256MB", holds=ALL)
    for day in range(3):
        for user in ("gone", "stays"):
            recording.cpu(Host(user), flusher.START_MS + day * DAY_MS, np.array([0.25, 0.75]), [np.array([0.5, 0.5])])
        store.add(len(recording.reports), recording.reports[-2:])
        store.flush()
    images.take()
    before = len(images.all()) - 1
    store.forget("gone")
    while store.compact():
        images.take()
    images.take()
    store.close()
    whole = recording.buckets(CPU, 0, FOREVER_MS, DAY_MS, lambda one: one.host.user_id if one.core is None else None)
    outcomes = []
    for image in images.all()[before:]:
        store = EmbeddedStore(image, "256MB", holds=ALL)
        left = [*store.users()["user_id"]]
        for rate_ms in (1000, *TIERS):
            windows = store.answer(Question(CPU, 0, FOREVER_MS, rate_ms, by="user"))
            assert windows["user"].value_counts().to_dict() == dict.fromkeys(left, 3)
        windows = store.answer(Question(CPU, 0, FOREVER_MS, DAY_MS, by="user"))
        assert_same_moments(windows, {key: samples for key, samples in whole.items() if key[0] in left})
        outcomes.append(len(left))
        store.forget("gone")
        while store.compact():
            pass
        assert store.is_erased
        assert len(segments_of(image)) == {name: value for name, _, value in store.sizes()}["segments"]
        store.close()
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {1, 2}


def test_a_flush_that_fails_is_made_good_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording()
    store = EmbeddedStore(tmp_path / "store", "256MB", holds=ALL)
    fill(store, recording, 1)
    # A file where the next segment goes, so that the disk refuses it.
    raw = tmp_path / "store" / FOLDER_OF_SEGMENTS
    moved = raw.rename(tmp_path / "moved")
    raw.write_text("in the way")
    with pytest.raises(OSError, match="Not a directory"):
        fill(store, recording, 1)
    assert store.flushed == 3
    raw.unlink()
    moved.rename(raw)
    fill(store, recording, 1)
    store.flush()
    assert store.flushed == 9
    store.close()
    assert assert_whole(tmp_path / "store", recording) == 9


@pytest.mark.slow
@pytest.mark.parametrize("offsets", [1, 3, 17, 60])
def test_a_killed_process_leaves_exactly_what_it_had_flushed(tmp_path: Path, offsets: int) -> None:
    """Killed in the middle of whatever it does after its n-th flush, flushes and compactions among it."""
    command = [sys.executable, "-m", "tests.support.flusher", str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(offsets)]
        process.kill()
    store = EmbeddedStore(tmp_path / "store", "256MB", holds=ALL)
    assert said[-1] <= store.flushed
    assert store.flushed % 10 == 0
    reports = [flusher.window(number) for number in range(1, store.flushed + 1)]
    for rate_ms in (flusher.STEP_MS, *TIERS):
        windows = store.answer(Question(CPU, 0, FOREVER_MS, rate_ms, "flusher", cores=1))
        counts = counted(reports, rate_ms)
        assert dict(zip(times_of(windows), windows["count"].tolist(), strict=True)) == counts
    store.close()


def counted(reports: list[Report], rate_ms: int) -> dict[int, int]:
    """The observations of each bucket."""
    counts: dict[int, int] = {}
    for report in reports:
        bucket = report.end_timestamp // rate_ms * rate_ms
        counts[bucket] = counts.get(bucket, 0) + report.observations_per_metric
    return counts
