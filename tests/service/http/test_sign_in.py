"""A person signs in with a token once; the browser's cookie is good for the same, here, until it ends."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.access import bearer, make_tokens
from tests.support.dashboards import signed_in
from tests.support.reports import METRICS, original
from tests.support.running import RunningService

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.server

HTML = {"Accept": "text/html,application/xhtml+xml"}
OURS = {"Sec-Fetch-Site": "same-origin"}
_MADE = """fetch("/api/v1/silences", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({duration: "1h"})
}).then(answer => answer.status)"""
_HEARD = """new Promise(done => {
  const stream = new EventSource("/api/v1/stream");
  stream.onopen = () => done("open");
})"""
NAMES = ("admin", "operator", "reader", "agent", "enrolment")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signing") / "data"


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return make_tokens(
        folder, ("admin", "admin", "*"), ("operator", "operator", "*"), ("reader", "reader", "*"),
        ("agent", "agent", "web-1"), ("enrolment", "enrolment", "*"), ("leaving", "reader", "*"),
        ("expired", "reader", "*"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def service(folder: Path, tokens: dict[str, str]) -> Iterator[RunningService]:
    with RunningService(folder) as service:
        with service.client(headers=bearer(tokens["admin"])) as client:
            assert client.post(METRICS, json=original("web-1")).status_code == 202
        yield service
        assert "Traceback" not in service.log
        for token in tokens.values():
            assert token not in service.log


def sign_in(client: httpx.Client, token: str, following: str = "/reports", **headers: str) -> httpx.Response:
    return client.post("/sign-in", data={"token": token, "next": following}, headers=OURS | headers)


def test_a_browser_is_led_to_sign_in_and_a_program_is_not(service: RunningService) -> None:
    with service.client() as client:
        led = client.get("/host?id=web-1&range=6h", headers=HTML)
        assert led.status_code == 303
        page = client.get(led.headers["Location"], headers=HTML)
        assert page.status_code == 200
        assert "/host?id=web-1&amp;range=6h" in page.text
        assert "script" not in page.headers["Content-Security-Policy"]
        assert client.get("/host").status_code == 401
        assert client.get("/host", headers=HTML | {"Authorization": "Bearer x"}).status_code == 401


def test_the_cookie_is_for_this_service_alone_and_no_script_reads_it(
    service: RunningService, tokens: dict[str, str]
) -> None:
    with service.client() as client:
        signed = sign_in(client, tokens["reader"])
        assert (signed.status_code, signed.headers["Location"]) == (303, "/reports")
        cookie = signed.headers["Set-Cookie"]
        for part in ("HttpOnly", "SameSite=Strict", "Path=/", "expires="):
            assert part in cookie
        assert "Domain" not in cookie
        assert signed.headers["Cache-Control"] == "no-store"
        assert "Secure" not in cookie  # it came over plain HTTP
        assert tokens["reader"][22:] not in cookie
        for path in ("/", "/docs", "/machines", "/api/v1/users", "/openapi.json", "/api/v1/rules"):
            assert client.get(path, headers=HTML).status_code == 200, path
        assert client.get("/api/v1/identity").json()["role"] == "reader"
        report = client.get("/reports/users/web-1?last=1h", headers={"Accept": "application/json"})
        assert report.status_code in (200, 404), report.text
        assert client.get("/api/v1/tokens").status_code == 403


@pytest.mark.parametrize("name", ["agent", "enrolment", "expired", "nothing", ""])
def test_what_is_no_persons_token_signs_nobody_in(service: RunningService, tokens: dict[str, str], name: str) -> None:
    with service.client() as client:
        refused = sign_in(client, tokens.get(name, name))
        assert refused.status_code == (403 if name in NAMES else 401)
        assert "Set-Cookie" not in refused.headers
        assert 'role="alert"' in refused.text


@pytest.mark.parametrize(
    "following",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
        "http:evil.example", "/%0d%0aSet-Cookie:x=1\r\nX: y", "data:text/html,x", "", "evil.example",
        "//[", "//a\u2100b", "https://[x]/",
    ],
)  # fmt: skip
def test_nobody_is_led_elsewhere(service: RunningService, tokens: dict[str, str], following: str) -> None:
    with service.client() as client:
        assert sign_in(client, tokens["reader"], following).headers["Location"] == "/"
        assert 'href="/"' in client.get("/sign-in", params={"next": following}).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_cookie_changes_nothing_for_a_page_of_another_site(
    service: RunningService, tokens: dict[str, str], headers: dict[str, str]
) -> None:
    with service.client() as client:
        sign_in(client, tokens["admin"])
        for method, path, body in (
            ("PUT", "/api/v1/settings", {"paused": True}),
            ("POST", "/api/v1/tokens", {"name": "x", "role": "admin"}),
            ("POST", METRICS, original("web-1")),
            ("POST", "/sign-out", None),
        ):
            answer = client.request(method, path, json=body, headers=headers)
            assert answer.status_code in (401, 403), path
        if headers:
            assert client.get("/api/v1/users", headers=headers).status_code == 401
        ours = client.post("/api/v1/annotations", json={"text": "x"}, headers=OURS)
        assert ours.status_code == 201


def test_a_foreign_page_signs_nobody_in(service: RunningService, tokens: dict[str, str]) -> None:
    with service.client() as client:
        foreign = sign_in(client, tokens["reader"], **{"Sec-Fetch-Site": "cross-site"})
        assert foreign.status_code == 403
        assert "Set-Cookie" not in foreign.headers


def test_a_cookie_that_was_ended_is_replayed_in_vain(service: RunningService, tokens: dict[str, str]) -> None:
    with service.client() as client, service.client() as thief:
        sign_in(client, tokens["operator"])
        thief.cookies = httpx.Cookies(dict(client.cookies))
        assert thief.get("/api/v1/users").status_code == 200
        out = client.post("/sign-out", content="", headers=OURS | {"Content-Type": "application/x-www-form-urlencoded"})
        assert out.headers["Location"] == "/sign-in"
        assert "1970" in out.headers["Set-Cookie"]
        assert thief.get("/api/v1/users").status_code == 401
        (name, value), *_ = dict(thief.cookies).items()
        for wrong in (
            value[:-1],
            value + "x",
            value.partition(".")[0] + ".",
            "." + value,
            "x." * 1000,
            tokens["operator"],
        ):
            assert httpx.get(f"{service.url}/api/v1/users", cookies={name: wrong}, trust_env=False).status_code == 401


def test_sessions_are_listed_and_ended_and_end_with_their_token(
    service: RunningService, tokens: dict[str, str]
) -> None:
    admin = bearer(tokens["admin"])
    with service.client() as client, service.client() as other, service.client() as asking:
        sign_in(client, tokens["leaving"], **{"User-Agent": "first <b>"})
        sign_in(other, tokens["leaving"], **{"User-Agent": "second"})
        mine = client.get("/api/v1/sessions").json()["sessions"]
        assert {session["browser"] for session in mine} == {"first <b>", "second"}
        assert "secret" not in str(mine)
        page = client.get("/sign-in", headers=HTML).text
        assert "second" in page
        assert "<b>" not in page
        (ended,) = re.findall(r'name="session" value="(\w+)"', page)
        client.post("/sign-out", data={"session": ended}, headers=OURS)
        assert other.get("/api/v1/users").status_code == 401
        assert client.get("/api/v1/users").status_code == 200
        of_all = asking.get("/api/v1/sessions", headers=admin).json()["sessions"]
        (operators,) = ({one["id"] for one in of_all if one["role"] == "admin"} or {"x"},)
        assert client.delete(f"/api/v1/sessions/{next(iter(operators))}", headers=OURS).status_code == 404
        token = asking.get("/api/v1/identity", headers=bearer(tokens["leaving"])).json()["token"]
        assert asking.delete(f"/api/v1/tokens/{token}", headers=admin).status_code == 204
        assert client.get("/api/v1/users").status_code == 401


def test_who_signs_in_anew_leaves_no_session_behind(service: RunningService, tokens: dict[str, str]) -> None:
    with service.client() as client, service.client() as thief:
        sign_in(client, tokens["operator"])
        thief.cookies = httpx.Cookies(dict(client.cookies))
        sign_in(client, tokens["reader"])
        assert client.get("/api/v1/identity").json()["role"] == "reader"
        assert thief.get("/api/v1/identity").status_code == 401


def test_who_signs_in_counts_as_one_who_asks(tmp_path: Path) -> None:
    token = make_tokens(tmp_path / "data", ("me", "reader", "*"))["me"]
    with RunningService(tmp_path / "data", "--token-requests", "1") as service, service.client() as client:
        for _ in range(400):  # 60 at once, and one more each second
            answer = client.post("/sign-in", data={"token": token}, headers=OURS)
            if answer.status_code != 303:
                break
        assert answer.status_code == 429
        assert "RateLimit" in answer.headers


def test_a_session_ends_with_the_text_that_it_began_with(tmp_path: Path) -> None:
    tokens = make_tokens(tmp_path / "data", ("me", "reader", "*"), ("admin", "admin", "*"))
    with RunningService(tmp_path / "data") as service, service.client() as client, service.client() as asking:
        sign_in(client, tokens["me"])
        token = client.get("/api/v1/identity").json()["token"]
        rotated = asking.post(f"/api/v1/tokens/{token}/rotate", json={"overlap": "1h"}, headers=bearer(tokens["admin"]))
        cookies = dict(client.cookies)
        service.stop()
    with RunningService(tmp_path / "data") as service, service.client(cookies=cookies) as client:
        with service.client() as asking, service.client() as fresh:
            sign_in(fresh, rotated.json()["token"])
            assert client.get("/api/v1/users").status_code == 200
            asking.post(f"/api/v1/tokens/{token}/rotate", json={"overlap": "1h"}, headers=bearer(tokens["admin"]))
            assert client.get("/api/v1/users").status_code == 401
            assert fresh.get("/api/v1/users").status_code == 200


def test_a_session_goes_on_over_a_restart(tmp_path: Path) -> None:
    token = make_tokens(tmp_path / "data", ("me", "reader", "*"))["me"]
    with RunningService(tmp_path / "data") as service, service.client() as client:
        sign_in(client, token)
        cookies = dict(client.cookies)
        service.stop()
    with RunningService(tmp_path / "data") as service, service.client(cookies=cookies) as client:
        assert client.get("/api/v1/identity").json()["role"] == "reader"


def test_without_tokens_nobody_needs_to_sign_in(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service, service.client() as client:
        assert client.get("/", headers=HTML).status_code == 200
        assert "Nobody needs to sign in" in client.get("/sign-in", headers=HTML).text


def test_dashboard_reports_and_docs_work_signed_in(
    browser: "Browser", service: RunningService, tokens: dict[str, str]
) -> None:
    with signed_in(browser, service, tokens["operator"], "/agents") as seen:
        page = seen.page
        seen.go("/")
        assert page.locator("main").inner_text()
        page.goto(f"{service.url}/docs")
        assert "Loadlens" in page.title() or page.locator("section").count() > 10
        page.goto(f"{service.url}/machines")
        page.get_by_role("link", name="web-1").first.click()
        page.wait_for_selector("h1")
        seen.go("/")
        assert page.evaluate(_MADE) == 201
        assert page.evaluate(_HEARD) == "open"
        assert page.evaluate("document.cookie") == ""
        assert [text for text in seen.complaints if "404" not in text] == []
        page.goto(f"{service.url}/sign-in")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        page.goto(service.url)
        page.get_by_label("Token").wait_for()
