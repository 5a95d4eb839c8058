"""Reports that are refused: each with a pointer to the wrong member, and what would be right."""

from typing import Any

import msgspec
import pytest

from contract.problems import Problem
from contract.report import FUTURE_MS
from contract.validation import InvalidReport, MalformedReport, parse
from tests.support.documents import NOW_MS, ORIGINAL, changed, full

USE = {"seconds": 60.0, "cores": 4, "busy_s": 10.0}
CPU, MEMORY, NETWORK = "/metrics/0", "/metrics/1", "/metrics/2"


def problems(body: bytes) -> tuple[Problem, ...]:
    """Why a body is refused."""
    with pytest.raises(InvalidReport) as error:
        parse(body, NOW_MS)
    return error.value.problems


def test_the_original_systems_report_is_valid() -> None:
    assert parse(ORIGINAL, NOW_MS).observations_per_metric == 100


def test_the_full_report_is_valid() -> None:
    assert len(parse(msgspec.json.encode(full()), NOW_MS).metrics) == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/user_id", "\u00e9-\u6f22 6a:d6"),
        ("/user_id", "x" * 128),
        ("/end_timestamp", NOW_MS + FUTURE_MS),
        ("/start_timestamp", 1531402665626),
        (f"{CPU}/avg_utilization_by_core", [0.25, 0.4]),
        (f"{CPU}/var_utilization", 0.25),
        (f"{CPU}/cores", []),
        (f"{CPU}/cores", [65_533, 0]),
        ("/processes", {"seconds": 60.0, "cores": 4, "busy_s": 240.1, "unseen_s": 240.1}),
        ("/processes", {"seconds": 0.001, "cores": 1, "busy_s": 0.3, "processes": [{"name": "x", "cpu_s": 0.301}]}),
        (f"{CPU}/var_utilization_by_core", []),
        (f"{NETWORK}/received_bytes/var", 1e20),
        (f"{CPU}/histogram", [-1, 2, 64, 2]),
        # As of agents that count exact zeros and ones with their neighbours.
        (f"{CPU}/histogram", [0, 2, 63, 2]),
    ],
)
def test_the_edge_of_what_is_right_is_accepted(path: str, value: object) -> None:
    parse(changed(path, value), NOW_MS)


def test_a_core_may_differ_from_the_whole() -> None:
    document = msgspec.json.decode(ORIGINAL)
    document["metrics"][0] |= {"avg_utilization": 1, "avg_utilization_by_core": [], "var_utilization_by_core": []}
    parse(msgspec.json.encode(document), NOW_MS)


