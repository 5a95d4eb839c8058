"""One service at a time writes to a database: who has it, who may take it over, and what the other is told."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from analytics.sources.influx_address import Address, Credentials
from service.stores.base import Question, StoreError, StoreUnavailable
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.test_database import DAY, T0
from tests.support.influx_proxy import InfluxProxy
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU, Host, Recording
from tests.support.reports import post, small
from tests.support.running import ROOT, RunningService, wait_until

pytestmark = pytest.mark.server

Open = Callable[..., InfluxStore]


@pytest.fixture
def opening(influx: RunningInflux, database: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the database with a folder of a name, whoever else has it."""
    opened: list[InfluxStore] = []

    def opening(folder: str, url: str = influx.url, claim_s: float = 60.0, token: str = "") -> InfluxStore:
        store = InfluxStore(Address(url, database), Credentials(token), tmp_path / folder, claim_s=claim_s)
        opened.append(store)
        return store

    yield opening
    for store in opened:
        store.close()


def fill(store: InfluxStore, number: int) -> None:
    """One more window, of ten samples, flushed."""
    recording = Recording()
    recording.cpu(Host("one"), T0 + number * 1000, np.full(10, 0.5))
    store.add(store.last + 1, recording.reports)
    store.flush()


def counted(store: InfluxStore) -> int:
    return int(store.answer(Question(CPU, T0, T0 + DAY, DAY))["count"].sum())


def freeze(store: InfluxStore) -> None:
    """Its process stands still: it says nothing more."""
    store._claim._ending.set()
    store._claim._beating.join()


def opens(opening: Open, folder: str, **options: float) -> InfluxStore:
    """The store, as soon as it is not refused."""
    found: list[InfluxStore] = []

    def is_open() -> bool:
        with contextlib.suppress(StoreError):
            found.append(opening(folder, **options))
        return bool(found)

    wait_until(is_open, "the claim to become stale")
    return found[0]


def test_a_second_folder_is_refused_and_told_who_has_the_database(opening: Open, tmp_path: Path) -> None:
    store = opening("one")
    fill(store, 0)
    with pytest.raises(StoreError) as refused:
        opening("two")
    words = str(refused.value)
    assert "is in use by the service on " in words
    assert f"folder {tmp_path / 'one'}, since 20" in words
    assert "stop that one, or name another database" in words
    assert len(words) < 500
    fill(store, 1)
    assert store.problem is None
    assert counted(store) == 20


def test_a_folder_goes_on_at_once_after_a_crash(opening: Open) -> None:
    fill(opening("one"), 0)
    again = opening("one")
    fill(again, 1)
    assert counted(again) == 20
    assert again.problem is None


