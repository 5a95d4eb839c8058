"""The documentation is complete: it has every setting, endpoint, command and metric, and its links lead somewhere."""

import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.metrics import NAMES, STATISTICS, TYPES, type_name
from contract.settings import Settings
from contract.settings.fields import Setting, settings_of
from contract.validation import parse
from service.http import answers
from tests.support.reports import original
from tests.support.running import RunningService, clean_environment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROGRAMS = (ROOT / "docs" / "programs.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def settings_structs() -> Iterator[type[Settings]]:
    """What each program and each of its commands can be set."""
    for program in ("agent", "service", "analytics"):
        package = importlib.import_module(program)
        for module in pkgutil.walk_packages(package.__path__, f"{program}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    kinds: list[type[Settings]] = [Settings]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        if kind.__module__.partition(".")[0] in ("agent", "service", "analytics"):
            yield kind


def row(setting: Setting) -> str:
    """How docs/settings.md shows a setting."""
    default = "required" if setting.required else setting.default_shown
    cells = (f"`{setting.flag}`", setting.description, setting.expected, default)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def test_every_setting_is_documented() -> None:
    rows = {row(setting) for kind in settings_structs() for setting in settings_of(kind)}
    missing = rows - set(SETTINGS.splitlines())
    assert not missing, "docs/settings.md misses these rows:\n" + "\n".join(sorted(missing))


def test_no_setting_is_documented_that_is_gone() -> None:
    flags = {setting.flag for kind in settings_structs() for setting in settings_of(kind)}
    documented = set(re.findall(r"^\| `([^`]+)` \|", SETTINGS, re.MULTILINE))
    assert documented <= flags


def test_every_endpoint_is_documented() -> None:
    source = "".join((ROOT / "service" / name).read_text() for name in ("app.py", "answering.py"))
    routes = re.findall(r'^        "(/[^"]*)": ', source.replace(":path}", "}"), re.MULTILINE)
    assert len(routes) >= 20
    assert [route for route in routes if f"`{route}`" not in API and f" {route}`" not in API] == []


def test_every_program_and_command_is_documented() -> None:
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    commands = list(programs)
    for program, target in programs.items():
        module = importlib.import_module(target.partition(":")[0])
        commands += [f"{program} {command}" for command in getattr(module, "_COMMANDS", {})]
    assert [command for command in commands if f"`{command}`" not in PROGRAMS] == []


@pytest.mark.parametrize("word", [*NAMES, *STATISTICS, *map(type_name, TYPES)])
def test_every_metric_and_statistic_is_documented(word: str) -> None:
    assert f"`{word}`" in API


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`| {4})make ([a-z-]+)", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_that_docs_name_exist(page: Path) -> None:
    text = "" if page.name == "CHANGELOG.md" else page.read_text()
    paths = re.findall(r"`((?:contract|agent|analytics|service|tests|bench|examples|notebooks|docs)/[\w./-]*)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = [name for name in re.findall(r"`([\w./-]+\.py)\b", text) if not (ROOT / name).exists()]
    assert modules == [], "expected paths from the project's root"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_that_docs_take_from_modules_exist(page: Path) -> None:
    text = "" if page.name == "CHANGELOG.md" else page.read_text()
    names = re.findall(r"`((?:contract|agent|analytics|service)(?:\.\w+)+)\b", text)
    missing = []
    for name in names:
        try:
            pkgutil.resolve_name(name)
        except (AttributeError, ImportError):
            missing.append(name)
    assert missing == []


def test_the_readme_is_short_and_shows_a_picture_of_the_project() -> None:
    assert len(README.splitlines()) < 80
    [picture] = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert picture.startswith("docs/pictures/") and (ROOT / picture).is_file()
    first = " ".join(README.split("\n\n")[1].split())
    assert first.startswith("The 95th and 99th percentile of 50 ms CPU samples")
    assert "over any range" in first and "merge exactly" in first


@pytest.mark.server
def test_what_the_readme_and_the_programs_page_have_people_try_works(tmp_path: Path) -> None:
    text = README + PROGRAMS
    with RunningService(tmp_path / "data") as service, service.client() as client:
        assert client.post("/api/v1/metrics", json=original("web-1")).status_code == 202
        asked = re.findall(r"^ *curl \"?http://localhost:8888(/[^\s\"]*)", text, re.MULTILINE)
        assert len(asked) >= 4
        assert {path: client.get(path).status_code for path in asked} == dict.fromkeys(asked, 200)
        commands = re.findall(r"^ *(?:\.venv/bin/)?loadlens-(analytics) (.+)$", README, re.MULTILINE)
        assert len(commands) >= 1
        for program, arguments in commands:
            done = subprocess.run(
                [sys.executable, "-m", program, *shlex.split(arguments)],
                cwd=tmp_path, env=clean_environment(LOADLENS_URL=service.url, PYTHONPATH=str(ROOT)),
                capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr


def test_the_report_that_is_sent_by_curl_is_valid() -> None:
    bodies = re.findall(r"--request POST --data '(\{.*?\})' http", PROGRAMS, re.DOTALL)
    assert [parse(body.encode(), 2**43).user_id for body in bodies] == ["6a:d6:96:d3:45:35"]


def test_the_question_that_is_asked_by_curl_is_json() -> None:
    [question] = re.findall(r"--request GET --data '(\{.*?\})' http", PROGRAMS, re.DOTALL)
    assert set(json.loads(question)) == {"start", "end", "resample_rate"}


def test_everything_deprecated_is_documented_with_its_dates() -> None:
    for one in answers.DEPRECATED:
        assert (one.until - one.since).days >= 365
        assert f"| {one.since.date()} | {one.until.date()} | `{one.instead}` |" in API
