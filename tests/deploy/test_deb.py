"""The agent's package for Debian: what it holds, and that dpkg installs it, changes its version and takes it away."""

import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import __version__
from tests.support.booted import Booted, booted
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

if shutil.which("dpkg-deb") is None:
    pytest.skip("packages for Debian are made with dpkg-deb", allow_module_level=True)

SETTINGS, UNIT = "/etc/loadlens/agent.env", "/usr/lib/systemd/system/loadlens-agent.service"
OF_DPKG = ("/var/lib/dpkg/", "/var/log/dpkg.log")
OF_SYSTEMD = ("/etc/.pwd.lock",)
NEXT = "999.1"


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


@pytest.fixture(scope="module")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a newer version, whose file of settings is another, with one module more."""
    tree = tmp_path_factory.mktemp("newer")
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub("(?m)^Version: .*$", f"Version: {NEXT}", control.read_text()))
    with (tree / SETTINGS[1:]).open("a") as settings:
        settings.write("# A line more.\n")
    (tree / "usr/lib/loadlens-agent/agent/added.py").write_text("")
    made = tmp_path_factory.mktemp("dist") / "newer.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, made], check=True, stdout=2)
    return made


def runs_here(package: Path) -> bool:
    """Whether the system's Python is the one that the package is for."""
    system = shutil.which("python3", path="/usr/bin")
    said = system and subprocess.run([system, "--version"], capture_output=True, text=True, check=True).stdout
    return bool(said) and f" {sys.version_info[0]}.{sys.version_info[1]}." in str(said)


@pytest.fixture
def machine(package: Path, tmp_path: Path) -> Iterator[Booted]:
    if not runs_here(package):
        pytest.skip("the system's Python is not the one that the package was made for")
    (tmp_path / "machine").mkdir()
    with booted(tmp_path / "machine") as found:
        yield found


def placed(machine: Booted, package: Path) -> str:
    """A package as a file of the machine."""
    machine.write(f"/tmp/{package.name}", package.read_bytes())
    return f"/tmp/{package.name}"


def main_process(machine: Booted) -> str:
    return machine.run("systemctl", "show", "--value", "--property=MainPID", "loadlens-agent").strip()


def users(service: RunningService) -> list[dict[str, object]]:
    with service.client() as client:
        found: list[dict[str, object]] = client.get("/api/v1/users").raise_for_status().json()["users"]
    return found


@pytest.mark.server
def test_a_machine_has_it_installed_upgraded_removed_and_purged(
    machine: Booted, package: Path, newer: Path, tmp_path: Path
) -> None:
    before = machine.changed()
    said = machine.run("dpkg", "--install", placed(machine, package))
    assert f"set LOADLENS_URL in {SETTINGS}, then: systemctl restart loadlens-agent" in said
    assert machine.run("loadlens-agent", "--version").split() == ["loadlens-agent", __version__]
    assert machine.run("systemctl", "is-enabled", "loadlens-agent").strip() == "enabled"
    assert machine.run("systemctl", "is-active", "loadlens-agent", check=False).strip() == "inactive"
    assert machine.run("stat", "--format=%a %U %G", SETTINGS).split() == ["600", "root", "root"]
    assert machine.run("dpkg", "--verify", "loadlens-agent") == ""

    with RunningService(tmp_path / "service") as service:
        # As the package says; the windows are short, so that this is not long.
        settings = f'LOADLENS_URL="{service.url}"\nLOADLENS_SAMPLES=10\nLOADLENS_USER_ID=installed\n'
        machine.write(SETTINGS, settings.encode())
        machine.run("systemctl", "restart", "loadlens-agent")
        wait_until(lambda: [user["user_id"] for user in users(service)] == ["installed"], "a report")
        first = main_process(machine)
        # A user that systemd makes while it runs.
        assert machine.run("ps", "-o", "user=", "-p", first).strip() == "loadlens-agent"
        assert re.search(r"(?m)^works agent +Process \d+ reports as installed", machine.run("loadlens-agent", "status"))

        # A newer version keeps the settings, and the agent goes on with it.
        machine.run("dpkg", "--install", "--force-confold", placed(machine, newer))
        assert machine.run("cat", SETTINGS) == settings
        assert main_process(machine) not in ("0", first)
        heard = users(service)[0]["last_seen"]
        wait_until(lambda: users(service)[0]["last_seen"] != heard, "a report of the newer version")
        assert machine.run("sh", "-c", "ls /usr/lib/loadlens-agent/agent").count("added.py") == 1

        # Who has stopped and disabled it has it so after a change of the version too.
        machine.run("systemctl", "disable", "--now", "loadlens-agent")
        machine.run("dpkg", "--install", "--force-confold", placed(machine, package))
        assert machine.run("systemctl", "is-enabled", "loadlens-agent", check=False).strip() == "disabled"
        assert main_process(machine) == "0"
        assert "added" not in machine.run("ls", "/usr/lib/loadlens-agent/agent")
        machine.run("systemctl", "enable", "--now", "loadlens-agent")

        machine.run("dpkg", "--remove", "loadlens-agent")
        assert machine.run("pgrep", "-f", "loadlens-agent", check=False) == ""
        assert machine.run("cat", SETTINGS) == settings
        gone = (UNIT, "/usr/lib/loadlens-agent", "/usr/bin/loadlens-agent")
        assert machine.run("sh", "-c", f"ls -d {' '.join(gone)} 2>/dev/null", check=False) == ""
        # What was not sent waits for who installs it again.
        assert "spool.db" in machine.run("ls", "/var/lib/private/loadlens-agent")

    machine.run("dpkg", "--purge", "loadlens-agent")
    left = {path for path in machine.changed() - before if not path.startswith(OF_DPKG + OF_SYSTEMD)}
    assert left == set()
    kept = machine.run("sh", "-c", "cat /var/lib/dpkg/status; ls /var/lib/dpkg/info /etc /var/lib /var/lib/private")
    assert "loadlens" not in kept