@pytest.mark.parametrize(
    ("path", "value", "pointer", "right"),
    [
        # values outside [0, 1]
        (f"{CPU}/avg_utilization", 1.0000001, None, "<= 1.0"),
        (f"{CPU}/avg_utilization", -0.1, None, ">= 0.0"),
        (f"{CPU}/max_utilization", 1.5, None, "<= 1.0"),
        (f"{CPU}/min_utilization", -1, None, ">= 0.0"),
        (f"{CPU}/avg_utilization_by_core/1", 2, None, "<= 1.0"),
        (f"{MEMORY}/utilization", {"avg": 1.1}, f"{MEMORY}/utilization/avg", "share in [0, 1]"),
        (f"{MEMORY}/utilization/max", 1.1, None, "share in [0, 1]"),
        (f"{NETWORK}/sent_bytes/avg", -1, None, ">= 0.0"),
        # variance above 0.25 or below 0
        (f"{CPU}/var_utilization", 0.2501, None, "<= 0.25"),
        (f"{CPU}/var_utilization", -1e-8, None, ">= 0.0"),
        (f"{CPU}/var_utilization_by_core/0", 0.3, None, "<= 0.25"),
        (f"{MEMORY}/utilization/var", 0.26, None, "share in [0, 1]"),
        (f"{MEMORY}/utilization/var", -1, None, ">= 0.0"),
        # not numbers
        (f"{CPU}/avg_utilization", "0.5", None, "Expected float, got str"),
        (f"{CPU}/avg_utilization", None, None, "Expected float, got null"),
        # arrays of unequal length
        (f"{CPU}/var_utilization_by_core", [0.1], None, "expected 2 entries"),
        (f"{CPU}/min_utilization_by_core", [0.1] * 3, None, "expected 2 entries"),
        (f"{CPU}/max_utilization_by_core", [0.1] * 3, None, "expected 2 entries"),
        (f"{CPU}/histogram_by_core", [[6, 4]], None, "expected 2 entries"),
        (f"{CPU}/cores", [0], None, "expected 2 entries"),
        (f"{CPU}/cores", [1, 1], None, "expected each core once"),
        # these stand for the idlest and the busiest core of the original system
        (f"{CPU}/cores", [0, 65_534], None, "expected numbers from 0 to 65533, got 65534"),
        (f"{CPU}/cores", [65_535, 1], None, "expected numbers from 0 to 65533, got 65535"),
        # who used more than there was
        ("/processes", {"seconds": 60.0, "cores": 4, "busy_s": 1e6}, "/processes/busy_s", "expected at most 268 s"),
        ("/processes", USE | {"unseen_s": 11.0}, "/processes/unseen_s", "expected at most busy_s 10 s, got 11"),
        ("/processes", USE | {"processes_beyond_s": 11.0}, "/processes/processes_beyond_s", "at most busy_s 10 s"),
        ("/processes", USE | {"units": [{"name": "a", "cpu_s": 6.0}] * 2}, "/processes/units", "in all, got 12"),
        # what is kept of each agent is little
        ("/agent/settings", {"a": "x" * 65}, None, "length <= 64"),
        ("/agent/settings", {"x" * 65: 1}, None, "length <= 64"),
        ("/agent/settings", {str(number): 1 for number in range(33)}, None, "length <= 32"),
        ("/agent/settings", {"metrics": ["cpu"] * 65}, None, "length <= 64"),
        ("/agent/spooled", 2**70, None, "<= 9007199254740992"),
        ("/agent/resident_bytes", 10**400, None, "<= 9007199254740992"),
        ("/agent/cpu_seconds", 1e300, None, "<= 1000000000000.0"),
        # times
        ("/end_timestamp", 1531402660604, None, "expected a moment from start_timestamp"),
        ("/end_timestamp", NOW_MS + FUTURE_MS + 1, None, "at most 300 s in the future"),
        ("/start_timestamp", 1531402660, None, "expected epoch milliseconds such as 1531402660000"),
        ("/start_timestamp", -1, None, ">= 0"),
        ("/end_timestamp", "2018-07-12T13:37:45Z", None, "Expected int, got str"),
        ("/end_timestamp", 10**15, None, "<= 253402300799999"),
        # user ids
        ("/user_id", "", None, "length >= 1"),
        ("/user_id", "x" * 129, None, "length <= 128"),
        ("/user_id", "a\nb", None, "expected printable characters"),
        ("/user_id", "a\u0000b", None, "expected printable characters"),
        ("/user_id", "a\u202eb", None, "expected printable characters"),
        ("/os_version", "\u001b[31mred", None, "expected printable characters"),
        ("/os_version", "x" * 257, None, "length <= 256"),
        # types
        (f"{CPU}/type", "GPU", None, "NETWORK, LOAD, TIMES, SCHEDULER, PRESSURE, BURSTS, LIMITS"),
        ("/os_type", "linux", None, "expected Linux, MacOS or Windows"),
        ("/metrics", [], None, "length >= 1"),
        ("/metrics", [{"avg_utilization": 0.1}], f"{CPU}", "expected one of CPU"),
        ("/metrics", [{"type": "CPU", "avg_utilization": 0.1}] * 2, None, "expected each metric type at most once"),
        ("/observations_per_metric", 0, None, ">= 1"),
        ("/agent/settings", {"samples": None}, None, "Expected bool"),
        # extremes and histograms that contradict the mean and the count
        (f"{CPU}/min_utilization", 0.26, None, "expected at most the mean"),
        (f"{CPU}/max_utilization", 0.24, None, "expected at least the mean"),
        (f"{CPU}/min_utilization_by_core", [0.1, 0.3], f"{CPU}/min_utilization_by_core/1", "expected at most the mean"),
        (f"{CPU}/histogram", [6, 3], None, "expected counts of 4 samples"),
        (f"{CPU}/histogram", [], None, "expected counts of 4 samples"),
        (f"{CPU}/histogram", [6, 4, 7], None, "expected pairs of bin and count"),
        (f"{CPU}/histogram", [6, 5, 7, -1], None, "expected counts of at least 1"),
        (f"{CPU}/histogram", [6, 4, 7, 0], None, "expected counts of at least 1"),
        (f"{CPU}/histogram", [7, 2, 6, 2], None, "ascending order"),
        (f"{CPU}/histogram", [6, 2, 6, 2], None, "ascending order"),
        (f"{CPU}/histogram", [65, 4], None, "expected bins from -1 to 64"),
        (f"{CPU}/histogram", [-2, 4], None, "expected bins from -1 to 64"),
        (f"{CPU}/histogram_by_core", [[6, 4], [65, 4]], f"{CPU}/histogram_by_core/1", "expected bins from -1 to 64"),
        (f"{NETWORK}/sent_bytes/histogram", [-347, 3], None, "expected bins from"),
        (f"{NETWORK}/sent_bytes/histogram", [0, 4], None, "expected counts of 3 samples"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_refused_with_what_is_right(
    path: str, value: object, pointer: str | None, right: str
) -> None:
    [problem] = problems(changed(path, value))
    assert problem.pointer == (path if pointer is None else pointer)
    assert right in problem.detail


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_what_is_not_a_finite_number_is_refused(number: bytes) -> None:
    body = changed(f"{CPU}/avg_utilization", 0.123).replace(b"0.123", number)
    assert problems(body)


@pytest.mark.parametrize(
    "member", ["user_id", "start_timestamp", "end_timestamp", "observations_per_metric", "metrics"]
)
def test_a_missing_member_is_named(member: str) -> None:
    document = full()
    del document[member]
    [problem] = problems(msgspec.json.encode(document))
    assert f"missing required field {member}" in problem.detail


def test_disagreements_are_all_named() -> None:
    document: dict[str, Any] = full()
    document["user_id"] = "\t"
    document["start_timestamp"] = document["end_timestamp"] + 1
    document["metrics"][0]["max_utilization"] = 0.1
    pointers = [problem.pointer for problem in problems(msgspec.json.encode(document))]
    assert pointers == ["/end_timestamp", "/user_id", f"{CPU}/max_utilization"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", ORIGINAL[:-2]])
def test_what_is_not_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReport):
        parse(body, NOW_MS)


@pytest.mark.parametrize("body", [b"[]", b"null", b"3", b'"report"'])
def test_json_that_is_no_object_is_invalid(body: bytes) -> None:
    [problem] = problems(body)
    assert problem.pointer == ""
    assert "Expected object" in problem.detail
