"""The documentation as a site: built strictly, complete, made from code where it can be, and all from one origin."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import msgspec
import pytest

import analytics
from analytics.cli import main
from analytics.frames.columns import NUMBERS
from contract.metrics import NAMES, STATISTICS
from contract.settings.fields import settings_of
from docs.site import averages, reference
from service.alerts.rules import KINDS
from service.http.openapi.operations import OPERATIONS
from tests.support.running import wait_until
from tests.test_docs import settings_structs

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SAMPLE = "service/commands/demo/data/planetlab-sample.parquet"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """The pages of the reference."""
    return reference.pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """The addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("img", "script", "iframe", "source", "video", "audio"):
            self.found.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(given.get("href") or "")


def test_every_page_loads_only_from_its_own_site(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert [one for one in loads.found if "//" in one] == [], page


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    pages = [page.stem for page in (ROOT / "docs").glob("*.md")]
    assert [name for name in pages if not (site / f"{name}.html").exists()] == []
    assert "CONTRIBUTING" in {page.stem for page in (site / "project").glob("*.html")}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder on a port of its own."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_reference_has_every_command_and_setting(made: dict[str, str]) -> None:
    flags = {setting.flag for kind in settings_structs() for setting in settings_of(kind)}
    words = set(re.findall(r"--[a-z0-9-]+|[A-Z][A-Z_]+", made["commands"]))
    assert flags - words == set()
    assert all(
        f"## `loadlens-{name}`" in made["commands"]
        for name in ("agent status", "service agents set", "analytics stream")
    )


def test_the_reference_has_every_endpoint(made: dict[str, str]) -> None:
    wanted = {f"### `{method} {path}`" for path, methods in OPERATIONS.items() for method in methods}
    assert len(wanted) > 30
    assert wanted - set(made["endpoints"].splitlines()) == set()


def test_the_reference_has_every_metric_statistic_and_column(made: dict[str, str]) -> None:
    assert [word for word in (*NAMES, *STATISTICS) if f"`{word}`" not in made["metrics"]] == []
    assert [
        column for column in (*NUMBERS, "time", "user", "core", "histogram") if f"`{column}`" not in made["frames"]
    ] == []


def test_the_reference_has_every_public_name_of_the_library(made: dict[str, str]) -> None:
    assert [name for name in analytics.__all__ if f"## `analytics.{name}`" not in made["library"]] == []


def test_the_reference_has_every_kind_of_rule_with_its_members(made: dict[str, str]) -> None:
    for kind in KINDS:
        assert f'## `kind = "{kind.__struct_config__.tag}"`' in made["rules"]
        members = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert {member for member in members if f"| `{member}` |" not in made["rules"]} == set()


def test_the_reference_has_every_error(made: dict[str, str]) -> None:
    statuses = {str(status) for methods in OPERATIONS.values() for one in methods.values() for status in one.refusals}
    assert {status for status in statuses if f"| {status} |" not in made["errors"]} == set()
    names = [name for name in analytics.__all__ if name.endswith("Error")]
    assert [name for name in names if f"`analytics.{name}`" not in made["errors"]] == []


def test_the_figures_and_numbers_on_averages_are_those_of_the_library() -> None:
    for name, content in averages.figures().items():
        assert (ROOT / "docs" / "pictures" / name).read_text() == content
    page = (ROOT / "docs" / "why-averages-of-averages-lie.md").read_text()
    said = [averages.percent(number) for number in averages.answers()]
    assert said == ["14.5 %", "14.5 %", "100.0 %", "17.5 %", "64.0 %"]
    assert [number for number in said if number not in page] == []


def commands_of_the_tutorial() -> list[str]:
    text = (ROOT / "docs" / "tutorial.md").read_text()
    return re.findall(rf"^    loadlens-analytics (.*--data {re.escape(SAMPLE)}.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("command", commands_of_the_tutorial())
def test_the_tutorials_commands_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command.replace(SAMPLE, str(ROOT / SAMPLE)))) == 0, capsys.readouterr().err


def finds(page: "Page", words: str) -> bool:
    """Whether a search finds something; what is typed before the page listens is not heard, and is typed again."""
    from playwright.sync_api import TimeoutError as NotFound

    page.locator(".md-search__input").fill("")
    # Key by key, as a person types: a text that is put there at once is not looked at where the index comes later.
    page.locator(".md-search__input").press_sequentially(words)
    try:
        page.locator(".md-search-result__item").first.wait_for(timeout=20_000)
    except NotFound:
        return False
    return True


# The last one: while the browser is there, its event loop keeps other tests from running one of their own.
@pytest.mark.server
def test_a_browser_asks_nobody_else_and_finds_what_it_searches(site: Path, browser: "Browser") -> None:
    asked: list[str] = []
    errors: list[str] = []
    with served(site) as url:
        page = browser.new_page()
        page.set_default_timeout(180_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index", "reference/commands", "why-averages-of-averages-lie"):
            page.goto(f"{url}/{name}.html")
            assert page.locator("h1").count() == 1
        wait_until(lambda: finds(page, "right-size"), "what was searched", 240.0)
        page.goto(f"{site.as_uri()}/index.html")
        wait_until(lambda: finds(page, "right-size"), "what was searched on a disk", 240.0)
        page.locator(".md-search-result__link").first.click()
        page.wait_for_url(f"{site.as_uri()}/right-sizing.html**")
        page.close()
    assert errors == []
    assert [one for one in asked if not one.startswith((url, site.as_uri(), "data:", "blob:"))] == []
