"""deploy/Dockerfile: what the images are made of is there, and both are closed."""

import fnmatch
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agent.heartbeat import Heartbeat, HeartbeatFile
from agent.settings import AgentSettings
from contract import times
from contract.agent_protocol import SettingsInForce
from contract.settings.fields import settings_of
from service.settings import ServiceSettings
from tests.support.running import RunningService, clean_environment

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
IGNORE = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def stages() -> dict[str, str]:
    """The text of each stage, by name."""
    parts = re.split(r"^FROM .* AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def copied() -> list[str]:
    """What is copied out of the project."""
    lines = re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file from the build; the last line that matches it or a folder of it decides."""
    parents = ["/".join(path.split("/")[:length]) for length in range(1, path.count("/") + 2)]
    verdict = False
    for line in IGNORE:
        pattern = line.lstrip("!").removeprefix("**/")
        names = [parent.rpartition("/")[2] for parent in parents] if line.startswith("**/") else parents
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            verdict = not line.startswith("!")
    return verdict


def test_the_build_gets_what_the_wheel_is_made_of_and_nothing_else() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(copied()) == {*packages["packages"], "pyproject.toml", "requirements", "README.md", "LICENSE"}
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for path in tracked.splitlines():
        assert ignored(path) == (path.split("/")[0] not in copied()), path
    assert ignored("deploy/secrets/agents_token")
    assert ignored("service/__pycache__/app.pyc")
    assert ignored(".venv/bin/python")


@pytest.mark.parametrize("name", ["service", "agent"])
def test_the_images_run_without_root_and_are_watched(name: str) -> None:
    stage = stages()[name]
    [user] = re.findall(r"^USER (\d+)$", stage, re.MULTILINE)
    assert int(user) > 0
    assert "--uid " + user in stages()["base"]
    assert "HEALTHCHECK" in stage
    assert f'ENTRYPOINT ["loadlens-{name}"]' in stage
    # Only wheels, built before from the lock: nothing is fetched.
    assert "--no-index" in stage


def test_what_the_images_fetch_has_the_hashes_that_are_locked() -> None:
    fetching = re.findall(r"pip (?:install|wheel) [^\n]*", stages()["wheels"])
    assert len(fetching) == 4
    for command in fetching:
        assert "--no-deps" in command
        assert ("--require-hashes" in command) == (" ." not in command)
        assert "--require-hashes" in command or "--no-build-isolation" in command
    for name in re.findall(r"-r (\S+)", stages()["wheels"]):
        assert (ROOT / name).exists()


def test_a_release_can_pin_the_image_that_ours_begin_from() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == [
        "python:${PYTHON}", "python:${PYTHON}", "base", "base"
    ]  # fmt: skip
    assert "@sha256:<digest>" in DOCKERFILE
    assert "@sha256:" in (ROOT / "docs" / "releasing.md").read_text()


def test_what_the_images_set_are_settings() -> None:
    known = {one.variable for kind in (ServiceSettings, AgentSettings) for one in settings_of(kind)}
    assert set(re.findall(r"(LOADLENS_\w+)=", DOCKERFILE)) <= known


def health(name: str, **environ: str) -> int:
    """The exit code of an image's health check, run here."""
    [command] = re.findall(r"^HEALTHCHECK.*\n\s+CMD (\[.*\])$", stages()[name], re.MULTILINE)
    python, *arguments = json.loads(command)
    assert python == "python"
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean_environment(**environ),
        capture_output=True,
        check=False,
        timeout=30,
    )
    return done.returncode


@pytest.mark.server
def test_the_service_is_healthy_while_it_takes_reports(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service:
        port = str(service.port)
        assert health("service", LOADLENS_PORT=port) == 0
        assert service.stop() == 0
    assert health("service", LOADLENS_PORT=port) == 1


@pytest.mark.parametrize(
    ("paused", "samples", "age_s", "code"),
    [
        (False, 100, 0, 0),
        (False, 100, 300, 1),
        (True, 100, 30_000, 0),
        (False, 10_000, 900, 0),
        (False, 10_000, 2000, 1),
    ],
)
def test_the_agent_is_healthy_while_it_does_what_it_is_to_do(
    tmp_path: Path, paused: bool, samples: int, age_s: int, code: int
) -> None:
    """It reports every five seconds, or every ten minutes, or is paused."""

    def look(pid: int, process_started: float) -> Heartbeat:
        settings = SettingsInForce(
            interval=0.05 if samples == 100 else 0.06, samples=samples, metrics=["cpu"], paused=paused
        )
        at = times.now_ms() - 1000 * age_s
        return Heartbeat(at, pid, process_started, "web-1", "http://localhost:8888", settings, 1 << 20)

    assert health("agent", LOADLENS_SPOOL_DIR=str(tmp_path)) == 1, "none has run"
    HeartbeatFile(tmp_path, look).beat()
    assert health("agent", LOADLENS_SPOOL_DIR=str(tmp_path)) == code


def test_an_agent_that_ended_is_not_healthy(tmp_path: Path) -> None:
    settings = SettingsInForce(interval=0.05, samples=100, metrics=["cpu"], paused=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait(60)
    heartbeat = Heartbeat(times.now_ms(), ended.pid, 0.0, "web-1", "http://localhost:8888", settings, 1 << 20)
    HeartbeatFile(tmp_path, lambda pid, started: heartbeat).beat()
    assert health("agent", LOADLENS_SPOOL_DIR=str(tmp_path)) == 1