class Below:
    """A folder that dpkg installs below, as images are made; without root too, where there are namespaces of users."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        for name in ("status", "available"):
            (root / "var/lib/dpkg" / name).touch()
        self._apart = ["unshare", "--user", "--map-root-user"] if os.geteuid() else []
        if self._apart and subprocess.run([*self._apart, "true"], capture_output=True, check=False).returncode:
            pytest.skip("dpkg wants to be root, or to seem so in a namespace of users")

    def dpkg(self, *arguments: object, code: int = 0) -> str:
        """What dpkg says, which has to end with `code`."""
        options = (f"--root={self.root}", "--force-script-chrootless", "--force-confold")
        environment = {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C"}
        done = subprocess.run(
            [*self._apart, "dpkg", *options, *map(str, arguments)], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout


def test_it_is_installed_below_a_folder_where_no_systemd_runs(package: Path, newer: Path, tmp_path: Path) -> None:
    """This is also what is tried where no machine can be booted: without root, and in containers."""
    below = Below(tmp_path / "root")
    install = ("--force-depends", "--install")
    assert f"set LOADLENS_URL in {SETTINGS}" in below.dpkg(*install, package)
    settings = below.root / SETTINGS[1:]
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    wanted = below.root / "etc/systemd/system/multi-user.target.wants/loadlens-agent.service"
    assert os.readlink(wanted).endswith("/lib/systemd/system/loadlens-agent.service")
    program = [sys.executable, "-I", "-S", "-B", below.root / "usr/bin/loadlens-agent", "--version"]
    assert subprocess.run(program, capture_output=True, text=True, check=True).stdout.split()[1] == __version__
    settings.write_text("LOADLENS_URL=https://loadlens.example.org\n")
    assert "set LOADLENS_URL" not in below.dpkg(*install, newer)
    assert settings.read_text() == "LOADLENS_URL=https://loadlens.example.org\n"
    below.dpkg("--remove", "loadlens-agent")
    assert settings.exists()
    assert not (below.root / "usr/lib/loadlens-agent").exists()
    below.dpkg("--purge", "loadlens-agent")
    left = {str(path.relative_to(below.root)) for path in below.root.rglob("*") if not path.is_dir()}
    assert {name for name in left if not f"/{name}".startswith(OF_DPKG)} == set()


def test_dpkg_does_not_configure_one_for_another_python(tmp_path: Path) -> None:
    library = tmp_path / "libraries/psutil"
    library.mkdir(parents=True)
    (library / "_psutil.cpython-399-x86_64-linux-gnu.so").touch()
    below = Below(tmp_path / "root")
    said = below.dpkg("--install", build(tmp_path / "libraries", tmp_path / "dist"), code=1)
    assert "loadlens-agent depends on python3 (>= 3.99)" in said
