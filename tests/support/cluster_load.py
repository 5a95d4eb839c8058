"""Services of one cluster under load, and whether what they acknowledged is kept, once.

    python -m tests.support.cluster_load --rounds 10

prints, for each fault, how often it was tried, the reports that were acknowledged, how many of these are lost or
counted twice afterwards, and the longest time without an acknowledgement.
"""

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import psutil

from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats
from tests.support.reports import METRICS, as_json, entries, history, small
from tests.support.running import RunningService, wait_until

__all__ = ["FAULTS", "ClusterUnderLoad"]

T0 = 1_704_067_200_000
_SENDERS = 4
_EVERY = 7
"""Every so many reports one is sent again, to another service."""


class _Sender(threading.Thread):
    """Sends a machine's reports in order, each again, to one service or another, until it is acknowledged."""

    def __init__(self, load: "ClusterUnderLoad", number: int) -> None:
        super().__init__(daemon=True)
        self.user = f"sender-{number}"
        self.acknowledged = 0
        self.longest_s = 0.0
        self.refused: list[str] = []
        self._load = load
        self._place = number

    def run(self) -> None:
        """Send; the last one is acknowledged, too."""
        client = httpx.Client(timeout=15, trust_env=False)
        last = time.monotonic()
        while not self._load.stopping.is_set():
            body = as_json(small(self.user, T0 + self.acknowledged * 1000))
            while not self._is_taken(client, body):
                # The next service may take it.
                self._place += 1
                time.sleep(0.02)
            if self.acknowledged % _EVERY == 0:
                self._place += 1
                self._is_taken(client, body)
            self.acknowledged += 1
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
        client.close()

    def _is_taken(self, client: httpx.Client, body: bytes) -> bool:
        url = self._load.urls[self._place % len(self._load.urls)]
        with contextlib.suppress(httpx.HTTPError):
            answer = client.post(f"{url}{METRICS}", content=body)
            if answer.status_code != 202:
                self.refused.append(answer.text)
            return answer.status_code == 202
        return False


class ClusterUnderLoad:
    """Two services on one NATS and one InfluxDB, and machines that report to them."""

    def __init__(
        self, folder: Path, nats: RunningNats, influx: RunningInflux, name: str, roles: Sequence[str] = ("all", "all")
    ) -> None:
        self.nats, self.influx, self.name = nats, influx, name
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._roles = roles
        self.services = [self._service(number) for number in range(len(roles))]
        self.stopping = threading.Event()
        self.senders = [_Sender(self, number) for number in range(_SENDERS)]
        for sender in self.senders:
            sender.start()

    def _service(self, number: int) -> RunningService:
        return RunningService(
            self._folder / f"service-{number}", "--journal", self.nats.address(self.name), "--store",
            self.influx.address(self.name), "--flush-interval", "0.5", "--role", self._roles[number],
        )  # fmt: skip

    @property
    def urls(self) -> list[str]:
        """Of the services that take reports."""
        return [one.url for one, role in zip(self.services, self._roles, strict=True) if role != "writer"]

    @property
    def acknowledged(self) -> int:
        """How many reports were acknowledged."""
        return sum(sender.acknowledged for sender in self.senders)

    def go_on(self, reports: int = 120) -> None:
        """Return when so many more reports are acknowledged."""
        before = self.acknowledged
        wait_until(lambda: self.acknowledged >= before + reports, f"{reports} more reports", 120)

    def restart(self, number: int) -> None:
        """Start a service that has ended."""
        self.services[number] = self._service(number)

    def writer(self) -> int:
        """The number of the service that writes."""
        found: list[int] = []

        def look() -> bool:
            for number, service in enumerate(self.services):
                with contextlib.suppress(httpx.HTTPError):
                    text = httpx.get(f"{service.url}/metrics", timeout=10, trust_env=False).text
                    if "\nloadlens_cluster_writing 1" in text:
                        found.append(number)
                        return True
            return False

        wait_until(look, "a writer", 120)
        return found[0]

    def leader(self) -> int:
        """The number of the NATS node that leads the stream of reports."""
        from service.cluster.connection import Cluster, ClusterAddress

        cluster = Cluster(ClusterAddress.parse(self.nats.address(self.name)))
        try:
            info = cluster.call(cluster.jetstream.stream_info(f"{self.name}-reports"))
            assert info.cluster is not None and info.cluster.leader is not None
            return int(info.cluster.leader.removeprefix("n"))
        finally:
            cluster.close()

    def finish(self) -> list[str]:
        """Stop the load, and say what is not as it was acknowledged, in words; wait until the store has all."""
        self.stopping.set()
        for sender in self.senders:
            sender.join(120)
            assert not sender.is_alive(), "a report is not acknowledged"
        problems = []
        for service, role in zip(self.services, self._roles, strict=True):
            if role == "writer":
                continue
            with service.client() as client:
                for sender in self.senders:
                    problems += self._compare(client, sender, "as acknowledged")
                wait_until(lambda client=client: _behind(client) == 0, "the store", 120)  # type: ignore[misc]
                for sender in self.senders:
                    problems += self._compare(client, sender, "as written")
        return problems

    def _compare(self, client: httpx.Client, sender: _Sender, when: str) -> list[str]:
        # In rollups of a day, and window by window.
        found = [
            sum(value for _, value in entries(history(client, sender.user, stat="count", **query)))
            for query in ({}, {"start": T0 - 1000, "end": T0 + sender.acknowledged * 1000, "resample_rate": "1s"})
        ]
        if set(found) == {sender.acknowledged}:
            return []
        return [f"{sender.user} {when}: {sender.acknowledged} acknowledged, {found} counted"]

    def close(self) -> None:
        """End all."""
        self.stopping.set()
        for service in self.services:
            service.kill()


