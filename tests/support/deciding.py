"""What a process of the service keeps of what is decided and owed: alone, or as one of several in a cluster."""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from contract import times
from contract.agent_protocol import DesiredSettings
from service.agents.layers import Layer
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.repository import RuleRepository, Silence
from service.alerts.rules import Rule, parse_rule
from service.annotations import Annotation, AnnotationFilter, Annotations
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.control_stream import ChangeStream, ControlBucket
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.control.replication import Replication
from service.control.sharing import Sharing
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.notifications.queue import NotificationQueue
from service.reporting.schedules import Schedules

OPERATOR = Actor("operator", "127.0.0.1", "anna")
_RULE = {"name": "busy", "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "for": "1m"}


class DecidingProcess:
    """The control database of a process, with the rooms that keep something in it."""

    def __init__(self, folder: Path, cluster: Cluster | None = None) -> None:
        """With a connection to NATS it is one of a cluster."""
        self.control = ControlDatabase(folder / "control.db")
        self.audit = Audit(self.control)
        self.tokens = Tokens(self.control, self.audit)
        self.sessions = Sessions(self.control, self.audit, self.tokens)
        self.repository = RuleRepository(self.control, self.audit, "journal")
        self.annotations = Annotations(self.control, self.audit)
        self.queue = NotificationQueue(self.control)
        self.agents = RemoteConfiguration(self.control, self.audit, 100)
        self.layers = self.agents.layers
        self.schedules = Schedules(self.control, self.audit)
        self.cluster = cluster
        self.sharing: Sharing | None = None
        self.replication: Replication | None = None
        if cluster is not None:
            self.bucket = ControlBucket(cluster)
            self.sharing = Sharing(self.control, self.audit, self.bucket)
            self.replication = Replication(self.control, ChangeStream(cluster))

    def close(self) -> None:
        """Let go of the file, and of the connection."""
        for shared in (self.sharing, self.replication):
            if shared is not None:
                shared.close()
        self.control.close()
        if self.cluster is not None:
            self.cluster.close()

    def take_over(self) -> None:
        """Become the process that evaluates the rules."""
        if self.replication is not None:
            self.replication.take_over()

    def catch_up(self) -> None:
        """Return when all that others have changed so far is here."""
        for sharer in self.control.sharers:
            sharer.catch_up()

    def set(self, target: str, **settings: object) -> Layer:
        """Put settings of a target in place of what there is."""
        wanted = DesiredSettings(**settings)  # type: ignore[arg-type]
        return self.layers.change(target, OPERATOR, lambda layer: Layer(layer.target, layer.rank, wanted))

    def annotate(self, text: str) -> Annotation:
        """Say something of a moment."""
        return self.annotations.add(1000, 1000, text, ["deploy"], "*", OPERATOR)

    @property
    def annotated(self) -> list[Annotation]:
        """All annotations, the oldest first."""
        return self.annotations.page(AnnotationFilter(), after=None, limit=1000, newest_first=False)

    @property
    def silences(self) -> list[Silence]:
        """The silences that are not over."""
        return self.repository.silences(times.now_ms())

    @property
    def trail(self) -> list[tuple[str, str]]:
        """The actions and targets of the audit trail, oldest first."""
        entries = self.audit.entries(target=None, before=None, limit=1000)
        return [(entry["action"], entry["target"]) for entry in reversed(entries)]

    def opens(self, text: str) -> bool:
        """Whether a token lets anybody in."""
        return self.tokens.identity(text, times.now_ms(), "127.0.0.1") is not None


class DecidingProcesses:
    """Opens and ends such processes, each with a folder and a connection of its own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: list[DecidingProcess] = []

    def open(self, folder: str, address: str | None) -> DecidingProcess:
        """One of the cluster at `address`; None for one that is alone."""
        cluster = None if address is None else Cluster(ClusterAddress.parse(address))
        self._open.append(DecidingProcess(self._root / folder, cluster))
        return self._open[-1]

    def end(self, process: DecidingProcess) -> None:
        """End one."""
        self._open.remove(process)
        process.close()

    def end_all(self) -> None:
        """End all that are open."""
        for process in [*self._open]:
            self.end(process)


def rule_of(**members: object) -> Rule:
    """A rule, with these members in place of what it has."""
    return parse_rule(_RULE | members)


def any_version(version: int) -> None:
    """Whatever there is may be changed."""


def count_at_once(processes: Iterable[DecidingProcess], target: str, times_each: int) -> None:
    """Have each process count in the same setting, all at the same time."""

    def count(process: DecidingProcess) -> None:
        for _ in range(times_each):
            process.layers.change(
                target, OPERATOR,
                lambda layer: Layer(
                    layer.target, layer.rank, DesiredSettings(samples=(layer.settings.samples or 0) + 1)
                ),
            )  # fmt: skip

    at_once(*(partial(count, process) for process in processes))


def at_once(*steps: Callable[[], object]) -> list[BaseException]:
    """Do all at the same time, each in a thread of its own; what they raised."""
    raised: list[BaseException] = []

    def run(step: Callable[[], object]) -> None:
        gate.wait()
        try:
            step()
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            raised.append(error)

    gate = threading.Barrier(len(steps))
    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