def test_another_folder_goes_on_soon_where_the_process_is_known_to_have_ended(
    opening: Open, influx: RunningInflux, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("service.stores.influx.claim.sleep", waits.append)
    opening("one").close()
    code = (
        "import os, sys; from pathlib import Path; from analytics.sources.influx_address import Address, Credentials;"
        "from service.stores.influx.store import InfluxStore;"
        "InfluxStore(Address(sys.argv[1], sys.argv[2]), Credentials(), Path(sys.argv[3])); os.kill(os.getpid(), 9)"
    )
    arguments = [sys.executable, "-c", code, influx.url, database, str(tmp_path / "two")]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert waits == []
    store = opening("three")
    assert store.problem is None
    # InfluxDB may be busy with what that one sent last. Whoever has the database waits for it no second time.
    assert waits == [5.0]
    store._claim.doubt()
    store._claim.hold()
    assert waits == [5.0]


def test_a_service_that_ends_lets_go_of_the_database(opening: Open) -> None:
    store = opening("one")
    fill(store, 0)
    store.close()
    other = opening("two")
    fill(other, 1)
    assert counted(other) == 20


def test_what_is_refused_at_the_start_keeps_nobody_out(opening: Open) -> None:
    opening("one")
    with pytest.raises(StoreError, match="in use"):
        opening("two")
    opening("one").close()
    opening("three")


def test_a_claim_without_a_heartbeat_is_taken_over_and_whoever_had_it_writes_nothing_more(
    opening: Open, influx: RunningInflux, database: str
) -> None:
    store = opening("one", claim_s=2.0)
    fill(store, 0)
    freeze(store)
    other = opens(opening, "two", claim_s=2.0)
    fill(other, 1)
    # It goes on, as after SIGCONT, long after its claim was stale.
    wait_until(lambda: not store._claim._is_fresh, "the claim to be old")
    with pytest.raises(StoreUnavailable, match=r"was taken over at .* by the service on .*two: nothing is written"):
        fill(store, 2)
    assert store.problem is not None
    assert "taken over" in store.problem
    assert len(influx.query('SELECT "cpuLoadAvg" FROM "measurements"', database)[0]["values"]) == 2
    other.close()
    # Also when the other is gone: it has written what this one does not know of.
    with pytest.raises(StoreUnavailable, match="taken over"):
        store.flush()
    again = opening("one")
    assert again.problem is None
    fill(again, 2)
    assert counted(again) == 30


def test_a_service_that_ends_lets_go_also_when_its_last_word_is_old(opening: Open) -> None:
    store = opening("one", claim_s=2.0)
    freeze(store)
    wait_until(lambda: not store._claim._is_fresh, "the claim to be old")
    store._claim.let_go()
    assert opening("two").problem is None


def test_a_claim_is_kept_while_it_is_told_and_taken_again_where_nobody_wanted_it(opening: Open) -> None:
    store = opening("one", claim_s=2.0)
    freeze(store)
    wait_until(lambda: not store._claim._is_fresh, "the claim to be old")
    before = store._claim._confirmed
    assert before is not None
    fill(store, 0)
    assert (store._claim._confirmed or 0) > before
    assert store.problem is None
    assert counted(store) == 10


def test_a_copy_of_a_folder_takes_the_database_and_the_first_is_told(opening: Open, tmp_path: Path) -> None:
    store = opening("one", claim_s=2.0)
    fill(store, 0)
    store.snapshot(tmp_path / "copy")
    copy = opening("copy", claim_s=2.0)

    def is_told() -> bool:
        with contextlib.suppress(StoreUnavailable):
            store.flush()
        return "taken over" in (store.problem or "")

    wait_until(is_told, "the first to notice")
    copy.flush()
    assert copy.problem is None


def test_of_services_that_start_at_once_one_has_the_database(opening: Open) -> None:
    gate, had, words = Barrier(4), [], []

    def start(number: int) -> None:
        gate.wait(60)
        try:
            had.append(opening(f"folder {number}"))
        except StoreError as error:
            words.append(str(error))

    threads = [Thread(target=start, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(had) == 1
    assert len(words) == 3
    assert all("is in use by" in one for one in words)
    fill(had[0], 0)
    assert counted(had[0]) == 10


def test_claims_are_new_points_each(opening: Open, influx: RunningInflux, database: str) -> None:
    store = opening("one", claim_s=6.0)

    def told() -> list[str]:
        found = influx.query('SELECT "phase" FROM "claim"', database)
        return [phase for series in found for _, phase in series["values"]]

    wait_until(lambda: len(told()) > 4, "heartbeats")
    store.close()
    phases = told()
    assert phases[0] == "asks"
    assert {*phases[:-1]} == {"asks", "has"}
    assert phases[-1] == "left"


def test_newer_generations_refuse_a_second_service_too(opening: Open, newer: InfluxProxy, database: str) -> None:
    newer.make(database)
    store = opening("one", newer.url, token="s3cret-t0ken")
    fill(store, 0)
    with pytest.raises(StoreError, match="is in use by the service on"):
        opening("two", newer.url, token="s3cret-t0ken")
    store.close()
    assert counted(opening("two", newer.url, token="s3cret-t0ken")) == 10


def test_a_database_that_is_dropped_is_noticed_and_told_again_what_is_known(
    opening: Open, influx: RunningInflux, database: str
) -> None:
    store = opening("one", claim_s=3.0)
    fill(store, 0)
    influx.query(f'DROP DATABASE "{database}"')
    wait_until(lambda: flushed(store) and "dropped or emptied" in (store.problem or ""), "the loss to be noticed")
    fill(store, 1)
    store.expire(time.time_ns() // 1_000_000)
    assert influx.query('SELECT "owner" FROM "state"', database)
    assert influx.query('SELECT "user" FROM "users"', database)
    assert "dropped or emptied" in (store.problem or "")


def flushed(store: InfluxStore) -> bool:
    """Whether it could be flushed now."""
    with contextlib.suppress(StoreUnavailable):
        store.flush()
        return True
    return False


def test_a_second_service_ends_and_one_that_lost_its_database_says_so(
    influx: RunningInflux, database: str, tmp_path: Path
) -> None:
    arguments = ("--store", influx.address(database), "--flush-interval", "0.3")
    with RunningService(tmp_path / "one", *arguments) as service, service.client() as client:
        assert post(client, small("one", T0)).status_code == 202
        assert "problem" not in client.get("/readyz").json()
        with RunningService(tmp_path / "two", *arguments) as second:
            assert second.process.wait(60) == 1
            assert "loadlens-service: error: influx://" in second.log
            assert "is in use by the service on" in second.log
            assert "Traceback" not in second.log
        # Another has it, as after a pause of this one.
        since = time.time_ns() // 1_000_000 + 1000
        influx.write(f'claim,owner=another phase="has",since={since}i,place="elsewhere"', database)
        wait_until(lambda: "taken over" in client.get("/readyz").json().get("problem", ""), "the loss to be noticed")
        before = influx.query('SELECT COUNT("cpuLoadAvg") FROM "measurements"', database)
        assert post(client, small("one", T0 + 1000)).status_code == 202
        wait_until(lambda: "cannot be flushed" in str(client.get("/readyz").json()["problems"]), "a flush to fail")
        assert influx.query('SELECT COUNT("cpuLoadAvg") FROM "measurements"', database) == before
        assert "Traceback" not in service.log
