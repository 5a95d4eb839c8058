"""A walk through the dashboard: each step as a person takes it, and its picture, made by the same run.

Pictures are kept where PICTURES says (`make pictures`); docs/walk.md shows them.
"""

import base64
import os
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.agent_states import agent as path_of
from tests.support.agent_states import state
from tests.support.dashboard_fleet import HOT, WEB, newest_ms, report, until
from tests.support.dashboards import Dashboard, opened
from tests.support.running import RunningService
from tests.support.steering import SteeredAgent

pytestmark = pytest.mark.server

SCHEDULES = ({"days": ["mon"], "tz": "Europe/Berlin"}, {"user": HOT, "last": "1d", "at": "18:30"})
DEPLOY = "deploy 1.4"

PICTURES = {
    "fleet": ("/", "light", 1200),
    "fleet-dark": ("/", "dark", 1200),
    "host": (f"/host?id={WEB}&range=2d&forecast=1&overlay=7d", "light", 1000),
    "compare": (f"/compare?host={WEB}&host={HOT}&overlay=7d", "light", 1200),
    "alerts": ("/alerts?rule=hot", "light", 1200),
    "reports": ("/reports?range=7d", "light", 1200),
    "phone": (f"/host?id={WEB}", "dark", 390),
}
HEIGHTS = {"alerts": 1350}
"""Where more is to be seen than a screen shows."""
MAX_BYTES = 100_000


@pytest.fixture(scope="module", autouse=True)
def prepared(service: RunningService) -> None:
    """Reports on a schedule, and a moment that somebody noted: the step that a host took ten hours ago."""
    with service.client() as client:
        for schedule in SCHEDULES:
            assert client.post("/api/v1/schedules", json=schedule).status_code == 201
        noted = {"text": DEPLOY, "user": WEB, "time": newest_ms(client) - 10 * 3_600_000 - 120_000}
        assert client.post("/api/v1/annotations", json=noted).status_code == 201


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures are kept."""
    return Path(os.environ.get("PICTURES", tmp_path))


def keep(seen: Dashboard, folder: Path, name: str) -> None:
    """Keep a picture of what is seen, as WebP: half of what PNG takes."""
    seen.page.evaluate("document.activeElement?.blur()")
    session = seen.page.context.new_cdp_session(seen.page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": 85})
    content = base64.b64decode(taken["data"])
    assert 5_000 < len(content) < MAX_BYTES
    (folder / f"dashboard-{name}.webp").write_bytes(content)


@pytest.mark.parametrize("name", PICTURES)
def test_each_view_has_its_picture(browser: Browser, service: RunningService, folder: Path, name: str) -> None:
    path, scheme, width = PICTURES[name]
    with opened(browser, service, path, scheme=scheme, width=width, height=HEIGHTS.get(name, 800)) as seen:
        keep(seen, folder, name)
        assert seen.complaints == []


def test_hosts_are_looked_at_by_label(browser: Browser, service: RunningService, folder: Path) -> None:
    with opened(browser, service, "/?label=role%3Dweb&group=zone", width=1200, height=800) as seen:
        assert {row[0] for row in seen.rows("By label")} == {"a", "b"}
        seen.card("By label").scroll_into_view_if_needed()
        seen.page.evaluate("scrollBy(0, 300)")
        keep(seen, folder, "labels")


def test_agents_are_looked_at_with_what_they_cost(
    browser: Browser, service: RunningService, folder: Path, tmp_path: Path
) -> None:
    with service.client() as client:
        for number in range(2, 9):
            assert client.post(f"{path_of(f'lab-{number}')}/state", json=state()).status_code == 200
    with service.client() as client, SteeredAgent(service.url, "lab-1", tmp_path, client, "--samples", "10") as agent:
        agent.wait(lambda shown: shown["connected"] and shown["overhead"]["cpu_share"] is not None, "two reports")
        with opened(browser, service, "/agents", width=1200, height=800) as seen:
            assert "lab-1" in {row[0] for row in seen.rows("Agents")}
            keep(seen, folder, "agents")


def test_a_moment_that_was_noted_stands_where_it_happened(
    browser: Browser, service: RunningService, folder: Path
) -> None:
    with opened(browser, service, f"/host?id={WEB}&range=24h", width=1200, height=800) as seen:
        expect(seen.page.locator("main")).to_contain_text(f"after “{DEPLOY}”")
        keep(seen, folder, "annotations")


def test_who_comes_in_is_seen_without_loading_anew(
    browser: Browser, service: RunningService, client: httpx.Client, folder: Path
) -> None:
    with opened(browser, service, "/?range=1h&q=new-", width=1200, height=800) as seen:
        expect(seen.page.locator("#live")).to_have_attribute("data-state", "live")
        now_ms = time.time_ns() // 1_000_000
        reports = [report(f"new-{number}", now_ms - 1000, 0.1 * number) for number in range(1, 10)]
        assert client.post("/api/v1/metrics", json=[*reports, report(HOT, now_ms - 500, 0.9)]).status_code == 202
        seen.page.wait_for_selector('html[data-hosts="9"]')
        expect(seen.page.locator(".tile dd").first).to_have_text("9")
        keep(seen, folder, "live")


def test_an_address_shows_another_person_the_same(
    browser: Browser, service: RunningService, client: httpx.Client, folder: Path
) -> None:
    path = f"/?{until(newest_ms(client), 6)}&q=web&sort=name&tz=utc&sel={WEB}&sel=web-02"
    with opened(browser, service, path, width=1200, height=800) as seen:
        assert "2 selected" in seen.page.locator("main").inner_text()
        with opened(browser, service, seen.page.url.removeprefix(service.url), width=1200, height=800) as other:
            pixels = "canvas => canvas.toDataURL()"
            found = [one.page.locator(".heat canvas").first.evaluate(pixels) for one in (seen, other)]
            assert found[0] == found[1]
            names = [[row[:8] for row in one.rows("Hosts")] for one in (seen, other)]
            assert names[0] == names[1]
        keep(seen, folder, "shared")
