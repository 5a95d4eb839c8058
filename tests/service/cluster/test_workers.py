"""Several processes at one port of one host: `--workers`."""

import re
from pathlib import Path

import httpx
import psutil
import pytest

from service.cli import main
from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats
from tests.support.reports import METRICS, as_json, entries, history, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

T0 = 1_704_067_200_000
_OWN = re.compile(r"worker (\d) of 2 answers at (\S+) too")


def workers_of(service: RunningService) -> dict[int, str]:
    """Where each worker answers, of those with a number the one that was started last."""
    return {int(number): f"http://{address}" for number, address in _OWN.findall(service.log)}


def counted(url: str, token: str, user: str) -> float:
    """How many samples of a user are in the answers at an address; -1 where nobody answers."""
    try:
        with httpx.Client(
            base_url=url, timeout=60, trust_env=False, headers={"Authorization": f"Bearer {token}"}
        ) as client:
            return sum(value for _, value in entries(history(client, user, stat="count")))
    except (httpx.HTTPError, AssertionError):
        return -1


def test_workers_share_a_port_and_everything_else(
    tmp_path: Path, one_node: RunningNats, influx: RunningInflux, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reports, whichever takes them, and tokens that were made before the start; one that dies is started again."""
    folder = tmp_path / "service"
    main(["tokens", "create", "--offline", "--role", "admin", "--data-dir", str(folder), "me"])
    token = capsys.readouterr().out.strip()
    arguments = ("--journal", one_node.address(name), "--store", influx.address(name), "--workers", "2")
    with RunningService(folder, *arguments) as service:
        wait_until(lambda: len(workers_of(service)) == 2, "two workers")
        headers = {"Authorization": f"Bearer {token}"}
        for number in range(20):
            # Each over a connection of its own, which either may take.
            body = as_json(small("web-1", T0 + number * 1000))
            answer = httpx.post(f"{service.url}{METRICS}", content=body, headers=headers, timeout=60, trust_env=False)
            assert answer.status_code == 202, answer.text
        for url in workers_of(service).values():
            wait_until(lambda url=url: counted(url, token, "web-1") == 20, "all reports")  # type: ignore[misc]
            assert httpx.get(f"{url}/api/v1/users", timeout=60, trust_env=False).status_code == 401
        second = workers_of(service)[2]
        (killed,) = (
            child
            for child in psutil.Process(service.process.pid).children()
            if any(f":{one.laddr.port}" in second for one in child.net_connections())
        )
        killed.kill()
        wait_until(lambda: workers_of(service)[2] != second, "another worker")
        wait_until(lambda: counted(workers_of(service)[2], token, "web-1") == 20, "what it knows")
        assert service.stop() == 0, service.log
