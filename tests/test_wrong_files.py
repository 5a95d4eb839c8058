"""A file that a setting names and that cannot be used: one line that names it, and exit code 2, of every program."""

from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.certificates import authority
from tests.support.running import clean_environment

pytestmark = pytest.mark.server

NOBODY = "127.0.0.1:9"
KINDS = ("missing", "a folder", "empty", "binary", "two lines", "below a file")
PROGRAMS = {
    "service": ("service", "--port", "0"),
    "agent": ("agent", "--url", f"http://{NOBODY}"),
    "agent enrol": ("agent", "enrol", "--url", f"http://{NOBODY}"),
    "analytics": ("analytics", "users", "--url", f"http://{NOBODY}"),
    "agents": ("service", "agents", "list", "--url", f"http://{NOBODY}"),
}
HTTPS = f"https://{NOBODY}"
CERTIFICATES = {
    "agent": ("agent", "--url", HTTPS, "--ca-file"),
    "agent, its certificate": ("agent", "--url", HTTPS, "--client-certificate"),
    "agent enrol": ("agent", "enrol", "--url", HTTPS, "--enrolment-token", "t0ken", "--ca-file"),
    "analytics": ("analytics", "users", "--url", HTTPS, "--ca-file"),
    "analytics stream": ("analytics", "stream", "--url", HTTPS, "--ca-file"),
    "agents": ("service", "agents", "list", "--url", HTTPS, "--ca-file"),
    "status": ("service", "status", "--url", HTTPS, "--ca-file"),
    "rules": ("service", "rules", "list", "--url", HTTPS, "--ca-file"),
    "redeliver": ("service", "rules", "redeliver", "--url", HTTPS, "some-id", "--ca-file"),
    "service": ("service", "--port", "0", "--tls-certificate"),
}


def wrong(folder: Path, kind: str) -> Path:
    """A file that cannot be used."""
    path = folder / "wrong.file"
    match kind:
        case "a folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "binary":
            path.write_bytes(bytes(range(128, 256)))
        case "two lines":
            path.write_text("one\ntwo\n")
        case "below a file":
            path.write_text("not a folder")
            return path / "under"
    return path


def assert_refused(folder: Path, *arguments: str | Path, **environment: str) -> None:
    folders = {"service": ("--data-dir", folder / "data"), "agent": ("--spool-dir", folder / "spool")}
    command = [*map(str, arguments)]
    if len(arguments) < 2 or str(arguments[1]).startswith("--") or arguments[1] == "enrol":
        command += map(str, folders.get(command[0], ()))
    done = preloaded.run(*command, environment=clean_environment(HOME=str(folder), **environment))
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, len(lines)) == (2, 1), lines
    assert "wrong.file" in lines[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_of_a_token(program: str, kind: str, tmp_path: Path) -> None:
    assert_refused(tmp_path, *PROGRAMS[program], LOADLENS_TOKEN_FILE=str(wrong(tmp_path, kind)))


@pytest.mark.parametrize("kind", ["missing", "binary"])
@pytest.mark.parametrize("program", CERTIFICATES)
def test_a_file_of_certificates(program: str, kind: str, tmp_path: Path) -> None:
    assert_refused(tmp_path, *CERTIFICATES[program], wrong(tmp_path, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_wrong_certificate_and_key(kind: str, tmp_path: Path) -> None:
    good = authority(tmp_path, "good")
    certificate = ("agent", "--url", HTTPS, "--client-certificate", good.path, "--client-key")
    assert_refused(tmp_path, *certificate, wrong(tmp_path, kind))


@pytest.mark.parametrize("kind", ["missing", "a folder", "binary", "two lines", "below a file"])
@pytest.mark.parametrize("program", ["service", "agent", "analytics"])
def test_a_file_of_settings(program: str, kind: str, tmp_path: Path) -> None:
    assert_refused(tmp_path, *PROGRAMS[program], "--config", wrong(tmp_path, kind))
