"""The lists of what is installed agree: pyproject.toml, requirements.lock, those with hashes, and environment.yml."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
CONDA: list[Any] = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


HASHED = {path.name: path.read_text() for path in sorted((ROOT / "requirements").glob("*.txt"))}
_ENTRY = re.compile(
    r"^([a-z0-9._-]+)==([a-z0-9.!+]+)(?: ; ([^\\\n]+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def hashed(name: str) -> dict[str, Version]:
    """The version of each package in a list with hashes."""
    return {canonicalize_name(found[1]): Version(found[2]) for found in _ENTRY.finditer(HASHED[name])}


def direct_requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, of the base and of every extra."""
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    return [requirement for text in texts if (requirement := Requirement(text)).name != "loadlens"]


def locked() -> dict[str, Version]:
    """The lock's version of each package."""
    pins = (line.split("==") for line in LOCK_LINES)
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_the_lock_is_names_with_one_version_each() -> None:
    assert [line for line in LOCK_LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line)] == []


@pytest.mark.parametrize("name", HASHED)
def test_lists_with_hashes_are_versions_and_hashes_and_nothing_else(name: str) -> None:
    assert _ENTRY.sub("", HASHED[name]) == ""
    assert len(hashed(name)) > 1


def test_lists_with_hashes_have_the_versions_of_the_lock() -> None:
    everything = hashed("all.txt")
    assert {name: everything.get(name) for name in locked()} == locked(), "make hashes writes them anew"
    for name in ("agent.txt", "service.txt"):
        assert hashed(name).items() <= everything.items()
    assert {"hatchling", "editables"} <= {*hashed("build.txt")}


@pytest.mark.parametrize(("name", "extras"), [("agent.txt", ()), ("service.txt", ("service", "analytics"))])
def test_an_image_gets_what_it_asks_for(name: str, extras: tuple[str, ...]) -> None:
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])]
    asked = {canonicalize_name(requirement.name) for requirement in map(Requirement, texts)} - {"loadlens"}
    assert asked <= {*hashed(name)}


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_the_lock_holds_a_version_of_everything_asked_for(requirement: Requirement) -> None:
    assert locked()[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_base_install_is_the_agent_alone() -> None:
    assert {Requirement(text).name for text in PROJECT["dependencies"]} == {"msgspec", "psutil"}


def test_conda_brings_a_python_that_the_project_accepts() -> None:
    [python] = [text.removeprefix("python") for text in CONDA if isinstance(text, str) and text.startswith("python")]
    accepted = SpecifierSet(PROJECT["requires-python"])
    offered = [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(python)]
    assert offered
    assert all(version in accepted for version in offered)


def test_conda_installs_the_project_with_every_extra_in_the_locks_versions() -> None:
    [pip] = [entry["pip"] for entry in CONDA if isinstance(entry, dict)]
    assert "--constraint requirements.lock" in pip
    [editable] = [line for line in pip if line.startswith("--editable")]
    extras = re.fullmatch(r"--editable \.\[(.*)\]", editable)
    assert extras is not None
    assert set(extras[1].split(",")) == set(EXTRAS)
