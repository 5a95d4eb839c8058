"""deploy/compose-cluster.yml: a cluster as Compose takes it, hardened, and closed to other machines."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from contract.settings.fields import settings_of
from service.cluster.connection import ClusterAddress
from service.settings import ServiceSettings
from tests.deploy.test_compose import COMPOSE_PROGRAM, DEPLOY, make_secrets
from tests.support.influxd import free_ports
from tests.support.nats_cluster import need_nats

FILE = DEPLOY / "compose-cluster.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, one in SERVICES.items() if "build" in one]


def test_compose_accepts_it_once_there_are_secrets(tmp_path: Path) -> None:
    for name in (FILE.name, "make-secrets.sh"):
        shutil.copy(DEPLOY / name, tmp_path / name)
    make_secrets(tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
    done = subprocess.run(
        [str(COMPOSE_PROGRAM), "--file", str(tmp_path / FILE.name), "config"],
        capture_output=True, text=True, check=False, timeout=60, env=environ,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


def test_only_services_publish_ports_and_only_on_loopback() -> None:
    ports = {name: port for name, one in SERVICES.items() for port in one.get("ports", [])}
    assert set(ports) == {"service-1", "service-2"}
    assert all(port.startswith("127.0.0.1:") for port in ports.values())
    assert COMPOSE["networks"]["storage"]["internal"]
    assert all(one["networks"] == ["storage"] for name, one in SERVICES.items() if name not in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in one["security_opt"]
    assert one["mem_limit"]
    assert one["pids_limit"]
    assert re.search(r":[\w.-]+$", one["image"])
    if name not in OURS:  # ours say it in the Dockerfile
        assert int(one["user"].partition(":")[0]) > 0
        assert one["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_what_is_set_are_settings_and_every_role_is_there(name: str) -> None:
    settings = settings_of(ServiceSettings)
    known = {one.variable for one in settings} | {one.file_variable for one in settings if one.secret}
    environment = SERVICES[name]["environment"]
    assert set(environment) <= known
    servers = ClusterAddress.parse(environment["LOADLENS_JOURNAL"]).servers
    assert {server.split("//")[1].split(":")[0] for server in servers} == {f"nats-{number}" for number in (1, 2, 3)}
    assert sorted(SERVICES[one]["environment"]["LOADLENS_ROLE"] for one in OURS) == ["api", "rules", "writer", "writer"]


@pytest.mark.server
def test_nats_takes_the_configuration(tmp_path: Path) -> None:
    """As far as an older server knows it: Debian's has no `sync_interval` yet."""
    need_nats()
    client, monitor, route = free_ports(3)
    text = (DEPLOY / "nats" / "nats.conf").read_text()
    text = re.sub(r"(?m)^  sync_interval: always\n", "", text).replace("/data", str(tmp_path / "data"))
    for given, free in (("0.0.0.0:4222", client), ("0.0.0.0:8222", monitor), ("0.0.0.0:6222", route)):
        text = text.replace(given, f"127.0.0.1:{free}")
    text = re.sub(r"routes: \[.*\]", f"routes: [nats://127.0.0.1:{route}]", text)
    (tmp_path / "nats.conf").write_text(text)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["nats-server", "--config", str(tmp_path / "nats.conf")], stdout=log, stderr=log,
            env=os.environ | {"NATS_NAME": "nats-1"},
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while True:
            try:
                found = urllib3.request("GET", f"http://127.0.0.1:{monitor}/varz", timeout=5, retries=False).json()
                break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
        assert (found["server_name"], found["cluster"]["name"]) == ("nats-1", "loadlens")
        assert found["jetstream"]["config"]["max_storage"] == 16 * 1024**3
    finally:
        process.kill()
        process.wait(60)
