"""What the page is answered besides its picture, of those that it shows: windows, hosts, methods, backtests, files."""

import json
from typing import Any

import httpx
import pyarrow as pa
import pytest

from contract import times
from contract.report import FUTURE_MS
from contract.times import DAY_MS, format_instant
from tests.support.dashboard_fleet import HOT, newest_ms
from tests.support.running import RunningService


@pytest.mark.server
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sort=colour", "sort"), ("rows=0", "rows"), ("rows=5000", "1000"), ("stat=p95", "stat"),
        ("state=busy", "state"), ("tables=never", "tables"),
        ("start=2026-01-02&end=2026-01-01", "end"), ("resample_rate=1s", "resample_rate"),
        ("metric=cpuCoreLoadAvgMax", "metric"), ("colour=red", "colour"), ("label=web", "role=web"),
    ],
)  # fmt: skip
def test_what_no_picture_can_be_made_of_is_refused(client: httpx.Client, query: str, words: str) -> None:
    answer = client.get(f"/api/v1/fleet/picture?{query}")
    assert answer.status_code == 422, answer.text
    assert words in answer.text


@pytest.mark.server
@pytest.mark.parametrize("coding", ["zstd", "gzip", "identity"])
def test_pixels_can_be_read_before_the_rest_is_there(client: httpx.Client, coding: str) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "rows": 7, "sort": "p95"}
    headers = {"Accept-Encoding": coding}
    whole = client.get("/api/v1/fleet/picture", params=asked, headers=headers).content
    with client.stream("GET", "/api/v1/fleet/picture", params=asked | {"tables": "last"}, headers=headers) as answer:
        assert answer.headers.get("Content-Encoding", "identity") == coding
        first, *later = answer.iter_bytes()
    content = b"".join([first, *later])
    start = 4 + int.from_bytes(content[:4], "little")
    header, of_whole = json.loads(content[4:start]), 4 + int.from_bytes(whole[:4], "little")
    end = start + header["rows"] * header["columns"]
    assert header["rows"] == 7 and later and len(first) >= end
    assert content[start:end] == whole[of_whole:]
    assert header | json.loads(content[end:]) == json.loads(whole[4:of_whole])


@pytest.mark.server
def test_windows_of_hosts_with_a_label_are_those_of_the_hosts(client: httpx.Client) -> None:
    asked = {"metric": "cpuUtilization", "resample_rate": "1h", "start": "2026-01-01"}

    def windows(path: str, **more: object) -> list[dict[str, Any]]:
        return list(client.get(f"/api/v1/windows/{path}", params=asked | more).json()["windows"])

    [alone, labelled] = [
        windows(path, **more) for path, more in ((f"byUser/{HOT}", {}), ("fleet", {"user": "role=db"}))
    ]
    assert alone and labelled == alone
    web = windows("fleet", user="role=web", by="user")
    assert {one["user"] for one in web} == {f"web-{number:02}" for number in range(1, 25)}
    assert windows("fleet", user="role=nosuch") == []
    assert client.get("/api/v1/windows/fleet?user=nobody").status_code == 404


@pytest.mark.server
@pytest.mark.parametrize(
    "chosen",
    [
        {}, {"q": "WEB-1"}, {"os": "MacOS"}, {"state": "hot"}, {"state": "idle"}, {"state": "silent"},
        {"label": "role=web,zone=a"}, {"state": "alerting"}, {"q": "web", "sort": "p95", "order": "desc", "count": 3},
        {"sort": "name", "first": 5, "count": 4}, {"first": 1000},
    ],
)  # fmt: skip
def test_windows_of_what_a_picture_shows_are_those_of_its_hosts(
    client: httpx.Client, chosen: dict[str, object]
) -> None:
    asked = {"metric": "cpuUtilization", "resample_rate": "30m", "start": newest_ms(client) - DAY_MS}
    asked["end"] = newest_ms(client)
    content = client.get("/api/v1/fleet/picture", params=asked | {"rows": 1000} | chosen).content
    header = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])
    found = client.get("/api/v1/windows/fleet", params=asked | {"by": "user"} | chosen).json()["windows"]
    assert {one["user"] for one in found} == set(header["labels"])
    few = client.get("/api/v1/windows/fleet", params=asked | {"by": "user", "user": "web-01"} | chosen).json()[
        "windows"
    ]
    assert {one["user"] for one in few} == set(header["labels"]) & {"web-01"}
    together = client.get("/api/v1/windows/fleet", params=asked | chosen).json()["windows"]
    assert sum(one["count"] for one in together) == sum(one["count"] for one in found)
    question = asked | {"resample_rate": "all", "by": "user", "stat": "count"} | chosen
    series = client.get("/api/v1/query", params=question).json()["series"]
    assert {one["group"] for one in series} == set(header["labels"])
    assert sum(one["values"][0] for one in series) == sum(one["count"] for one in found)
    listed = client.get("/api/v1/fleet/machines", params=asked | chosen).json()
    assert [one["user_id"] for one in listed["machines"]] == header["labels"]
    assert listed["total"] == len(header["labels"])
    for of_picture, one in zip(header["machines"], listed["machines"], strict=False):
        for name in ("mean", "p95", "change"):
            assert one[name] == pytest.approx(of_picture[name], abs=1e-6)


