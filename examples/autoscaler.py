"""An autoscaler that follows the stream: it adds a host when the fleet is busy, and takes one away when it is idle.

python examples/autoscaler.py http://localhost:8888 "web-*"
"""

import sys
import time
from dataclasses import dataclass, field

import analytics

SMOOTHING, HIGH, LOW, FORGET_S, PAUSE_S = 0.3, 0.75, 0.35, 60.0, 10.0


@dataclass
class Autoscaler:
    """Decides how many hosts there should be."""

    loads: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    decided: float = 0.0

    def observe(self, user: str, load: float, now: float) -> int:
        """+1, -1 or 0 hosts, now that a host has reported."""
        self.loads[user] = load if user not in self.loads else self.loads[user] * (1 - SMOOTHING) + load * SMOOTHING
        self.seen[user] = now
        for gone in [other for other, last in self.seen.items() if now - last > FORGET_S]:
            del self.loads[gone], self.seen[gone]
        mean = sum(self.loads.values()) / len(self.loads)
        change = (mean > HIGH) - (mean < LOW and len(self.loads) > 1)
        if not change or now - self.decided < PAUSE_S:
            return 0
        self.decided = now
        return change


def main(url: str, pattern: str) -> None:
    """Follow the hosts whose names match."""
    scaler = Autoscaler()
    for event in analytics.stream(url, user=pattern, metric="cpuLoadAvg", fields=["user_id", "cpuLoadAvg"]):
        if isinstance(event, analytics.ValuesEvent):  # not a LostEvent: what is lost does not matter here
            change = scaler.observe(event.values["user_id"], event.values["cpuLoadAvg"], time.monotonic())
            if change:
                print(f"{change:+d} host: {len(scaler.loads)} hosts now", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
