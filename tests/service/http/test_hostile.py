"""Whatever is sent, the service answers what is right or says what is wrong; it never fails."""

import gzip
import json
import os
import signal
from itertools import islice
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.metrics import NAMES
from service.http.openapi.operations import OPERATIONS
from service.http.parameters import names_of
from tests.service.conftest import StartService
from tests.support.hostile import requests, send
from tests.support.reports import END_MS, METRICS, as_json, entries, history, original, post, small

pytestmark = pytest.mark.server

HOSTILE = [
    "'; DROP TABLE series; --",
    "' OR '1'='1",
    '"quoted"',
    "a\\'b\\",
    "a/b/c",
    "/",
    "../../etc/passwd",
    "..",
    ".",
    "a//b/",
    "?start=1#x",
    "100%",
    "%2F",
    "%00",
    "%",
    "{user_id}",
    "{0}${HOME}",
    "*",
    "a b",
    " a ",
    "a+b",
    "a&b=c;d",
    "\u00fcml\u00e4ut",
    "\u4e2d\u6587",
    "\u0645\u0631\u062d\u0628\u0627",
    "\U0001f600",
    "e\u0301",
    "\u00e9",
    "NULL",
    "None",
    "NaN",
    "0",
    "-1",
    "true",
    "fleet",
    "<script>alert(1)</script>",
    "a" * 128,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_every_user_id_is_kept_and_found_as_it_is(client: httpx.Client, name: str) -> None:
    place = HOSTILE.index(name)
    mean = (place + 1) / 64
    assert post(client, small(name, END_MS, mean)).json() == {"accepted": 1, "duplicates": 0}
    assert [value for _, value in entries(history(client, name))] == [mean]
    users = [user["user_id"] for user in client.get("/api/v1/users").json()["users"]]
    assert users.count(name) == 1
    assert users == sorted(users)
    answer = client.get(f"{METRICS}/cpuLoadAvg/fleet", params={"start": END_MS, "end": END_MS + 1, "by": "user"})
    assert {entry["group"]: entry["value"] for entry in answer.json()["entries"]}[name] == mean


@pytest.mark.parametrize(
    "name", ["%00", "a%00b", "%0a", "%7f", "%ff", "%c3%28", "%e2%80%ae", "'%20OR%201=1", "", "a%2Fb%2F"]
)
def test_a_user_id_that_nobody_can_have_is_not_found(client: httpx.Client, name: str) -> None:
    answer = client.get(f"{METRICS}/cpuLoadAvg/byUser/{name}")
    assert answer.status_code in (400, 404)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "name", ["cpuLoadAvg'--", "cpuLoadAvg;DROP", "%00", "..%2f..", "cpu.utilization", "\u00fc", "a" * 5000]
)
def test_a_hostile_metric_name_is_not_found(client: httpx.Client, name: str) -> None:
    answer = client.get(f"{METRICS}/{name}/byUser/x")
    assert answer.status_code in (400, 404)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_operating_systems_versions_are_kept_as_they_are(client: httpx.Client, user: str) -> None:
    version = "'; DROP TABLE host; -- \u00fc\u4e2d"
    post(client, original(user, os_version=version))
    users = {one["user_id"]: one["os_version"] for one in client.get("/api/v1/users").json()["users"]}
    assert users[user] == version


# Fuzzing: any bytes, any JSON, and JSON that is nearly a report.

# How long it takes to think of a request says nothing of the service.
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 0.25, 0.5, 2**31, 2**40, 2**63, 2**64, 1e300, -0.0, 5e-324, END_MS, 20_000_000_000]),
    st.integers(-(2**70), 2**70),
    st.floats(0, 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
MEMBERS = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, max_size=5),
    st.lists(st.lists(st.integers(-3, 2**41), max_size=6), max_size=4),
    st.fixed_dictionaries({"avg": NUMBERS}, optional=dict.fromkeys(("var", "min", "max", "observations"), NUMBERS)),
    JSON,
)


@st.composite
def member(draw: st.DrawFn) -> Any:
    """One of `MEMBERS`, in one word: Hypothesis warns of strategies whose text is long, whenever it has to name one."""
    return draw(MEMBERS)


