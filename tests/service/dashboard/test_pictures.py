"""Pictures of the dashboard: each is made by the run of the tests, and kept where PICTURES says (`make pictures`)."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.dashboard_fleet import HOT, WEB
from tests.support.dashboards import opened
from tests.support.running import RunningService

pytestmark = pytest.mark.server

SCHEDULES = ({"days": ["mon"], "tz": "Europe/Berlin"}, {"user": HOT, "last": "1d", "at": "18:30"})

PICTURES = {
    "fleet": ("/", "light", 1200),
    "fleet-dark": ("/", "dark", 1200),
    "host": (f"/host?id={WEB}&range=2d&forecast=1&overlay=7d", "light", 1000),
    "compare": (f"/compare?host={WEB}&host={HOT}&overlay=7d", "light", 1200),
    "alerts": ("/alerts?rule=hot", "light", 1200),
    "reports": ("/reports?range=7d", "light", 1200),
    "phone": (f"/host?id={WEB}", "dark", 390),
}
MAX_BYTES = 150_000


@pytest.fixture(scope="module", autouse=True)
def scheduled(service: RunningService) -> None:
    with service.client() as client:
        for schedule in SCHEDULES:
            assert client.post("/api/v1/schedules", json=schedule).status_code == 201


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_dashboard_is_made(
    browser: Browser, service: RunningService, tmp_path: Path, name: str
) -> None:
    path, scheme, width = PICTURES[name]
    folder = Path(os.environ.get("PICTURES", tmp_path))
    with opened(browser, service, path, scheme=scheme, width=width, height=800) as seen:
        seen.page.evaluate("document.activeElement?.blur()")
        file = folder / f"dashboard-{name}.png"
        seen.page.screenshot(path=file, animations="disabled")
        assert 10_000 < file.stat().st_size < MAX_BYTES
        assert seen.complaints == []
