"""What is refused: each with the wrong member and what would be right, and nothing of it stored."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from contract import times
from tests.support.agent_states import state as agents_state
from tests.support.reports import END_MS, METRICS, JsonObject, as_json, entries, history, original, post, small

pytestmark = pytest.mark.server


@pytest.fixture
def client(either_way: httpx.Client) -> httpx.Client:
    """Refusals are the same whichever way a report takes."""
    return either_way


CPU = "/metrics/0"


def cpu(**members: Any) -> Callable[[JsonObject], None]:
    """Changes members of the CPU metric."""
    return lambda report: report["metrics"][0].update(members)


def top(**members: Any) -> Callable[[JsonObject], None]:
    """Changes members of the report."""
    return lambda report: report.update(members)


def without(name: str) -> Callable[[JsonObject], None]:
    return lambda report: report.pop(name)


def in_future(ms: int) -> Callable[[JsonObject], None]:
    return lambda report: report.update(end_timestamp=times.now_ms() + ms)


REFUSED: dict[str, tuple[Callable[[JsonObject], None], str, str]] = {
    "mean above 1": (cpu(avg_utilization=1.5), f"{CPU}/avg_utilization", "<= 1.0"),
    "mean below 0": (cpu(avg_utilization=-0.1), f"{CPU}/avg_utilization", ">= 0.0"),
    "mean of a core above 1": (
        cpu(avg_utilization_by_core=[0.1, 1.01, 0.1]), f"{CPU}/avg_utilization_by_core/1", "<= 1.0",
    ),
    "variance above 0.25": (cpu(var_utilization=0.26), f"{CPU}/var_utilization", "<= 0.25"),
    "variance below 0": (cpu(var_utilization=-0.01), f"{CPU}/var_utilization", ">= 0.0"),
    "variance of a core above 0.25": (
        cpu(var_utilization_by_core=[0.1, 0.1, 0.3]), f"{CPU}/var_utilization_by_core/2", "<= 0.25",
    ),
    "minimum above the mean": (cpu(min_utilization=0.3), f"{CPU}/min_utilization", "at most the mean"),
    "maximum below the mean": (cpu(max_utilization=0.1), f"{CPU}/max_utilization", "at least the mean"),
    "variances of fewer cores": (cpu(var_utilization_by_core=[0.1]), f"{CPU}/var_utilization_by_core", "expected 3"),
    "histograms of fewer cores": (cpu(histogram_by_core=[[0, 100]]), f"{CPU}/histogram_by_core", "expected 3 entries"),
    "numbers of fewer cores": (cpu(cores=[0, 1]), f"{CPU}/cores", "expected 3 entries"),
    "a core twice": (cpu(cores=[0, 1, 1]), f"{CPU}/cores", "twice"),
    "histogram of too many samples": (cpu(histogram=[3, 101]), f"{CPU}/histogram", "expected counts of 100 samples"),
    "histogram with a bin too high": (cpu(histogram=[65, 100]), f"{CPU}/histogram", "-1 to 64"),
    "histogram out of order": (cpu(histogram=[5, 50, 3, 50]), f"{CPU}/histogram", "ascending"),
    "histogram without a count": (cpu(histogram=[3]), f"{CPU}/histogram", "pairs"),
    "empty histogram": (cpu(histogram=[]), f"{CPU}/histogram", "expected counts of 100 samples"),
    "negative counts that add up": (cpu(histogram=[3, -1, 4, 101]), f"{CPU}/histogram", "got -1"),
    "end before start": (top(start_timestamp=END_MS + 1), "/end_timestamp", "from start_timestamp"),
    "end in the future": (in_future(360_000), "/end_timestamp", "in the future"),
    "timestamps in seconds": (
        top(start_timestamp=1531402660, end_timestamp=1531402665), "/start_timestamp", "looks like seconds",
    ),
    "negative timestamp": (top(start_timestamp=-1), "/start_timestamp", ">= 0"),
    "timestamp as text": (top(end_timestamp="2018-07-12T13:37:45Z"), "/end_timestamp", "Expected int"),
    "fraction of a millisecond": (top(end_timestamp=END_MS + 0.5), "/end_timestamp", "Expected int"),
    "empty user": (top(user_id=""), "/user_id", "length >= 1"),
    "user of 129 characters": (top(user_id="u" * 129), "/user_id", "length <= 128"),
    "user with a line feed": (top(user_id="a\nb"), "/user_id", "control"),
    "user with a null": (top(user_id="a\0b"), "/user_id", "control"),
    "user with an invisible direction": (top(user_id="a\u202eb"), "/user_id", "control"),
    "user as a number": (top(user_id=7), "/user_id", "Expected str"),
    "no observations": (top(observations_per_metric=0), "/observations_per_metric", ">= 1"),
    "fraction of an observation": (top(observations_per_metric=1.5), "/observations_per_metric", "Expected int"),
    "unknown system": (top(os_type="linux"), "/os_type", "Linux, MacOS or Windows"),
    "unknown metric type": (cpu(type="GPU"), f"{CPU}/type", "CPU, MEMORY"),
    "no metric type": (lambda report: report["metrics"][0].pop("type"), CPU, "CPU, MEMORY"),
    "no metrics": (top(metrics=[]), "/metrics", "length >= 1"),
    "a metric type twice": (lambda report: report["metrics"].append(report["metrics"][0]), "/metrics", "twice"),
    "no user": (without("user_id"), "", "user_id"),
    "no end": (without("end_timestamp"), "", "end_timestamp"),
    "a share of memory above 1": (
        top(metrics=[{"type": "MEMORY", "utilization": {"avg": 1.5}}]), f"{CPU}/utilization/avg", "share in [0, 1]",
    ),
    "negative bytes": (
        top(metrics=[{"type": "NETWORK", "received_bytes": {"avg": -1}, "sent_bytes": {"avg": 1}}]),
        f"{CPU}/received_bytes/avg", ">= 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_wrong_report_is_refused_with_the_member_and_what_would_be_right(
    client: httpx.Client, user: str, fault: str
) -> None:
    change, pointer, right = REFUSED[fault]
    report = original(user)
    change(report)
    users = client.get("/api/v1/users").json()
    answer = post(client, report)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["title"]
    assert problem["detail"]
    told = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert pointer in told
    assert right in told[pointer]
    assert client.get("/api/v1/users").json() == users
    assert history(client, user).status_code == 404


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "0x1", ".5", "1."])
def test_numbers_that_json_does_not_have_are_refused(client: httpx.Client, user: str, number: str) -> None:
    body = as_json(original(user)).replace(b"0.2148631642976225", number.encode())
    answer = client.post(METRICS, content=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert history(client, user).status_code == 404


def test_several_faults_are_all_told(client: httpx.Client, user: str) -> None:
    report = original(user, start_timestamp=END_MS + 10, end_timestamp=1531402665)
    answer = post(client, report).json()
    assert [error["pointer"] for error in answer["errors"]] == ["/end_timestamp", "/end_timestamp"]


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"null", b"7", b'"text"', b"{}", b"\xff\xfe", b"\xef\xbb\xbf{}", b"[", b"[1,"]
)
def test_what_is_no_report_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post(METRICS, content=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"metrics":' + b"[" * 100_000])
def test_what_is_nested_without_end_is_refused(client: httpx.Client, body: bytes) -> None:
    assert client.post(METRICS, content=body).status_code in (400, 422)


def test_a_clock_five_minutes_ahead_is_accepted(client: httpx.Client, user: str) -> None:
    report = original(user)
    in_future(240_000)(report)
    assert post(client, report).status_code == 202


def test_the_largest_and_smallest_values_are_accepted_and_answered(client: httpx.Client, user: str) -> None:
    many, few = 2**40, 1
    for mean, observations, end in ((0.0, few, END_MS), (1.0, many, END_MS + 1), (0.5, few, END_MS + 2)):
        report = small(user, end, mean, observations)
        report["metrics"][0] |= {
            "min_utilization": 0,
            "max_utilization": 1,
            "var_utilization": 0.25 if mean == 0.5 else 0,
        }
        assert post(client, report).status_code == 202
    assert [value for _, value in entries(history(client, user, stat="count"))] == [many + 2 * few]
    assert [value for _, value in entries(history(client, user, stat="mean"))] == pytest.approx([1.0], abs=1e-11)
    huge = {"type": "NETWORK", "received_bytes": {"avg": 1e18, "max": 1e18}, "sent_bytes": {"avg": 0}}
    assert post(client, original(user, metrics=[huge])).status_code == 202
    assert [value for _, value in entries(history(client, user, "networkReceivedBytes"))] == [1e18]
    assert [value for _, value in entries(history(client, user, "networkReceivedBytes", stat="max"))] == [1e18]


def test_user_ids_have_up_to_128_characters_of_any_script(client: httpx.Client) -> None:
    name = "\u00fc\u4e2d\U0001f5a5" * 42 + "ab"
    assert len(name) == 128
    assert post(client, original(name)).status_code == 202
    assert len(entries(history(client, name))) == 1


# Batches


def test_bytes_that_are_no_utf8_are_refused_wherever_json_is_taken(client: httpx.Client, user: str) -> None:
    body = as_json(small(user, END_MS)).replace(user.encode(), b"\xff")
    state = json.dumps({"os_version": "\xff", "os_type": "Linux"}, ensure_ascii=False).encode("latin-1")
    outcome = json.dumps(
        agents_state(outcomes=[{"id": "x", "status": "done", "document": ["\xff"]}]), ensure_ascii=False
    )
    answers = [
        client.post(METRICS, content=body),
        client.post(f"/api/v1/agents/{user}/state", content=outcome.encode("latin-1")),
        client.post(f"/api/v1/agents/{user}/state", content=state),
        client.post("/api/v1/silences", content=state, headers={"Content-Type": "application/json"}),
        client.put("/api/v1/rules/x", content=state, headers={"Content-Type": "application/json", "If-Match": "*"}),
        client.request("GET", "/api/v1/metrics/cpuLoadAvg/fleet", content=b'{"start": "\xff"}'),
    ]
    for answer in answers:
        assert (answer.status_code, "UTF-8" in answer.json()["detail"]) == (400, True), answer.text


@pytest.mark.parametrize(("lead", "between", "end"), [(b"[", b",", b"]"), (b"", b"\n", b"")])
def test_a_report_that_is_no_utf8_takes_none_of_its_batch_with_it(
    client: httpx.Client, user: str, lead: bytes, between: bytes, end: bytes
) -> None:
    bodies = [as_json(small(user, END_MS + number)) for number in range(3)]
    bodies[1] = bodies[1].replace(user.encode(), b"\xff")
    answer = client.post(METRICS, content=lead + between.join(bodies) + end)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [1]


def test_a_batch_keeps_the_good_reports_and_names_the_bad_ones_by_index(client: httpx.Client, user: str) -> None:
    good = [small(user, END_MS + number) for number in range(4)]
    bad = small(user, END_MS + 10, mean=2.0)
    worse = small(user, 1531402665)
    answer = post(client, good[0], bad, good[1], good[2], worse, good[3])
    assert answer.status_code == 202
    document = answer.json()
    assert (document["accepted"], document["duplicates"]) == (4, 0)
    assert [rejected["index"] for rejected in document["rejected"]] == [1, 4]
    assert document["rejected"][0]["problems"][0]["pointer"] == "/metrics/0/avg_utilization"
    assert "seconds" in document["rejected"][1]["problems"][0]["detail"]
    assert [value for _, value in entries(history(client, user, stat="count"))] == [4]


def test_bad_lines_of_ndjson_are_named_by_their_place_among_the_lines_with_content(
    client: httpx.Client, user: str
) -> None:
    lines = [as_json(small(user, END_MS)), b"", b"{not json", b"  ", as_json(small(user, END_MS + 1, mean=7.0)), b""]
    answer = client.post(METRICS, content=b"\r\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 202
    document = answer.json()
    assert (document["accepted"], document["duplicates"]) == (1, 0)
    assert [rejected["index"] for rejected in document["rejected"]] == [1, 2]


@pytest.mark.parametrize(
    "first", [b"{not json", as_json(small("x", END_MS, mean=7.0)), b"{}", b"\xff", b'{"user_id": 1}']
)
def test_a_bad_first_line_does_not_take_the_others_along_whatever_they_are_called(
    client: httpx.Client, user: str, first: bytes
) -> None:
    answer = client.post(METRICS, content=b"\n".join([b"", first, b"", as_json(small(user, END_MS)), b""]))
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == 1
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0]


def test_one_bad_report_over_several_lines_is_one(client: httpx.Client, user: str) -> None:
    written = json.dumps(small(user, END_MS, mean=7.0), indent=1)
    answer = client.post(METRICS, content=written)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/metrics/0/avg_utilization"]
    assert client.post(METRICS, content=written.replace("7.0", "0.7")[:-3]).status_code == 400


def test_a_batch_of_bad_reports_alone_is_refused(client: httpx.Client, user: str) -> None:
    answer = post(client, *(small(user, END_MS + number, mean=-1.0) for number in range(3)))
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0, 1, 2]
    assert history(client, user).status_code == 404


def test_an_empty_batch_is_nothing_new(client: httpx.Client) -> None:
    assert client.post(METRICS, content=b"[]").json() == {"accepted": 0, "duplicates": 0}


def test_an_array_of_other_things_names_each(client: httpx.Client, user: str) -> None:
    answer = client.post(METRICS, content=b"[1, null, " + as_json(small(user, END_MS)) + b', "x", []]')
    assert answer.json()["accepted"] == 1
    assert [rejected["index"] for rejected in answer.json()["rejected"]] == [0, 1, 3, 4]


# Requests


def test_other_methods_and_paths_are_problems_too(client: httpx.Client) -> None:
    for answer, status in (
        (client.put(METRICS, content=b"{}"), 405),
        (client.delete(f"{METRICS}/cpuLoadAvg/byUser/a"), 405),
        (client.get("/api/v2/metrics"), 404),
        (client.get("/nothing/here"), 404),
    ):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status
