"""Starting the service: what it needs, what it refuses, and who may ask it."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from contract.service_address import is_loopback
from service.cli import main
from tests.service.conftest import StartService
from tests.support.reports import METRICS, original, post
from tests.support.running import ROOT, clean_environment, wait_until

pytestmark = pytest.mark.server


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A service that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT, env=clean_environment(**environment), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org"])
def test_an_address_that_others_can_reach_needs_a_token(data_dir: Path, host: str) -> None:
    ended = run("--host", host, "--port", "0", "--data-dir", str(data_dir))
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert f"--host {host}" in line
    assert "--token" in line
    assert "LOADLENS_TOKEN" in line
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port", "70000"], "65535"),
        (["--port", "http"], "whole number"),
        (["--prot", "8888"], "--port"),
        (["--store", "nosuch"], "embedded"),
        (["--workers", "2"], "nats://"),
        (["--workers", "0"], "workers"),
        (["--journal-bytes", "1"], "16777216"),
        (["--flush-interval", "0"], "100ms"),
        (["--store-memory", "lots"], "512MB"),
        (["--keep-windows", "5"], "forever"),
        (["--keep-windows", "90d", "--keep-5m", "30d"], "keep_5m"),
        (["--log-level", "loud"], "warning"),
        (["--data-dir", ""], "data-dir"),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_right(
    capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loadlens-service: error: ")
    assert word in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_addresses_need_no_token(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.168.0.1", "127.0.0.1.example.org", "localhost.example.org"])
def test_others_can_reach_any_other_address(host: str) -> None:
    assert not is_loopback(host)


def test_a_token_is_asked_of_every_request_but_the_health_checks(start: StartService) -> None:
    service = start("--host", "0.0.0.0", environment=clean_environment(LOADLENS_TOKEN="s3cret"))
    assert "s3cret" not in service.log
    url = f"http://127.0.0.1:{service.port}"
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        pages = [METRICS, f"{METRICS}/cpuLoadAvg/byUser/x", f"{METRICS}/cpuLoadAvg/fleet", "/api/v1/users", "/metrics"]
        for path in (*pages, "/nowhere", "/healthz/", "/readyz/x", "//healthz"):
            answer = client.get(url + path)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert post(client, original("a")).status_code == 401
        for wrong in (
            "Bearer wrong",
            "Bearer s3cretx",
            "bearer",
            "s3cret",
            "Basic s3cret",
            "",
            "Bearer \u00fc",
        ):
            answer = client.get(METRICS, headers={b"Authorization": wrong.encode()})
            assert answer.status_code == 401
        right = {"Authorization": "Bearer s3cret"}
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a", headers=right).status_code == 404
        assert post(client, original("a"), **right).status_code == 202
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a", headers=right).status_code == 200
    assert service.stop() == 0


def test_on_a_loopback_address_a_token_holds_as_well(start: StartService) -> None:
    service = start(environment=clean_environment(LOADLENS_TOKEN="s3cret"))
    with service.client() as client:
        assert client.get(METRICS).status_code == 401
        assert client.get(METRICS, headers={"Authorization": "Bearer s3cret"}).status_code == 200


def test_the_loopback_address_of_version_6_needs_no_token(start: StartService) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    service = start("--host", "::1")
    with service.client() as client:
        assert client.get("/healthz").status_code == 200
    assert "[::1]" in service.url


def test_all_addresses_of_version_6_are_those_of_version_4_too(start: StartService) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    service = start("--host", "::", "--token", "t")
    port = httpx.URL(service.url).port
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{port}/healthz", trust_env=False).status_code == 200


def test_a_port_that_is_taken_is_said(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--port", str(port), "--data-dir", str(data_dir))
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "--port" in line


def test_a_data_folder_in_use_is_said_and_the_first_service_goes_on(start: StartService, data_dir: Path) -> None:
    service = start()
    with service.client() as client:
        post(client, original("a"))
        ended = run("--port", "0", "--data-dir", str(data_dir))
        assert ended.returncode == 1
        assert "in use by another process" in ended.stderr
        assert "--data-dir" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a").status_code == 200


@pytest.mark.parametrize("place", ["", "raw", "journal"])
def test_a_file_where_a_folder_must_be_is_said(data_dir: Path, place: str) -> None:
    path = data_dir / place if place else data_dir
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a file")
    ended = run("--port", "0", "--data-dir", str(data_dir))
    assert ended.returncode == 1
    assert "loadlens-service: error: " in ended.stderr
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert path.read_text() == "a file"


def test_a_database_of_something_else_is_said_and_kept(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "loadlens.duckdb").write_text("something else " * 1000)
    ended = run("--port", "0", "--data-dir", str(data_dir))
    assert ended.returncode == 1
    assert "loadlens.duckdb" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (data_dir / "loadlens.duckdb").read_text() == "something else " * 1000


def test_it_starts_again_by_itself_after_its_worker_was_killed(start: StartService) -> None:
    """As the kernel does when memory runs out."""
    service = start()
    with service.client() as client:
        assert post(client, original("a")).status_code == 202
    worker = service.worker()
    worker.kill()
    wait_until(lambda: not worker.is_running() or worker.status() == "zombie", "the worker's end")
    with service.client() as client:
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a").status_code == 200
    assert service.stop() == 0


def test_no_worker_is_left_when_only_the_parent_is_killed(start: StartService) -> None:
    service = start()
    with service.client() as client:
        assert post(client, original("a")).status_code == 202
    worker = service.worker()
    service.process.kill()
    service.process.wait()
    wait_until(lambda: not worker.is_running(), "the worker's end")
    service = start()
    with service.client() as client:
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a").status_code == 200
