"""What a token may take: who is over it is told when to come back, and nobody else at its address waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from service.credentials.identity import ANYBODY, Identity
from service.http.problems import HTTPProblem
from service.http.token_limits import AddressLimit, TokenLimits
from service.settings import ServiceSettings
from tests.support.access import bearer, make_tokens
from tests.support.reports import END_MS, METRICS, JsonObject, small
from tests.support.running import RunningService, wait_until

AGENT, READER = Identity("agent", "web-1", "a"), Identity("reader", "*", "r")


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def refused(limits: TokenLimits, identity: Identity) -> dict[str, str]:
    """What the answer to one more request says, which is refused."""
    with pytest.raises(HTTPProblem) as caught:
        limits.request(identity)
    assert caught.value.status_code == 429
    return dict(caught.value.headers or {})


def test_requests_are_averaged_over_a_minute_and_counted_by_token() -> None:
    clock = Clock()
    limits = TokenLimits(ServiceSettings(token_requests=2), clock)
    for _ in range(120):
        limits.request(READER)
    headers = refused(limits, READER)
    assert headers["Retry-After"] == "1"
    assert headers["RateLimit-Policy"] == '"requests";q=120;w=60'
    assert headers["RateLimit"] == '"requests";r=0;t=1'
    limits.request(AGENT)
    clock.now_s = 0.5
    limits.request(READER)
    refused(limits, READER)


@pytest.mark.parametrize(
    "shared",
    [ANYBODY, Identity("agent", token="token"), Identity("admin", token="operator"), Identity("enrolment", "*", "e")],
)
def test_what_many_share_has_no_limit(shared: Identity) -> None:
    limits = TokenLimits(
        ServiceSettings(token_requests=1, token_streams=1, agent_daily_bytes=1, agent_daily_reports=1), Clock()
    )
    for _ in range(100):
        limits.request(shared)
        limits.begin_stream(shared)
        limits.took_bytes(shared, 1000)
        limits.took_reports(shared, 10)
        limits.check_reports(shared)


def test_zero_is_no_limit() -> None:
    none = ServiceSettings(token_requests=0, token_streams=0, agent_daily_bytes=0, agent_daily_reports=0)
    limits = TokenLimits(none, Clock())
    for _ in range(1000):
        limits.request(AGENT)
        limits.begin_stream(AGENT)
        limits.took_bytes(AGENT, 10**9)
        limits.took_reports(AGENT, 10**6)
        limits.check_reports(AGENT)


def test_requests_of_an_address_are_counted_whoever_asks_and_come_back() -> None:
    clock = Clock()
    limit = AddressLimit(2, clock)
    for place in range(120):
        limit.count(f"2001:db8::{place:x}")
    with pytest.raises(HTTPProblem) as caught:
        limit.count("2001:db8::ffff")
    assert caught.value.status_code == 429
    assert dict(caught.value.headers or {})["RateLimit-Policy"] == '"requests of an address";q=120;w=60'
    limit.count("2001:db8:1::1")
    limit.count("192.0.2.1")
    clock.now_s = 0.5
    limit.count("2001:db8::1")


def test_a_days_reports_come_back_over_the_day() -> None:
    clock = Clock()
    limits = TokenLimits(ServiceSettings(agent_daily_reports=24), clock)
    limits.check_reports(AGENT)
    limits.took_reports(AGENT, 24)
    with pytest.raises(HTTPProblem) as caught:
        limits.check_reports(AGENT)
    assert dict(caught.value.headers or {})["RateLimit"] == '"reports";r=0;t=3600'
    clock.now_s = 3600.0
    limits.check_reports(AGENT)


# With a service


TOKENS = (
    ("operator", "operator", "*"), ("reader", "reader", "*"), ("other", "reader", "*"),
    ("web-1", "agent", "web-1"), ("web-2", "agent", "web-2"),
)  # fmt: skip


@contextmanager
def limited(folder: Path, *arguments: str) -> Iterator[tuple[RunningService, httpx.Client, dict[str, str]]]:
    """A service with limits, a client of it, and tokens by name."""
    tokens = make_tokens(folder / "data", *TOKENS)  # type: ignore[arg-type]  # the roles are roles
    with RunningService(folder / "data", *arguments) as service, service.client() as client:
        yield service, client, tokens
        assert "Traceback" not in service.log


def report(client: httpx.Client, token: str, *reports: JsonObject) -> httpx.Response:
    return client.post(METRICS, json=[*reports] if len(reports) > 1 else reports[0], headers=bearer(token))


@pytest.mark.server
def test_a_token_that_asks_too_often_waits_and_others_at_its_address_do_not(tmp_path: Path) -> None:
    with limited(tmp_path, "--token-requests", "1") as (service, client, tokens):
        found: list[httpx.Response] = []

        def is_refused() -> bool:
            answers = [client.get("/api/v1/identity", headers=bearer(tokens["reader"])) for _ in range(50)]
            found.extend(answer for answer in answers if answer.status_code == 429)
            return bool(found)

        wait_until(is_refused, "a request over the limit", 60)
        assert int(found[0].headers["Retry-After"]) >= 1
        assert found[0].headers["RateLimit"].startswith('"requests";r=0;t=')
        assert found[0].headers["Content-Type"] == "application/problem+json"
        assert client.get("/api/v1/identity", headers=bearer(tokens["other"])).status_code == 200
        wait_until(lambda: "gets 429" in service.log, "a line of the log", 60)
        assert tokens["reader"] not in service.log


@pytest.mark.server
def test_an_agent_over_its_reports_of_a_day_waits_and_nothing_of_others_does(tmp_path: Path) -> None:
    with limited(tmp_path, "--agent-daily-reports", "3") as (_, client, tokens):
        three = [small("web-1", END_MS + place * 1000) for place in range(3)]
        assert report(client, tokens["web-1"], *three[:2]).status_code == 202
        assert report(client, tokens["web-1"], three[2]).status_code == 202
        refused = report(client, tokens["web-1"], small("web-1", END_MS + 10_000))
        assert refused.status_code == 429
        assert refused.headers["RateLimit-Policy"] == '"reports";q=3;w=86400'
        assert int(refused.headers["Retry-After"]) > 3600
        assert report(client, tokens["web-2"], small("web-2", END_MS)).status_code == 202
        for place in range(5):
            assert report(client, tokens["operator"], small("web-3", END_MS + place * 1000)).status_code == 202


@pytest.mark.server
def test_an_agents_bytes_of_a_day_are_counted_those_of_wrong_reports_too(tmp_path: Path) -> None:
    with limited(tmp_path, "--agent-daily-bytes", "1000") as (_, client, tokens):
        assert report(client, tokens["web-1"], {"user_id": "web-1", "x": "y" * 1000}).status_code == 422
        refused = report(client, tokens["web-1"], small("web-1", END_MS))
        assert refused.status_code == 429
        assert refused.headers["RateLimit-Policy"] == '"bytes of reports";q=1000;w=86400'
        assert report(client, tokens["web-2"], small("web-2", END_MS)).status_code == 202


@pytest.mark.server
def test_a_token_has_so_many_streams_until_one_ends(tmp_path: Path) -> None:
    with limited(tmp_path, "--token-streams", "1") as (service, client, tokens):

        def opened(name: str) -> int:
            with client.stream("GET", "/api/v1/stream", headers=bearer(tokens[name])) as answer:
                return answer.status_code

        with client.stream("GET", "/api/v1/stream", headers=bearer(tokens["reader"])) as first:
            assert next(first.iter_lines()).startswith("retry")
            refused = client.get("/api/v1/stream", headers=bearer(tokens["reader"]))
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) > 0
            assert refused.headers["RateLimit-Policy"] == '"streams";q=1;qu="concurrent-requests"'
            assert opened("other") == 200
            url = service.url.replace("http", "ws") + "/api/v1/stream"
            with connect(url, additional_headers=bearer(tokens["reader"]), open_timeout=60) as second:
                with pytest.raises(ConnectionClosed):
                    second.recv(60)
                assert second.close_code == 1013
        wait_until(lambda: opened("reader") == 200, "the end of the stream", 60)


@pytest.mark.server
def test_who_guesses_cookies_waits_and_who_is_signed_in_does_not(tmp_path: Path) -> None:
    with limited(tmp_path, "--failed-sign-ins", "1") as (_, client, tokens):
        ours = {"Sec-Fetch-Site": "same-origin"}
        signed = client.post("/sign-in", data={"token": tokens["reader"]}, headers=ours)
        cookie = signed.headers["Set-Cookie"].partition(";")[0]
        client.cookies.clear()
        answers = [
            client.get("/api/v1/users", headers=ours | {"Cookie": f"loadlens={guess}"})
            for guess in ("guess", cookie.partition("=")[2][:-1])
        ]
        assert [answer.status_code for answer in answers] == [401, 429]
        assert answers[1].headers["RateLimit-Policy"] == '"wrong tokens";q=1;w=60'
        assert client.get("/api/v1/users", headers=ours | {"Cookie": cookie}).status_code == 200


@pytest.mark.server
def test_an_address_that_asks_too_often_waits_with_any_token_and_health_is_still_told(tmp_path: Path) -> None:
    with limited(tmp_path, "--address-requests", "1") as (_, client, tokens):
        found: list[httpx.Response] = []

        def is_refused() -> bool:
            answers = [client.get("/api/v1/identity", headers=bearer(tokens["reader"])) for _ in range(50)]
            found.extend(answer for answer in answers if answer.status_code == 429)
            return bool(found)

        wait_until(is_refused, "a request over the limit", 60)
        assert int(found[0].headers["Retry-After"]) >= 1
        assert found[0].headers["RateLimit"].startswith('"requests of an address";r=0;t=')
        assert client.get("/healthz").status_code == 200
