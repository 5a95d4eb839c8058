"""A user that is forgotten is in no answer any more, and whoever comes back under its name is new."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from contract.metrics import QUANTITIES, Cpu
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Key, Question, Store
from service.stores.embedded.repair import repair
from service.stores.embedded.store import EmbeddedStore
from tests.support.five_weeks import END_MS, HOSTS, START_MS, batches
from tests.support.recordings import CPU, Recording
from tests.support.stores import EmbeddedPlace, Place

GONE = HOSTS[1].user_id
"""It has a slash, a blank and quotes in its name, three cores and disks."""
RATES = (1, MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS)
QUESTIONS: tuple[Callable[[int], Question], ...] = (
    lambda rate: Question(CPU, START_MS, END_MS, rate),
    lambda rate: Question(CPU, START_MS, END_MS, rate, histograms=True),
    lambda rate: Question(CPU, START_MS, END_MS, rate, by="user"),
    lambda rate: Question(CPU, START_MS, END_MS, rate, by="user", cores="each"),
    lambda rate: Question(CPU, START_MS, END_MS, rate, by="os_version"),
    lambda rate: Question(QUANTITIES["disk.written_bytes"], START_MS, END_MS, rate, by="user"),
    lambda rate: Question(CPU, START_MS, END_MS, rate, GONE),
    lambda rate: Question(CPU, START_MS, END_MS, rate, GONE, cores="each"),
    lambda rate: Question(CPU, START_MS, END_MS, rate, HOSTS[0].user_id, cores="each"),
)


def fill(store: Store, reports: list[Report], flushed: int = 4) -> int:
    """Give a store reports, and flush it after each of the first batches; returns the last offset."""
    last = 0
    for number, part in enumerate(batches(reports, 5)):
        last += len(part)
        store.add(last, part)
        if number < flushed:
            store.flush()
    return last


def answers(store: Store) -> list[pd.DataFrame]:
    return [store.answer(question(rate)) for question in QUESTIONS for rate in RATES]


def assert_same(found: list[pd.DataFrame], expected: list[pd.DataFrame]) -> None:
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other, rtol=1e-12)


def without(recording: Recording) -> list[Report]:
    return [report for report in recording.reports if report.user_id != GONE]


def keys_of(reports: list[Report]) -> set[Key]:
    return {Key(one.user_id, type(metric), one.end_timestamp) for one in reports for metric in one.metrics}


def compact(store: Store) -> None:
    while store.compact():
        pass


def test_a_forgotten_user_is_in_no_answer(new_place: Callable[[], Place], recording: Recording) -> None:
    never = new_place().open()
    fill(never, without(recording))
    expected = answers(never)
    place = new_place()
    store = place.open()
    answered = answers(store)
    fill(store, recording.reports)
    answered = answers(store)  # what is kept of questions must not outlive the user
    store.check_can_forget()
    store.forget(GONE)
    assert_same(answers(store), expected)
    assert len(answered) == len(expected)
    assert GONE not in store.users()["user_id"].tolist()
    pd.testing.assert_frame_equal(store.users(), never.users())
    assert not store.has_user(GONE)
    assert store.cores(GONE, CPU) == []
    assert not {user for user, _ in store.newest()} & {GONE}
    mine = keys_of([report for report in recording.reports if report.user_id == GONE])
    assert asyncio.run(store.known(mine | keys_of(without(recording)))) == keys_of(without(recording))
    compact(store)
    assert store.is_erased
    assert_same(answers(store), expected)
    store.close()
    store = place.open()
    assert_same(answers(store), expected)
    assert not store.has_user(GONE)
    store.forget(GONE)  # again, as after a crash
    store.close()
    never.close()


def test_who_comes_back_under_the_name_is_new(new_place: Callable[[], Place], recording: Recording) -> None:
    mine = [report for report in recording.reports if report.user_id == GONE]
    never = new_place().open()
    again = [*without(recording), *mine[-3:]]
    fill(never, again)
    expected = answers(never)
    store = new_place().open()
    last = fill(store, recording.reports)
    store.forget(GONE)
    assert asyncio.run(store.known(keys_of(mine))) == set()
    store.add(last + 3, mine[-3:])
    assert_same(answers(store), expected)
    store.flush()
    compact(store)
    assert_same(answers(store), expected)
    for one in (store, never):
        one.close()


def test_one_that_was_never_there_is_forgotten_in_silence(place: Place) -> None:
    store = place.open()
    store.forget("nobody")
    assert store.user_count == 0
    store.close()


def test_everybody_can_be_forgotten(place: Place, recording: Recording) -> None:
    store = place.open()
    last = fill(store, recording.reports)
    for host in HOSTS:
        store.forget(host.user_id)
    compact(store)
    assert store.is_erased
    nobody = store.users()
    assert len(nobody[nobody["user_id"] > "a"]) == 0
    assert len(store.answer(Question(CPU, START_MS, END_MS, DAY_MS))) == 0
    store.close()
    store = place.open()
    store.add(last + 1, recording.reports[:1])
    assert store.user_count == 1
    assert len(store.answer(Question(CPU, START_MS, END_MS, DAY_MS))) == 1
    store.close()


@pytest.fixture
def folder(tmp_path: Path, recording: Recording) -> Path:
    """A closed embedded store whose files have nothing of the forgotten user any more."""
    place = EmbeddedPlace(tmp_path / "store")
    store = place.open()
    fill(store, recording.reports)
    store.forget(GONE)
    assert not store.is_erased
    compact(store)
    store.close()
    return place.folder


def test_nothing_of_it_is_left_in_files_of_windows(folder: Path) -> None:
    files = sorted((folder / "raw").glob("*.parquet"))
    assert files
    users = {user for file in files for user in pq.read_table(file)["user_id"].to_pylist()}
    assert users == {host.user_id for host in HOSTS} - {GONE}
    assert not any(GONE.encode() in file.read_bytes() for file in files)


def test_repair_brings_it_back_from_nowhere(folder: Path, recording: Recording) -> None:
    (folder / "loadlens.duckdb").unlink()
    repair(folder / "raw", folder / "loadlens.duckdb", "256MB", lambda _: None)
    store = EmbeddedStore(folder, "256MB")
    assert not store.has_user(GONE)
    mean = store.answer(Question(CPU, START_MS, END_MS, DAY_MS * 365))["count"].sum()
    cpus = [one for one in without(recording) if isinstance(one.metrics[0], Cpu)]
    assert mean == sum(one.observations_per_metric for one in cpus)
    store.close()
