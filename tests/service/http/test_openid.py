"""People sign in at an OpenID Connect provider; what is not exactly right lets nobody in."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.support.access import bearer, make_tokens
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider, providing
from tests.support.reports import METRICS, original
from tests.support.running import RunningService, clean_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.server

PAGE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
BACK = {"Sec-Fetch-Site": "cross-site", "Accept": "text/html"}
"""What a browser says when the provider's page leads it back."""
ROLES = ("sre=operator", "cn=boss=admin", "web=reader:web-*", "staff=reader")


@pytest.fixture(scope="module")
def shared() -> Iterator[OpenIdProvider]:
    with providing() as provider:
        yield provider


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openid")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return make_tokens(folder / "data", ("admin", "admin", "*"))


@pytest.fixture(scope="module")
def service(folder: Path, shared: OpenIdProvider, tokens: dict[str, str]) -> Iterator[RunningService]:
    with started(folder / "data", shared) as service:
        with service.client(headers=bearer(tokens["admin"])) as client:
            for user in ("web-1", "db-1"):
                assert client.post(METRICS, json=original(user)).status_code == 202
        yield service
        assert "Traceback" not in service.log
        assert CLIENT_SECRET not in service.log


@pytest.fixture
def provider(shared: OpenIdProvider) -> Iterator[OpenIdProvider]:
    """The provider, which answers as it should whatever the test before made of it."""
    fresh = OpenIdProvider(issuer=shared.issuer, keys=shared.keys)
    for name in ("claims", "change", "sign", "answer", "described", "down"):
        setattr(shared, name, getattr(fresh, name))
    return shared


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def started(folder: Path, provider: OpenIdProvider, path: str = "", *, more: tuple[str, ...] = ()) -> RunningService:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = {
        "LOADLENS_OPENID_ISSUER": provider.issuer,
        "LOADLENS_OPENID_CLIENT_ID": CLIENT_ID,
        "LOADLENS_OPENID_CLIENT_SECRET": CLIENT_SECRET,
        "LOADLENS_PUBLIC_URL": f"http://127.0.0.1:{port}{path}",
        "LOADLENS_PATH_PREFIX": path,
        # What is on this machine is asked by no proxy.
        "http_proxy": "http://127.0.0.1:9",
    }
    return RunningService(
        folder, "--port", str(port), "--openid-roles", ",".join(ROLES), "--openid-scopes", "groups", *more,
        environment=clean_environment(**settings),
    )  # fmt: skip


def back_from_provider(client: httpx.Client, following: str = "/agents") -> str:
    """Go to the provider and have it let one in; the address that it sends the browser back to."""
    begun = client.get("/sign-in/openid", params={"next": following}, headers=PAGE)
    assert begun.status_code == 303, begun.text
    answered = httpx.get(begun.headers["Location"], trust_env=False)
    assert answered.status_code == 303
    return answered.headers["Location"]


def signed_in(client: httpx.Client) -> httpx.Response:
    return client.get(back_from_provider(client), headers=BACK)


def refused(client: httpx.Client, status: int = 401) -> str:
    """Sign in, which fails: no session, and a page that says why."""
    answer = signed_in(client)
    assert answer.status_code == status, answer.text
    assert 'role="alert"' in answer.text
    assert "loadlens=" not in answer.headers.get("Set-Cookie", "").replace("loadlens-sign-in=", "")
    assert client.get("/api/v1/identity").status_code == 401
    return answer.text


def test_a_person_signs_in_with_the_role_of_their_group(client: httpx.Client, provider: OpenIdProvider) -> None:
    assert urlsplit(provider.issuer).netloc in client.get("/sign-in").text
    back = back_from_provider(client)
    asked = provider.asked[-1]
    assert asked["scope"] == "openid groups"
    assert len(asked["state"]) >= 40
    assert len(asked["nonce"]) >= 40
    assert [*client.cookies] == ["loadlens-sign-in"]
    answer = client.get(back, headers=BACK)
    assert answer.status_code == 200
    assert 'content="0; url=/agents"' in answer.text  # a page of ours leads on: a redirect would be the provider's
    (cookie,) = (one for one in answer.headers.get_list("Set-Cookie") if one.startswith("loadlens="))
    for part in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert part in cookie
    assert [*client.cookies] == ["loadlens"]
    who = client.get("/api/v1/identity", headers=PAGE).json()
    assert (who["role"], who["token"]) == ("operator", "openid:alice")
    silenced = client.post("/api/v1/silences", json={"duration": "1h"}, headers=PAGE)
    assert silenced.status_code in (201, 200)
    assert "openid:alice" in client.get("/api/v1/audit", headers=PAGE).text