@pytest.mark.server
def test_hosts_come_in_pages_and_as_csv_and_arrow_and_with_the_statistics_of_their_samples(
    client: httpx.Client,
) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "sort": "p95", "order": "desc"}
    whole = client.get("/api/v1/fleet/machines", params=asked).json()
    first = client.get("/api/v1/fleet/machines", params=asked | {"limit": 3}).json()
    assert (first["machines"], first["next"]) == (whole["machines"][:3], "3")
    behind = client.get("/api/v1/fleet/machines", params=asked | {"after": first["next"]}).json()
    assert (behind["machines"], behind["next"]) == (whole["machines"][3:], None)
    [hot] = [one for one in whole["machines"] if one["user_id"] == HOT]
    question = {"user": HOT, "metric": "cpuUtilization", "stat": ["mean", "p95", "max"], "resample_rate": "all"}
    said = client.get("/api/v1/query", params=question | {"start": asked["start"], "end": asked["end"]}).json()
    assert [hot[name] for name in ("mean", "p95", "max")] == pytest.approx(
        [one["values"][0] for one in said["series"]], abs=1e-12
    )
    lines = client.get("/api/v1/fleet/machines", params=asked, headers={"Accept": "text/csv"}).text.splitlines()
    assert lines[0] == "user_id,states,mean,p95,max,change,cores,os_type,last_seen,labels"
    assert len(lines) == 1 + whole["total"]
    arrow = {"Accept": "application/vnd.apache.arrow.stream"}
    table = pa.ipc.open_stream(
        client.get("/api/v1/fleet/machines", params=asked | {"limit": 3}, headers=arrow).content
    ).read_all()
    assert table.schema.metadata == {b"total": str(whole["total"]).encode(), b"next": b"3"}
    for row, one in zip(table.to_pylist(), first["machines"], strict=True):
        numbers = {name: row.pop(name) for name in ("mean", "p95", "max", "change")}
        assert numbers == pytest.approx({name: one.pop(name) for name in numbers}, abs=1e-14, nan_ok=True)
        row["last_seen"], row["labels"] = format_instant(int(row["last_seen"].timestamp() * 1000)), dict(row["labels"])
        assert row == one
    assert client.get("/api/v1/fleet/machines", headers={"Accept": "image/png"}).status_code == 406


@pytest.mark.server
@pytest.mark.parametrize("path", ["/api/v1/query", "/api/v1/fleet/machines"])
@pytest.mark.parametrize("wrong", ["state=busy", "sort=colour", "count=0", "first=x", "label=web", "os=Plan9", "end=1"])
def test_no_such_choice_is_refused_wherever_hosts_are_chosen(client: httpx.Client, path: str, wrong: str) -> None:
    answer = client.get(f"{path}?start=2026-01-02&{wrong}")
    assert answer.status_code == 422, answer.text
    assert wrong.partition("=")[0] in answer.text


@pytest.mark.server
def test_who_a_choice_of_numbers_is_about_is_never_answered_from_before(client: httpx.Client) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "by": "user", "resample_rate": "all"}
    assert client.get("/api/v1/query", params=asked | {"q": "web"}).headers["ETag"]
    chosen = client.get("/api/v1/query", params=asked | {"state": "alerting"})
    assert "ETag" not in chosen.headers
    assert chosen.headers["Cache-Control"] == "no-store"


@pytest.mark.server
@pytest.mark.parametrize(
    "wrong", ["state=busy", "sort=colour", "count=0", "first=x", "label=web", "os=Plan9", "count="]
)
def test_windows_of_no_such_choice_are_refused(client: httpx.Client, wrong: str) -> None:
    answer = client.get(f"/api/v1/windows/fleet?{wrong}")
    assert answer.status_code == 422, answer.text
    assert wrong.partition("=")[0] in answer.text


