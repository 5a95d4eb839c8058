"""The page of a report in a real browser: nothing comes from elsewhere, nothing that a name says is done."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from plotly.offline import get_plotlyjs_version

from analytics import figures
from analytics.reports.browser import print_pdf
from analytics.reports.html import render
from analytics.reports.model import Finding, Picture, ReportColumn, ReportDocument, ReportTable, Section
from tests.analytics.figures.test_figures import ALL, GAPPED
from tests.support.hostile_names import NAMES
from tests.support.pages import opened

pytestmark = pytest.mark.server

TITLE = "Report"
ROWS = [[name, place / 10 if place else None, place * 1000] for place, name in enumerate(NAMES)]
COLUMNS = [ReportColumn("host", "user"), ReportColumn("mean", "share"), ReportColumn("last seen", "time")]


def report() -> ReportDocument:
    """One of everything, and every name everywhere that a name can be."""
    pictures = [Picture(f"figure-{name}", make(), "How to read it.") for name, make in ALL.items()]
    pictures += [
        Picture(f"named-{place}", figures.trend(GAPPED, f"{name} is hot"), f"About {name}.")
        for place, name in enumerate(NAMES[:5])
    ]
    tables = [
        ReportTable("hostile", f"About {NAMES[0]}", COLUMNS, ROWS, note=NAMES[2]),
        ReportTable("folded", "All hosts", COLUMNS, ROWS, folded=True),
    ]
    findings = [Finding("act", "hot", f"{name} is hot.", f"Look at {name}.") for name in NAMES]
    return ReportDocument(
        title=f"{TITLE} of {NAMES[1]}", subject=NAMES[2], made_ms=1, start_ms=0, end_ms=1, findings=findings,
        facts=[(name, name) for name in NAMES], caveats=NAMES,
        sections=[Section("figures", NAMES[0], NAMES[1], pictures), Section("tables", "Tables", parts=tables)],
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report(), user_path="/reports/users/"), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_drawn_without_a_network_and_without_a_complaint(
    browser: Browser, path: Path, scheme: str
) -> None:
    with opened(browser, path, scheme=scheme) as seen:
        assert seen.drawn == len(ALL) + 5
        assert seen.complaints == []
        assert seen.asked == [path.as_uri()]


def test_no_figure_offers_to_upload_what_it_shows(browser: Browser, path: Path) -> None:
    with opened(browser, path) as seen:
        seen.page.locator(".plot").first.hover()
        offered = seen.page.locator(".modebar-btn").evaluate_all("buttons => buttons.map(one => one.dataset.title)")
    assert "Download plot as a PNG" in " ".join(offered)
    assert [title for title in offered if "hare" in title or "loud" in title] == []


def test_nothing_that_a_name_says_is_done(browser: Browser, path: Path) -> None:
    with opened(browser, path) as seen:
        page = seen.page
        assert page.title().startswith(f"{TITLE} of </script><script>document.title='pwned'</script>")
        for link in page.locator("td a").all():
            assert (link.get_attribute("href") or "").startswith("/reports/users/")
            assert re.fullmatch(
                r"[A-Za-z0-9._~%-]+", (link.get_attribute("href") or "").removeprefix("/reports/users/")
            )
        assert page.locator("main b, main img, main script").count() == 0
        assert page.locator("svg a").count() == 0
        names = page.locator("#hostile tbody td:first-child").all_inner_texts()
        assert names[0] == NAMES[0]
        assert all(name.isprintable() for name in names)


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, path: Path) -> None:
    hostile = path.with_name("injected.html")
    text = path.read_text().replace("<main>", "<main><script>document.body.dataset.pwned = ''</script>"
                                    "<img src='x:y' onerror=\"document.body.dataset.pwned = ''\">")  # fmt: skip
    hostile.write_text(text)
    with opened(browser, hostile) as seen:
        assert seen.page.evaluate("'pwned' in document.body.dataset") is False
        assert any("Content Security Policy" in complaint for complaint in seen.complaints)


def test_tables_sort_by_any_column_and_what_is_missing_stays_last(browser: Browser, path: Path) -> None:
    with opened(browser, path) as seen:
        header = seen.page.locator("#hostile th").nth(1)
        cells = seen.page.locator("#hostile tbody td:nth-child(2)")
        header.locator("button").click()
        down = cells.all_inner_texts()
        assert header.get_attribute("aria-sort") == "descending"
        header.locator("button").click()
        up = cells.all_inner_texts()
        assert up[-1] == down[-1] == cells.last.inner_text()
        assert up[:-1] == down[-2::-1] == [f"{place * 10}.0 %" for place in range(1, len(NAMES))]
        seen.page.locator("#hostile th button").first.click()
        assert seen.page.locator("#hostile th[aria-sort]").count() == 1


def test_a_long_table_is_searched_by_name(browser: Browser, path: Path) -> None:
    with opened(browser, path) as seen:
        seen.page.locator("summary").click()
        seen.page.locator(".find input").fill("PASSWD")
        assert seen.page.locator("#folded tbody tr:visible td:first-child").all_inner_texts() == ["../../etc/passwd"]


def test_the_theme_is_the_systems_until_it_is_switched_and_figures_follow(browser: Browser, path: Path) -> None:
    def colours() -> tuple[str, str]:
        ink = seen.page.locator(".plot .xtitle").first.evaluate("node => getComputedStyle(node).fill")
        return seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"), ink

    with opened(browser, path, scheme="dark") as seen:
        assert colours() == ("rgb(20, 24, 28)", "rgb(230, 233, 236)")
        seen.page.locator("#theme").click()
        seen.page.wait_for_function("document.querySelector('.plot .xtitle').style.fill === 'rgb(28, 33, 38)'")
        assert colours() == ("rgb(255, 255, 255)", "rgb(28, 33, 38)")
        seen.page.locator("#theme").click()
        seen.page.wait_for_function("document.querySelector('.plot .xtitle').style.fill === 'rgb(230, 233, 236)'")
        seen.page.emulate_media(color_scheme="light")
        assert colours()[0] == "rgb(20, 24, 28)"


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(browser: Browser, path: Path) -> None:
    with opened(browser, path, width=390) as seen:
        assert seen.page.evaluate("document.documentElement.scrollWidth") == 390
        assert seen.complaints == []


def test_a_narrow_screen_leaves_figures_their_room(browser: Browser, path: Path) -> None:
    """Neither the names of hosts nor Plotly's buttons take it."""
    with opened(browser, path, width=390) as seen:
        assert seen.page.locator(".modebar").count() == 0
        for name in ("users_over_time", "hour_of_week"):
            plot = seen.page.locator(f'[data-figure="figure-{name}"]')
            width = plot.evaluate("plot => plot._fullLayout._size.w")
            assert width > 0.7 * plot.evaluate("plot => plot.clientWidth"), name
    with opened(browser, path) as seen:
        assert seen.page.locator(".modebar").count() > 0


