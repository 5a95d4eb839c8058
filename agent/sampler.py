"""The sampling thread: a sample at each deadline, a window after so many samples."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from agent.clock import Clock
from agent.plan import CommandBox, SamplingPlan
from agent.probes import MetricName, NotMeasured, Samples

GAP_S = 10.0
"""A sample later than this (and than two intervals) is a gap: the process was stopped, or the host slept."""
SLEEP_S = 0.5
"""Sleep of the host shorter than this between two samples is no gap."""
REST_S = 3600.0
"""How long a paused sampler waits for commands before it waits again."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Window:
    """The raw samples of one window."""

    plan: SamplingPlan
    start_ms: int
    """The wall clock when the window began."""
    duration_s: float
    """From the beginning to the last sample, by a clock that does not jump."""
    ended_at: float
    """When the last sample was taken, by that clock (`agent.clock.Clock.now`)."""
    observations: int
    """How many intervals of the plan it covers: a sample that comes late stands for all that it covers."""
    samples: Sequence[Samples]


class Sampler:
    """Takes samples on a schedule of deadlines that does not drift, and delivers each window as it ends.

    A window covers as many intervals as its plan has samples. A sample that comes late covers several, and counts as
    that many observations.

    A window ends early, with the samples it has, before anything that must not be mixed into it: a core gone or
    come, sleep of the host, a gap in the schedule, another plan. The time across such a break belongs to no window.
    """

    def __init__(
        self,
        plan: SamplingPlan,
        clock: Clock,
        deliver: Callable[[Window], None],
        commands: CommandBox | None = None,
        failing: dict[MetricName, str] | None = None,
    ) -> None:
        """`failing` is kept up to date: why metrics of the plan are left out of reports, for as long as they are."""
        self._plan = plan
        self._clock = clock
        self._deliver = deliver
        self._commands = commands or CommandBox()
        self._failing = {} if failing is None else failing
        self._failed: set[MetricName] = set()
        self._delivered = False
        self._tick = self._observations = self._start_ms = 0
        self._origin = self._opened_at = self._sampled_at = self._asleep = 0.0

    def run(self) -> None:
        """Sample until the clock says stop. Raises what the CPU's probe raises before the first window."""
        self._restart()
        while not self._clock.wait(self._due()):
            if self._commands.waiting:
                self._obey()
                continue
            if self._plan.paused:
                continue
            now = self._clock.now()
            late = now - self._sampled_at - self._plan.interval_s
            if (late > SLEEP_S and self._is_gap(late)) or not self._sample(now):
                self._close()
                self._restart()
                continue
            self._sampled_at = now
            # Deadlines that have passed already are left out, not made up for in a burst: this sample covers them.
            reached = max(self._tick, int((now - self._origin) / self._plan.interval_s))
            self._observations += reached + 1 - self._tick
            self._tick = reached + 1
            if self._observations >= self._plan.samples:
                self._close()
                self._open(now)
        self._close()

    def _due(self) -> float:
        """The moment at which the sampler has to act next, by its clock."""
        if self._plan.paused:
            return self._clock.now() + REST_S
        return self._origin + self._tick * self._plan.interval_s

    def _obey(self) -> None:
        for command in self._commands.take():
            self._close()
            if command.plan is not None:
                self._plan = command.plan
                self._failing.clear()
                self._restart()
            else:
                self._open(self._sampled_at)
            command.set_done()

    def _restart(self) -> None:
        """Begin a window, a schedule and every probe anew."""
        now = self._clock.now()
        self._origin = now
        self._tick = 1
        self._asleep = self._clock.asleep()
        if self._plan.paused:
            self._open(now)
            return
        for name, probe in self._plan.probes.items():
            self._try(name, probe.restart, now)
        self._open(now)

    def _open(self, now: float) -> None:
        self._opened_at = self._sampled_at = now
        # The wall clock as it was at `now`: this thread may have been held up since.
        self._start_ms = self._clock.wall_ms() - round((self._clock.now() - now) * 1000)
        self._observations = 0
        self._failed.clear()

    def _is_gap(self, late: float) -> bool:
        """Whether a sample so late must stay out of the window. Not asked otherwise: a sleep makes any sample late."""
        asleep, self._asleep = self._asleep, self._clock.asleep()
        return late > max(GAP_S, 2 * self._plan.interval_s) or self._asleep - asleep > SLEEP_S

    def _sample(self, now: float) -> bool:
        """Sample everything that is due; False where a probe cannot go on with this window."""
        whole = True
        for name, probe in self._plan.probes.items():
            if now >= probe.due:
                whole &= self._try(name, probe.sample, now) is not False
        return whole

    def _try(self, name: MetricName, ask: Callable[..., _T], *args: float) -> _T | None:
        """Ask a probe. One that fails leaves its metric out of the report, and is asked again."""
        try:
            return ask(*args)
        except Exception as error:  # whatever ails one probe must not end the others
            if name == "cpu" and not isinstance(error, NotMeasured) and not self._delivered:
                # Nobody should wait for reports of a host that cannot be sampled at all.
                raise
            self._failed.add(name)
            if name not in self._failing:
                _log.warning("%s cannot be sampled: %s", name, error)
            self._failing[name] = str(error)
            return None

    def _close(self) -> None:
        samples = []
        for name, probe in self._plan.probes.items():
            collected = self._try(name, probe.collect)
            if collected is None:
                continue
            samples.append(collected)
            if name in self._failing and name not in self._failed:
                del self._failing[name]
                _log.info("%s can be sampled again", name)
        if samples and self._observations:
            duration = self._sampled_at - self._opened_at
            self._deliver(Window(self._plan, self._start_ms, duration, self._sampled_at, self._observations, samples))
            self._delivered = True
