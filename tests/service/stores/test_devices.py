"""Disks and interfaces by name: kept, answered and given again by every store, and bounded."""

from typing import Literal

import pytest
from msgspec.structs import replace

from contract.devices import LISTED, MAX_DEVICES, with_names
from contract.metrics import QUANTITIES, Disks, Interfaces, type_name
from contract.report import Report
from service.stores.base import Host, Question, Store
from tests.support.devices import START_MS, disks, interfaces, report
from tests.support.stores import Place

END_MS = START_MS + 60_000


def values(store: Store, name: str, device: str, rate_ms: int = 60_000) -> dict[str, float]:
    """The mean of a device, of each, or of the whole, in the only bucket."""
    of = {number: name for name, number in store.devices_of("a").get(name_of_type(name), {}).items()}
    special: dict[str, Literal["each", "whole"]] = {"each": "each", "whole": "whole"}
    core = special.get(device) or store.devices_of("a")[name_of_type(name)][device]
    found = store.answer(Question(QUANTITIES[name], START_MS, END_MS, rate_ms, "a", core, histograms=True))
    numbers = found["core"].tolist() if "core" in found else [None] * len(found)
    return {of.get(one, ""): pytest.approx(mean) for one, mean in zip(numbers, found["mean"].tolist(), strict=True)}


def name_of_type(quantity: str) -> str:
    return type_name(Disks if quantity.startswith("disks") else Interfaces)


WINDOWS = [
    report(1, disks(sda=0.25, sdb=0.5), interfaces(eth0=100.0)),
    report(2, disks(sda=0.75), interfaces(eth0=300.0)),
    report(3, disks(sdb=0.25, sda=0.5), interfaces(eth0=200.0, wlan0=7.0)),
]


@pytest.mark.parametrize("state", ["in memory", "on disk", "reopened", "crashed"])
def test_each_device_has_its_own_numbers(place: Place, state: str) -> None:
    store = place.open()
    for number, one in enumerate(WINDOWS):
        store.add(number + 1, [one])
        if number == 1 and state != "in memory":
            store.flush()
    if state == "on disk":
        store.flush()
    if state == "reopened":
        store.close()
        store = place.open()
    if state == "crashed":
        store.flush()
        store = place.crash(store)
    for rate_ms in (60_000, 300_000):
        assert values(store, "disks.busy", "each", rate_ms) == {"sda": 0.5, "sdb": 0.375}
    assert values(store, "disks.written_bytes", "sda") == {"sda": 10.0}
    assert values(store, "disks.busy", "whole") == {"": (0.5 + 0.75 + 0.5) / 3}
    assert values(store, "interfaces.received_bytes", "each") == {"eth0": 200.0, "wlan0": 7.0}
    assert values(store, "interfaces.sent_bytes", "wlan0") == {"wlan0": 21.0}
    assert store.users()["cores"].tolist() == [len(WINDOWS[0].metrics[0].avg_utilization_by_core)]
    store.close()


def sorted_devices(one: Report) -> Report:
    """The report with its devices by name; a store gives them in an order of its own."""
    metrics = []
    for metric in one.metrics:
        names = metric.device_names()
        metrics.append(metric.of_some_devices(sorted(range(len(names)), key=names.__getitem__)) if names else metric)
    return replace(one, metrics=metrics)


def test_windows_come_back_as_they_were_reported(place: Place) -> None:
    store = place.open()
    store.add(1, WINDOWS)
    store.flush()
    store.close()
    store = place.open()
    again = [sorted_devices(one) for page in store.reports(["a"], START_MS, END_MS) for one in page]
    assert [one.metrics[1:] for one in again] == [sorted_devices(one).metrics[1:] for one in WINDOWS]
    store.close()


def test_names_have_a_bound_and_what_is_beyond_is_left_out(place: Place) -> None:
    store = place.open()
    for number in range(MAX_DEVICES // LISTED + 3):
        names = [f"d{number}-{place}" for place in range(LISTED)]
        store.add(number + 1, [report(number + 1, disks(**dict.fromkeys(names, 0.5)))])
        store.flush()
    # A name that is known goes on to be heard beside ones that are too many.
    store.add(20, [report(9, disks(**{"d0-0": 1.0, "new": 1.0}))])
    store.flush()
    store.close()
    store = place.open()
    known = store.devices_of("a")["DISKS"]
    assert len({*known.values()}) == len(known) == MAX_DEVICES
    assert len(store.cores("a", QUANTITIES["disks.busy"])) == MAX_DEVICES
    assert values(store, "disks.busy", "d0-0") == {"d0-0": 0.75}
    assert "new" not in known
    store.close()


def test_series_of_devices_count_where_series_are_bounded(place: Place) -> None:
    store = place.open()
    named = {("disks.busy", number) for number in with_names({}, "DISKS", ["sda", "sdb"])["DISKS"].values()}
    assert named <= {*store.lacking(WINDOWS[0])}
    store.add(1, [WINDOWS[0]])
    assert store.lacking(WINDOWS[0]) == []
    assert [name for name, _ in store.lacking(WINDOWS[2])] == ["interfaces.received_bytes", "interfaces.sent_bytes"]
    assert store.devices_of("a")["INTERFACES"].keys() == {"eth0"}
    store.close()


def test_a_host_that_is_forgotten_begins_without_names(place: Place) -> None:
    store = place.open()
    store.add(1, [WINDOWS[0]])
    store.flush()
    store.forget("a")
    assert store.devices_of("a") == {}
    store.add(2, [report(4, disks(sdc=0.5))])
    assert {*store.devices_of("a")["DISKS"]} == {"sdc"}
    assert values(store, "disks.busy", "each") == {"sdc": 0.5}
    store.close()


def test_rollups_that_another_store_made_come_to_the_same_names(place: Place) -> None:
    store = place.open()
    store.add(1, WINDOWS)
    store.flush()
    tier_ms, last_ms = store.tiers[0], START_MS + store.tiers[0]
    buckets = store.rollups(tier_ms, ["a"], START_MS, last_ms)
    known = store.devices_of("a")["DISKS"]
    # There sda met another name in its number.
    other = next(number for number in range(known["sda"], known["sda"] + 3) if number not in known.values())
    is_sda = {("disks", known["sda"]): other}
    names = [
        one._replace(user_id="b", core=is_sda.get((one.quantity.name[:5], one.core or 0), one.core))
        for one in buckets.names
    ]
    store.add(2, [report(400, disks(sda=1.0), user="b")])
    store.flush()
    devices = {**store.devices_of("a"), "DISKS": known | {"sda": other}}
    store.add_rollups(buckets._replace(names=names), [Host("b", "Linux", "12", 1, START_MS, last_ms, devices=devices)])
    assert store.devices_of("b")["DISKS"] == known
    question = Question(QUANTITIES["disks.busy"], START_MS, last_ms, tier_ms, "b", known["sda"])
    assert store.answer(question)["mean"].tolist() == [pytest.approx(0.5)]
    store.close()
