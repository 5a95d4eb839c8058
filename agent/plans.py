"""From settings to a plan for the sampler, tried before it counts."""

import time

from agent.probes import PROBES, MetricName, Probe
from agent.sampler import Plan
from contract.agent_settings import InvalidSettings, SettingsInForce
from contract.problems import Problem

__all__ = ["plan_of", "tried"]


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
