"""Over TLS: who is trusted, what is shown, and that a certificate is renewed while the service runs."""

import asyncio
import json
import shutil
import signal
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection, has_dualstack_ipv6

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import analytics
from contract.service_address import tls_context
from tests.support import preloaded
from tests.support.access import bearer, make_tokens
from tests.support.certificates import Certificate, authority, issued
from tests.support.reports import METRICS, original
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Certificate:
    return authority(folder, "private-ca")


@pytest.fixture(scope="module")
def shown(folder: Path, ca: Certificate) -> Certificate:
    return issued(folder, ca, "localhost", server=True)


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return make_tokens(folder / "data", ("admin", "admin", "*"), ("agent", "agent", "web-2"))


@pytest.fixture(scope="module")
def service(folder: Path, ca: Certificate, shown: Certificate, tokens: dict[str, str]) -> Iterator[RunningService]:
    arguments = ("--tls-certificate", str(shown.path), "--tls-key", str(shown.key), "--tls-client-ca", str(ca.path))
    with RunningService(folder / "data", *arguments) as service:
        assert service.url.startswith("https://")
        yield service
        assert "Traceback" not in service.log


def client(service: RunningService, ca: Certificate, by: Certificate | None = None) -> httpx.Client:
    context = tls_context(ca.path, *((by.path, by.key) if by else ()))
    return httpx.Client(base_url=service.url, verify=context, timeout=60, trust_env=False)


def test_who_trusts_the_ca_is_answered_and_nobody_else_asks(
    service: RunningService, ca: Certificate, folder: Path, tokens: dict[str, str]
) -> None:
    with client(service, ca) as asking:
        answer = asking.get("/api/v1/users", headers=bearer(tokens["admin"]))
        assert answer.status_code == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert asking.get("/api/v1/users").headers["Strict-Transport-Security"]
    for trusted in (ssl.create_default_context(), tls_context(authority(folder, "other-ca").path)):
        with pytest.raises(httpx.ConnectError), httpx.Client(verify=trusted, trust_env=False) as asking:
            asking.get(f"{service.url}/healthz")


def test_old_versions_of_tls_are_refused(service: RunningService) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with create_connection(("127.0.0.1", service.port), timeout=60) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)


