"""The fleet in a real browser: what a person sees of all hosts, and does with them."""

import csv
import io
import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.dashboard_fleet import HOSTILE, HOT, IDLE, SILENT, WEB, newest_ms, report, until
from tests.support.dashboards import opened, sent_bytes
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

HEAT = "Hosts over time"
NOTHING = "\N{EN DASH}"
HOSTS = 26 + 1 + len(HOSTILE)


def test_the_first_page_shows_all_hosts_over_time_without_a_complaint(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, service) as seen:
        assert seen.tile("Hosts") == str(HOSTS)
        assert seen.drawn(HEAT) > 100_000
        assert seen.page.locator(".uplot").count() == 3
        assert seen.complaints == []
        assert {urlsplit(address).netloc for address in seen.asked} == {f"127.0.0.1:{service.port}"}


def test_the_first_load_is_small(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        assert sent_bytes(seen, "/") < 300_000


def test_the_numbers_are_those_of_the_api(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service) as seen:
        asked = next(address for address in seen.asked if "/windows/fleet" in address)
        start, end = (re.search(rf"{name}=([^&]+)", asked)[1].replace("%3A", ":") for name in ("start", "end"))  # type: ignore[index]
        question = {"start": start, "end": end, "resample_rate": "52w", "stat": "p95"}
        entries = client.get("/api/v1/metrics/cpuUtilization/fleet", params=question).json()["entries"]
        assert len(entries) in (1, 2)  # an edge of a bucket may lie in the range
        if len(entries) == 1:
            assert seen.tile("p95 of samples") == f"{100 * entries[0]['value']:.1f} %"


def test_numbers_are_the_same_on_a_phone_and_on_the_page_of_the_host(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    # A range that begins within a column of the phone's.
    asked = until(newest_ms(client) - 10 * 60_000, 23)
    seen_by = []
    for width in (390, 1400):
        with opened(browser, service, f"/?{asked}", width=width) as seen:
            rate = parse_qs(urlsplit(next(address for address in seen.asked if "/windows/fleet" in address)).query)
            seen_by.append(
                (rate["resample_rate"], [row[:6] for row in seen.rows("Hosts")], seen.tile("p95 of samples"))
            )
    (phone, *of_phone), (wide, *of_wide) = seen_by
    assert phone != wide
    assert of_phone == of_wide
    mean = next(row[2] for row in of_wide[0] if row[0] == HOT)
    with opened(browser, service, f"/host?id={HOT}&{asked}") as seen:
        assert mean == seen.tile("Mean")


def test_hosts_are_found_by_name_and_the_address_finds_them_again(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        seen.page.get_by_label("Find").fill("WEB-0")
        seen.page.wait_for_selector('html[data-hosts="9"]')
        assert seen.parameters["q"] == ["WEB-0"]
        seen.page.reload()
        seen.settled("/")
        assert sorted(row[0] for row in seen.rows("Hosts")) == [f"web-0{number}" for number in range(1, 10)]


@pytest.mark.parametrize(("state", "names"), [("hot", [HOT]), ("idle", [IDLE]), ("silent", [SILENT])])
def test_hosts_are_kept_by_what_they_do(
    browser: Browser, service: RunningService, client: httpx.Client, state: str, names: list[str]
) -> None:
    with opened(browser, service, f"/?{until(newest_ms(client), 24)}") as seen:
        seen.page.get_by_role("combobox", name="Show").select_option(state)
        seen.page.wait_for_selector(f'html[data-hosts="{len(names)}"]')
        assert [row[0] for row in seen.rows("Hosts")] == names


def test_hosts_are_kept_by_system_and_alerts(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?os=MacOS") as seen:
        assert [row[0] for row in seen.rows("Hosts")] == [IDLE]
        seen.go("/?state=alerting")
        assert HOT in [row[0] for row in seen.rows("Hosts")]


def test_hosts_are_kept_by_label_everywhere_and_the_address_says_so(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        seen.page.get_by_label("Label", exact=True).first.fill("role=web")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector('html[data-hosts="24"]')
        assert seen.parameters == {"label": ["role=web"]}
        expect(seen.page.locator("h1")).to_have_text("Fleet: role=web")
        assert HOT not in {row[0] for card in ("Hosts", "Hottest") for row in seen.rows(card)}
        assert "label=role%3Dweb" in seen.query("Utilization", "curl")
        assert 'hosts={"label":"role=web"}' in seen.query("Utilization", "Python")
        seen.card("Hosts").get_by_role("link", name="zone=a").first.click()
        seen.page.wait_for_selector('html[data-hosts="13"]')
        assert HOT in {row[0] for row in seen.rows("Hosts")}
        seen.page.go_back()
        seen.page.wait_for_selector('html[data-hosts="24"]')
        assert seen.complaints == []


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ("q=WEB-0&os=Linux", {f"web-0{number}" for number in range(1, 10)}),
        ("os=MacOS", {IDLE}),
        ("state=hot", {HOT}),
        ("state=silent", {SILENT}),
        ("label=zone%3Da&state=hot", {HOT}),
        ("q=web&sort=name&first=3&count=2", {"web-04", "web-05"}),
        ("state=hot&q=nobody", set()),
    ],
)
def test_the_data_of_the_heat_map_are_those_of_the_hosts_shown(
    browser: Browser, service: RunningService, client: httpx.Client, chosen: str, names: set[str]
) -> None:
    with opened(browser, service, f"/?{until(newest_ms(client), 24)}&{chosen}") as seen:
        assert {row[0] for row in seen.rows("Hosts") if len(row) > 1} == names
        found = list(csv.DictReader(io.StringIO(seen.download(HEAT))))
        assert {row["user"] for row in found} == names
        line = seen.query(HEAT, "curl")
        answer = httpx.get(line.split("'")[-2], headers={"Accept": "application/json"})
        assert {one["user"] for one in answer.json()["windows"]} == names
        said: dict[str, Any] = {}
        exec(seen.query(HEAT, "Python").replace("print(frame)", ""), said)
        assert len(said["frame"]) == len(found)
        assert set(said["frame"]["user"].astype(str)) == names
        assert seen.complaints == []


CHOICES = {
    "": None,
    "q=WEB-0&os=Linux": {f"web-0{number}" for number in range(1, 10)},
    "os=MacOS": {IDLE},
    "state=hot": {HOT},
    "state=alerting&q=db": {HOT},
    "state=idle&label=role%3Dweb": set[str](),
    "label=role%3Dweb": {f"web-{number:02}" for number in range(1, 25)},
    "label=zone%3Da&state=hot": {HOT},
    "q=web&sort=name&first=3&count=2": {"web-04", "web-05"},
}


@pytest.mark.parametrize("chosen", CHOICES)
def test_every_number_is_of_the_hosts_that_are_chosen(
    browser: Browser, service: RunningService, client: httpx.Client, chosen: str
) -> None:
    names = CHOICES[chosen]
    known = {one["user_id"] for one in client.get("/api/v1/users").json()["users"]}
    with opened(browser, service, f"/?{until(newest_ms(client), 24)}&group=role&{chosen}") as seen:
        asked = next(address for address in seen.asked if "/windows/fleet" in address)
        start, end = (parse_qs(urlsplit(asked).query)[name][0] for name in ("start", "end"))

        def said(by: str, stats: str, users: set[str] | None = names) -> list[dict[str, Any]]:
            question = {"metric": "cpuUtilization", "stat": stats.split(), "by": by, "start": start, "end": end}
            question |= {"resample_rate": "all"} | ({"user": sorted(users)} if users else {})
            return [] if users == set() else list(client.get("/api/v1/query", params=question).json()["series"])

        def share(value: float) -> str:
            return f"{100 * value:.1f} %"

        reporting = {one["group"] for one in said("user", "mean")}
        assert seen.tile("Hosts") == str(len(reporting))
        [p95, *_] = [share(one["values"][0]) for one in said("all", "p95")] or [NOTHING]
        assert seen.tile("p95 of samples") == p95
        # Each host has its row, and they are those that report what is shown of all.
        rows = {row[0]: row for row in seen.rows("Hosts") if len(row) > 1}
        assert set(rows) == reporting
        for stat, place in (("mean", 2), ("p95", 3), ("max", 4)):
            assert {row[0]: row[place] for row in rows.values()} == {
                one["group"]: share(one["values"][0]) for one in said("user", stat)
            }
        # The charts are of the same samples.
        windows = httpx.get(asked).json()["windows"]
        assert sum(one["count"] for one in windows) == sum(one["values"][0] for one in said("all", "count"))
        table = list(csv.DictReader(io.StringIO(seen.download("Utilization"))))
        assert sum(int(row["count"]) for row in table) == sum(one["count"] for one in windows)
        for card, code in (("Utilization", "frame['count'].sum()"), ("Load duration", "len(frame)")):
            found: dict[str, Any] = {}
            exec(seen.query(card, "Python"), found)
            expected = sum(one["count"] for one in windows) if card == "Utilization" else len(windows)
            assert eval(code, found) == expected
        groups = {row[0]: row for row in seen.rows("By label") if len(row) > 1}
        assert sum(int(row[1]) for row in groups.values()) == len(reporting)
        assert {group: row[3] for group, row in groups.items()} == {
            one["group"]: share(one["values"][0]) for one in said("label:role", "p95")
        }
        # Lists have nobody else, and what fires does so of them.
        for card in ("Hottest", "Idlest"):
            assert {row[0] for row in seen.rows(card) if len(row) > 1} <= reporting
        firing = client.get("/api/v1/alerts?state=firing").json()["alerts"]
        of_those = [one for one in firing if names is None or one["user"] in names]
        assert seen.tile("Firing") == str(len(of_those))
        assert {row[1] for row in seen.rows("Firing") if len(row) > 1} <= {one["user"] for one in of_those}
        silent = {SILENT} & (known if names is None else names)
        assert seen.tile("Silent") == str(len(silent))
        assert {row[0] for row in seen.rows("Silent") if len(row) > 1} == silent
        assert seen.complaints == []


@pytest.mark.parametrize("chosen", ["", "state=hot", "q=web&sort=change&order=asc", "sort=name&first=3&count=2"])
def test_the_table_of_hosts_is_what_its_queries_answer(
    browser: Browser, service: RunningService, client: httpx.Client, chosen: str
) -> None:
    with opened(browser, service, f"/?{until(newest_ms(client), 24)}&{chosen}") as seen:
        shown = seen.rows("Hosts")
        saved = list(csv.DictReader(io.StringIO(seen.download("Hosts"))))
        line = seen.query("Hosts", "curl")
        answered = httpx.get(line.split("'")[-2], headers={"Accept": "text/csv"}).text
        assert list(csv.DictReader(io.StringIO(answered))) == saved
        found: dict[str, Any] = {}
        exec(seen.query("Hosts", "Python"), found)
        frame = found["frame"]
        assert frame["user"].tolist() == [row[0] for row in shown]
        # A name that a spreadsheet would take for a formula has an apostrophe before it.
        assert all(one["user_id"] in (name, f"'{name}") for one, name in zip(saved, frame["user"], strict=True))
        for place, name in ((2, "mean"), (3, "p95"), (4, "max")):
            told = [row[place] for row in shown]
            assert told == [f"{100 * value:.1f} %" for value in frame[name]]
            assert told == [f"{100 * float(one[name]):.1f} %" for one in saved]
        assert [row[5] for row in shown] == [
            f"{100 * value:+.1f} pp".replace("-0.0 pp", "0.0 pp").replace("+0.0 pp", "0.0 pp")
            if value == value
            else NOTHING
            for value in frame["change"]
        ]
        assert (
            [row[1].replace("\n", " ") for row in shown] == frame["states"].tolist() == [one["states"] for one in saved]
        )


def test_a_label_and_the_time_go_along_to_other_views(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?label=role%3Dweb&range=6h") as seen:
        for view in ("Compare", "Alerts", "Agents", "Reports", "Fleet"):
            seen.page.get_by_role("navigation").get_by_role("link", name=view).click()
            seen.settled("/" if view == "Fleet" else f"/{view.lower()}")
            assert seen.parameters["label"] == ["role=web"] and seen.parameters["range"] == ["6h"]
        seen.card("Hosts").get_by_role("link", name=WEB, exact=True).click()
        seen.settled("/host")
        assert seen.parameters["label"] == ["role=web"] and seen.parameters["range"] == ["6h"]
        seen.go("/?label=role%3Dweb&q=nobody").page.get_by_role("link", name="Show all").first.click()
        seen.page.wait_for_selector(f'html[data-hosts="{HOSTS}"]')
        assert "label" not in seen.parameters


def test_the_table_of_the_heat_map_says_how_many_hosts_it_has(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        seen.card(HEAT).get_by_role("button", name="Table", exact=True).click()
        expect(seen.card(HEAT).locator("caption")).to_contain_text(f"{HOSTS} rows.")


def test_hosts_are_put_together_by_label(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?group=role") as seen:
        expect(seen.card("By label").locator("tbody tr")).to_have_count(3)
        found = {row[0]: row[1:] for row in seen.rows("By label")}
        assert (found["db"][0], found["web"][0]) == ("1", "24")
        assert float(found["db"][1].rstrip(" %")) > float(found["web"][1].rstrip(" %"))
        assert '"group","cpuUtilization.mean","cpuUtilization.p95"' in seen.download("By label").splitlines()[0]
        seen.card("By label").get_by_role("link", name="db").click()
        seen.page.wait_for_selector('html[data-hosts="1"]')
        assert seen.rows("Hosts")[0][0] == HOT


def test_the_hottest_come_first_unless_one_sorts_otherwise(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        expect(seen.page.locator("[aria-sort=descending]")).to_have_text("p95")
        shares = [float(row[3].rstrip(" %")) for row in seen.rows("Hosts")]
        assert seen.rows("Hosts")[0][0] == HOT
        assert shares == sorted(shares, reverse=True)
        assert seen.parameters == {}
        seen.card("Hosts").locator("[data-sort=p95]").click()
        expect(seen.page.locator("[aria-sort=ascending]")).to_have_text("p95")
        assert seen.parameters == {"order": ["asc"]}
        seen.page.get_by_role("combobox", name="Sort by").select_option("name")
        expect(seen.page.locator("[aria-sort=ascending]")).to_have_text("host")
        assert seen.parameters == {"sort": ["name"]}
        names = [row[0] for row in seen.rows("Hosts")]
        assert names == sorted(names)
        seen.page.get_by_role("combobox", name="order").select_option("desc")
        expect(seen.page.locator("[aria-sort=descending]")).to_have_text("host")
        assert seen.parameters == {"sort": ["name"], "order": ["desc"]}


def test_what_counts_samples_says_so(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        for card in ("Load duration", "Distribution of samples"):
            expect(seen.card(card).locator("header")).to_contain_text("who samples more often weighs more")
        expect(seen.card("Load duration").locator(".legend")).to_contain_text("share of samples")


@pytest.mark.parametrize("width", [375, 1280])
def test_short_lists_show_their_numbers_whole(browser: Browser, service: RunningService, width: int) -> None:
    with opened(browser, service, width=width) as seen:
        for card in ("Hottest", "Idlest", "Silent"):
            place = "box => [box.scrollWidth - box.clientWidth, box.clientWidth]"
            beyond, wide = seen.card(card).locator(".scroll").evaluate(place)
            assert beyond <= 0 < wide, card
            assert all(row[1] for row in seen.rows(card)), card


def test_a_click_on_a_row_opens_the_host_and_back_returns(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?q=db-hot") as seen:
        seen.card(HEAT).locator("canvas").first.click(position={"x": 200, "y": 60})
        seen.settled("/host")
        assert seen.parameters["id"] == [HOT]
        seen.page.go_back()
        seen.settled("/")
        assert seen.parameters["q"] == ["db-hot"]


def test_pointing_tells_host_value_and_time_and_marks_the_moment_elsewhere(
    browser: Browser, service: RunningService
) -> None:
    with opened(browser, service, "/?q=db-hot") as seen:
        seen.card(HEAT).locator("canvas").first.hover(position={"x": 400, "y": 60})
        tip = seen.card(HEAT).locator(".tip")
        assert HOT in tip.inner_text() and re.search(r"9\d\.\d %", tip.inner_text())
        moment = tip.inner_text().splitlines()[-1]
        assert moment in seen.card("Utilization").locator(".legend").inner_text()


def test_selected_hosts_are_compared(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?q=web-0") as seen:
        seen.page.get_by_label(f"Select {WEB}").check()
        seen.page.get_by_text("1 selected").wait_for()
        seen.page.get_by_label("Select web-02").check()
        seen.page.get_by_text("2 selected").wait_for()
        assert seen.card(HEAT).locator(".picked").count() == 2
        seen.page.get_by_role("link", name="Compare them").click()
        seen.settled("/compare")
        assert seen.parameters["host"] == [WEB, "web-02"]


def test_dragging_zooms_into_time_and_back_returns(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        before = seen.page.url
        box = seen.card(HEAT).locator("canvas").first.bounding_box()
        assert box
        seen.page.mouse.move(box["x"] + 300, box["y"] + 100)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 600, box["y"] + 104, steps=4)
        seen.page.mouse.up()
        seen.page.wait_for_url("**from=*")
        assert "range" not in seen.parameters
        assert "to " in seen.page.locator("#range option:checked").inner_text()
        seen.page.go_back()
        seen.page.wait_for_url(before)


def test_a_line_chart_is_zoomed_by_dragging_too(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        plot = seen.card("Utilization").locator(".u-over")
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        assert box
        seen.page.mouse.move(box["x"] + 100, box["y"] + 50)
        seen.page.mouse.down()
        seen.page.mouse.move(box["x"] + 250, box["y"] + 50, steps=4)
        seen.page.mouse.up()
        seen.page.wait_for_url("**from=*")


def test_names_are_texts_and_nothing_else(browser: Browser, service: RunningService) -> None:
    with opened(browser, service) as seen:
        names = [row[0] for row in seen.rows("Hosts")]
        assert set(HOSTILE) <= set(names)
        assert seen.page.title() == "Fleet · Loadlens"
        assert seen.page.locator("main img, main b b, main script").count() == 0
        for name in HOSTILE[:4]:
            seen.page.get_by_role("link", name=name, exact=True).first.click()
            seen.settled("/host")
            expect(seen.page.locator("h1")).to_have_text(name)
            assert seen.parameters["id"] == [name]
            seen.page.go_back()
            seen.settled("/")
        assert seen.complaints == []


def test_what_fires_and_who_is_silent_is_told(browser: Browser, service: RunningService, client: httpx.Client) -> None:
    with opened(browser, service, f"/?{until(newest_ms(client), 24)}") as seen:
        assert int(seen.tile("Firing")) >= 1
        assert [HOT in row for row in seen.rows("Firing")].count(True) == 1
        assert [row[0] for row in seen.rows("Silent")] == [SILENT]
        assert seen.rows("Hottest")[0][0] == HOT
        assert seen.rows("Idlest")[0][0] == IDLE


def test_a_new_host_appears_without_loading_anew(
    browser: Browser, service: RunningService, client: httpx.Client
) -> None:
    with opened(browser, service, "/?range=1h") as seen:
        expect(seen.page.locator("#live")).to_have_attribute("data-state", "live")
        loads = sum(address == f"{service.url}/?range=1h" for address in seen.asked)
        known = {row[0] for row in seen.rows("Hosts")}
        now_ms = time.time_ns() // 1_000_000
        # The new one, and one of those that set the pace.
        answer = client.post(
            "/api/v1/metrics",
            json=[report("aaa-new", now_ms - 2000, 0.5), *(report(name, now_ms - 1000, 0.3) for name in known)],
        )
        assert answer.status_code == 202
        seen.page.get_by_role("link", name="aaa-new", exact=True).first.wait_for()
        assert sum(address == f"{service.url}/?range=1h" for address in seen.asked) == loads


def test_a_range_without_data_has_no_numbers_and_is_told_whole(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, "/?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z&tz=utc") as seen:
        assert [seen.tile(name) for name in ("Hosts", "Utilization now", "p95 of samples", "Saturated")] == [
            "0", NOTHING, NOTHING, NOTHING
        ]  # fmt: skip
        select = seen.page.locator("#range")
        assert "1 Jan 2020" in select.locator("option:checked").inner_text()
        # The whole of it is seen: as wide as it would be by itself.
        widths = "(node) => [node.offsetWidth, (node.style.width = 'auto', node.offsetWidth)]"
        width, whole = select.evaluate(widths)
        assert width >= whole


def test_a_fleet_without_hosts_says_how_to_begin(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningService(tmp_path_factory.mktemp("empty") / "data") as empty, opened(browser, empty) as seen:
        assert f"loadlens-agent --url {empty.url}" in seen.card(HEAT).inner_text()
        assert "loadlens-service demo" in seen.card(HEAT).inner_text()
        seen.go("/alerts")
        expect(seen.card("Firing and pending")).to_contain_text("there are no rules yet")
        expect(seen.page.get_by_role("button", name="Test")).to_be_hidden()
        assert seen.complaints == []


def test_a_service_that_is_gone_is_said_to_be(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with RunningService(tmp_path_factory.mktemp("gone") / "data") as going, opened(browser, going) as seen:
        going.kill()
        seen.page.keyboard.press("r")
        wait_until(lambda: "cannot be reached" in seen.card(HEAT).inner_text(), "the message")


def test_many_hosts_share_rows_that_open_when_they_are_clicked(browser: Browser, service: RunningService) -> None:
    with opened(browser, service, height=500) as seen:
        seen.page.evaluate("document.querySelector('.heat').style.height = '42px'")
        seen.page.keyboard.press("r")
        seen.page.get_by_text("a row up to").wait_for()
        canvas = seen.card(HEAT).locator("canvas").first
        canvas.hover(position={"x": 300, "y": 10})
        assert "hosts from" in seen.card(HEAT).locator(".tip").inner_text()
        canvas.click(position={"x": 300, "y": 10})
        seen.page.wait_for_url("**count=*")
        seen.page.get_by_role("link", name="Show all rows").click()
        wait_until(lambda: "count" not in seen.parameters, "all rows")
