"""/api/v1/annotations: what is said of moments is kept, found again, audited, and bounded."""

from itertools import chain
from typing import Any

import httpx
import pytest

from service.annotations import KEPT, AnnotationFilter, Annotations
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from tests.service.conftest import StartService
from tests.support.reports import JsonObject

URL = "/api/v1/annotations"


def make(client: httpx.Client, **members: Any) -> JsonObject:
    answer = client.post(URL, json={"text": "deploy 1.4"} | members)
    assert answer.status_code == 201, answer.text
    document: JsonObject = answer.json()
    assert answer.headers["Location"] == f"{URL}/{document['id']}"
    return document


def found(client: httpx.Client, **query: Any) -> list[str]:
    answer = client.get(URL, params=query)
    assert answer.status_code == 200, answer.text
    return [one["text"] for one in answer.json()["annotations"]]


@pytest.mark.server
def test_what_was_said_is_found_again_after_a_restart(start: StartService) -> None:
    service = start()
    with service.client() as client:
        made = make(client, time="2018-07-12T12:15:00Z", end=1531397760000, tags=["deploy", "web"], user="web-*")
        assert made | {"created": ""} == {
            "id": made["id"], "time": "2018-07-12T12:15:00Z", "end": "2018-07-12T12:16:00Z", "text": "deploy 1.4",
            "tags": ["deploy", "web"], "user": "web-*", "created": "",
        }  # fmt: skip
    assert service.stop() == 0
    with start().client() as client:
        assert client.get(f"{URL}/{made['id']}").json() == made
        assert client.get(URL).json() == {"annotations": [made], "next": None}


@pytest.mark.server
def test_without_a_time_it_is_about_now(client: httpx.Client) -> None:
    made = make(client)
    assert abs(_ms(made["time"]) - _ms(made["created"])) < 60_000
    assert made["end"] is None


def _ms(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp() * 1000


@pytest.mark.server
def test_those_that_touch_a_range_are_found(client: httpx.Client, user: str) -> None:
    make(client, text="moment", time="2019-01-01T12:00Z", tags=[user])
    make(client, text="stretch", time="2019-01-01T10:00Z", end="2019-01-01T14:00Z", tags=[user])
    day = {"tag": user}
    assert found(client, start="2019-01-01T12:00Z", end="2019-01-01T12:01Z", **day) == ["stretch", "moment"]
    assert found(client, start="2019-01-01T12:01Z", end="2019-01-01T13:00Z", **day) == ["stretch"]
    assert found(client, start="2019-01-01T14:00:01Z", **day) == []
    assert found(client, end="2019-01-01T12:00Z", **day) == ["stretch"]


@pytest.mark.server
def test_those_of_tags_and_of_a_host_are_found(client: httpx.Client, user: str) -> None:
    make(client, text="all", time=1_550_000_000_000, tags=[user, "deploy"])
    make(client, text="web", time=1_550_000_000_001, tags=[user], user="web-*")
    make(client, text="db", time=1_550_000_000_002, tags=[user, "deploy"], user="db-?")
    assert found(client, tag=user) == ["all", "web", "db"]
    assert found(client, tag=[user, "deploy"]) == ["all", "db"]
    assert found(client, tag=user, user="web-17") == ["all", "web"]
    assert found(client, tag=user, user="db-17") == ["all"]


@pytest.mark.server
@pytest.mark.parametrize("sort", ["time", "-time"])
def test_pages_hold_each_once_in_order(client: httpx.Client, user: str, sort: str) -> None:
    texts = [f"number {place}" for place in range(7)]
    for place, text in enumerate(texts):
        make(client, text=text, time=1_550_000_000_000 + place // 2, tags=[user])
    pages = []
    after = None
    while True:
        page = client.get(
            URL, params={"tag": user, "limit": 2, "sort": sort} | ({"after": after} if after else {})
        ).json()
        pages.append([one["text"] for one in page["annotations"]])
        after = page["next"]
        if after is None:
            break
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert [*chain(*pages)] == (texts if sort == "time" else texts[::-1])


@pytest.mark.server
def test_who_made_and_deleted_one_is_in_the_audit_trail(client: httpx.Client) -> None:
    made = make(client, text="to be deleted")
    place = f"{URL}/{made['id']}"
    assert client.delete(place, headers={"X-Loadlens-Actor": "ada"}).status_code == 204
    assert client.get(place).status_code == client.delete(place).status_code == 404
    target = f"annotation:{made['id']}"
    deleted, added = client.get("/api/v1/audit", params={"target": target}).json()["entries"]
    assert (deleted["actor"], deleted["before"]["text"], deleted["after"]) == ("ada", "to be deleted", None)
    assert (added["before"], added["after"]["text"]) == (None, "to be deleted")


@pytest.mark.server
@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"text": ""}, "/text"),
        ({"text": "x" * 501}, "/text"),
        ({"time": "yesterday"}, "/time"),
        ({"time": 1_531_397_700}, "/time"),
        ({"time": "2019-01-02", "end": "2019-01-01"}, "/end"),
        ({"tags": ["x"] * 17}, "/tags"),
        ({"tags": [""]}, "/tags/0"),
        ({"user": ""}, "/user"),
        ({"hosts": "web-*"}, ""),
    ],
)
def test_what_is_wrong_is_named_and_nothing_kept(client: httpx.Client, members: JsonObject, pointer: str) -> None:
    before = client.get("/api/v1/audit", params={"limit": 1}).json()["entries"]
    answer = client.post(URL, json={"text": "deploy"} | members)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert client.get("/api/v1/audit", params={"limit": 1}).json()["entries"] == before


@pytest.mark.server
@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 1001}, {"after": "7"}, {"sort": "text"}, {"start": "x"}, {"q": "1"}, {"user": "x" * 129}],
)
def test_a_wrong_question_is_refused(client: httpx.Client, query: JsonObject) -> None:
    answer = client.get(URL, params=query)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [*query]


@pytest.mark.server
def test_an_agents_token_says_nothing_of_moments(start: StartService) -> None:
    service = start("--token", "agents", "--operator-token", "operators")
    with service.client(headers={"Authorization": "Bearer agents"}) as client:
        assert client.post(URL, json={"text": "deploy"}).status_code == 403
        assert client.get(URL).status_code == 403


def test_the_oldest_go_where_there_are_too_many(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT == 100_000
    monkeypatch.setattr("service.annotations.KEPT", 3)
    control = ControlDatabase(tmp_path / "control.db")
    annotations = Annotations(control, Audit(control))
    for time_ms in (5, 1, 4, 2, 3):
        annotations.add(time_ms, time_ms, f"at {time_ms}", [], "*", Actor("none", "::1"))
    kept = annotations.page(AnnotationFilter(), after=None, limit=10, newest_first=False)
    assert [one.time_ms for one in kept] == [3, 4, 5]
    control.close()
