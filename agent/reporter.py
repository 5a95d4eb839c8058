"""Windows of samples become reports."""

import time
from collections.abc import Callable

import psutil

from agent.identity import Identity
from agent.sampler import Plan, Window
from agent.timeline import Timeline
from contract import __version__
from contract.report import AgentStatus, Report

__all__ = ["Reporter"]


class Reporter:
    """Summarises windows, and says who they are of and what the agent costs."""

    def __init__(
        self, identity: Identity, timeline: Timeline, refused_version: Callable[[], str] | None = None
    ) -> None:
        """`refused_version` says which settings of the service were refused; None where it may set none."""
        self._identity = identity
        self._timeline = timeline
        self._refused_version = refused_version
        self._process = psutil.Process()

    def report(self, window: Window, *, spooled: int = 0, dropped: int = 0, refused: int = 0) -> Report:
        """The report of a window. `spooled`, `dropped` and `refused` are the counts of `AgentStatus`."""
        start_ms, end_ms = self._timeline.place(window.start_ms, window.duration_s)
        user_id = self._identity.user_id
        return Report(
            user_id=user_id,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            observations_per_metric=window.observations,
            os_type=self._identity.os_type,
            os_version=self._identity.os_version,
            metrics=[samples.metric() for samples in window.samples],
            report_id=f"{user_id[:100]}@{end_ms}",
            agent=AgentStatus(
                version=__version__,
                cpu_seconds=round(time.process_time(), 3),
                resident_bytes=self._process.memory_info().rss,
                spooled=spooled,
                dropped=dropped,
                refused=refused,
                settings=_settings(window.plan),
                remote=self._refused_version is not None,
                settings_version=window.plan.version,
                settings_refused=self._refused_version() if self._refused_version else "",
            ),
        )


def _settings(plan: Plan) -> dict[str, str | int | float | bool | list[str]]:
    return {"interval": plan.interval_s, "samples": plan.samples, "metrics": list(plan.probes)}