def test_the_cookie_of_a_session_goes_over_tls_only(
    service: RunningService, ca: Certificate, tokens: dict[str, str]
) -> None:
    with client(service, ca) as asking:
        ours = {"Sec-Fetch-Site": "same-origin"}
        signed = asking.post("/sign-in", data={"token": tokens["admin"]}, headers=ours)
        cookie = signed.headers["Set-Cookie"]
        assert cookie.startswith("__Host-loadlens=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert asking.get("/api/v1/identity").json()["role"] == "admin"


def test_library_and_commands_trust_what_they_are_told_to(
    service: RunningService, ca: Certificate, shown: Certificate, tokens: dict[str, str], folder: Path
) -> None:
    for trusted in (ca.path, shown.path):
        with analytics.connect(service.url, tokens["admin"], ca_file=trusted) as source:
            assert source.users() is not None
    with analytics.connect(service.url, tokens["admin"]) as source, pytest.raises(analytics.UnreachableError):
        source.users()
    with pytest.raises(ValueError, match="PEM"):
        analytics.connect(service.url, ca_file=folder / "none.pem")
    environment = clean_environment(LOADLENS_TOKEN=tokens["admin"], LOADLENS_CA_FILE=str(ca.path))
    for program in (("analytics", "users"), ("service", "tokens"), ("service", "rules", "list")):
        done = preloaded.run(*program, "--url", service.url, environment=environment)
        assert done.returncode == 0, done.stderr


def test_the_service_makes_reports_over_its_own_tls(
    service: RunningService, ca: Certificate, tokens: dict[str, str]
) -> None:
    with client(service, ca) as asking:
        assert asking.post(METRICS, json=original("reported"), headers=bearer(tokens["admin"])).status_code == 202
        headers = bearer(tokens["admin"]) | {"Accept": "text/markdown"}
        report = asking.get("/reports/users/reported", params={"start": "2018-07-12"}, headers=headers)
        assert report.status_code == 200, report.text


def test_an_agent_is_who_its_certificate_says(
    service: RunningService, ca: Certificate, folder: Path, tokens: dict[str, str]
) -> None:
    with client(service, ca, issued(folder, ca, "web-1")) as agent:
        assert agent.post(METRICS, json=original("web-1")).status_code == 202
        assert agent.post(METRICS, json=original("web-2")).status_code == 403
        assert agent.get("/api/v1/users").status_code == 403
        assert agent.post(METRICS, json=original("web-2"), headers=bearer(tokens["agent"])).status_code == 202
    with client(service, ca, issued(folder, ca, "*")) as anybody:
        assert anybody.post(METRICS, json=original("web-1")).status_code == 401
    stranger = issued(folder, authority(folder, "strangers"), "web-1")
    with client(service, ca, stranger) as refused, pytest.raises(httpx.TransportError):
        refused.post(METRICS, json=original("web-1")).raise_for_status()


def test_a_certificate_says_the_same_over_a_websocket(
    service: RunningService, ca: Certificate, folder: Path, tokens: dict[str, str]
) -> None:
    certificate = issued(folder, ca, "web-5")
    ours = {"Sec-Fetch-Site": "same-origin"}
    with client(service, ca) as asking:
        signed = asking.post("/sign-in", data={"token": tokens["admin"]}, headers=ours)
        cookie = ours | {"Cookie": signed.headers["Set-Cookie"].partition(";")[0]}
    url = service.url.replace("https", "wss") + "/api/v1/stream"
    plain, certified = tls_context(ca.path), tls_context(ca.path, certificate.path, certificate.key)

    async def opened(context: ssl.SSLContext, headers: dict[str, str]) -> bool:
        # The client with threads reads and writes at once on an SSLSocket, which loses answers before Python 3.13.
        try:
            async with connect(url, ssl=context, additional_headers=headers, proxy=None, open_timeout=60):
                return True
        except InvalidStatus as refused:
            return refused.response.status_code != 403

    def is_open(context: ssl.SSLContext, headers: dict[str, str]) -> bool:
        return asyncio.run(opened(context, headers))

    def is_answered(by: Certificate | None, headers: dict[str, str]) -> bool:
        with client(service, ca, by) as asking:
            return asking.get("/api/v1/users", headers=headers).status_code == 200

    # An agent's certificate is for no stream of all reports, and comes before the cookie, but not before a token.
    for headers, plainly, with_certificate in (
        ({}, False, False),
        (cookie, True, False),
        (bearer(tokens["admin"]), True, True),
    ):
        assert (is_open(plain, headers), is_open(certified, headers)) == (plainly, with_certificate)
        assert (is_answered(None, headers), is_answered(certificate, headers)) == (plainly, with_certificate)


def test_an_agent_reports_with_its_certificate(
    service: RunningService, ca: Certificate, folder: Path, tokens: dict[str, str]
) -> None:
    certificate = issued(folder, ca, "web-3")
    command = [
        sys.executable, "-m", "agent", "--url", service.url, "--user-id", "web-3", "--spool-dir", str(folder / "spool"),
        "--samples", "5", "--interval", "10ms", "--ca-file", str(ca.path),
        "--client-certificate", str(certificate.path),
        "--client-key", str(certificate.key),
    ]  # fmt: skip
    agent = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stderr=subprocess.DEVNULL)
    try:
        with client(service, ca) as asking:
            wait_until(
                lambda: "web-3" in asking.get("/api/v1/users", headers=bearer(tokens["admin"])).text, "its report"
            )
    finally:
        agent.terminate()
        agent.wait(60)


