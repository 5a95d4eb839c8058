"""What all views share: times, keys, colours, paper, links, buttons, tokens, notes; in a real browser."""

import contextlib
import io
import subprocess
import time

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from tests.support.dashboard_fleet import HOT, IDLE, WEB
from tests.support.dashboards import opened, signed_in
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

SIDE = "Side by side"
VIEWS = ["/", f"/host?id={WEB}", f"/compare?host={WEB}&host={HOT}", "/alerts?rule=hot", "/agents", "/reports"]
SHIFT = """() => new Promise((done) => {
  const add = (list) => done(list.getEntries().filter((one) => !one.hadRecentInput).map((one) =>
    [one.value, ...one.sources.map((source) => source.node?.className ?? source.node?.nodeName)]));
  new PerformanceObserver(add).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done([]), 2000);
})"""


def test_what_is_wrong_with_the_service_is_said_at_the_foot(browser: Browser, service: RunningService) -> None:
    """Until it is right again."""
    rules = service.data_dir.parent / "rules.toml"
    good = rules.read_text()
    problems = 'footer [aria-label="Problems of the service"]'
    try:
        rules.write_text("nonsense")
        with service.client() as client:
            wait_until(lambda: "problems" in client.get("/readyz").json(), "the problem")
        with opened(browser, service, "/agents") as seen:
            expect(seen.page.locator(problems)).to_contain_text("Rules stay as they were")
    finally:
        rules.write_text(good)
    with service.client() as client:
        wait_until(lambda: "problems" not in client.get("/readyz").json(), "the end of the problem")
    with opened(browser, service, "/agents") as seen:
        expect(seen.page.locator(problems)).to_be_hidden()


def test_times_are_local_or_utc(browser: Browser, service: RunningService) -> None:
    query = f"/host?id={WEB}&from=2026-01-05T10:00:00Z&to=2026-01-05T12:00:00Z"
    with opened(browser, service, query, timezone_id="Asia/Tokyo") as seen:
        assert "19:00 to" in seen.page.locator("#range option:checked").inner_text()
        seen.page.keyboard.press("u")
        expect(seen.page.locator("#tz")).to_have_text("UTC")
        assert "10:00 to" in seen.page.locator("#range option:checked").inner_text()
        assert seen.parameters["tz"] == ["utc"]


