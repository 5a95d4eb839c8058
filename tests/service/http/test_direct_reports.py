"""Single reports are taken before the router; whoever sends them cannot tell."""

import asyncio
import gzip
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.credentials.identity import ANYBODY, Role
from service.http.access import RequireOwnHost
from service.http.direct_reports import DirectReports
from service.http.request_log import RequestLog
from service.http.resources.ingest import Metrics
from service.settings import ServiceSettings
from tests.support.access import bearer, make_tokens
from tests.support.reports import END_MS, METRICS, JsonObject, as_json, original, small
from tests.support.running import RunningService

HOST = (b"host", b"127.0.0.1:8888")
ROUTED = {"X-Nobody-Knows": "this header"}
AGENT = {"version": "1", "cpu_seconds": 0.5, "resident_bytes": 1, "remote": True}


class Way:
    """An application in front of which reports are taken, and what got through to it."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(ServiceSettings(data_dir=str(folder)))
        service: Any = self.app.service
        self.through: list[bytes] = []
        self.answered: list[Any] = []
        self.log = RequestLog("none")
        self.metrics = Metrics(
            service.ingest, service.admission, service.store, service.remote_configuration, service.token_limits
        )
        self.direct = DirectReports(
            self._behind, self.metrics, RequireOwnHost("127.0.0.1"), service.token_limits, self.log
        )

    async def _behind(self, scope: Any, receive: Any, send: Any) -> None:
        body, event = b"", {"more_body": True}
        while event.get("more_body"):
            event = await receive()
            body += event.get("body", b"")
        self.through.append(body)

    async def send(self, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> None:
        """A POST of a body in pieces."""
        events = [
            {"type": "http.request", "body": piece, "more_body": place < len(pieces) - 1}
            for place, piece in enumerate(pieces)
        ]

        async def receive() -> Any:
            return events.pop(0)

        async def send(event: Any) -> None:
            self.answered.append(event)

        scope = {"type": "http", "method": "POST", "path": METRICS, "scheme": "http", "headers": headers}
        await self.direct(scope, receive, send)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Way, asyncio.Runner]]:
    with asyncio.Runner() as runner:
        way = Way(folder)
        service: Any = way.app.service
        try:
            yield way, runner
        finally:
            service.close()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[tuple[Way, asyncio.Runner]]:
    with running(tmp_path / "data") as both:
        yield both


def length(body: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % len(body))


def test_a_single_report_is_answered_without_what_is_behind(way: tuple[Way, asyncio.Runner]) -> None:
    one, runner = way
    body = as_json(small("a", END_MS))
    runner.run(one.send([HOST, length(body), (b"x-forwarded-for", b"192.0.2.1"), (b"x-request-id", b"mine")], body))
    assert one.through == []
    assert [event.get("status") for event in one.answered] == [202, None]
    assert (b"x-request-id", b"mine") in one.answered[0]["headers"]
    [family, _] = one.log.collect()
    assert [(sample.labels["route"], sample.labels["status"], sample.value) for sample in family.samples] == [
        (METRICS, "202", 1)
    ]  # fmt: skip


BODY = as_json(small("a", END_MS))


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [
        ([HOST, length(BODY)], (BODY[:10], BODY[10:])),
        ([HOST, length(b"[" + BODY + b"]")], (b"[" + BODY + b"]",)),
        ([HOST, length(BODY), (b"origin", b"https://elsewhere.example")], (BODY,)),
        ([HOST, length(BODY), (b"sec-fetch-site", b"cross-site")], (BODY,)),
        ([HOST, length(BODY), (b"content-encoding", b"gzip")], (BODY,)),
        ([HOST, length(BODY), (b"cookie", b"loadlens=x")], (BODY,)),
        ([HOST, length(BODY), (b"content-type", b"application/x-ndjson")], (BODY,)),
        ([HOST, length(BODY), (b"authorization", b"Basic eDp5")], (BODY,)),
        ([HOST, HOST, length(BODY)], (BODY,)),
        ([(b"host", b"rebound.example"), length(BODY)], (BODY,)),
        ([HOST, (b"transfer-encoding", b"chunked")], (BODY,)),
        ([HOST, (b"content-length", b"9999999999")], (BODY,)),
        ([HOST, (b"content-length", b"0" * 5000 + length(BODY)[1])], (BODY,)),
        ([HOST, length(BODY)], (BODY[:-1],)),
        ([HOST, length(BODY)], (BODY.replace(b"0.5", b"1.5"),)),
        ([HOST, length(BODY)], (b"",)),
    ],
)
def test_what_is_to_be_looked_at_goes_through_as_it_came(
    way: tuple[Way, asyncio.Runner], headers: list[tuple[bytes, bytes]], pieces: tuple[bytes, ...]
) -> None:
    one, runner = way
    runner.run(one.send(headers, *pieces))
    assert one.through == [b"".join(pieces)]
    assert one.answered == []


def test_a_fault_of_ours_is_logged_and_told_without_its_inside(
    way: tuple[Way, asyncio.Runner], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, runner = way

    async def fails(*_: object) -> bytes:
        raise RuntimeError("the inside")

    monkeypatch.setattr(one.metrics, "take_one", fails)
    with caplog.at_level(logging.ERROR):
        runner.run(one.send([HOST, length(BODY)], BODY))
    assert [event.get("status") for event in one.answered] == [500, None]
    assert b"inside" not in one.answered[1]["body"]
    assert "RuntimeError: the inside" in caplog.text


def test_who_is_cut_off_by_the_end_of_the_service_is_counted_as_anybody_is(
    way: tuple[Way, asyncio.Runner], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, runner = way

    async def cut_off(*_: object) -> bytes:
        raise asyncio.CancelledError

    monkeypatch.setattr(one.metrics, "take_one", cut_off)
    with pytest.raises(asyncio.CancelledError):
        runner.run(one.send([HOST, length(BODY)], BODY))
    [family, _] = one.log.collect()
    assert [(sample.labels["status"], sample.value) for sample in family.samples] == [("0", 1)]


def cores(number: int) -> JsonObject:
    return {"type": "CPU", "avg_utilization": 0.5, "avg_utilization_by_core": [0.5] * number}


def answers(client: httpx.Client, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    answer = client.post(METRICS, content=body, headers=headers)
    told = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    assert answer.headers["X-Request-ID"]
    return answer.status_code, told, answer.content


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((), ()),
        (("--max-users", "1"), ()),
        (("--max-series", "100"), ()),
        (("--agent-daily-reports", "1"), ("agent",)),
        (("--agent-daily-bytes", "300"), ("agent",)),
        (("--path-prefix", "/load"), ("other", "operator", "agent", "reader", "revoked", "nonsense")),
    ],
)
def test_nobody_can_tell_which_way_a_report_went(
    tmp_path: Path, arguments: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    """Two services are sent the same, one of them with a header that nobody knows."""
    bodies = [
        as_json(original("a")),
        as_json(original("a")),
        as_json(small("a", END_MS + 1000, agent=AGENT)),
        as_json(small("a", END_MS - 1000)),
        as_json(small("b", END_MS)),
        as_json(small("a", END_MS, mean=1.5)),
        b"{",
        as_json(original("a", end_timestamp=END_MS + 60_000)),
        as_json(small("a", END_MS + 90_000) | {"metrics": [cores(120)]}),
    ]
    tokens: list[tuple[str, Role, str]] = [
        ("agent", "agent", "a"), ("other", "agent", "b"), ("reader", "reader", "*"), ("operator", "operator", "*"),
        ("revoked", "agent", "a"),
    ]  # fmt: skip
    seen: list[list[object]] = []
    for way, headers in (("direct", {}), ("routed", ROUTED)):
        folder = tmp_path / way
        made = make_tokens(folder, *tokens) if shown else {}
        with RunningService(folder, *arguments) as service, service.client(headers=headers) as client:
            if arguments[:1] == ("--path-prefix",):
                client.base_url = httpx.URL(service.url.removesuffix(arguments[1]) + arguments[1])
            answered: list[object] = []
            for name in shown or ("nobody",):
                if shown:
                    client.headers.update(bearer(made.get(name, name)))
                # Agents are asked for something, where that is allowed.
                asked = client.put(
                    "/api/v1/settings", params={"selector": "all"}, json={"samples": 9}, headers={"If-None-Match": "*"}
                )
                answered += [asked.status_code, *(answers(client, body) for body in bodies)]
            seen.append(answered)
    assert seen[0] == seen[1]
    assert ("instructions" in repr(seen)) == (shown == () or "operator" in shown)


HEADERS = [
    ("Content-Type", "application/json"), ("Content-Type", "Application/X-NDJSON"), ("Content-Type", "text/plain; x"),
    ("Content-Type", "application/x-ndjson"), ("Accept", "text/html"), ("Accept-Encoding", "zstd;q=0, gzip"),
    ("Connection", "close"), ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"), ("X-Request-ID", "a b"),
    ("Origin", "http://localhost"), ("Sec-Fetch-Site", "cross-site"), ("Cookie", "a=b"), ("If-Match", "*"),
    ("Host", "rebound.example"), ("Authorization", "Bearer nonsense"), ("Authorization", "bearer  x"),
    ("Content-Encoding", "gzip"), ("Content-Encoding", "br"), ("Content-Encoding", "identity"),
]  # fmt: skip


def odd(dice: random.Random) -> tuple[bytes, list[tuple[str, str]], str]:
    """A body, headers and what stands behind the path: each of them right more often than not."""
    end_ms = END_MS + dice.choice([0, 1000, -1000, -(10**13), dice.randrange(10**6)])
    report = small(dice.choice(["a", "\u00fc", "a/b", "x" * 129]), end_ms, dice.choice([0.5, 1, 1.5, -0.0]))
    if dice.random() < 0.3:
        report[dice.choice(["agent", "labels", "processes", "os_version", "more"])] = dice.choice(
            [None, {}, [], "x", 5]
        )
    body = as_json(report)
    place = dice.randrange(len(body))
    body = dice.choice(
        [body] * 8
        + [
            body[:place], body[:place] + dice.randbytes(1) + body[place + 1 :], b"\xef\xbb\xbf" + body, b"\n" + body,
            body + b"\n" + body, b"[" + body + b"]", body + b"}",
            body.replace(b'"user_id"', b'"user_id":"b","user_id"'),
        ]
    )  # fmt: skip
    headers = dice.sample(HEADERS, dice.choice([0, 0, 1, 1, 2, 4]))
    if ("Content-Encoding", "gzip") in headers and dice.random() < 0.7:
        body = gzip.compress(body, mtime=0)
    return body, headers, dice.choice(["", "", "", "?x=1&x=2", "?%zz", "/"])


@pytest.mark.server
def test_nobody_can_tell_from_what_is_odd_either(tmp_path: Path) -> None:
    seen: list[list[object]] = []
    for way, more in (("direct", []), ("routed", [*ROUTED.items()])):
        dice = random.Random(1)
        with RunningService(tmp_path / way, "--max-users", "3") as service, service.client() as client:
            answered: list[object] = []
            for _ in range(400):
                body, headers, behind = odd(dice)
                answer = client.post(METRICS + behind, content=body, headers=headers + more)
                told = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
                answered.append((answer.status_code, told, answer.content))
            seen.append(answered)
    assert seen[0] == seen[1]
    statuses = {answer[0] for answer in seen[0]}  # type: ignore[index]
    assert statuses >= {202, 400, 403, 404, 415, 421, 422}


@pytest.mark.parametrize(("accepted", "coding"), [(b"gzip", b"gzip"), (b"identity", None)])
def test_long_answers_come_as_small_as_the_agent_accepts(
    way: tuple[Way, asyncio.Runner], monkeypatch: pytest.MonkeyPatch, accepted: bytes, coding: bytes | None
) -> None:
    one, runner = way
    long = b"instructions " * 200

    async def tells(*_: object) -> bytes:
        return long

    monkeypatch.setattr(one.metrics, "take_one", tells)
    runner.run(one.send([HOST, length(BODY), (b"accept-encoding", accepted)], BODY))
    headers, body = dict(one.answered[0]["headers"]), one.answered[1]["body"]
    assert headers.get(b"content-encoding") == coding
    assert headers[b"content-length"] == b"%d" % len(body)
    assert (gzip.decompress(body) if coding else body) == long


def test_anybody_is_who_shows_no_token() -> None:
    access = RequireOwnHost("127.0.0.1")
    assert access.identity_at_once("localhost:80", None, "192.0.2.1") is ANYBODY
    assert access.identity_at_once("rebound.example", None, "192.0.2.1") is None
