"""What the sampler does: a plan made from settings, and the commands by which other threads change or end it."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event, Lock

from agent.probes import PROBES, MetricName, Probe, sharing
from contract.agent_protocol import InvalidSettings, SettingsInForce
from contract.problems import Problem
from contract.processes import ProcessDetail


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """What is sampled, and how often: the same for a whole window."""

    interval_s: float
    samples: int
    """How many samples make a window."""
    probes: Mapping[MetricName, Probe]
    paused: bool = False
    """Whether nothing is sampled for now."""
    processes: ProcessDetail = "off"
    """What is told of the processes that use the CPU."""
    version: str = ""
    """The version of the desired settings that made this plan; empty where the service asked for nothing."""


Probes = Mapping[MetricName, Callable[[float], Probe]]
"""For each metric, what makes its probe for samples so many seconds apart; may raise anything where there is none."""


def sampling_plan(settings: SettingsInForce, version: str = "", probes: Probes = PROBES) -> SamplingPlan:
    """The plan of settings, with probes of its own."""
    chosen = sharing({name: probes[name](settings.interval) for name in settings.metrics}, settings.interval)
    return SamplingPlan(settings.interval, settings.samples, chosen, settings.paused, settings.processes, version)


def checked_plan(
    settings: SettingsInForce, known: SettingsInForce, version: str, probes: Probes = PROBES
) -> SamplingPlan:
    """As `sampling_plan`, after a trial of each metric that is not among the `known` ones.

    Raises InvalidSettings, which names the metrics that cannot be sampled here, and processes where these cannot.
    """
    problems = []
    if settings.processes != "off" and sys.platform != "linux":
        problems.append(Problem("/processes", "they are told of Linux only"))
    for index, name in enumerate(settings.metrics):
        if name in known.metrics:
            continue
        try:
            _try(probes[name](settings.interval))
        except Exception as error:  # noqa: BLE001 - whatever ails it, it is not to be in the plan
            problems.append(Problem(f"/metrics/{index}", f"{name} cannot be sampled here: {error}"))
    if problems:
        raise InvalidSettings(problems)
    try:
        return sampling_plan(settings, version, probes)
    except Exception as error:  # noqa: BLE001 - as above
        raise InvalidSettings([Problem("/metrics", f"they cannot be sampled now: {error}")]) from None


def _try(probe: Probe) -> None:
    """Take two samples with a probe that is thrown away."""
    now = time.monotonic()
    probe.restart(now)
    probe.sample(now + 1.0)


class SamplerCommand:
    """Ends the running window at its last sample, and has the sampler go on under `plan`, or as before where None."""

    def __init__(self, plan: SamplingPlan | None) -> None:
        self.plan = plan
        self._done = Event()

    def set_done(self) -> None:
        """Note that the sampler has carried it out."""
        self._done.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is carried out; False where that takes longer than `timeout_s`."""
        return self._done.wait(timeout_s)


class CommandBox:
    """Where other threads leave commands for the sampler, and tell it to stop; either ends its sleep."""

    def __init__(self) -> None:
        self.waiting: list[SamplerCommand] = []
        """Looked at by the sampler at each sample, which costs nothing."""
        self.stopping = False
        self._lock = Lock()
        self._ring = Event()

    def put(self, plan: SamplingPlan | None) -> SamplerCommand:
        """Leave a command for the sampler, which takes it between two samples."""
        command = SamplerCommand(plan)
        with self._lock:
            self.waiting.append(command)
            self._ring.set()
        return command

    def stop(self) -> None:
        """Have the agent end. May be called by a signal's handler."""
        self.stopping = True
        self._ring.set()

    def take(self) -> Sequence[SamplerCommand]:
        """Take all commands out, oldest first."""
        with self._lock:
            taken, self.waiting = self.waiting, []
            if not self.stopping:
                self._ring.clear()
        return taken

    def sleep(self, seconds: float) -> None:
        """Sleep until there is a command, the agent is to end, or `seconds` have passed."""
        self._ring.wait(seconds)