def test_dates_are_chosen_in_the_time_that_is_shown(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/", timezone_id="Asia/Tokyo") as seen:
        seen.page.keyboard.press("t")
        seen.page.get_by_label("From").fill("2026-01-05T19:00:00")
        seen.page.get_by_label("to", exact=True).fill("2026-01-05T18:00:00")
        seen.page.get_by_role("button", name="Show", exact=True).click()
        expect(seen.page.locator("#absolute-form .error")).to_be_visible()
        seen.page.get_by_label("to", exact=True).fill("2026-01-05T21:00:00")
        seen.page.get_by_role("button", name="Show", exact=True).click()
        seen.page.wait_for_url("**from=*")
        assert seen.parameters["from"] == ["2026-01-05T10:00:00Z"]
        assert seen.parameters["to"] == ["2026-01-05T12:00:00Z"]


def test_the_keyboard_does_what_the_page_does_and_lists_itself(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        seen.page.keyboard.press("?")
        assert seen.page.locator("#keys").is_visible()
        assert "Go to the fleet" in seen.page.locator("#keys").inner_text()
        seen.page.keyboard.press("Escape")
        for keys, path in (("gl", "/alerts"), ("ga", "/agents"), ("gr", "/reports"), ("gc", "/compare"), ("gf", "/")):
            seen.typed(keys, path)
            assert seen.page.locator("nav [aria-current]").count() == 1
        seen.page.keyboard.press("/")
        seen.page.keyboard.type("idle")
        seen.page.wait_for_selector('html[data-hosts="1"]')
        assert [row[0] for row in seen.rows("Hosts")] == [IDLE]
        seen.page.keyboard.press("Escape")
        seen.page.keyboard.press("-")
        seen.page.wait_for_url("**range=2d*")
        seen.page.keyboard.press("ArrowLeft")
        seen.page.wait_for_url("**from=*")


def test_light_and_dark_follow_the_system_until_they_are_switched(browser: Browser, service: RunningService) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    with opened(browser, service, "/agents", scheme="dark") as seen:
        assert seen.page.evaluate(background) == "rgb(20, 24, 28)"
        seen.page.keyboard.press("d")
        assert seen.page.evaluate(background) == "rgb(246, 247, 249)"
        seen.page.reload()
        assert seen.page.evaluate(background) == "rgb(246, 247, 249)"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing(browser: Browser, service: RunningService, scheme: str, width: int) -> None:
    with opened(browser, service, VIEWS[0], scheme=scheme, width=width) as seen:
        for path in VIEWS:
            seen.go(path)
            found = Axe().run(seen.page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"


def test_a_phone_shows_every_view_without_scrolling_sideways(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, VIEWS[0], width=375) as seen:
        for path in VIEWS:
            seen.go(path)
            assert seen.page.evaluate("document.documentElement.scrollWidth") == 375, path
        assert seen.complaints == []


def test_it_prints_on_white_paper_without_its_controls(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, f"/host?id={WEB}", scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        assert seen.page.locator("nav").is_hidden() and seen.page.locator(".tools").first.is_hidden()
        assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert seen.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_a_link_shows_another_person_the_same(browser: Browser, service: RunningService) -> None:
    query = f"/compare?host={WEB}&host={HOT}&stat=p95&range=6h&tz=utc"
    with opened(browser, service, query) as mine, opened(browser, service, query) as theirs:
        for seen in (mine, theirs):
            assert seen.page.locator("#range").input_value() == "6h"
            expect(seen.card(SIDE).locator(".legend")).to_contain_text(WEB)
        legends = [seen.card(SIDE).locator(".legend").inner_text() for seen in (mine, theirs)]
        assert legends[0] == legends[1]


def test_a_person_signs_in_with_the_token_once(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("token") / "data"
    with RunningService(folder, "--token", "not-to-be-guessed") as asking:
        assert httpx.get(asking.url, auth=("me", "wrong"), trust_env=False).status_code == 401
        with signed_in(browser, asking, "not-to-be-guessed") as seen:
            expect(seen.page.locator("#live")).to_have_attribute("data-state", "live")
            assert "No host has reported yet" in seen.page.locator("main").inner_text()


def test_queries_of_a_service_that_asks_for_a_token_read_it_from_the_environment(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("asking") / "data"
    with RunningService(folder, "--token", "not-to-be-guessed") as asking:
        with signed_in(browser, asking, "not-to-be-guessed") as seen:
            line, code = seen.query("Hosts", "curl"), seen.query("Hosts", "Python")
            assert "not-to-be-guessed" not in line + code
            monkeypatch.setenv("LOADLENS_TOKEN", "not-to-be-guessed")
            shown = subprocess.run(
                ["bash", "-c", f"{line} --silent --fail"], check=True, timeout=60, capture_output=True
            )
            assert shown.stdout.startswith(b"user_id,")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, {})
            assert "Empty DataFrame" in printed.getvalue()


def test_what_people_say_of_a_moment_is_told_where_it_matters(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, f"/host?id={WEB}") as seen:
        change = seen.card("Load over time").locator("li", has_text="Change of the level")
        expect(change).to_have_count(1)
        asked = {"start": f"{time.time_ns() // 1_000_000 - 86_400_000}"}
        [found] = client.get(f"/api/v1/analysis/changes/byUser/{WEB}", params=asked).json()["changes"]
        told = {"text": "deploy 1.4", "time": found["time"] - 2 * 60_000, "user": "web-*"}
        assert client.post("/api/v1/annotations", json=told).status_code == 201
        seen.page.keyboard.press("r")
        expect(change).to_contain_text("2 minutes after “deploy 1.4”")


def test_a_moment_is_noted_by_hand(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, "/host?id=web-05") as seen:
        seen.page.get_by_label("Note what happens now").fill("moved the database")
        seen.page.get_by_role("button", name="Note", exact=True).click()
        expect(seen.page.locator("#notice")).to_have_text("Noted.")
        [kept] = [
            one
            for one in client.get("/api/v1/annotations").json()["annotations"]
            if one["text"] == "moved the database"
        ]
        assert kept["user"] == "web-05"


@pytest.mark.parametrize("path", VIEWS)
def test_what_is_read_does_not_move_while_a_view_is_filled(
    browser: Browser, service: RunningService, path: str
) -> None:
    with opened(browser, service, path) as seen:
        moved = seen.page.evaluate(SHIFT)
        assert sum(value for value, *_ in moved) < 0.005, moved


WITH_QUERIES = [
    "/?group=role", "/?q=web&state=idle&group=zone", f"/host?id={WEB}&range=2d",
    f"/compare?host={WEB}&host={HOT}&overlay=7d", "/compare?label=role%3Dweb", "/alerts?rule=hot",
    "/alerts?rule=hot&label=role%3Ddb", "/agents", "/agents?label=role%3Dweb&in_step=false",
]  # fmt: skip


@pytest.mark.parametrize("path", WITH_QUERIES)
def test_each_button_of_each_card_gives_what_it_says(browser: Browser, service: RunningService, path: str) -> None:
    with opened(browser, service, path) as seen:
        expect(seen.page.locator(".tools").first).to_be_visible()
        titles = seen.page.locator("section.card:visible:has(.tools) :is(h2, h3)").all_inner_texts()
        assert titles
        for title in dict.fromkeys(titles):
            card = seen.card(title)
            buttons = card.locator(".tools button").all_inner_texts()
            if "CSV" in buttons:
                assert len(seen.download(title).splitlines()[0].split(",")) > 1, title
            if "curl" in buttons:
                for line in seen.query(title, "curl").splitlines():
                    subprocess.run(
                        ["bash", "-c", f"{line} --silent --show-error --fail-with-body"], check=True, timeout=60,
                        capture_output=True,
                    )  # fmt: skip
            if "Python" in buttons:
                with contextlib.redirect_stdout(io.StringIO()) as printed:
                    exec(seen.query(title, "Python"), {})
                assert printed.getvalue().strip(), title
            if "Table" in buttons:
                card.get_by_role("button", name="Table", exact=True).click()
                expect(card.locator(".data table").last).to_be_visible()
        assert seen.page.locator("#notice").inner_text() in ("", "curl copied.", "Python copied.")
        assert seen.complaints == []


def test_what_people_say_of_a_moment_stands_in_every_chart_over_time(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    said = client.post(
        "/api/v1/annotations", json={"text": "deploy 9", "time": time.time_ns() // 1_000_000 - 3_600_000}
    )
    try:
        with opened(browser, service, "/?range=6h") as seen:
            for path, cards in {
                "/?range=6h": ("Hosts over time", "Utilization"),
                f"/host?id={WEB}&range=6h": ("Load over time", "Cores", "Memory in use"),
                f"/compare?host={WEB}&range=6h": (SIDE,),
                "/alerts?rule=hot&range=6h": ("Would have fired",),
            }.items():
                seen.go(path)
                for card in cards:
                    expect(seen.card(card).locator("[data-marks]").first).not_to_have_attribute("data-marks", "0")
            assert seen.complaints == []
    finally:
        client.delete(f"/api/v1/annotations/{said.json()['id']}")
