"""Packages: whoever builds them again gets the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EPOCH = "1790000000"
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def built(folder: Path, mode: int, age_s: int) -> Path:
    """The wheel of a copy of the project whose files have other permissions and times."""
    for name in (*BUILD, "pyproject.toml", "README.md", "LICENSE"):
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            os.utime(path, (1_700_000_000 - age_s, 1_700_000_000 - age_s))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")], cwd=folder, check=True,
        capture_output=True, timeout=280, env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "TZ": f"UTC{age_s % 12}"},
    )  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [
        built(tmp_path_factory.mktemp("one") / "project", 0o644, 0),
        built(tmp_path_factory.mktemp("two") / "elsewhere", 0o600, 86_405),
    ]


def test_two_builds_of_the_same_source_are_the_same_wheel(wheels: list[Path]) -> None:
    assert len({wheel.name for wheel in wheels}) == 1
    assert len({hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}) == 1


def test_a_wheel_has_the_packages_and_no_more(wheels: list[Path]) -> None:
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {*BUILD}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
