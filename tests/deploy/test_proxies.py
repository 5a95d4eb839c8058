"""The samples in deploy/proxy, before a service under a path: all that works without a proxy works through one."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as plainly

import analytics
from contract import times
from service.http.resources.page import VIEWS
from tests.support.access import bearer, make_tokens
from tests.support.agents import RunningAgent
from tests.support.dashboards import Dashboard
from tests.support.proxies import CLIENT, NAMES, PREFIX, Proxy, proxied
from tests.support.reports import METRICS, original
from tests.support.running import ROOT, RunningService, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.server

HTML = {"Accept": "text/html"}
LINK = re.compile(r"""(?:href|src|action)="([^"#?]*)""")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxied")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return make_tokens(folder / "data", ("admin", "admin", "*"), ("agent", "agent", "test"), ("people", "reader", "*"))


@pytest.fixture(scope="module")
def service(folder: Path, tokens: dict[str, str]) -> Iterator[RunningService]:
    with RunningService(folder / "data", "--path-prefix", PREFIX, "--trusted-proxies", "127.0.0.1") as service:
        assert urlsplit(service.url).path == PREFIX
        yield service
        assert "Traceback" not in service.log


@pytest.fixture(scope="module", params=NAMES)
def proxy(request: pytest.FixtureRequest, folder: Path, service: RunningService) -> Iterator[Proxy]:
    with proxied(request.param, folder / request.param, service.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with proxy.client(headers=bearer(tokens["admin"])) as client:
        yield client


def test_reports_come_in_and_history_is_answered(client: httpx.Client, proxy: Proxy, tokens: dict[str, str]) -> None:
    for user in ("web-1", "rack/7"):
        assert client.post(METRICS, json=original(user)).status_code == 202
        values = client.get(f"/api/v1/metrics/cpuLoadAvg/byUser/{user.replace('/', '%2F')}")
        assert values.status_code == 200, values.text
        assert values.json()
    with analytics.connect(proxy.url, tokens["people"], ca_file=proxy.ca.path) as source:
        assert {"web-1", "rack/7"} <= {user["user_id"] for user in client.get("/api/v1/users").json()["users"]}
        assert len(source.users()) >= 2


def test_a_slash_in_a_name_stays_part_of_it(client: httpx.Client) -> None:
    changed = client.put("/api/v1/agents/rack%2F7/settings", json={"paused": True}, headers={"If-Match": "*"})
    assert changed.status_code in (200, 201), changed.text
    layer = client.get("/api/v1/agents/rack%2F7/settings")
    assert "true" in layer.text
    tag = {"If-Match": layer.headers["ETag"]}
    assert client.delete("/api/v1/agents/rack%2F7/settings", headers=tag).status_code in (200, 204)


def test_an_agent_hears_what_is_asked_of_it(
    client: httpx.Client, proxy: Proxy, tokens: dict[str, str], tmp_path: Path
) -> None:
    def agents(**asked: object) -> list[dict[str, Any]]:
        answer = client.get("/api/v1/agents", params={"selector": "agent:test", **asked})  # type: ignore[dict-item]
        return list(answer.json()["agents"])

    options = ("--url", proxy.url, "--ca-file", str(proxy.ca.path), "--spool-dir", str(tmp_path))
    with RunningAgent(*options, environment={"LOADLENS_TOKEN": tokens["agent"]}):
        wait_until(lambda: bool(agents(connected="true")), "the agent's stream")
        asked = client.post("/api/v1/agents/test/commands", json={"command": "report_now"})
        assert asked.status_code == 202, asked.text
        assert asked.headers["Location"].startswith(f"{PREFIX}/api/v1/commands/")
        place = asked.headers["Location"].removeprefix(PREFIX)
        wait_until(lambda: client.get(place).json()["status"] == "done", "the command's end")


def test_the_live_stream_is_followed_as_events_and_over_a_websocket(
    client: httpx.Client, proxy: Proxy, tokens: dict[str, str]
) -> None:
    user = f"live-{proxy.port}"
    url = f"{proxy.url.replace('https', 'wss')}/api/v1/stream?user={user}"

    def report_and_hear() -> None:
        with client.stream("GET", "/api/v1/stream", params={"user": user}) as events:
            lines = events.iter_lines()
            assert next(lines).startswith("retry:")
            assert client.post(METRICS, json=original(user)).status_code == 202
            heard = next(line for line in lines if line.startswith("data:"))
            assert json.loads(heard.removeprefix("data:"))["user_id"] == user

    async def told() -> str:
        # The client with threads reads and writes at once on an SSLSocket, which loses answers before Python 3.13.
        shown: dict[str, Any] = {"additional_headers": bearer(tokens["people"]), "ssl": proxy.context}
        async with asyncio.timeout(120), connect(url, **shown, proxy=None, open_timeout=60) as websocket:
            await asyncio.to_thread(report_and_hear)
            async for message in websocket:
                for one in map(json.loads, str(message).splitlines()):
                    if "report" in one:
                        return str(one["report"]["user_id"])
        raise AssertionError("expected the report, got the end of the stream")

    # Where a browser is open its loop has this thread.
    with ThreadPoolExecutor(1) as beside:
        assert beside.submit(asyncio.run, told()).result() == user


def test_a_browser_signs_in_under_the_path(proxy: Proxy, tokens: dict[str, str]) -> None:
    ours = {"Sec-Fetch-Site": "same-origin", "Origin": proxy.origin}
    with proxy.client(headers=HTML) as client:
        led = client.get("/host?id=web-1")
        assert led.status_code == 303
        assert led.headers["Location"].startswith(f"{PREFIX}/sign-in?")
        signed = client.post("/sign-in", data={"token": tokens["people"], "next": f"{PREFIX}/agents"}, headers=ours)
        assert (signed.status_code, signed.headers["Location"]) == (303, f"{PREFIX}/agents")
        cookie = signed.headers["Set-Cookie"]
        assert cookie.startswith("__Secure-loadlens=")
        for part in (f"Path={PREFIX}", "Secure", "HttpOnly", "SameSite=Strict"):
            assert part in cookie
        sessions = client.get("/api/v1/sessions").json()["sessions"]
        assert CLIENT in {session["address"] for session in sessions}
        out = client.post("/sign-out", headers=ours, data={"session": ""})
        assert (out.status_code, out.headers["Location"]) == (303, f"{PREFIX}/sign-in")
        assert client.get("/api/v1/sessions", headers={"Accept": "application/json"}).status_code == 401


@pytest.mark.parametrize("following", ["/", "/other/", "/loadlensx", "//loadlens/", f"{PREFIX}/../other", "https://x/"])
def test_nobody_is_led_out_of_the_path(proxy: Proxy, tokens: dict[str, str], following: str) -> None:
    with proxy.client(headers={"Sec-Fetch-Site": "same-origin"}) as client:
        signed = client.post("/sign-in", data={"token": tokens["people"], "next": following})
        assert signed.headers["Location"] == f"{PREFIX}/"


def test_every_link_of_the_pages_leads_under_the_path(client: httpx.Client) -> None:
    pages = [*VIEWS, "/machines", "/docs", "/sign-in", "/reports/fleet"]
    followed = set()
    assert client.post(METRICS, json=original("web-1")).status_code == 202
    for page in pages:
        answer = client.get(page, headers=HTML)
        assert answer.status_code == 200, page
        links = {link for link in LINK.findall(answer.text) if not link.startswith(("http", "data:"))} - {""}
        assert not {link for link in links if not link.startswith(f"{PREFIX}/")}, page
        followed |= links
    for link in sorted(followed):
        assert client.get(link.removeprefix(PREFIX)).status_code in (200, 405), link
    assert client.get("/openapi.json").json()["servers"] == [{"url": f"{PREFIX}/"}]
    assert client.get("", headers=HTML).status_code in (200, 308)


def test_the_dashboard_works_under_the_path(proxy: Proxy, tokens: dict[str, str], browser: "Browser") -> None:
    now_ms = times.now_ms()
    fresh = original("web-1", start_timestamp=now_ms - 125_000, end_timestamp=now_ms - 120_000)
    with proxy.client(headers=bearer(tokens["admin"])) as client:
        assert client.post(METRICS, json=fresh).status_code == 202
    context = browser.new_context(ignore_https_errors=True)
    try:
        seen = Dashboard(context.new_page(), SimpleNamespace(url=proxy.url))  # type: ignore[arg-type]
        seen.page.goto(f"{proxy.url}/?range=1h")
        seen.page.get_by_label("Token").fill(tokens["people"])
        seen.page.get_by_role("button", name="Sign in").click()
        seen.settled("/")
        for view, title in VIEWS.items():
            if title == "Host":
                seen.go("/host?id=web-1")
            else:
                seen.page.get_by_role("link", name=title, exact=True).first.click()
                seen.settled(view)
            assert urlsplit(seen.page.url).path == PREFIX + view
        seen.page.get_by_role("button", name="Make the report").click()
        seen.page.get_by_text("The report is made.").wait_for(timeout=120_000)
        with seen.page.expect_popup() as popup:
            seen.page.get_by_role("link", name="Read all of it").click()
        assert urlsplit(popup.value.url).path == f"{PREFIX}/reports/fleet"
        asked = {urlsplit(url).path for url in seen.asked}
        assert f"{PREFIX}/api/v1/stream" in asked
        assert all(path.startswith(f"{PREFIX}/") for path in asked)
        assert not seen.complaints
    finally:
        context.close()


def test_nothing_is_outside_of_the_path_but_health(service: RunningService, tokens: dict[str, str]) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", trust_env=False, timeout=60) as client:
        for path in ("/healthz", "/readyz", f"{PREFIX}/healthz"):
            assert client.get(path).status_code == 200
        for path in ("/", "/api/v1/users", "/sign-in", "/loadlensx/", "/LOADLENS/", "/%6coadlens/api/v1/users"):
            refused = client.get(path, headers=bearer(tokens["admin"]))
            assert (refused.status_code, refused.json()["status"]) == (404, 404)
        websocket = f"ws://127.0.0.1:{service.port}/api/v1/stream"
        with (
            suppress(InvalidStatus),
            plainly(websocket, additional_headers=bearer(tokens["admin"]), proxy=None, open_timeout=60) as opened,
        ):
            raise AssertionError(f"expected no WebSocket, got {opened}")


def test_traefiks_sample_leads_to_the_service_and_hands_its_paths_on() -> None:
    sample = yaml.safe_load((ROOT / "deploy" / "proxy" / "traefik.yml").read_text())["http"]
    router = sample["routers"]["loadlens"]
    balancer = sample["services"][router["service"]]["loadBalancer"]
    assert f"PathPrefix(`{PREFIX}/`)" in router["rule"]
    assert "middlewares" not in router  # none that takes the path away
    assert balancer["passHostHeader"] is True
