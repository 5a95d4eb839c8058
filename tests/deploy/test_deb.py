"""The agent's package for Debian: what it holds is what runs, without root and without anything of this project."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from contract import __version__
from tests.support.running import ROOT, clean_environment

if shutil.which("dpkg-deb") is None:
    pytest.skip("packages for Debian are made with dpkg-deb", allow_module_level=True)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's libraries as pip puts them into a folder."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in ("msgspec", "psutil"):
        for file in importlib.metadata.files(name) or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(str(file.locate())), folder / file)
    return folder


def build(libraries: Path, out: Path) -> Path:
    command = [sys.executable, ROOT / "deploy/deb/build.py", "--libraries", libraries, "--out", out]
    environment = clean_environment(SOURCE_DATE_EPOCH="1700000000")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def package(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(libraries, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files, and its own in DEBIAN."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


def test_it_says_what_it_is_and_which_python_it_needs(package: Path, unpacked: Path) -> None:
    control = dict(re.findall(r"(?m)^([A-Z][\w-]*): (.*)$", (unpacked / "DEBIAN/control").read_text()))
    assert (control["Package"], control["Version"]) == ("loadlens-agent", __version__)
    major, minor = sys.version_info[:2]
    assert control["Depends"] == f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1}~)"
    assert package.name == f"loadlens-agent_{__version__}_{control['Architecture']}.deb"
    listed = subprocess.run(["dpkg-deb", "--contents", package], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == {"root/root"}


def test_what_it_installs_makes_a_report(unpacked: Path, tmp_path: Path) -> None:
    # With this Python, which is the one that the libraries are for; nothing is found but what was installed.
    command = [sys.executable, "-I", "-S", "-B", unpacked / "usr/bin/loadlens-agent", "--once", "--samples", "2"]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["observations_per_metric"] == 2


def test_the_unit_runs_it_and_the_settings_are_roots(unpacked: Path) -> None:
    unit = (unpacked / "usr/lib/systemd/system/loadlens-agent.service").read_text()
    assert re.findall("(?m)^ExecStart=(.*)$", unit) == ["/usr/bin/loadlens-agent"]
    settings = unpacked / "etc/loadlens/agent.env"
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert (unpacked / "DEBIAN/conffiles").read_text() == "/etc/loadlens/agent.env\n"
    assert stat.S_IMODE((unpacked / "usr/bin/loadlens-agent").stat().st_mode) == 0o755
    for script in ("postinst", "prerm", "postrm"):
        subprocess.run(["sh", "-n", unpacked / "DEBIAN" / script], check=True)


def test_it_holds_the_agent_and_nothing_of_the_service(unpacked: Path) -> None:
    rooms = {path.name for path in (unpacked / "usr/lib/loadlens-agent").iterdir() if "dist-info" not in path.name}
    assert rooms == {"agent", "contract", "msgspec", "psutil"}
    assert not list(unpacked.rglob("__pycache__"))
    for line in (unpacked / "DEBIAN/md5sums").read_text().splitlines():
        assert (unpacked / line.partition("  ")[2]).is_file()


def test_the_same_files_give_the_same_bytes(package: Path, libraries: Path, tmp_path: Path) -> None:
    assert build(libraries, tmp_path).read_bytes() == package.read_bytes()


def test_libraries_of_no_python_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "deploy/deb/build.py", "--libraries", tmp_path, "--out", tmp_path / "dist"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected libraries of one version of Python, got none" in done.stderr