def _behind(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    (line,) = (line for line in text.splitlines() if line.startswith("loadlens_journal_behind "))
    return float(line.split()[1])


def kill_nats_leader(load: ClusterUnderLoad) -> None:
    """SIGKILL to the node that leads the log."""
    node = load.nats.nodes[load.leader()]
    node.kill()
    load.go_on()
    node.start()
    load.nats.wait()


def pause_nats_leader(load: ClusterUnderLoad) -> None:
    """The node that leads the log stands still."""
    node = load.nats.nodes[load.leader()]
    node.pause()
    load.go_on()
    node.resume()
    load.go_on()
    # Servers of 2.9 may not find themselves well again after that until they are started anew.
    node.kill()
    node.start()
    load.nats.wait()


def kill_writer(load: ClusterUnderLoad) -> None:
    """SIGKILL to the service that writes."""
    number = load.writer()
    load.services[number].kill()
    load.go_on()
    load.restart(number)


def pause_writer(load: ClusterUnderLoad) -> None:
    """The service that writes stands still until another does, and then goes on."""
    number = load.writer()
    process = psutil.Process(load.services[number].process.pid)
    workers = [process, *process.children(recursive=True)]
    for one in workers:
        one.suspend()
    services = load.services[:]
    load.services = [service for place, service in enumerate(services) if place != number]
    roles = load._roles
    load._roles = [role for place, role in enumerate(roles) if place != number]
    load.writer()
    load.go_on()
    for one in reversed(workers):
        one.resume()
    load.services, load._roles = services, roles


def kill_influx(load: ClusterUnderLoad) -> None:
    """SIGKILL to InfluxDB."""
    load.influx.kill()
    load.go_on()
    load.influx.start()


def restart_one_by_one(load: ClusterUnderLoad) -> None:
    """Each service is stopped with SIGTERM, and started again."""
    for number, service in enumerate(load.services):
        assert service.stop() == 0, service.log
        load.go_on()
        load.restart(number)


FAULTS: dict[str, Callable[[ClusterUnderLoad], None]] = {
    fault.__name__: fault
    for fault in (kill_nats_leader, pause_nats_leader, kill_writer, pause_writer, kill_influx, restart_one_by_one)
}


def main() -> None:
    """Run the faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("faults", nargs="*", default=[*FAULTS])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with RunningNats(root / "nats") as nats, RunningInflux(root / "influx") as influx:
            for fault in asked.faults:
                load = ClusterUnderLoad(root / fault, nats, influx, fault.replace("_", "-"))
                try:
                    load.go_on()
                    for _ in range(asked.rounds):
                        FAULTS[fault](load)
                    load.go_on()
                    problems = load.finish()
                    longest = max(sender.longest_s for sender in load.senders)
                    words = "; ".join(problems) or "none lost or counted twice"
                    print(
                        f"{fault} x {asked.rounds}: {load.acknowledged} acknowledged, {words}; {longest:.1f} s",
                        flush=True,
                    )
                finally:
                    load.close()


if __name__ == "__main__":
    main()