def test_a_table_that_goes_on_at_the_side_shows_it(browser: Browser, path: Path) -> None:
    with opened(browser, path, width=390) as seen:
        shadows = "getComputedStyle(document.querySelector('.scroll')).backgroundAttachment"
        assert seen.page.evaluate(shadows) == "local, local, scroll, scroll"


def test_it_prints_on_white_paper_within_the_margins(browser: Browser, path: Path) -> None:
    with opened(browser, path, scheme="dark") as seen:
        seen.page.emulate_media(media="print")
        seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert (
            seen.page.evaluate("Math.max(...[...document.querySelectorAll('.plot svg')].map(s => s.clientWidth))")
            <= 690
        )
        assert seen.page.locator("nav").is_hidden() and seen.page.locator("#folded").is_hidden()
        pdf = seen.page.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 5
        assert seen.complaints == []


def test_the_file_is_small() -> None:
    assert len(render(report()).encode()) < 2_500_000


def test_the_pages_plotly_is_the_one_that_makes_the_figures() -> None:
    """After an update: npm pack plotly.js-cartesian-dist-min@VERSION, and its plotly-cartesian.min.js into the page."""
    script = Path(figures.__file__).parents[1] / "reports" / "page" / "plotly-cartesian.min.js"
    assert f"v{get_plotlyjs_version()}\n" in script.read_text()[:200]


def test_everyone_behind_a_finding_is_folded_and_can_be_searched(browser: Browser, tmp_path: Path) -> None:
    everyone = ReportTable("all-hot", "All 4 hot hosts", COLUMNS[:1], [[name] for name in NAMES[:4]])
    finding = Finding("act", "hot", "4 hosts are hot.", everyone=everyone)
    document = ReportDocument("Report", "", 0, 0, 1, [finding], [], [], [])
    (tmp_path / "report.html").write_text(render(document), encoding="utf-8")
    with opened(browser, tmp_path / "report.html") as seen:
        rows = seen.page.locator("#all-hot tbody tr")
        assert rows.count() == 4 and not rows.first.is_visible()
        seen.page.locator(".findings summary").click()
        assert rows.first.is_visible()
        seen.page.locator(".findings .find input").fill(NAMES[1])
        assert seen.page.locator("#all-hot tbody tr:visible").count() == 1
        assert seen.complaints == []


def test_a_pdf_has_an_outline_of_its_headings() -> None:
    document = ReportDocument("Report of a test", "", 0, 0, 1, [], [], [], [Section("one", "First section")])
    pdf = print_pdf(render(document, theme="light"))
    assert re.search(rb"/Outlines \d+ 0 R", pdf)
    assert pdf.count(b"/Parent") > 2