CPU_MEMBERS = [
    "var_utilization", "min_utilization", "max_utilization", "histogram", "avg_utilization_by_core",
    "var_utilization_by_core", "min_utilization_by_core", "max_utilization_by_core", "histogram_by_core", "cores",
]  # fmt: skip
OTHERS = {
    "MEMORY": ["utilization"],
    "DISK": ["read_bytes", "written_bytes", "reads", "writes"],
    "LOAD": ["load1", "load5", "load15"],
}
METRIC = st.one_of(
    st.fixed_dictionaries({"type": st.just("CPU"), "avg_utilization": st.floats(0, 1)},
                          optional=dict.fromkeys(CPU_MEMBERS, member())),
    *(
        st.fixed_dictionaries({"type": st.just(kind), **dict.fromkeys(members, member())})
        for kind, members in OTHERS.items()
    ),
    JSON,
)  # fmt: skip
NEARLY = st.fixed_dictionaries(
    {
        "user_id": st.one_of(st.just("fuzz"), st.text(max_size=130)),
        "start_timestamp": st.one_of(st.just(END_MS - 5000), NUMBERS),
        "end_timestamp": st.one_of(st.integers(END_MS, END_MS + 10_000_000), NUMBERS),
        "observations_per_metric": st.one_of(st.integers(1, 200), NUMBERS),
        "os_type": st.one_of(st.sampled_from(["Linux", "MacOS", "Windows"]), JSON),
        "os_version": st.one_of(st.just("12"), st.text(max_size=300)),
        "metrics": st.one_of(st.lists(METRIC, min_size=1, max_size=3), JSON),
    },
    optional={"report_id": JSON, "agent": JSON, "other": JSON},
)


