"""`make run-cluster` is a cluster: what one service takes or is set, the other has, also after all were stopped."""

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.influxd import free_ports, need
from tests.support.nats_cluster import need_nats
from tests.support.reports import END_MS, entries, history, post, small
from tests.support.running import ROOT, clean_environment, wait_until

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
_PORTS = 5


def _free_row() -> int:
    """The first of some ports that follow each other, which nobody listens on."""
    while True:
        (first,) = free_ports(1)
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            for number in range(_PORTS):
                stack.enter_context(socket.create_server(("127.0.0.1", first + number)))
            return first


@contextlib.contextmanager
def _running(folder: Path, port: int) -> Iterator[list[httpx.Client]]:
    environment = clean_environment(PORT=str(port), FOLDER=str(folder), PYTHON=sys.executable)
    with (folder.with_suffix(".log")).open("ab") as log:
        process = subprocess.Popen(
            ["deploy/run-cluster.sh"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    clients = [
        httpx.Client(base_url=f"http://127.0.0.1:{port + number}", timeout=60, trust_env=False) for number in (0, 1)
    ]
    try:
        wait_until(lambda: all(map(_is_ready, clients)), "two services", 120)
        yield clients
    finally:
        for client in clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, folder.with_suffix(".log").read_text()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_what_one_takes_the_other_answers(tmp_path: Path) -> None:
    """Within moments, and after a restart."""
    need()
    need_nats()
    folder, port = tmp_path / "cluster", _free_row()
    for turn in range(2):
        with _running(folder, port) as (one, other):
            assert post(one, small("web-1", END_MS + 5000 * turn)).status_code == 202
            wait_until(
                lambda: [value for _, value in _counted(other)] == [turn + 1.0],  # noqa: B023
                "the other to answer",
            )
            setting = {"samples": 20 + turn}
            answer = one.put("/api/v1/settings?selector=all", json=setting, headers={"If-Match": "*"})
            assert answer.status_code == 200
            wait_until(
                lambda: other.get("/api/v1/settings?selector=all").json() == setting,  # noqa: B023
                "the setting",
            )


def _counted(client: httpx.Client) -> list[tuple[str, float]]:
    answer = history(client, "web-1", stat="count")
    return entries(answer) if answer.status_code == 200 else []
