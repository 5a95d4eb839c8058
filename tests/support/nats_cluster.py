"""Real nats-servers with JetStream as processes of their own, on free ports of this machine: one, or a cluster."""

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import urllib3

from tests.faults.relay import Relay
from tests.support.influxd import free_ports
from tests.support.leaving_out import leave_out

__all__ = ["NatsNode", "RunningNats", "need_nats"]

_CONFIG = """
server_name: n{number}
listen: 127.0.0.1:{port}
http: 127.0.0.1:{monitor}
jetstream {{ store_dir: "{folder}/jetstream", max_memory_store: 64MB, max_file_store: 1TB }}
"""
_ROUTES = """
cluster {{ name: tests, listen: 127.0.0.1:{route}, no_advertise: true, routes: [{routes}] }}
"""
_DEADLINE_S = 60.0


def need_nats() -> None:
    """Leave the test out where there is no nats-server; in CI that is a failure."""
    if not shutil.which("nats-server"):
        leave_out(
            "nats-server is not installed, so nothing was tested with NATS (on Debian: apt-get install nats-server)"
        )


class NatsNode:
    """One server; it can be killed, or stand still, and be started again."""

    def __init__(self, folder: Path, number: int, ports: Sequence[int], routes: Sequence[int]) -> None:
        """Its `ports` are for clients, for who watches it, and for other servers; `routes` lead to all of these."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.monitor, route = ports
        config = _CONFIG.format(number=number, port=self.port, monitor=self.monitor, folder=folder)
        if len(routes) > 1:
            named = ", ".join(f'"nats://127.0.0.1:{one}"' for one in routes)
            config += _ROUTES.format(route=route, routes=named)
        (folder / "nats.conf").write_text(config)
        self.start()

    def start(self) -> None:
        """Start it."""
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["nats-server", "-c", str(self.folder / "nats.conf")], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def is_healthy(self) -> bool:
        """Whether it answers, and has caught up with the others."""
        try:
            answer = urllib3.request("GET", f"http://127.0.0.1:{self.monitor}/healthz", timeout=5, retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(_DEADLINE_S)

    def pause(self) -> None:
        """It stands still."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)


class RunningNats:
    """`size` servers that are one cluster; where they are `relayed`, each can be cut off from all others."""

    def __init__(self, folder: Path, size: int = 3, *, relayed: bool = False) -> None:
        ports = free_ports(3 * size)
        routes = dict.fromkeys(range(size), ports[2::3])
        self._clients = ports[::3]
        self._relays: dict[tuple[int, int], Relay] = {}
        """By the numbers of who connects and of whom it connects to; clients are -1."""
        if relayed:
            for number in range(size):
                self._relays[-1, number] = Relay(ports[3 * number])
                for other in {*range(size)} - {number}:
                    self._relays[number, other] = Relay(ports[3 * other + 2])
            self._clients = [self._relays[-1, number].port for number in range(size)]
            routes = {
                number: [relay.port for (one, _), relay in self._relays.items() if one == number]
                for number in range(size)
            }
        self.nodes = [
            NatsNode(folder / f"n{number}", number, ports[3 * number : 3 * number + 3], routes[number])
            for number in range(size)
        ]
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise

    def cut_off(self, number: int) -> None:
        """Let nothing through between a server and all others, nor its clients."""
        for ends, relay in self._relays.items():
            if number in ends:
                relay.hold_up()

    def join(self, number: int) -> None:
        """Let everything through again that comes to or from a server."""
        for ends, relay in self._relays.items():
            if number in ends:
                relay.let_through()

    def wait(self) -> None:
        """Return when all servers are well."""
        end = time.monotonic() + _DEADLINE_S
        while not all(node.is_healthy for node in self.nodes):
            assert time.monotonic() < end, "the nats-servers are not well"
            time.sleep(0.05)

    def address(self, name: str = "loadlens") -> str:
        """For `--journal`."""
        return f"nats://{','.join(f'127.0.0.1:{port}' for port in self._clients)}/{name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.resume()
            node.kill()
        for relay in self._relays.values():
            relay.close()
