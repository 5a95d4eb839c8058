"""A clock and a host that do what a test says."""

from collections.abc import Callable

from agent.probes.cpu import CpuReading, Times

WALL_MS = 1_800_000_000_000


class ScriptedClock:
    """A clock that moves as the sampler waits; `events` happen as it passes their time."""

    def __init__(self, until: float, late: float = 0.0) -> None:
        self.time = 1000.0
        self.slept = 0.0
        self.wall = 0.0
        self.waits: list[float] = []
        self.events: list[tuple[float, Callable[[], None]]] = []
        self._late = late
        self._end = self.time + until

    def now(self) -> float:
        return self.time

    def asleep(self) -> float:
        return self.slept

    def wall_ms(self) -> int:
        return WALL_MS + round((self.time - 1000.0 + self.wall) * 1000)

    def wait(self, until: float) -> bool:
        self.waits.append(until - 1000.0)
        self.time = max(self.time, until) + self._late
        while self.events and self.events[0][0] <= self.time - 1000.0:
            self.events.pop(0)[1]()
        return self.time > self._end

    def at(self, time: float, event: Callable[[], None]) -> None:
        self.events.append((time, event))

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept += seconds

    def stop_process(self, seconds: float) -> None:
        self.time += seconds


def quarter(time: float) -> float:
    """The work done by `time` on a host that is busy a quarter of the time."""
    return time / 4


class Host:
    """CPU counters, in seconds or in ticks, of a host whose cores have all done the work `busy(time)` at a time."""

    def __init__(
        self,
        clock: ScriptedClock,
        cores: tuple[int, ...] = (0, 1),
        busy: Callable[[float], float] = quarter,
        ticks: int | None = None,
    ) -> None:
        self.clock = clock
        self.cores = cores
        self._busy = busy
        self._ticks = ticks

    def read(self) -> CpuReading:
        time = self.clock.time - self.clock.slept
        busy = self._busy(time)
        self.last: Times = (busy, 0.0, time - busy)
        if self._ticks is not None:
            self.last = (int(busy * self._ticks), 0, int((time - busy) * self._ticks))
        return CpuReading(self.cores, [self.last] * (len(self.cores) + 1))

    def times(self, counters: list[Times]) -> list[Times]:
        return counters
