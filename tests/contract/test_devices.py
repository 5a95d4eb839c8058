"""Names of devices: their numbers follow from them, and reports with wrong ones are refused by member."""

import json
from typing import Any

import pytest

from contract.devices import FIRST_NUMBER, LAST_NUMBER, LISTED, MAX_DEVICES, MAX_NAME, Names, both, with_names
from contract.metrics import LAST_CORE, MAX_CORES
from contract.validation import InvalidReport, accepted
from tests.support.reports import as_json, small

NOW_MS = 1_700_000_000_000


def test_numbers_follow_from_names_in_any_order_and_are_apart_from_cores() -> None:
    one = with_names(with_names({}, "DISKS", ["sda", "sdb"]), "INTERFACES", ["eth0"])
    other = with_names(with_names({}, "INTERFACES", ["eth0"]), "DISKS", ["sdb", "sda"])
    assert one == other
    assert MAX_CORES < FIRST_NUMBER < LAST_NUMBER == LAST_CORE
    assert all(FIRST_NUMBER <= number <= LAST_NUMBER for numbers in one.values() for number in numbers.values())
    assert Names(one["DISKS"])[one["DISKS"]["sdb"]] == "sdb"
    assert Names({})[9000] == "#9000"


def test_names_that_meet_in_one_number_have_two() -> None:
    # 57,342 numbers: among a thousand names some meet.
    by_number: dict[int, str] = {}
    pair = None
    for place in range(5000):
        (number,) = with_names({}, "DISKS", [f"d{place}"])["DISKS"].values()
        if number in by_number:
            pair = by_number[number], f"d{place}"
            break
        by_number[number] = f"d{place}"
    assert pair is not None
    first, second = with_names({}, "DISKS", pair)["DISKS"].values()
    assert second - first in (1, FIRST_NUMBER - LAST_NUMBER)


def test_what_is_known_has_a_bound_and_is_not_changed() -> None:
    known = with_names({}, "DISKS", [f"d{place}" for place in range(MAX_DEVICES + 5)])
    assert len(known["DISKS"]) == MAX_DEVICES
    before = dict(known["DISKS"])
    assert with_names(known, "DISKS", ["d0", "another"]) == known
    assert with_names(known, "DISKS", ["d0"]) is known
    assert known["DISKS"] == before
    assert both({"DISKS": {"a": 1}}, {"DISKS": {"a": 2, "b": 3}, "X": {"c": 4}}) == {
        "DISKS": {"a": 1, "b": 3},
        "X": {"c": 4},
    }


def disks(**changed: Any) -> bytes:
    told = {"avg": 0.5}
    metric = {
        "type": "DISKS", "busy": told, "read_bytes": told, "written_bytes": told, "devices": ["sda", "sdb"],
        "busy_by_device": [0.5, 0.25], "read_bytes_by_device": [1, 2], "written_bytes_by_device": [3, 4],
    }  # fmt: skip
    report = json.loads(as_json(small("a", NOW_MS)))
    return json.dumps({**report, "metrics": [metric | changed]}).encode()


def test_devices_that_agree_are_taken_and_shares_are_clipped_by_rounding_alone() -> None:
    assert accepted(disks(), NOW_MS)
    report, _ = accepted(disks(busy_by_device=[1.0000000000000002, -1e-17]), NOW_MS)
    (metric,) = report.metrics
    assert metric.busy_by_device == [1.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"devices": ["sda"]}, "/metrics/0/busy_by_device"),
        ({"written_bytes_by_device": [1]}, "/metrics/0/written_bytes_by_device"),
        ({"devices": ["sda", "sda"]}, "/metrics/0/devices"),
        ({"devices": ["sda", "\x1b[31m"]}, "/metrics/0/devices/1"),
        ({"devices": ["sda", "\u202esda"]}, "/metrics/0/devices/1"),
        ({"devices": ["sda", ""]}, "/metrics/0/devices/1"),
        ({"devices": ["sda", "x" * (MAX_NAME + 1)]}, "/metrics/0/devices/1"),
        ({"devices": [f"d{place}" for place in range(LISTED + 1)]}, "/metrics/0/devices"),
        ({"busy_by_device": [0.5, 1.5]}, "/metrics/0/busy_by_device/1"),
        ({"read_bytes_by_device": [0.5, -1.0]}, "/metrics/0/read_bytes_by_device/1"),
        ({"read_bytes_by_device": [0.5, 1e19]}, "/metrics/0/read_bytes_by_device/1"),
    ],
)
def test_what_cannot_be_is_refused_by_member(changed: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidReport) as refused:
        accepted(disks(**changed), NOW_MS)
    assert pointer in [problem.pointer for problem in refused.value.problems]
