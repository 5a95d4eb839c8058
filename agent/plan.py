"""What the sampler does: a plan made from settings, and the orders by which other threads change or end it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Lock

from agent.probes import PROBES, MetricName, Probe
from contract.agent_settings import InvalidSettings, SettingsInForce
from contract.problems import Problem


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sampled, and how often: the same for a whole window."""

    interval_s: float
    samples: int
    """In one window."""
    probes: Mapping[MetricName, Probe]
    paused: bool = False
    """Nothing is sampled for now."""
    version: str = ""
    """Names what the service asked for, where that made this plan."""


def plan_of(settings: SettingsInForce, version: str = "") -> Plan:
    """The plan of settings, with probes of its own."""
    probes = {name: PROBES[name]() for name in settings.metrics}
    return Plan(settings.interval, settings.samples, probes, settings.paused, version)


def tried(settings: SettingsInForce, known: SettingsInForce, version: str) -> Plan:
    """As `plan_of`, where each metric that is not among the `known` ones can be sampled here.

    Raises InvalidSettings, which names those that cannot.
    """
    problems = []
    for place, name in enumerate(settings.metrics):
        if name in known.metrics:
            continue
        try:
            _try(name)
        except Exception as error:  # noqa: BLE001 - whatever ails it, it is not to be in the plan
            problems.append(Problem(f"/metrics/{place}", f"{name} cannot be sampled here: {error}"))
    if problems:
        raise InvalidSettings(problems)
    try:
        return plan_of(settings, version)
    except Exception as error:  # noqa: BLE001 - as above
        raise InvalidSettings([Problem("/metrics", f"they cannot be sampled now: {error}")]) from None


def _try(name: MetricName) -> None:
    """Take two samples with a probe that is thrown away."""
    probe: Probe = PROBES[name]()
    now = time.monotonic()
    probe.restart(now)
    probe.sample(now + 1.0)


class Order:
    """To end the running window at its last sample, and go on under `plan`; under the same one where it is None."""

    def __init__(self, plan: Plan | None) -> None:
        self.plan = plan
        self._obeyed = Event()

    def obey(self) -> None:
        """Say that it was done."""
        self._obeyed.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it was done; False where it was not in time."""
        return self._obeyed.wait(timeout_s)


class Orders:
    """A box of orders that ends a sleep."""

    def __init__(self) -> None:
        self.waiting: list[Order] = []
        """Looked at by the sampler at each sample, which costs nothing."""
        self.stopping = False
        self._lock = Lock()
        self._ring = Event()

    def put(self, plan: Plan | None) -> Order:
        """Give an order."""
        order = Order(plan)
        with self._lock:
            self.waiting.append(order)
            self._ring.set()
        return order

    def stop(self) -> None:
        """Have the agent end. May be called by a signal's handler."""
        self.stopping = True
        self._ring.set()

    def take(self) -> Sequence[Order]:
        """All orders, oldest first."""
        with self._lock:
            taken, self.waiting = self.waiting, []
            if not self.stopping:
                self._ring.clear()
        return taken

    def sleep(self, seconds: float) -> None:
        """Sleep, until there is an order or the end."""
        self._ring.wait(seconds)