def encoded(document: Any) -> bytes:
    """JSON of a document that may hold numbers beyond 64 bits and lone surrogates."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def assert_answered(answer: httpx.Response) -> None:
    assert answer.status_code in (202, 400, 413, 415, 422)
    document = msgspec.json.decode(answer.content)
    if answer.status_code == 202:
        assert {*document} - {"rejected"} == {"accepted", "duplicates"}
    else:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert document["status"] == answer.status_code


@FUZZ
@given(body=st.binary(max_size=500))
def test_any_bytes_are_answered(client: httpx.Client, body: bytes) -> None:
    for encoding in ("", "gzip", "zstd"):
        assert_answered(client.post(METRICS, content=body, headers={"Content-Encoding": encoding}))


@FUZZ
@given(document=JSON)
def test_any_json_is_answered(client: httpx.Client, document: Any) -> None:
    assert_answered(client.post(METRICS, content=encoded(document)))


def test_strategies_can_be_named() -> None:
    assert len(repr(st.lists(NEARLY))) < 10_000


@settings(FUZZ, max_examples=250)
@given(documents=st.lists(NEARLY, min_size=1, max_size=4))
def test_reports_that_are_nearly_right_are_answered(client: httpx.Client, documents: list[Any]) -> None:
    assert_answered(client.post(METRICS, content=encoded(documents[0])))
    assert_answered(client.post(METRICS, content=encoded(documents)))
    lines = b"\n".join(map(encoded, documents))
    assert_answered(client.post(METRICS, content=lines, headers={"Content-Type": "application/x-ndjson"}))


@FUZZ
@given(
    path=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), max_size=5),
    query=st.dictionaries(
        st.sampled_from(["start", "end", "resample_rate", "stat", "core", "by", "top", "x"]), st.text(), max_size=4
    ),
)
def test_any_query_is_answered(client: httpx.Client, path: list[str], query: dict[str, str]) -> None:
    for prefix in (f"{METRICS}/cpuLoadAvg/byUser", f"{METRICS}/cpuLoadAvg", METRICS, ""):
        url = f"{client.base_url}".rstrip("/") + "/".join([prefix, *(quote(part, safe="") for part in path)])
        assert client.get(url, params=query).status_code in (200, 400, 404, 405, 422)


@settings(FUZZ, max_examples=60)
@given(
    members=st.dictionaries(st.sampled_from(["start", "end", "resample_rate", "stat", "core", "by", "top", "x"]), JSON)
)
@pytest.mark.parametrize("path", ["cpuLoadAvg/byUser/fuzz", "diskReads/fleet"])
def test_any_json_object_as_a_query_is_answered(client: httpx.Client, path: str, members: dict[str, Any]) -> None:
    client.post(METRICS, content=as_json(original("fuzz")))
    answer = client.request("GET", f"{METRICS}/{path}", content=encoded(members))
    assert answer.status_code in (200, 422)
    msgspec.json.decode(answer.content)


PATHS = {
    path: path.replace("{metric}", "cpuLoadAvg").replace("{kind}", "size").replace("{user_id}", "nobody")
    for path in OPERATIONS
}
"""The paths of the API, with something in each place; names and numbers of what is not there stay as they are."""
CLOSED_READS = [path for path, operations in OPERATIONS.items() if "GET" in operations and path != "/api/v1/stream"]


@pytest.mark.parametrize("path", [path for path in CLOSED_READS if OPERATIONS[path]["GET"].query])
def test_a_parameter_of_another_kind_is_answered_in_a_body_too(client: httpx.Client, path: str) -> None:
    query = OPERATIONS[path]["GET"].query
    assert query is not None
    for name in names_of(query):
        for value in (5, -1.5, True, [], ["x"], [5], {"a": 1}, "\u00b2", "9" * 5000):
            answer = client.request("GET", PATHS[path], json={name: value})
            assert answer.status_code < 500, (name, value, answer.text)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, operations in OPERATIONS.items()
        for method, operation in operations.items()
        if operation.tag != "reports" and path != "/api/v1/stream"
    ],
)
def test_a_parameter_that_an_operation_does_not_have_is_refused(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, PATHS[path], params={"nonsense": "1"}, json={} if method != "GET" else None)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "nonsense"


def test_what_is_said_twice_changes_nothing(client: httpx.Client) -> None:
    twice = "/api/v1/settings?selector=all&selector=os:Linux"
    answer = client.put(twice, json={"samples": 7}, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (422, "is given more than once")
    answer = client.put("/api/v1/settings?selector=os:Linux&rank=0", json={"samples": 7}, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "rank")


def test_lines_that_end_otherwise_are_no_more_lines_than_are_counted(client: httpx.Client) -> None:
    body = gzip.compress(b"1\r" * 3_000_000)
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    answer = client.post(METRICS, content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert len(answer.json().get("rejected", [])) <= 1


def test_what_the_fuzz_left_behind_is_answered_for_every_metric_and_statistic(client: httpx.Client) -> None:
    for metric in NAMES:
        for stat in ("mean", "std", "p95", "max"):
            answer = history(client, "fuzz", metric, stat=stat)
            assert answer.status_code in (200, 404)
            msgspec.json.decode(answer.content)


def test_all_that_is_accepted_can_be_replayed_however_deep_it_is_nested(start: StartService) -> None:
    """The journal holds reports as they came, inside arrays of its own, and a service reads it when it starts."""
    service = start()
    accepted = 0
    with service.client() as client:
        for depth in (*range(1, 850, 100), *range(850, 1020, 3), *range(1100, 20_000, 5000)):
            body = as_json(small("deep", END_MS + depth))[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
            for sent in (body, b"[" + body.replace(b"deep", b"deep-array") + b"]"):
                status = client.post(METRICS, content=sent).status_code
                assert status in (202, 400, 422)
                accepted += status == 202
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()
    service = start()
    with service.client() as client:
        counts = [entries(history(client, user, stat="count"))[0][1] for user in ("deep", "deep-array")]
    assert sum(counts) == accepted > 20


@pytest.mark.parametrize("seed", [1, 2])
def test_what_nobody_sends_who_means_well_is_answered_without_a_fault_of_ours(start: StartService, seed: int) -> None:
    service = start("--flush-interval", "1")
    outcome = send(service, islice(requests(seed), 200))
    assert outcome.failed == []
    assert sum(outcome.statuses.values()) == 200
    assert outcome.largest < 1_000_000
    assert outcome.memory < 600_000_000
    assert service.stop() == 0
    assert "Traceback" not in service.log
