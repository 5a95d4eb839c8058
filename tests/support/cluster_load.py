"""Services of one cluster under load, whether what they acknowledged is kept, once, and whether alerts fire once."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import nats.errors
import psutil
from nats.js.api import ClusterInfo

from service.cluster.connection import Cluster, ClusterAddress
from tests.support.cluster_alerts import ToldOnce, firings, mean_of
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
    """Sends a host's reports in order, each again, to one service or another, until it is acknowledged."""

    def __init__(self, load: "ClusterUnderLoad", number: int) -> None:
        super().__init__(daemon=True)
        self.user = f"sender-{number}"
        self.acknowledged = 0
        self.longest_s = 0.0
        self.refused: list[str] = []
        """What answers said that were not 202."""
        self.unreached = self.cut = 0
        """Requests whose service could not be reached, and those that had no answer though it could."""
        self._load = load
        self._place = number

    def run(self) -> None:
        """Send; the last one is acknowledged, too."""
        client = httpx.Client(timeout=15, trust_env=False)
        last = time.monotonic()
        while not self._load.stopping.is_set():
            body = as_json(small(self.user, T0 + self.acknowledged * 1000, mean_of(self.acknowledged)))
            while not self._is_taken(client, body):
                # The next service may take it.
                self._place += 1
                time.sleep(0.02)
            if self.acknowledged % _EVERY == 0:
                self._place += 1
                self._is_taken(client, body)
            self.acknowledged += 1
            self._load.stopping.wait(self._load.pause_s)
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
        client.close()

    def _is_taken(self, client: httpx.Client, body: bytes) -> bool:
        urls = self._load.urls
        try:
            answer = client.post(f"{urls[self._place % len(urls)]}{METRICS}", content=body)
        except httpx.ConnectError:
            self.unreached += 1
            return False
        except httpx.HTTPError:
            self.cut += 1
            return False
        if answer.status_code != 202:
            self.refused.append(answer.text)
        return answer.status_code == 202


class ClusterUnderLoad:
    """Services on one NATS and one InfluxDB, and hosts that report to them, `pause_s` after each acknowledgement."""

    def __init__(
        self,
        folder: Path,
        nats: RunningNats,
        influx: RunningInflux,
        name: str,
        roles: Sequence[str] = ("all", "all"),
        *,
        pause_s: float = 0.0,
    ) -> None:
        self.pause_s = pause_s
        self.nats, self.influx, self.name = nats, influx, name
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._roles = roles
        self.told = ToldOnce(folder)
        self.services = [self._service(number) for number in range(len(roles))]
        self.stopping = threading.Event()
        self.senders = [_Sender(self, number) for number in range(_SENDERS)]
        for sender in self.senders:
            sender.start()

    def _service(self, number: int) -> RunningService:
        return RunningService(
            self._folder / f"service-{number}", "--journal", self.nats.address(self.name), "--store",
            self.influx.address(self.name), "--flush-interval", "0.5", "--role", self._roles[number],
            *self.told.arguments, environment=self.told.environment,
        )  # fmt: skip

    @property
    def urls(self) -> list[str]:
        """Of the services that take reports."""
        return [one.url for one, role in zip(self.services, self._roles, strict=True) if role != "writer"]

    @property
    def acknowledged(self) -> int:
        """How many reports were acknowledged."""
        return sum(sender.acknowledged for sender in self.senders)

    @property
    def fired(self) -> int:
        """How many alerts have fired by what was acknowledged."""
        return sum(firings(sender.acknowledged) for sender in self.senders)

    def go_on(self, reports: int = 120) -> None:
        """Return when so many more reports are acknowledged."""
        before = self.acknowledged
        wait_until(lambda: self.acknowledged >= before + reports, f"{reports} more reports", 120)

    def restart(self, number: int) -> None:
        """Start a service that has ended."""
        self.services[number] = self._service(number)

    def writer(self) -> int:
        """The number of the service that writes."""
        return self._holder("writing")

    def rules(self) -> int:
        """The number of the service that evaluates the rules."""
        return self._holder("rules")

    def _holder(self, what: str) -> int:
        found: list[int] = []

        def look() -> bool:
            for number, service in enumerate(self.services):
                with contextlib.suppress(httpx.HTTPError):
                    text = httpx.get(f"{service.url}/metrics", timeout=10, trust_env=False).text
                    if f"\nloadlens_cluster_{what} 1" in text:
                        found.append(number)
                        return True
            return False

        wait_until(look, f"a process for {what}", 120)
        return found[0]

    def leader(self) -> int:
        """The number of the NATS node that leads the stream of reports."""
        found = self._copies()
        assert found.leader is not None
        return int(found.leader.removeprefix("n"))

    def is_replicated(self) -> bool:
        """Whether all nodes have what the one has that leads the stream of reports."""
        try:
            replicas = self._copies().replicas or []
        except (nats.errors.Error, TimeoutError):
            return False
        return len(replicas) == len(self.nats.nodes) - 1 and all(one.current for one in replicas)

    def _copies(self) -> ClusterInfo:
        cluster = Cluster(ClusterAddress.parse(self.nats.address(self.name)))
        try:
            info = cluster.call(cluster.jetstream.stream_info(f"{self.name}-reports"))
            assert info.cluster is not None
            return info.cluster
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
                problems += self._alerts(client)
        return [*problems, *self.told.told_twice]

    def _alerts(self, client: httpx.Client) -> list[str]:
        """What is wrong with alerts, given time until they are as they should be; nothing without rules."""
        if not {"all", "rules"} & {*self._roles}:
            return []
        reports = {sender.user: sender.acknowledged for sender in self.senders}

        def wrong() -> list[str]:
            return self.told.fired_wrongly(client, reports) + self.told.unheard(reports)

        end = time.monotonic() + 60
        while (problems := wrong()) and time.monotonic() < end:
            time.sleep(0.2)
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
        self.told.close()


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
