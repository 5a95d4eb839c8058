"""Make the agent's package for Debian and Ubuntu: `python deploy/deb/build.py --libraries DIR --out DIR`.

`--libraries` is a folder with the agent's libraries as pip puts them there (`make deb` does that). The package holds
them, the agent, its unit and a file for its settings. Needs dpkg-deb, and no root. With SOURCE_DATE_EPOCH set the same
files give the same bytes.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from contract import __version__  # noqa: E402 - of this tree

NAME = "loadlens-agent"
_LIBRARY = Path("usr/lib") / NAME
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "ppc64le": "ppc64el", "s390x": "s390x"}
_LAUNCHER = f"""#!/usr/bin/python3 -I
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib" / "{NAME}"))

from agent.cli import main

sys.exit(main())
"""
_SETTINGS = """# Settings of loadlens-agent, one a line; `loadlens-agent --help` lists them.
# What is changed counts from the next start on: systemctl restart loadlens-agent
#LOADLENS_URL="https://loadlens.example.org"
#LOADLENS_ENROLMENT_TOKEN="loadlens_..."
"""
_CONTROL = """Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: The Loadlens authors <loadlens@example.org>
Installed-Size: {size}
Depends: python3 (>= {python}), python3 (<< {next})
Section: admin
Priority: optional
Description: samples the CPU of this machine for Loadlens
 Samples every core each 50 ms, and reports a summary of each window to a
 Loadlens service. What cannot be sent waits on disk.
"""
# As debhelper has them: what an administrator has disabled stays so over changes of the version. DPKG_ROOT is a folder
# that it is installed below, whose systemd does not run.
_AFTER_INSTALL = f"""#!/bin/sh
set -e
if [ "$1" = configure ] || [ "$1" = abort-upgrade ] || [ "$1" = abort-remove ]; then
  python3 -m compileall -q -s "$DPKG_ROOT" "$DPKG_ROOT/{_LIBRARY}" || true
  deb-systemd-helper unmask {NAME}.service >/dev/null || true
  if deb-systemd-helper --quiet was-enabled {NAME}.service; then
    deb-systemd-helper enable {NAME}.service >/dev/null || true
  else
    deb-systemd-helper update-state {NAME}.service >/dev/null || true
  fi
  # Without a service to report to it would only fill its spool.
  if ! grep -q '^LOADLENS_URL=' "$DPKG_ROOT/etc/loadlens/agent.env"; then
    echo "{NAME}: set LOADLENS_URL in /etc/loadlens/agent.env, then: systemctl restart {NAME}"
  elif [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null || true
    deb-systemd-invoke restart {NAME}.service >/dev/null || true
  fi
fi
"""
_BEFORE_REMOVAL = f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  deb-systemd-invoke stop {NAME}.service >/dev/null || true
fi
find "$DPKG_ROOT/{_LIBRARY}" -name __pycache__ -prune -exec rm -rf {{}} +
"""
_AFTER_REMOVAL = f"""#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
  if command -v deb-systemd-helper >/dev/null; then
    deb-systemd-helper purge {NAME}.service >/dev/null || true
    deb-systemd-helper unmask {NAME}.service >/dev/null || true
  fi
  rm -rf "$DPKG_ROOT/var/lib/private/{NAME}" "$DPKG_ROOT/var/lib/{NAME}"
fi
"""


def build(libraries: Path, out: Path) -> Path:
    """Make the package of `libraries` in the folder `out`; returns its path. Raises SystemExit where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / NAME
        _write_files(tree, libraries)
        python = _python_of(libraries)
        architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
        _write_control(tree, python, architecture)
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is not None:
            for path in (tree, *tree.rglob("*")):
                os.utime(path, (int(epoch), int(epoch)), follow_symlinks=False)
        out.mkdir(parents=True, exist_ok=True)
        package = out / f"{NAME}_{__version__}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, package], check=True, stdout=2)
    return package


def _write_files(tree: Path, libraries: Path) -> None:
    """Put what is to be installed below `tree`."""
    without = shutil.ignore_patterns("__pycache__", "bin", "*.pyi")
    shutil.copytree(libraries, tree / _LIBRARY, ignore=without)
    for room in ("agent", "contract"):
        shutil.copytree(ROOT / room, tree / _LIBRARY / room, ignore=without)
    _write(tree / "usr/bin" / NAME, _LAUNCHER, 0o755)
    unit = (ROOT / "agent" / f"{NAME}.service").read_text(encoding="utf-8")
    unit = re.sub(r"(?m)^ExecStart=.*$", f"ExecStart=/usr/bin/{NAME}", unit)
    _write(tree / f"usr/lib/systemd/system/{NAME}.service", unit)
    _write(tree / "etc/loadlens/agent.env", _SETTINGS, 0o600)
    _write(tree / f"usr/share/doc/{NAME}/copyright", (ROOT / "LICENSE").read_text(encoding="utf-8"))
    for path in (tree, *tree.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        elif path.is_relative_to(tree / _LIBRARY):
            path.chmod(0o644)


def _python_of(libraries: Path) -> tuple[int, int]:
    """The version of Python that the compiled parts of the libraries are for."""
    found = {match[1] for file in libraries.rglob("*.so") if (match := re.search(r"\.cpython-(3\d+)-", file.name))}
    if len(found) != 1:
        sys.exit(f"build.py: expected libraries of one version of Python, got {', '.join(sorted(found)) or 'none'}")
    return 3, int(found.pop()[1:])


def _write_control(tree: Path, python: tuple[int, int], architecture: str) -> None:
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    control = _CONTROL.format(
        name=NAME, version=__version__, architecture=architecture,
        size=sum(path.stat().st_size for path in files) // 1024,
        python=f"{python[0]}.{python[1]}", next=f"{python[0]}.{python[1] + 1}~",
    )  # fmt: skip
    sums = "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
        if not path.is_relative_to(tree / "etc")
    )
    _write(tree / "DEBIAN/control", control)
    _write(tree / "DEBIAN/conffiles", "/etc/loadlens/agent.env\n")
    _write(tree / "DEBIAN/md5sums", sums)
    for name, script in (("postinst", _AFTER_INSTALL), ("prerm", _BEFORE_REMOVAL), ("postrm", _AFTER_REMOVAL)):
        _write(tree / "DEBIAN" / name, script, 0o755)
    (tree / "DEBIAN").chmod(0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the agent's package for Debian and Ubuntu.")
    parser.add_argument("--libraries", type=Path, required=True, help="folder with the agent's libraries")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder of the package")
    given = parser.parse_args()
    print(build(given.libraries, given.out))