@pytest.mark.server
@pytest.mark.parametrize("kind", ["anomalies", "changes", "forecast", "size", "week"])
def test_methods_answer_and_say_where_data_are_too_few(client: httpx.Client, kind: str) -> None:
    told = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"tz": "Europe/Berlin"})
    assert told.status_code == 200, told.text
    assert "unavailable" not in told.json()
    first = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"start": "1970-01-02", "end": "1970-02-02"})
    assert first.status_code == 200, first.text
    early = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"start": "2020-01-01", "end": "2020-01-02"})
    assert early.json()["unavailable"].startswith("Not enough data")
    assert client.get(f"/api/v1/analysis/{kind}/byUser/nobody").status_code == 404


@pytest.mark.server
def test_analyses_refuse_what_they_do_not_know(client: httpx.Client) -> None:
    assert client.get("/api/v1/analysis/fortune/byUser/web-01").status_code == 404
    assert client.get("/api/v1/analysis/week/byUser/web-01?tz=Mars").status_code == 422


@pytest.mark.server
def test_a_backtest_says_when_a_rule_would_have_fired(client: httpx.Client, service: RunningService) -> None:
    newest = client.get("/api/v1/users").json()["users"][0]["last_seen"]
    asked = {"start": 0, "end": newest, "definition": {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9}}
    answer = client.post("/api/v1/backtests", json=asked)
    assert answer.status_code == 200, answer.text
    assert {period["user"] for period in answer.json()["periods"]} <= {HOT, "web-01"}
    # To a time that nobody lives to see; it is looked at up to now.
    endless = client.post("/api/v1/backtests", json=asked | {"end": "9999-12-31T23:59:59Z"})
    assert endless.status_code == 200
    assert endless.json()["end"] <= times.now_ms() + FUTURE_MS
    for wrong, status in (
        ({"start": 0, "end": newest}, 422),
        ({"start": 0, "end": newest, "rule": "nobody"}, 404),
        ({"start": newest, "end": 0, "rule": "hot"}, 422),
        ({"start": 0, "end": newest, "definition": {"kind": "magic"}}, 422),
    ):
        assert client.post("/api/v1/backtests", json=wrong).status_code == status
    assert service.process.poll() is None


@pytest.mark.server
def test_alerts_and_backtests_are_kept_by_label(client: httpx.Client) -> None:
    def firing(**params: str) -> set[str]:
        return {one["user"] for one in client.get("/api/v1/alerts", params=params).json()["alerts"]}

    assert HOT in firing() and HOT in firing(user="role=db,zone=*") and HOT in firing(user="db-*")
    assert HOT not in firing(user="role=web") and firing(user="role=nosuch") == set()
    asked = {"rule": "hot", "start": newest_ms(client) - DAY_MS, "end": newest_ms(client)}
    for user, found in (("role=db", {HOT}), ("role=web", {"web-01"}), ("*", {HOT, "web-01"}), ("nobody", set())):
        answer = client.post("/api/v1/backtests", json=asked | {"user": user})
        assert {one["user"] for one in answer.json()["periods"]} == found
    assert client.post("/api/v1/backtests", json=asked | {"user": ""}).status_code == 422


@pytest.mark.server
def test_hosts_are_listed_by_pattern_and_label(client: httpx.Client) -> None:
    def listed(**params: Any) -> list[str]:
        return [one["user_id"] for one in client.get("/api/v1/users", params=params).json()["users"]]

    assert listed(label="role=db") == listed(user="role=db") == [HOT]
    assert listed(user=["web-0[12]", HOT], label="role=web") == ["web-01", "web-02"]
    assert listed(user="nobody") == listed(label="role=nosuch") == []
    assert listed(label="role=web", limit=2, after="web-03") == ["web-04", "web-05"]
    assert client.get("/api/v1/users?label=web").status_code == 422


@pytest.mark.server
def test_a_browser_that_finds_nothing_gets_a_page_with_links_and_a_program_a_problem(client: httpx.Client) -> None:
    accepted = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = client.get("/nosuchpage", headers=accepted)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    for path in ("/", "/machines", "/docs"):
        assert f'<a href="{path}">' in answer.text
        assert client.get(path).status_code == 200
    for path, headers in (("/nosuchpage", {}), ("/api/v1/nosuch", accepted)):
        problem = client.get(path, headers=headers)
        assert (problem.status_code, problem.headers["Content-Type"]) == (404, "application/problem+json")
        assert problem.json()["status"] == 404


@pytest.mark.server
def test_files_of_the_page_are_kept_for_good_and_say_nothing_of_others(client: httpx.Client) -> None:
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    address = page.text.partition('src="')[2].partition('"')[0]
    file = client.get(address)
    assert "immutable" in file.headers["Cache-Control"]
    version = address.split("/")[2]
    for other in (
        f"/static/{version}/../dashboard.html.j2",
        f"/static/{version}/%2e%2e/dashboard.html.j2",
        "/static/old/app.js",
    ):
        assert client.get(other).status_code == 404
