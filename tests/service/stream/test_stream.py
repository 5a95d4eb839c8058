"""Who follows the stream gets every acknowledged report that is asked for, in order, once, at once."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
import websockets

from tests.service.conftest import StartService
from tests.support.followers import STREAM, Follower
from tests.support.reports import END_MS, METRICS, original, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

TOKEN = "a-token"


def test_reports_come_as_they_were_sent_in_order(service: RunningService, client: httpx.Client, user: str) -> None:
    with Follower(service.url, user=user) as follower:
        sent = [original(user, end_timestamp=END_MS + number) for number in range(3)]
        for report in sent:
            post(client, report)
        follower.wait_for(3)
        assert [event.data for event in follower.reports] == sent
        ids = [event.id for event in follower.reports]
        assert ids == sorted(set(ids))


def test_a_report_that_counts_as_a_duplicate_does_not_come_again(
    service: RunningService, client: httpx.Client, user: str
) -> None:
    with Follower(service.url, user=user) as follower:
        for end_ms in (END_MS, END_MS, END_MS + 1000):
            post(client, small(user, end_ms))
        follower.wait_for(2)
        assert [event.data["end_timestamp"] for event in follower.reports] == [END_MS, END_MS + 1000]


def test_a_report_in_many_lines_is_one_event(service: RunningService, client: httpx.Client, user: str) -> None:
    report = original(user)
    with Follower(service.url, user=user) as follower:
        client.post(METRICS, content=msgspec.json.format(msgspec.json.encode(report), indent=2))
        follower.wait_for(1)
        assert follower.reports[0].data == report


def test_a_report_that_is_no_utf8_is_refused_and_reaches_nobody(client: httpx.Client, user: str) -> None:
    body = msgspec.json.encode(small(user, END_MS, note="@")).replace(b"@", b"\xff\xfe")
    answer = client.post(METRICS, content=body)
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("odd", ["\u2028\u2029\u0085".encode(), b"\\n\\ndata: {}\\n\\n", "\U0001f525".encode()])
def test_what_nobody_knows_in_a_report_harms_nobody(
    service: RunningService, client: httpx.Client, user: str, odd: bytes
) -> None:
    body = msgspec.json.encode(small(user, END_MS, note="@")).replace(b"@", odd)
    with Follower(service.url, user=user) as follower:
        assert client.post(METRICS, content=body).status_code == 202
        post(client, small(user, END_MS + 1))
        follower.wait_for(2)
        assert [event.data["end_timestamp"] for event in follower.reports] == [END_MS, END_MS + 1]
    address = f"{service.url}{STREAM}?after={follower.reports[0].id - 1}&user={user}"
    events = [event for event in websocket_messages(address, 2) if "report" in event]
    assert [event["report"] for event in events] == [event.data for event in follower.reports]


MEMORY = {"type": "MEMORY", "utilization": {"avg": 0.25}}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["a-low", "b-high", "c-memory", "a-windows"]),
        ({"user": "{}a-*"}, ["a-low", "a-windows"]),
        ({"user": "{}?-low"}, ["a-low"]),
        ({"user": "{}[ac]-*"}, ["a-low", "c-memory", "a-windows"]),
        ({"user": "{}a-low"}, ["a-low"]),
        ({"user": ["{}a-low", "{}b-*"]}, ["a-low", "b-high"]),
        ({"os": "Windows"}, ["a-windows"]),
        ({"type": "MEMORY"}, ["c-memory"]),
        ({"metric": "memoryUtilization"}, ["c-memory"]),
        ({"metric": "cpuLoadAvg", "above": "0.8"}, ["b-high"]),
        ({"metric": "cpuLoadAvg", "below": "0.2"}, ["a-low"]),
        ({"metric": "cpuLoadAvg", "stat": "max", "above": "0.85", "below": "1"}, ["b-high"]),
    ],
)
def test_only_what_is_asked_for_comes(
    service: RunningService, client: httpx.Client, user: str, parameters: dict[str, Any], expected: list[str]
) -> None:
    prefix = f"{user}/"

    def named(pattern: str | list[str]) -> str | list[str]:
        return pattern.format(prefix) if isinstance(pattern, str) else [one.format(prefix) for one in pattern]

    parameters = {"user": f"{prefix}*"} | {name: named(value) for name, value in parameters.items()}
    with Follower(service.url, **parameters) as follower, Follower(service.url, user=f"{prefix}*") as everything:
        post(
            client,
            small(f"{prefix}a-low", END_MS, mean=0.1),
            small(f"{prefix}b-high", END_MS, mean=0.9),
            original(f"{prefix}c-memory", metrics=[MEMORY]),
            small(f"{prefix}a-windows", END_MS, mean=0.5) | {"os_type": "Windows"},
        )
        everything.wait_for(4)
        follower.wait_for(len(expected))
        assert follower.users == [prefix + name for name in expected]


def test_fields_choose_what_comes_of_a_report(service: RunningService, client: httpx.Client, user: str) -> None:
    fields = "user_id,end_timestamp,cpuLoadAvg,cpuLoadAvg.std,cpuCoreLoadAvgMax,memoryUtilization"
    with Follower(service.url, user=user, fields=fields) as follower:
        post(client, original(user))
        follower.wait_for(1)
        assert follower.reports[0].data == {
            "user_id": user,
            "end_timestamp": END_MS,
            "cpuLoadAvg": 0.2148631642976225,
            "cpuLoadAvg.std": pytest.approx(0.005718669350831782**0.5),
            "cpuCoreLoadAvgMax": 0.24848360030511063,
            "memoryUtilization": None,
        }


def test_it_goes_on_behind_the_last_event_even_after_a_restart(start: StartService, user: str) -> None:
    service = start("--flush-interval", "0.2")
    with service.client() as client:
        follower = Follower(service.url)
        post(client, small("before", END_MS))
        follower.wait_for(1)
        follower.close()
        for number in range(100):
            post(client, small(f"meanwhile-{number}", END_MS))
        wait_until(lambda: follower.ended, "the end of the stream")
    assert service.stop() == 0, service.log
    service = start()
    with service.client() as client:
        follower.resume(service.url)
        post(client, small("after", END_MS))
        wait_until(lambda: "after" in follower.users, "the newest report")
    meanwhile = [f"meanwhile-{number}" for number in range(100)]
    assert follower.users == ["before", *meanwhile, "after"]
    assert [event.id for event in follower.events] == [*range(1, 103)]
    with Follower(service.url, after=100) as late:
        late.wait_for(2)
        assert late.users == ["meanwhile-99", "after"]


def test_a_resume_point_that_is_gone_is_told_and_the_rest_comes(start: StartService) -> None:
    service = start("--flush-interval", "0.1", "--stream-keep", "0")
    with service.client() as client:
        post(client, *(small(f"user-{number}", END_MS) for number in range(10)))
    service.stop()
    service = start("--flush-interval", "3600", "--stream-keep", "0")
    with service.client() as client:
        post(client, small("new", END_MS))
        with Follower(service.url, after=4) as follower:
            follower.wait_for(1)
            gap, report = follower.events
            assert (gap.name, gap.data) == ("gap", {"from": 5, "to": 10})
            assert report.id == 11


def test_an_id_that_was_never_given_is_told_and_what_is_new_comes(start: StartService) -> None:
    service = start()
    with service.client() as client:
        post(client, small("old", END_MS))
        with Follower(service.url, after=1000) as follower:
            post(client, small("new", END_MS))
            follower.wait_for(1)
            assert [(event.id, event.name) for event in follower.events] == [(1, "gap"), (2, "message")]
            assert follower.events[0].data == {"from": 2, "to": 1000}


@contextlib.contextmanager
def asleep(service: RunningService) -> Iterator[socket.socket]:
    """A consumer that asks for everything, and reads nothing."""
    with socket.socket() as sleeper:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.settimeout(60)
        sleeper.connect(("127.0.0.1", service.port))
        sleeper.sendall(f"GET {STREAM} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        yield sleeper


def test_a_consumer_that_sleeps_slows_nobody_and_is_told_what_it_missed(start: StartService) -> None:
    service = start("--flush-interval", "0.1", "--stream-keep", "0")
    with service.client() as client, asleep(service) as sleeper, Follower(service.url, fields="user_id") as follower:
        wait_until(lambda: "loadlens_stream_consumers 2.0" in client.get("/metrics").text, "two consumers")
        pad = "x" * 4000
        for batch in range(20):
            post(client, *(small(f"user-{batch}-{number}", END_MS, pad=pad) for number in range(200)))
        follower.wait_for(4000)
        assert not [event for event in follower.events if event.name != "message"]
        wait_until(lambda: "loadlens_journal_behind 0.0" in client.get("/metrics").text, "a flush")
        post(client, small("newest", END_MS))
        text = b""
        while b'"newest"' not in text[-10_000:]:
            text += sleeper.recv(1 << 20)
    events = [dict(line.split(b": ", 1) for line in part.split(b"\n") if b": " in line) for part in _parts(text)]
    seen = 0
    for event in events:
        if event.get(b"event") == b"missed":
            missed = msgspec.json.decode(event[b"data"])
            assert missed["from"] == seen + 1
            seen = missed["to"]
        elif b"data" in event:
            assert int(event[b"id"]) == seen + 1
            seen += 1
    assert seen == 4001
    assert sum(event.get(b"event") == b"missed" for event in events) >= 1


def _parts(answer: bytes) -> list[bytes]:
    """The events of an answer in chunks."""
    rest = answer.partition(b"\r\n\r\n")[2]
    content = b""
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        content += rest[: int(length, 16)]
        rest = rest[int(length, 16) + 2 :]
    return [part for part in content.split(b"\n\n") if part.startswith(b"id: ")]


def test_more_consumers_than_allowed_are_refused_until_one_leaves(start: StartService) -> None:
    service = start("--stream-consumers", "1")
    with service.client() as client:
        with Follower(service.url) as follower:
            refused = client.get(STREAM)
            assert refused.status_code == 503
            assert refused.headers["Retry-After"]
            follower.close()
            wait_until(
                lambda: "loadlens_stream_consumers 0.0" in client.get("/metrics").text, "the consumer to be gone"
            )
        with Follower(service.url):
            assert "loadlens_stream_refused_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("parameters", "wrong"),
    [
        ({"colour": "red"}, "colour"),
        ({"os": "BeOS"}, "os"),
        ({"type": "GPU"}, "type"),
        ({"metric": "cpuLoad"}, "metric"),
        ({"metric": "cpuLoadAvg", "stat": "p42"}, "metric"),
        ({"above": "0.5"}, "metric"),
        ({"metric": "cpuLoadAvg", "above": "much"}, "above"),
        ({"metric": "cpuLoadAvg", "above": "nan"}, "above"),
        ({"fields": "user_id,colour"}, "fields"),
        ({"after": "yesterday"}, "after"),
        ({"after": "-1"}, "after"),
        ({"user": "x" * 200}, "user"),
        ({"user": [f"user-{number}" for number in range(100)]}, "user"),
    ],
)
def test_what_cannot_be_asked_for_is_named(client: httpx.Client, parameters: dict[str, Any], wrong: str) -> None:
    answer = client.get(STREAM, params=parameters)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [wrong]


def websocket_messages(url: str, count: int, **options: Any) -> list[dict[str, Any]]:
    """The first events of a WebSocket."""

    async def follow() -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        async with websockets.connect(url.replace("http://", "ws://", 1), open_timeout=60, **options) as socket:
            while len(events) < count:
                message = await asyncio.wait_for(socket.recv(), 60)
                events += [msgspec.json.decode(line) for line in message.split("\n") if line]
        return events

    return asyncio.run(follow())


def test_a_websocket_has_the_same_events(service: RunningService, client: httpx.Client, user: str) -> None:
    with Follower(service.url, user=user) as follower:
        post(client, small(user, END_MS), small(user, END_MS + 1))
        follower.wait_for(2)
    first = follower.reports[0].id
    address = f"{service.url}{STREAM}?after={first - 1}&user={user}"
    events = [event for event in websocket_messages(address, 2) if "report" in event]
    assert events == [{"id": event.id, "report": event.data} for event in follower.reports]


def test_a_websocket_is_told_why_it_is_refused(service: RunningService) -> None:
    with pytest.raises(websockets.ConnectionClosedError) as refused:
        websocket_messages(f"{service.url}{STREAM}?metric=cpuLoad", 1)
    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 3422
    assert "did you mean" in refused.value.rcvd.reason
    with pytest.raises(websockets.ConnectionClosedError) as refused:
        websocket_messages(f"{service.url}{STREAM}?os={quote(chr(0x65E5) * 32)}", 1)
    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 3422
    assert "expected one of Linux, MacOS, Windows, got '\u65e5\u65e5" in refused.value.rcvd.reason


def test_a_page_of_another_site_cannot_follow(service: RunningService) -> None:
    with pytest.raises(websockets.ConnectionClosedError) as refused:
        websocket_messages(f"{service.url}{STREAM}", 1, origin="https://elsewhere.example")
    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 3403
    same: Any = service.url
    assert websocket_messages(f"{service.url}{STREAM}?after=0", 1, origin=same)


def test_with_a_token_set_nobody_follows_without_it(start: StartService) -> None:
    service = start("--token", TOKEN)
    with service.client() as client:
        assert client.get(STREAM).status_code == 401
    with pytest.raises(websockets.InvalidStatus, match="403"):
        websocket_messages(f"{service.url}{STREAM}", 1)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert websocket_messages(f"{service.url}{STREAM}", 1, additional_headers=bearer)[0]["event"] == "heartbeat"
    with Follower(service.url, headers=bearer), service.client(headers=bearer) as client:
        assert "loadlens_stream_consumers" in client.get("/metrics").text


def test_a_service_that_is_stopped_ends_the_streams(start: StartService) -> None:
    service = start()
    followers = [Follower(service.url) for _ in range(3)]
    assert service.stop() == 0, service.log
    for follower in followers:
        wait_until(lambda one=follower: one.ended, "the end of the stream")  # type: ignore[misc]
    assert "Traceback" not in service.log
