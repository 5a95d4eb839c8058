"""deploy/compose.yml: hardened, closed to other machines, and of no use without secrets."""

import os
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.settings import AgentSettings
from contract.settings.fields import settings_of
from service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMPOSE_PROGRAM = Path(str(resources.files("compose"))) / "docker-compose"
"""Docker Compose itself; the script of this name in the environment does not hand on its exit code."""
OURS = {"service": ServiceSettings, "agent": AgentSettings}


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    """The folder, without secrets that a person may have made in it."""
    folder = tmp_path / "a project" / "deploy"
    folder.mkdir(parents=True)
    for name in ("compose.yml", "make-secrets.sh"):
        shutil.copy(DEPLOY / name, folder / name)
    return folder


def make_secrets(deploy: Path, *arguments: str) -> str:
    """What the script says."""
    done = subprocess.run(
        [deploy / "make-secrets.sh", *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout


def config(deploy: Path) -> subprocess.CompletedProcess[str]:
    """`docker compose config`, which reads the file as `up` does."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
    return subprocess.run(
        [str(COMPOSE_PROGRAM), "--file", str(deploy / "compose.yml"), "config"],
        capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip


def test_it_refuses_to_start_without_secrets_and_says_what_to_do(deploy: Path) -> None:
    refused = config(deploy)
    assert refused.returncode != 0
    assert "make-secrets.sh" in refused.stderr


def test_compose_accepts_it_once_there_are_secrets(deploy: Path) -> None:
    make_secrets(deploy)
    accepted = config(deploy)
    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stderr == ""
    read = yaml.safe_load(accepted.stdout)
    assert set(read["services"]) == set(SERVICES)
    for secret in read["secrets"].values():
        assert Path(secret["file"]).read_text().strip()


def test_the_script_makes_every_secret_once_and_keeps_it_from_others(deploy: Path) -> None:
    make_secrets(deploy)
    folder = deploy / "secrets"
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(COMPOSE["secrets"])
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in made.values())
    assert len(set(made.values())) == len(made)
    assert folder.stat().st_mode & 0o077 == 0
    before = (deploy / ".env").read_text()
    assert make_secrets(deploy) == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert (deploy / ".env").read_text() == before == f"LOADLENS_SECRETS='{folder}'\n"


def test_secrets_may_lie_elsewhere_and_other_variables_are_kept(deploy: Path, tmp_path: Path) -> None:
    (deploy / ".env").write_text("LOADLENS_USER_ID=build-7\n")
    make_secrets(deploy, str(tmp_path / "safe"))
    assert (deploy / ".env").read_text() == f"LOADLENS_USER_ID=build-7\nLOADLENS_SECRETS='{tmp_path / 'safe'}'\n"
    assert len(list((tmp_path / "safe").iterdir())) == len(COMPOSE["secrets"])


def test_only_loopback_ports_are_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    assert "ports" not in SERVICES["influxdb"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["mem_limit"]
    assert service["pids_limit"]
    if name not in OURS:  # those say it in the Dockerfile
        assert int(service["user"].partition(":")[0]) > 0
        assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_stands_in_the_file(name: str) -> None:
    environment = SERVICES[name]["environment"]
    secret = [key for key in environment if re.search("PASSWORD|TOKEN|SECRET", key)]
    assert [key for key in secret if not key.endswith("_FILE")] == []
    for key in secret:
        assert environment[key].removeprefix("/run/secrets/") in SERVICES[name]["secrets"]
    assert set(SERVICES[name]["secrets"]) <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_what_is_set_are_settings(name: str) -> None:
    settings = settings_of(OURS[name])
    known = {one.variable for one in settings} | {one.file_variable for one in settings if one.secret}
    assert {key for key in SERVICES[name]["environment"] if key.startswith("LOADLENS_")} <= known


def test_every_image_has_a_version() -> None:
    assert [service["image"] for service in SERVICES.values() if not re.search(r":[\w.-]+$", service["image"])] == []
