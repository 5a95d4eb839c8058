"""Names that a path cannot have: a host that is called `.` or `..` leads nobody elsewhere."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.support.agent_states import state
from tests.support.dashboards import opened
from tests.support.reports import METRICS, original
from tests.support.running import RunningService

pytestmark = pytest.mark.server

STEPS = (".", "..")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service whose hosts have names that a browser takes for steps in a path, and one that has none of it."""
    with RunningService(tmp_path_factory.mktemp("strange") / "data") as service, service.client() as client:
        for name in (*STEPS, "../x", "web-1"):
            assert client.post(METRICS, json=original(name)).status_code == 202
        assert client.post("/api/v1/agents/web-1/state", json=state()).status_code == 200
        yield service
        assert client.get("/api/v1/settings").json()["layers"] == []
        assert "Traceback" not in service.log


def test_the_list_of_hosts_names_them_and_links_to_no_other_page(strange: RunningService) -> None:
    with strange.client() as client:
        page = client.get("/machines").text
    links = re.findall(r'href="(/reports/users/[^"]*)"', page)
    assert sorted(links) == ["/reports/users/..%2Fx", "/reports/users/web-1"]
    for name in STEPS:
        assert f"<bdi>{name}</bdi>" in page


@pytest.mark.parametrize("name", STEPS)
def test_a_hosts_page_asks_for_nothing_else_in_its_place_and_says_so(
    browser: Browser, strange: RunningService, name: str
) -> None:
    with opened(browser, strange, f"/host?id={name}&from=2018-07-12T13:00:00Z&to=2018-07-12T14:00:00Z") as seen:
        expect(seen.page.locator("main")).to_contain_text("A browser cannot ask about a host that is called " + name)
        links = seen.page.locator("main a").evaluate_all("links => links.map(link => new URL(link.href).pathname)")
        assert not [path for path in links if path.startswith("/reports")]
        assert not [url for url in seen.asked if re.search(r"/api/v1/(windows|agents|analysis|metrics)/", url)]
        assert seen.complaints == []


@pytest.mark.parametrize("name", STEPS)
def test_no_report_is_made_of_anything_else_in_its_place(browser: Browser, strange: RunningService, name: str) -> None:
    with opened(browser, strange, f"/reports?host={name}&made=1") as seen:
        expect(seen.page.locator("main")).to_contain_text("A browser cannot ask about a host that is called " + name)
        assert not [url for url in seen.asked if url.endswith(("format=json", "/reports/users/", "/reports/"))]
