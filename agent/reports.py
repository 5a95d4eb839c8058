"""Windows of samples become reports, and go to the service by way of the spool, or to standard output."""

import sys
import time
from collections.abc import Callable
from threading import Thread
from typing import Protocol

import psutil
from msgspec import UNSET

from agent.clock import ServiceTime, Timeline
from agent.identity import HostIdentity
from agent.plan import SamplingPlan
from agent.processes import ProcessWatch
from agent.sampler import Window
from agent.sender import ReportSender
from agent.spool import Spool
from contract import __version__
from contract.report import AgentStatus, Report, encode, report_id


class ReportBuilder:
    """Makes a report of each window: its summaries, whose they are, and what the agent costs."""

    def __init__(
        self,
        identity: HostIdentity,
        timeline: Timeline,
        refused_version: Callable[[], str] | None = None,
        service_time: ServiceTime | None = None,
        watch: ProcessWatch | None = None,
        scope: str = "host",
    ) -> None:
        """`refused_version` says which settings of the service were refused; None where it may set none.

        `scope` says whose CPU is sampled.
        """
        self.watch = watch or ProcessWatch()
        """Looks at the processes where the plan of a window says so."""
        self._told: dict[str, str] = {} if scope == "host" else {"scope": scope}
        self._identity = identity
        self._timeline = timeline
        self._refused_version = refused_version
        self._service_time = service_time or ServiceTime()
        self._process = psutil.Process()

    def report(self, window: Window, *, spooled: int = 0, dropped: int = 0, refused: int = 0) -> Report:
        """The report of a window. `spooled`, `dropped` and `refused` are the counts of `AgentStatus`."""
        ended_ms = window.start_ms + round(window.duration_s * 1000)
        corrected_ms = window.start_ms + self._service_time.correction_ms(ended_ms, window.ended_at)
        start_ms, end_ms = self._timeline.place(corrected_ms, window.duration_s)
        ahead_s = self._service_time.ahead_s()
        user_id = self._identity.user_id
        use = self.watch.use(window.plan)
        return Report(
            user_id=user_id,
            start_timestamp=start_ms,
            end_timestamp=end_ms,
            observations_per_metric=window.observations,
            os_type=self._identity.os_type,
            os_version=self._identity.os_version,
            metrics=[samples.metric(window.observations) for samples in window.samples],
            report_id=report_id(user_id, end_ms),
            processes=UNSET if use is None else use,
            labels=dict(self._identity.labels),
            agent=AgentStatus(
                version=__version__,
                cpu_seconds=round(time.process_time(), 3),
                resident_bytes=self._process.memory_info().rss,
                spooled=spooled,
                dropped=dropped,
                refused=refused,
                settings=_settings(window.plan) | self._told,
                remote=self._refused_version is not None,
                settings_version=window.plan.version,
                settings_refused=self._refused_version() if self._refused_version else "",
                clock_ahead_s=UNSET if ahead_s is None else round(ahead_s, 1),
            ),
        )


def _settings(plan: SamplingPlan) -> dict[str, str | int | float | bool | list[str]]:
    told: dict[str, str | int | float | bool | list[str]] = {
        "interval": plan.interval_s,
        "samples": plan.samples,
        "metrics": list(plan.probes),
    }
    return told if plan.processes == "off" else told | {"processes": plan.processes}


CLOSE_S = 3.0
"""How long the last reports may take when the agent ends; then they stay in the spool."""


class Outbox(Protocol):
    """Where reports are put until the service has them."""

    def counts(self) -> dict[str, int]:
        """The members `spooled`, `dropped` and `refused` of `AgentStatus`, as far as they are known."""

    def put(self, report: Report, ended_at: float) -> None:
        """Take a report, which is safe when this returns; its window ended at that moment of the steady clock."""

    def close(self) -> None:
        """Deliver what can be delivered quickly."""


class SpoolingOutbox:
    """Puts reports into the spool, from which `thread` sends them."""

    def __init__(self, spool: Spool, sender: ReportSender, thread: Thread, service_time: ServiceTime) -> None:
        self._service_time = service_time
        self._spool = spool
        self._sender = sender
        self._thread = thread

    @property
    def problem(self) -> str | None:
        """Why reports are not taken now; None where they are."""
        return self._sender.problem

    def counts(self) -> dict[str, int]:
        """The spool's and the sender's counts."""
        return {"spooled": self._spool.waiting, "dropped": self._spool.dropped, "refused": self._sender.refused}

    def put(self, report: Report, ended_at: float) -> None:
        """Write the report to the spool."""
        is_placed = self._service_time.is_known
        self._spool.put(encode(report), report.end_timestamp, ended_at, is_placed=is_placed)
        self._sender.wake()

    def close(self) -> None:
        """Send for a few seconds; what is left then is sent at the next start."""
        self._sender.close(CLOSE_S)
        self._thread.join(CLOSE_S + 0.5)
        self._spool.close()


class PrintingOutbox:
    """Prints each report on a line of standard output."""

    def counts(self) -> dict[str, int]:
        """Nothing waits, is dropped or refused, so there are no counts."""
        return {}

    def put(self, report: Report, ended_at: float) -> None:
        """Print the report. Raises BrokenPipeError where nobody reads any more."""
        sys.stdout.write(encode(report).decode() + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing: all is printed."""