@pytest.mark.parametrize(
    ("groups", "role", "scope"),
    [
        (["staff"], "reader", "*"),
        (["web", "staff"], "reader", "web-*"),
        (["staff", "sre"], "operator", "*"),
        (["cn=boss"], "admin", "*"),
        ("staff", "reader", "*"),
    ],
)
def test_the_first_group_that_is_named_counts(
    client: httpx.Client, provider: OpenIdProvider, groups: object, role: str, scope: str
) -> None:
    provider.claims = {"sub": "bob", "groups": groups}
    assert signed_in(client).status_code == 200
    who = client.get("/api/v1/identity", headers=PAGE).json()
    assert (who["role"], who["scope"]) == (role, scope)
    if scope != "*":
        users = client.get("/api/v1/users", headers=PAGE).json()["users"]
        assert [user["user_id"] for user in users] == ["web-1"]
        assert client.get("/api/v1/metrics/cpuLoadAvg/byUser/db-1", headers=PAGE).status_code == 403


@pytest.mark.parametrize("groups", [None, [], ["others"], "sre ", ["SRE"], {"sre": True}, [["sre"]], 7, ["sre,staff"]])
def test_who_is_in_no_group_that_is_named_is_not_let_in(
    client: httpx.Client, provider: OpenIdProvider, groups: object
) -> None:
    provider.claims = {"sub": "eve"} | ({} if groups is None else {"groups": groups})
    assert "no group" in refused(client, 403)


CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another nonce": lambda claims: claims | {"nonce": "x" * 43},
    "no nonce": lambda claims: {name: value for name, value in claims.items() if name != "nonce"},
    "a list of nonces": lambda claims: claims | {"nonce": [claims["nonce"], "x"]},
    "another audience": lambda claims: claims | {"aud": "another"},
    "no audience": lambda claims: {name: value for name, value in claims.items() if name != "aud"},
    "several audiences": lambda claims: claims | {"aud": [CLIENT_ID, "another"]},
    "another party": lambda claims: claims | {"azp": "another"},
    "an end that is over": lambda claims: claims | {"exp": int(time.time()) - 3600},
    "no end": lambda claims: {name: value for name, value in claims.items() if name != "exp"},
    "an end that is no number": lambda claims: claims | {"exp": "2099-01-01"},
    "a beginning that is to come": lambda claims: claims | {"nbf": int(time.time()) + 3600},
    "made in times to come": lambda claims: claims | {"iat": int(time.time()) + 3600},
    "another issuer": lambda claims: claims | {"iss": "https://evil.example"},
    "an issuer with a slash": lambda claims: claims | {"iss": claims["iss"] + "/"},
    "no issuer": lambda claims: {name: value for name, value in claims.items() if name != "iss"},
    "nobody": lambda claims: {name: value for name, value in claims.items() if name != "sub"},
    "a number for a name": lambda claims: claims | {"sub": 7},
    "a name that steers terminals": lambda claims: claims | {"sub": "a\x1b[2J"},
    "a long name": lambda claims: claims | {"sub": "a" * 300},
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_id_token_with_a_wrong_claim_lets_nobody_in(
    client: httpx.Client, provider: OpenIdProvider, change: str
) -> None:
    provider.change = CHANGES[change]
    refused(client)


