"""Numbers that rounding has carried out of their range by less than 1e-9 are brought back, not refused."""

from typing import Any

import msgspec
import pytest

from contract.metrics import Bursts
from contract.report import Report, decode_report
from contract.validation import InvalidReport, accepted, check
from tests.support.documents import NOW_MS, changed, full

CPU, MEMORY, NETWORK = "/metrics/0", "/metrics/1", "/metrics/2"
ABOVE, BELOW = 1.0000000000000002, -1e-17


def member(report: Report, path: str) -> Any:
    """The member of a report at a JSON pointer, as JSON has it."""
    place: Any = msgspec.to_builtins(report)
    for name in path.removeprefix("/").split("/"):
        place = place[int(name)] if isinstance(place, list) else place.get(name, 0.0)
    return place


@pytest.mark.parametrize(
    ("path", "value", "clipped"),
    [
        (f"{CPU}/avg_utilization", ABOVE, 1.0),
        (f"{CPU}/avg_utilization", BELOW, 0.0),
        (f"{CPU}/avg_utilization", 1.0 + 9e-10, 1.0),
        (f"{CPU}/var_utilization", BELOW, 0.0),
        (f"{CPU}/var_utilization", 0.25000000000000006, 0.25),
        (f"{CPU}/min_utilization", BELOW, 0.0),
        (f"{CPU}/max_utilization", ABOVE, 1.0),
        (f"{CPU}/avg_utilization_by_core/1", ABOVE, 1.0),
        (f"{CPU}/avg_utilization_by_core/0", BELOW, 0.0),
        (f"{CPU}/var_utilization_by_core/1", BELOW, 0.0),
        (f"{CPU}/var_utilization_by_core/1", 0.2500000000000001, 0.25),
        (f"{CPU}/min_utilization_by_core/1", BELOW, 0.0),
        (f"{CPU}/max_utilization_by_core/1", ABOVE, 1.0),
        (f"{MEMORY}/utilization/avg", ABOVE, 1.0),
        (f"{MEMORY}/utilization/avg", BELOW, 0.0),
        (f"{MEMORY}/utilization/var", BELOW, 0.0),
        (f"{MEMORY}/utilization/var", 0.25 + 1e-10, 0.25),
        (f"{MEMORY}/utilization/max", ABOVE, 1.0),
        (f"{MEMORY}/utilization/min", BELOW, 0.0),
        (f"{NETWORK}/sent_bytes/avg", BELOW, 0.0),
        (f"{NETWORK}/received_bytes/min", BELOW, 0.0),
        # The variance of a mean of 1000, as a difference of squares gives it.
        (f"{NETWORK}/received_bytes/var", -1e-10, 0.0),
        (f"{NETWORK}/received_bytes/var", -1e-4, 0.0),
    ],
)
def test_rounding_is_clipped(path: str, value: float, clipped: float) -> None:
    document = full()
    # The mean must go with the extremes and bins that are tested.
    for metric, name in ((0, "avg_utilization"), (1, "utilization")):
        values = document["metrics"][metric]
        for one in [values] if metric == 0 else [values[name]]:
            for extra in ("min", "max", "histogram"):
                for key in [key for key in one if key.startswith(extra)]:
                    del one[key]
    body = placed(document, path, value)
    report, text = accepted(body, NOW_MS)
    assert member(report, path) == clipped
    assert list(check(report, NOW_MS)) == []
    # What is kept is what was understood, so that it is read again without being clipped.
    assert decode_report(text) == report


@pytest.mark.parametrize(
    ("path", "value", "clipped"),
    [
        ("saturated_by_core", ABOVE, 1.0),
        ("saturated_by_core", BELOW, 0.0),
        ("longest_by_core", BELOW, 0.0),
        ("begun_by_core", BELOW, 0.0),
    ],
)
def test_rounding_of_bursts_of_cores_is_clipped(path: str, value: float, clipped: float) -> None:
    whole = {quantity.attribute: {"avg": 0.5, "var": 0.0} for quantity in Bursts.quantities}
    cores = {f"{quantity.attribute}_by_core": [0.5, 0.5] for quantity in Bursts.of_cores}
    bursts = {"type": "BURSTS", **whole, **cores, path: [0.5, value]}
    report, _ = accepted(msgspec.json.encode(full() | {"metrics": [bursts]}), NOW_MS)
    assert member(report, f"/metrics/0/{path}") == [0.5, clipped]


def placed(document: dict[str, Any], path: str, value: float) -> bytes:
    *parents, last = path.removeprefix("/").split("/")
    place: Any = document
    for name in parents:
        key = int(name) if isinstance(place, list) else name
        if not isinstance(place, list) and key not in place:
            place[key] = [0.25, 0.25]
        place = place[key]
    place[int(last) if isinstance(place, list) else last] = value
    if (last == "min" and value < 0) or last == "max":
        place["avg"] = min(max(value, 0.0), 1.0)
    return msgspec.json.encode(document)


def test_a_report_without_rounding_is_kept_as_it_came() -> None:
    body = msgspec.json.encode(full() | {"colour": "red"})
    report, text = accepted(body, NOW_MS)
    assert text is body
    assert report == decode_report(body)


def test_unknown_members_stay_in_a_report_that_was_clipped() -> None:
    document = full() | {"colour": "red"}
    document["metrics"][0]["var_utilization"] = BELOW
    _, text = accepted(msgspec.json.encode(document), NOW_MS)
    assert msgspec.json.decode(text)["colour"] == "red"
    assert msgspec.json.decode(text)["metrics"][0]["var_utilization"] == 0.0


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{CPU}/avg_utilization", 1.0 + 2e-9),
        (f"{CPU}/avg_utilization", -2e-9),
        (f"{CPU}/var_utilization", 0.25 + 2e-9),
        (f"{CPU}/var_utilization_by_core/0", -2e-9),
        (f"{MEMORY}/utilization/avg", 1.0 + 2e-9),
        (f"{NETWORK}/received_bytes/var", -1.0),
        (f"{CPU}/avg_utilization", True),
    ],
)
def test_more_than_rounding_is_refused_as_ever(path: str, value: object) -> None:
    with pytest.raises(InvalidReport) as error:
        accepted(changed(path, value), NOW_MS)
    assert error.value.problems[0].pointer == path


def test_rounding_is_not_named_where_something_else_is_wrong() -> None:
    document = full()
    document["metrics"][0]["var_utilization"] = BELOW
    document["user_id"] = "\t"
    with pytest.raises(InvalidReport) as error:
        accepted(msgspec.json.encode(document), NOW_MS)
    assert [problem.pointer for problem in error.value.problems] == ["/user_id"]


@pytest.mark.parametrize(("name", "value"), [("min", 0.25 + 1e-12), ("max", 0.25 - 1e-12)])
def test_an_extreme_may_miss_the_mean_by_rounding(name: str, value: float) -> None:
    accepted(changed(f"{CPU}/{name}_utilization", value), NOW_MS)
