"""`loadlens-analytics report`, run as a person runs it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser

from analytics.commands.report import file_name
from tests.support import preloaded
from tests.support.hostile_names import NAMES
from tests.support.measurements import SAMPLE, hostile_file
from tests.support.pages import opened
from tests.support.running import ROOT, clean_environment

pytestmark = pytest.mark.server

LARGEST = 6_000_000
SECTIONS = ["course", "change", "load", "week", "unusual", "outlook", "sizes", "pairs", "machines", "data"]


def run(*arguments: str, folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return preloaded.run("analytics", "report", *arguments, environment=clean_environment(**variables), cwd=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports on the sample of PlanetLab, and on a fleet with bad names, in several forms."""
    folder = tmp_path_factory.mktemp("reports")
    preloaded.preload("analytics.reports.making")
    data = hostile_file(folder)
    for arguments in (
        ("fleet", "--data", str(SAMPLE), "--out", "sample.html"),
        ("fleet", "--data", str(data), "--out", "hostile.html"),
        ("fleet", "--data", str(data), "--out", "hostile.md"),
        ("fleet", "--data", str(data), "--out", "hostile.json"),
        ("user", NAMES[0], "--data", str(data), "--out", "user.html"),
    ):
        finished = run(*arguments, folder=folder)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout == ""
    return folder


def test_a_report_opens_without_a_network_and_has_every_section(browser: Browser, folder: Path) -> None:
    path = folder / "sample.html"
    with opened(browser, path) as seen:
        assert [section.get_attribute("id") for section in seen.page.locator("main > section").all()] == [
            "findings", *SECTIONS
        ]  # fmt: skip
        assert seen.drawn == seen.page.locator(".plot").count() >= 8
        assert seen.page.locator(".findings li").count() >= 5
        assert seen.complaints == []
        assert seen.asked == [path.as_uri()]
    assert path.stat().st_size < LARGEST


def test_whatever_hosts_are_called_a_report_only_shows_it(browser: Browser, folder: Path) -> None:
    for name in ("hostile.html", "user.html"):
        with opened(browser, folder / name) as seen:
            assert seen.page.title().endswith("· Loadlens")
            assert seen.page.locator("main b, main img, main script, svg a").count() == 0
            assert seen.complaints == []
    text = (folder / "hostile.html").read_text()
    assert "<script>document" not in text
    assert "\u202e" not in text


def test_markdown_takes_no_name_for_markup(folder: Path) -> None:
    text = (folder / "hostile.md").read_text()
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    for tag in ("<a", "<script", "<img", "<code", "<del", "<b>", "<!--"):
        assert tag not in page
    assert "document.title=" in page


def test_json_holds_the_numbers_behind_the_sentences(folder: Path) -> None:
    document = json.loads((folder / "hostile.json").read_text())
    by_kind = {finding["kind"]: finding for finding in document["findings"]}
    assert by_kind["hot"]["severity"] == "act"
    assert set(by_kind["hot"]["numbers"]["names"]) <= set(NAMES)
    assert {row[0] for row in document["tables"]["all-machines"]["rows"]} == set(NAMES)
    assert document["tables"]["all-machines"]["columns"][1] == {"name": "mean", "kind": "share", "unit": "1"}
    assert document["start"] == "2026-03-02T00:00:00Z"
    assert document["facts"]["Gaps without any data"] == "none"


def test_without_a_file_a_report_goes_into_a_pipe(folder: Path) -> None:
    command = [sys.executable, "-P", "-m", "analytics", "report", "user", NAMES[3], "--data", "hostile.parquet"]
    finished = subprocess.run(
        [*command, "--last", "2d", "--format", "md"], cwd=folder, env=clean_environment(PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE, timeout=120, check=True,
    )  # fmt: skip
    assert finished.stdout.startswith(b"# Report on ")
    assert b"2026-03-06" in finished.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_named_in_plain_characters_in_this_folder(name: str) -> None:
    assert Path(file_name(name, "html")).name == file_name(name, "html")
    assert file_name(name, "html").isascii()
    assert file_name(name, "html").startswith("loadlens-machine")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
@pytest.mark.parametrize(("form", "start"), [("pdf", b"%PDF-"), ("png", b"\x89PNG")])
def test_a_report_is_printed_and_photographed(folder: Path, form: str, start: bytes) -> None:
    finished = run("user", NAMES[1], "--data", "hostile.parquet", "--out", f"user.{form}", folder=folder)
    assert finished.returncode == 0, finished.stderr
    content = (folder / f"user.{form}").read_bytes()
    assert content.startswith(start)
    assert len(content) > 50_000


def test_without_a_browser_it_says_how_to_get_one(folder: Path) -> None:
    finished = run("fleet", "--data", "hostile.parquet", "--out", "x.pdf", folder=folder, PATH="/nowhere")
    assert finished.returncode == 1
    assert "apt-get install chromium" in finished.stderr
    assert not (folder / "x.pdf").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("user",), 2, "report user USER_ID"),
        (("fleet", "web-1"), 2, "without a host, got web-1"),
        (("fleet", "--last", "1d", "--start", "2026-03-02"), 2, "expected --last or --start"),
        (("fleet", "--target", "80"), 2, "at most 1"),
        (("fleet", "--out", "x.foo"), 2, "ends in .html, .htm, .pdf, .png, .md, .json, got --out x.foo"),
        (("user", "nobody", "--data", "hostile.parquet"), 1, "no host is named 'nobody'"),
        (
            ("fleet", "--data", "hostile.parquet", "--start", "2027-01-01", "--end", "2027-02-01"),
            1,
            "no host reported",
        ),
        (("fleet", "--data", "nothing.parquet"), 1, "nothing.parquet"),
        (("fleet", "--data", "user.html", "--out", "y.html"), 1, "user.html"),
        (("fleet", "--url", "http://127.0.0.1:9"), 1, "cannot be reached"),
        (
            ("fleet", "--data", "hostile.parquet", "--out", "no/such/folder.html"),
            2,
            "that is there, got no/such/folder.html",
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    folder: Path, arguments: tuple[str, ...], code: int, reason: str
) -> None:
    finished = run(*arguments, folder=folder)
    assert finished.returncode == code, finished.stderr
    assert finished.stdout == ""
    assert reason in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1
