"""What a store knows of the windows and users that it holds."""

import asyncio

import numpy as np
import pandas as pd

from contract.metrics import TYPES, Cpu, Memory, Metric
from contract.report import Report
from service.stores.base import Key, Store
from tests.service.stores.conftest import Filled
from tests.support.five_weeks import HOSTS, START_MS
from tests.support.recordings import Host, Recording
from tests.support.stores import Place


def keys_of(reports: list[Report]) -> set[Key]:
    return {Key(one.user_id, type(metric), one.end_timestamp) for one in reports for metric in one.metrics}


def known(store: Store, keys: set[Key]) -> set[Key]:
    return asyncio.run(store.known(keys))


def test_every_stored_window_is_known_and_no_other(filled: Filled) -> None:
    keys = keys_of(filled.recording.reports)
    others = {
        Key(user, kind, end + off)
        for user in (*(host.user_id for host in HOSTS), "nobody", "")
        for kind in TYPES
        for end in {key.end_ms for key in keys}
        for off in (-1, 0, 1)
    } - keys
    assert len(others) > 10_000
    assert known(filled.store, set()) == set()
    assert known(filled.store, keys) == keys
    assert known(filled.store, others) == set()
    assert known(filled.store, others | keys) == keys


def test_the_newest_window_of_each_stream_is_known(filled: Filled) -> None:
    newest: dict[tuple[str, type[Metric]], int] = {}
    for key in keys_of(filled.recording.reports):
        stream = (key.user_id, key.type)
        newest[stream] = max(newest.get(stream, 0), key.end_ms)
    assert filled.store.newest() == newest


def test_users_are_listed_by_name_with_what_they_said_last(filled: Filled) -> None:
    users = filled.store.users()
    assert users["user_id"].tolist() == sorted(host.user_id for host in HOSTS)
    for host in HOSTS:
        reports = [report for report in filled.recording.reports if report.user_id == host.user_id]
        row = users.set_index("user_id").loc[host.user_id]
        assert (row["os_type"], row["os_version"]) == (host.os_type, host.os_version)
        assert row["first_seen"] == pd.Timestamp(min(one.start_timestamp for one in reports), unit="ms", tz="UTC")
        assert row["last_seen"] == pd.Timestamp(max(one.end_timestamp for one in reports), unit="ms", tz="UTC")
        assert filled.store.has_user(host.user_id)
    assert not filled.store.has_user("nobody")


def test_a_user_has_the_cores_of_its_newest_cpu_report(place: Place) -> None:
    host, recording, half = Host("grown"), Recording(), np.array([0.5])
    recording.cpu(host, START_MS + 2000, half, [half] * 4)
    recording.cpu(host, START_MS + 1000, half, [half] * 2)  # late
    recording.other(host, START_MS + 3000, Memory, {"utilization": half})
    store = place.open()
    store.add(3, recording.reports)
    assert store.users()["cores"].tolist() == [4]
    store.close()
    store = place.open()
    assert store.users()["cores"].tolist() == [4]
    store.close()


def test_the_quantities_are_those_that_hosts_have_reported(filled: Filled) -> None:
    assert {*filled.store.quantities} == {window.quantity for window in filled.recording.windows}


def test_a_new_store_knows_nobody(place: Place) -> None:
    store = place.open()
    assert store.newest() == {}
    assert store.users().empty
    assert not store.full
    assert not store.compact()
    assert store.flushed == 0
    assert known(store, {Key("nobody", Cpu, START_MS)}) == set()
    store.close()


def test_flushed_is_the_offset_of_what_is_on_disk(place: Place) -> None:
    recording = Recording()
    for number in range(4):
        recording.cpu(Host("one"), START_MS + number, np.array([0.5]))
    store = place.open()
    store.add(2, recording.reports[:2])
    assert store.flushed == 0
    store.flush()
    assert store.flushed == 2
    store.add(4, recording.reports[2:])
    assert store.flushed == 2
    store = place.crash(store)
    assert store.flushed == 2
    store.add(4, recording.reports[2:])
    store.close()
    store = place.open()
    assert store.flushed == 4
    store.close()


def test_what_is_watched_has_names_explanations_and_values(filled: Filled) -> None:
    for name, text, value in filled.store.sizes():
        assert name.isidentifier()
        assert text.endswith(".")
        assert value >= 0