def test_the_agents_status_is_asked_with_its_certificate(
    service: RunningService, ca: Certificate, folder: Path
) -> None:
    certificate = issued(folder, ca, "web-4")
    shown = ("--client-certificate", str(certificate.path), "--client-key", str(certificate.key))

    def token_and_service(*settings: str) -> dict[str, str]:
        given = ("--json", "--url", service.url, "--spool-dir", str(folder), *settings)
        done = subprocess.run(
            [sys.executable, "-m", "agent", "status", *given],
            cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr  # no agent runs there
        return {one["about"]: one["state"] for one in json.loads(done.stdout)["findings"]}

    trusting = ("--ca-file", str(ca.path))
    assert token_and_service(*trusting, *shown)["token"] == "works"
    assert token_and_service(*trusting)["token"] == "fails"
    assert token_and_service(*shown)["service"] == "fails"
    assert token_and_service("--ca-file", str(folder / "gone.pem"))["service"] == "fails"


@pytest.mark.parametrize("how", ["signal", "change"])
def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path, ca: Certificate, how: str) -> None:
    first, second = (issued(tmp_path, ca, name, server=True) for name in ("first", "second"))
    certificate, key = tmp_path / "shown.pem", tmp_path / "shown.key"
    shutil.copy(first.path, certificate)
    shutil.copy(first.key, key)
    with RunningService(tmp_path / "data", "--tls-certificate", str(certificate), "--tls-key", str(key)) as service:
        with client(service, ca) as asking:
            assert asking.get("/healthz").status_code == 200

            # A certificate without its key is not shown: the one before stays.
            shutil.copy(second.path, certificate)
            if how == "signal":
                service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: "is not read again" in service.log, "a word on the wrong key")
            assert name_shown(service, ca) == "first"

            shutil.copy(second.key, key)
            if how == "signal":
                service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: name_shown(service, ca) == "second", "the new certificate")
            assert asking.get("/healthz").status_code == 200
        assert service.stop() == 0


def name_shown(service: RunningService, ca: Certificate) -> str:
    context = tls_context(ca.path)
    with create_connection(("127.0.0.1", service.port), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            certificate = encrypted.getpeercert() or {}
    return str(dict(part[0] for part in certificate["subject"])["commonName"])  # type: ignore[misc,index]


@pytest.mark.parametrize("wrong", ["missing", "no certificate", "other key"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, ca: Certificate, wrong: str) -> None:
    good, other = (issued(tmp_path, ca, name, server=True) for name in ("good", "other"))
    certificate, key = good.path, other.key
    if wrong == "missing":
        certificate = tmp_path / "none.pem"
    if wrong == "no certificate":
        certificate, key = tmp_path / "text.pem", good.key
        certificate.write_text("hello")
    ended = preloaded.run(
        "service", "--tls-certificate", str(certificate), "--tls-key", str(key), "--port", "0",
        environment=clean_environment(LOADLENS_DATA_DIR=str(tmp_path / "data")),
    )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert str(certificate) in line


@pytest.mark.skipif(not has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "127.0.0.1", "10.0.0.0/8,127.0.0.1"])
def test_a_proxy_that_comes_by_ipv4_to_a_service_on_ipv6_is_believed(tmp_path: Path, trusted: str) -> None:
    token = make_tokens(tmp_path / "data", ("me", "admin", "*"))["me"]
    forwarded = {"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "Sec-Fetch-Site": "same-origin"}
    with RunningService(tmp_path / "data", "--host", "::", "--trusted-proxies", trusted) as service:
        port = service.port
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as asking:
            signed = asking.post("/sign-in", data={"token": token}, headers=forwarded)
            assert "Secure" in signed.headers["Set-Cookie"]
            (mine,) = asking.get("/api/v1/sessions", headers=bearer(token)).json()["sessions"]
            assert mine["address"] == "198.51.100.7"


@pytest.mark.parametrize(("trusted", "seen"), [("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")])
def test_a_proxy_is_believed_where_it_is_trusted(tmp_path: Path, trusted: str, seen: str) -> None:
    token = make_tokens(tmp_path / "data", ("me", "admin", "*"))["me"]
    forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "https"}
    with RunningService(tmp_path / "data", "--trusted-proxies", trusted) as service, service.client() as asking:
        (mine,) = asking.get("/api/v1/tokens", headers=bearer(token) | forwarded).json()["tokens"]
        assert mine["last_address"] == seen
        signed = asking.post("/sign-in", data={"token": token}, headers=forwarded | {"Sec-Fetch-Site": "same-origin"})
        assert ("Secure" in signed.headers["Set-Cookie"]) == (seen != "127.0.0.1")
        assert ("Strict-Transport-Security" in signed.headers) == (seen != "127.0.0.1")