@pytest.mark.parametrize("signed", ["unsigned", "signed_by_public_key", "signed_by_another", "cut", "changed"])
def test_an_id_token_that_the_provider_has_not_signed_lets_nobody_in(
    client: httpx.Client, provider: OpenIdProvider, signed: str
) -> None:
    def changed(one: OpenIdProvider, claims: dict[str, Any]) -> str:
        head, _, end = one.signed(claims).split(".")
        return ".".join([head, one.signed(claims | {"sub": "boss"}).split(".")[1], end])

    provider.sign = {
        "unsigned": OpenIdProvider.unsigned,
        "signed_by_public_key": OpenIdProvider.signed_by_public_key,
        "signed_by_another": OpenIdProvider.signed_by_another,
        "cut": lambda one, claims: one.signed(claims).rpartition(".")[0] + ".",
        "changed": changed,
    }[signed]
    refused(client)


def test_a_new_key_of_the_provider_is_found(folder: Path, provider: OpenIdProvider, shared: OpenIdProvider) -> None:
    with providing() as other, started(folder / "renewed", other) as service, service.client() as client:
        other.renew_key()
        other.sign = lambda one, claims: one.signed(claims, "ES256")
        assert signed_in(client).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        lambda answer: answer | {"state": "x" * 43},
        lambda answer: {"code": answer["code"]},
        lambda answer: answer | {"state": ""},
        lambda answer: answer | {"code": "guessed"},
        lambda answer: {"state": answer["state"]},
        lambda answer: answer | {"iss": "https://evil.example"},
        lambda answer: {"state": answer["state"], "error": "access_denied", "error_description": "<script>"},
        lambda answer: answer | {"error": "server_error"},
    ],
    ids=[
        "another state", "no state", "an empty state", "another code", "no code", "another issuer", "denied",
        "a code and an error",
    ],
)  # fmt: skip
def test_an_answer_that_is_not_the_one_that_was_asked_for_lets_nobody_in(
    client: httpx.Client, provider: OpenIdProvider, answer: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    provider.answer = answer
    assert "<script>" not in refused(client)


def test_a_code_is_good_once(client: httpx.Client, provider: OpenIdProvider, service: RunningService) -> None:
    back = back_from_provider(client)
    kept = dict(client.cookies)
    assert client.get(back, headers=BACK).status_code == 200
    with service.client(cookies=kept) as again:
        assert again.get(back, headers=BACK).status_code == 401
        assert again.get("/api/v1/identity").status_code == 401
        # A code of one sign-in is none of another's: its verifier is not known there.
        begun = again.get("/sign-in/openid", headers=PAGE)
        state = parse_qs(urlsplit(begun.headers["Location"]).query)["state"][0]
        code = parse_qs(urlsplit(back_from_provider(client)).query)["code"][0]
        swapped = again.get("/sign-in/openid/callback", params={"state": state, "code": code}, headers=BACK)
        assert swapped.status_code == 401


def test_nobody_ends_a_sign_in_that_another_browser_has_begun(
    client: httpx.Client, provider: OpenIdProvider, service: RunningService
) -> None:
    back = back_from_provider(client)
    with service.client() as victim:
        assert victim.get(back, headers=BACK).status_code == 401
        assert not victim.cookies
    with service.client() as another:
        back_from_provider(another)
        assert another.get(back_from_provider(client), headers=BACK).status_code == 401


@pytest.mark.parametrize("following", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x"])
def test_nobody_is_led_elsewhere_afterwards(client: httpx.Client, provider: OpenIdProvider, following: str) -> None:
    assert 'content="0; url=/"' in client.get(back_from_provider(client, following), headers=BACK).text


def test_an_address_that_begins_very_many_sign_ins_waits_and_those_under_way_go_on(
    folder: Path, provider: OpenIdProvider, tokens: dict[str, str]
) -> None:
    with started(folder / "many", provider, more=("--failed-sign-ins", "1")) as service, service.client() as client:
        back = back_from_provider(client)
        waits = client.get("/sign-in/openid", headers=PAGE)
        assert waits.status_code == 429
        assert int(waits.headers["Retry-After"]) > 0
        assert client.get(back, headers=BACK).status_code == 200


def test_a_provider_that_is_away_is_named_and_tokens_still_let_in(
    folder: Path, provider: OpenIdProvider, tokens: dict[str, str]
) -> None:
    with providing() as other:
        other.down = True
        with started(folder / "away", other) as service, service.client() as client:
            away = client.get("/sign-in/openid", headers=PAGE)
            assert away.status_code == 503
            assert "status 503" in away.text
            other.down = False
            other.described = {"issuer": "https://evil.example"}
            assert client.get("/sign-in/openid", headers=PAGE).status_code == 503
            other.described = {"token_endpoint": "http://evil.example/token"}
            assert "not https" in client.get("/sign-in/openid", headers=PAGE).text
            other.described = {}
            assert client.get("/sign-in/openid", headers=PAGE).status_code == 303


def test_people_see_and_end_their_sessions_and_an_admin_everybodys(
    service: RunningService, provider: OpenIdProvider
) -> None:
    with service.client() as alice, service.client() as phone, service.client() as boss:
        provider.claims = {"sub": "carol", "groups": ["staff"]}
        assert signed_in(alice).status_code == 200
        assert signed_in(phone).status_code == 200
        provider.claims = {"sub": "boss", "groups": ["cn=boss"]}
        assert signed_in(boss).status_code == 200
        mine = alice.get("/api/v1/sessions", headers=PAGE).json()["sessions"]
        assert {one["token"] for one in mine} == {"openid:carol"}
        assert len(mine) == 2
        everybodys = boss.get("/api/v1/sessions", headers=PAGE).json()["sessions"]
        assert {"openid:carol", "openid:boss"} <= {one["token"] for one in everybodys}
        page = boss.get("/sign-in", headers=PAGE).text
        assert "openid:carol" in page
        assert "openid:boss" not in alice.get("/sign-in", headers=PAGE).text
        (bosses,) = (one["id"] for one in everybodys if one["token"] == "openid:boss")
        assert alice.delete(f"/api/v1/sessions/{bosses}", headers=PAGE).status_code == 404
        assert alice.post("/sign-out", data={"session": ""}, headers=PAGE).status_code == 303
        assert alice.get("/api/v1/identity").status_code == 401
        (left,) = phone.get("/api/v1/sessions", headers=PAGE).json()["sessions"]
        assert boss.delete(f"/api/v1/sessions/{left['id']}", headers=PAGE).status_code == 204
        assert phone.get("/api/v1/identity").status_code == 401


def test_in_a_browser_one_comes_back_to_where_one_wanted_to_go(
    service: RunningService, provider: OpenIdProvider, browser: "Browser"
) -> None:
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{service.url}/agents?range=6h")
        page.get_by_role("link", name="Sign in at").click()
        page.wait_for_selector('html[data-shown="/agents"]')
        assert page.url == f"{service.url}/agents?range=6h"
        page.get_by_role("link", name="Sign in or out").click()
        page.get_by_text("As openid:alice").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("link", name="Sign in at").wait_for()
        assert not context.cookies()
    finally:
        context.close()


def test_under_a_path_all_of_it_stays_there(folder: Path, provider: OpenIdProvider) -> None:
    with started(folder / "under", provider, "/loadlens") as service, service.client() as client:
        back = back_from_provider(client, "/loadlens/agents")
        assert back.startswith(f"{service.url}/sign-in/openid/callback?")
        (begun,) = client.cookies.jar
        assert begun.path == "/loadlens/sign-in"
        answer = client.get(back, headers=BACK)
        assert 'content="0; url=/loadlens/agents"' in answer.text
        (cookie,) = client.cookies.jar
        assert cookie.path == "/loadlens"
        assert client.get("/api/v1/identity", headers=PAGE).json()["token"] == "openid:alice"
        assert 'url=/loadlens/"' in client.get(back_from_provider(client, "/agents"), headers=BACK).text


def test_without_a_provider_there_is_nothing_to_sign_in_at(tmp_path: Path) -> None:
    make_tokens(tmp_path / "data", ("admin", "admin", "*"))
    with RunningService(tmp_path / "data") as service, service.client() as client:
        assert client.get("/sign-in/openid").status_code == 404
        assert client.get("/sign-in/openid/callback", params={"state": "x", "code": "x"}).status_code == 404
        assert "openid" not in client.get("/sign-in").text
