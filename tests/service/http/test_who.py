"""GET /api/v1/who: who used the CPU of a host and of all, in any range, once for each report, and for whom it is."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import times
from contract.times import HOUR_MS, MINUTE_MS
from service.credentials.identity import Role
from tests.service.conftest import StartService
from tests.support.access import bearer, make_tokens
from tests.support.hostile_names import NAMES
from tests.support.reports import JsonObject, post, small

pytestmark = pytest.mark.server


@pytest.fixture
def end_ms() -> int:
    """An hour ago: what is older than a week is merged, and what is older than that forgotten."""
    return times.now_ms() // MINUTE_MS * MINUTE_MS - HOUR_MS


def told(user: str, end_ms: int, used: dict[str, float], busy_s: float = 5.0, **members: Any) -> JsonObject:
    """A report that says who used the CPU."""
    consumers = [{"name": name, "cpu_s": cpu_s, "user": "root", "unit": "a.service"} for name, cpu_s in used.items()]
    use = {
        "seconds": 5.0, "cores": 2, "busy_s": busy_s, "unseen_s": 0.5,
        "processes": consumers, "processes_beyond_s": 0.1,
        "units": [{"name": "a.service", "cpu_s": sum(used.values())}],
    }  # fmt: skip
    return small(user, end_ms, processes=use, **members)


def around(end_ms: int) -> dict[str, Any]:
    """An hour on both sides."""
    return {"start": end_ms - HOUR_MS, "end": end_ms + HOUR_MS}


def who(client: httpx.Client, end_ms: int, **query: Any) -> Any:
    answer = client.get("/api/v1/who", params=around(end_ms) | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_parts_and_others_are_the_whole(client: httpx.Client, user: str, end_ms: int) -> None:
    post(client, told(user, end_ms, {"red": 3.0, "green": 1.0}), told(user, end_ms + 5000, {"red": 1.0, "blue": 2.0}))
    found = who(client, end_ms, host=user)
    assert [(one["name"], one["cpu_s"]) for one in found["top"]] == [("red", 4.0), ("blue", 2.0), ("green", 1.0)]
    assert (found["busy_s"], found["core_s"], found["others_s"], found["machines"]) == (10.0, 20.0, 3.0, 1)
    red, blue, _ = found["top"]
    assert red["share"] == 0.4
    assert red["at_most_s"] == pytest.approx(5.0)  # half a second of each window was of processes that nobody saw
    assert blue["at_most_s"] == pytest.approx(2.5 + 0.6)  # and a tenth at most of one that does not name it
    assert found["any_other_at_most_s"] == pytest.approx(1.2)
    [unit] = who(client, end_ms, host=user, by="unit")["top"]
    assert (unit["name"], unit["cpu_s"]) == ("a.service", 7.0)


def test_of_the_fleet_at_a_moment_and_in_buckets(client: httpx.Client, user: str, end_ms: int) -> None:
    name = f"job-of-{user}"
    at_ms = end_ms + 30 * MINUTE_MS
    post(client, told(user, at_ms, {name: 3.0}), told(f"{user}-b", at_ms + 5000, {name: 1.0}))
    found = who(client, end_ms, start=at_ms, end=at_ms + MINUTE_MS, resample_rate="5s", top=100)
    [one] = [one for one in found["top"] if one["name"] == name]
    assert (one["machines"], one["cpu_s"]) == (2, 4.0)
    place = found["top"].index(one)
    assert [bucket["top_s"][place] for bucket in found["buckets"]] == [3.0, 1.0]
    for bucket in found["buckets"]:
        assert sum(bucket["top_s"]) + bucket["others_s"] == pytest.approx(bucket["busy_s"])


def test_a_report_that_comes_twice_counts_once(client: httpx.Client, user: str, end_ms: int) -> None:
    report = told(user, end_ms, {"red": 3.0})
    for _ in range(2):
        post(client, report)
    more = told(user, end_ms, {"red": 3.0})
    more["metrics"] = [*report["metrics"], {"type": "MEMORY", "utilization": {"avg": 0.5}}]
    assert post(client, more).json()["accepted"] == 1
    assert who(client, end_ms, host=user)["busy_s"] == 5.0


def test_what_was_acknowledged_is_there_after_a_crash(start: StartService, user: str, end_ms: int) -> None:
    service = start()
    with service.client() as client:
        post(client, told(user, end_ms, {"red": 3.0}))
        before = who(client, end_ms, host=user)
    service.kill()
    service = start()
    with service.client() as client:
        assert who(client, end_ms, host=user) == before
    assert service.stop() == 0
    with start().client() as client:
        assert who(client, end_ms, host=user) == before


def test_hosts_that_say_nothing_have_nobody(client: httpx.Client, user: str, end_ms: int) -> None:
    post(client, small(user, end_ms))
    found = who(client, end_ms, host=user, resample_rate="1h")
    assert (found["top"], found["busy_s"], found["machines"], found["buckets"]) == ([], 0.0, 0, [])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"host": "nobody-of-this-name"}, 404), ({"by": "thread"}, 422), ({"top": 0}, 422), ({"top": 101}, 422),
        ({"start": 5000, "end": 5000}, 422), ({"resample_rate": "1s"}, 422), ({"usr": "x"}, 422),
    ],
)  # fmt: skip
def test_wrong_questions_are_named(client: httpx.Client, query: dict[str, Any], status: int, end_ms: int) -> None:
    assert client.get("/api/v1/who", params=around(end_ms) | query).status_code == status


def test_names_are_texts_or_refused(client: httpx.Client, user: str, end_ms: int) -> None:
    for place, name in enumerate(NAMES):
        answer = post(client, told(user, end_ms + place, {name: 1.0}))
        assert answer.status_code == (202 if name.isprintable() else 422), name
    found = who(client, end_ms, host=user, top=100)
    assert {one["name"] for one in found["top"]} == {name for name in NAMES if name.isprintable()}


def test_a_token_for_some_hosts_is_told_of_these(start: StartService, data_dir: Path, user: str, end_ms: int) -> None:
    role: Role = "reader"
    tokens = make_tokens(data_dir, ("agents", "operator", "*"), ("web", role, "web-*"))
    service = start()
    with service.client() as client:
        client.headers.update(bearer(tokens["agents"]))
        post(client, told("web-1", end_ms, {"mine": 1.0}), told("db-1", end_ms, {"theirs": 1.0}))
        client.headers.update(bearer(tokens["web"]))
        assert [one["name"] for one in who(client, end_ms)["top"]] == ["mine"]
        assert [one["name"] for one in who(client, end_ms, host="web-1")["top"]] == ["mine"]
        assert client.get("/api/v1/who", params=around(end_ms) | {"host": "db-1"}).status_code == 403
