"""Reports and the first page, from a running service."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser

from tests.service.conftest import StartService
from tests.support.pages import opened
from tests.support.reports import END_MS, post, small
from tests.support.running import RunningService

pytestmark = pytest.mark.server

HOSTILE = "<script>document.title='x'</script>/../\"'&amp;"
HOURS = 72


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with three days of two hosts."""
    with RunningService(tmp_path_factory.mktemp("reporting") / "data") as service:
        with service.client() as client:
            for user, mean in (("busy", 0.95), (HOSTILE, 0.01)):
                reports = [
                    small(user, END_MS + hour * 3_600_000 + minute * 900_000, mean + hour % 24 / 1000)
                    for hour in range(HOURS)
                    for minute in range(4)
                ]
                assert post(client, *reports).status_code == 202
        yield service
        assert service.stop() == 0, service.log
        assert "Traceback" not in service.log


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def test_a_browser_gets_a_page_that_runs_its_own_scripts_only(client: httpx.Client) -> None:
    answer = client.get("/reports/fleet", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.partition("style-src")[0]
    assert "frame-ancestors 'none'" in policy
    assert "<h1>Fleet report</h1>" in answer.text
    assert "<script>document.title" not in answer.text
    assert '<a href="/reports/users/busy">' in answer.text


def test_the_page_works_as_the_service_sends_it_and_leads_to_each_host(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, f"{service.url}/reports/fleet") as seen:
        assert seen.drawn == seen.page.locator(".plot").count() >= 6
        seen.page.locator("#hottest td a").first.click()
        seen.page.wait_for_selector("html[data-drawn]")
        assert seen.page.title() == "Report on “busy” · Loadlens"
        assert seen.complaints == []


def test_a_report_is_kept_for_a_moment_and_known_by_its_etag(client: httpx.Client) -> None:
    first = client.get("/reports/fleet?format=json")
    again = client.get("/reports/fleet?format=json")
    assert again.content == first.content
    assert 0 <= int(re.sub(r"\D", "", again.headers["Cache-Control"])) < 60
    unchanged = client.get("/reports/fleet?format=json", headers={"If-None-Match": first.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_programs_get_findings_and_tables(client: httpx.Client) -> None:
    document = client.get("/reports/fleet", headers={"Accept": "application/json"}).json()
    assert {row[0] for row in document["tables"]["all-machines"]["rows"]} == {"busy", HOSTILE}
    kinds = {finding["kind"]: finding for finding in document["findings"]}
    assert kinds["hot"]["numbers"]["names"] == ["busy"]
    assert kinds["idle"]["numbers"]["names"] == [HOSTILE]


def test_a_host_has_a_report_whatever_it_is_called(client: httpx.Client) -> None:
    link = re.search(r'<td><a href="(/reports/users/%3C[^"]*)">', client.get("/machines").text)
    assert link is not None
    answer = client.get(f"{link[1]}?format=md&last=1d")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert answer.text.startswith("# Report on “\\<script\\>")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/reports/users/nobody", 404, "nobody"),
        ("/reports/fleet?start=2030-01-01&end=2030-02-01", 404, "No host reported in this time"),
        ("/reports/fleet?last=soon", 422, "duration"),
        ("/reports/fleet?target=80", 422, "share"),
        ("/reports/fleet?tz=Europe/Berln", 422, "Europe/Berlin"),
        ("/reports/fleet?format=pdf", 422, "loadlens-analytics"),
        ("/reports/fleet?last=1d&start=0", 422, "expected start or last, got both"),
        ("/reports/fleet?lats=1d", 422, "did you mean last"),
    ],
)
def test_what_cannot_be_reported_is_said(client: httpx.Client, path: str, status: int, words: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert words in answer.text


@pytest.mark.parametrize("target", ["[1]", "true", '{"a": 1}', "1" * 400, "80", '"much"'])
def test_a_target_in_a_body_is_a_share(client: httpx.Client, target: str) -> None:
    answer = client.request("GET", "/reports/fleet", content=f'{{"target": {target}}}')
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/target"]


def test_a_wrong_host_is_said_to_be_wrong(client: httpx.Client) -> None:
    answer = client.get("/machines", headers={"Host": "localhost:b"})
    assert (answer.status_code, "Host" in answer.json()["detail"]) == (400, True)


def test_the_page_without_scripts_leads_on_and_finds_hosts(client: httpx.Client) -> None:
    page = client.get("/machines")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "script" not in page.headers["Content-Security-Policy"]
    assert "2 hosts have reported" in page.text
    assert "<script>document.title" not in page.text
    for address in set(re.findall(r'href="(/[^"]*)"', page.text)) - {"/reports/fleet", "/reports/fleet?last=7d"}:
        if not address.startswith("/reports/"):
            assert client.get(address).status_code == 200, address
    found = client.get("/machines", params={"q": "BUS"}).text
    assert "/reports/users/busy" in found and "%3Cscript" not in found
    assert "&lt;i&gt;" in client.get("/machines", params={"q": "<i>"}).text


def test_too_many_at_once_are_asked_to_come_again(start: StartService) -> None:
    service = start()
    with service.client() as client:
        post(client, *(small("a", END_MS + second * 1000) for second in range(100)))

    def ask(target: int) -> httpx.Response | None:
        try:
            return httpx.get(f"{service.url}/reports/fleet?target=0.{target}", timeout=60, trust_env=False)
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(14) as pool:
        asked = [pool.submit(ask, target) for target in range(10, 24)]
        first = next(answer for future in as_completed(asked) if (answer := future.result()) is not None)
        service.kill()  # the others need not be waited for
    assert first.status_code == 503
    assert int(first.headers["Retry-After"]) > 0


def test_reports_and_the_first_page_ask_for_the_token(start: StartService) -> None:
    service = start("--token", "secret")
    with service.client() as client:
        assert client.get("/").status_code == client.get("/reports/fleet").status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert client.get("/", headers=headers).status_code == 200
        client.post(
            "/api/v1/metrics", json=[small("a", END_MS + second * 1000) for second in range(30)], headers=headers
        )
        answer = client.get("/reports/users/a?format=json", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["title"] == "Report on “a”"


def test_a_service_without_reports_says_how_to_begin(start: StartService) -> None:
    service = start()
    with service.client() as client:
        assert f"loadlens-agent --url {service.url}" in client.get("/machines").text
        assert "--url http://[::1]:80<" in client.get("/machines", headers={"Host": "[::1]"}).text
        answer = client.get("/reports/fleet")
        assert answer.status_code == 404
        assert "demo" in answer.text


def test_a_report_says_nothing_of_the_services_host(service: RunningService, client: httpx.Client) -> None:
    page = client.get("/reports/fleet?format=json").text
    assert str(Path.home()) not in page
    assert str(service.data_dir) not in page
