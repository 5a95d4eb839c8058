"""How long a change of settings at one service of a cluster takes to reach agents that listen at another.

    python -m tests.support.cluster_settings --changes 300

prints, for one node of NATS and for three, quantiles in milliseconds over changes, from the request at one service
until all of some agents have heard at the other.
"""

import argparse
import contextlib
import json
import queue
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np

from contract.server_sent_events import EventStreamParser
from tests.support.agent_states import agent, state
from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats
from tests.support.running import RunningService

_AGENTS = 20
_FORCE = {"If-Match": "*"}


class _Listener(threading.Thread):
    """An agent that listens; what it hears, with when, goes into a queue."""

    def __init__(self, url: str, number: int, heard: "queue.Queue[tuple[float, int | None]]") -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._path = agent(f"agent-{number}")
        self._heard = heard
        assert self._client.post(f"{self._path}/state", json=state()).status_code == 200

    def run(self) -> None:
        """Listen until the service ends."""
        parser = EventStreamParser(256 * 1024)
        accept = {"Accept": "text/event-stream"}
        with (
            contextlib.suppress(httpx.HTTPError),
            self._client.stream("GET", f"{self._path}/commands", headers=accept) as answer,
        ):
            for content in answer.iter_raw():
                for event in parser.feed(content):
                    if event.type == "instructions":
                        self._heard.put((time.monotonic(), json.loads(event.data)["settings"].get("samples")))


@contextlib.contextmanager
def _services(folder: Path, nats: RunningNats, influx: RunningInflux) -> Iterator[list[RunningService]]:
    name = f"settings-{len(nats.nodes)}"
    arguments = ("--journal", nats.address(name), "--store", influx.address(name))
    with (
        RunningService(folder / "a", *arguments) as first,
        RunningService(folder / "b", *arguments) as second,
    ):
        yield [first, second]


def measure(services: Sequence[RunningService], changes: int) -> list[float]:
    """Milliseconds of each change until the last agent has heard."""
    heard: queue.Queue[tuple[float, int | None]] = queue.Queue()
    listeners = [_Listener(services[1].url, number, heard) for number in range(_AGENTS)]
    for listener in listeners:
        listener.start()
    waited = []
    with services[0].client() as client:
        for number in range(10, changes + 10):
            began = time.monotonic()
            answer = client.put("/api/v1/settings?selector=all", json={"samples": number}, headers=_FORCE)
            assert answer.status_code == 200, answer.text
            told = 0
            while told < _AGENTS:
                at, samples = heard.get(timeout=60)
                told += samples == number
            waited.append((at - began) * 1000)
    return waited


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=300)
    changes = parser.parse_args().changes
    print("| nodes of NATS | changes | median | p99 | longest |\n| --- | --- | --- | --- | --- |")
    for size in (1, 3):
        with (
            tempfile.TemporaryDirectory() as folder,
            RunningNats(Path(folder) / "nats", size) as nats,
            RunningInflux(Path(folder) / "influx") as influx,
            _services(Path(folder), nats, influx) as services,
        ):
            waited = measure(services, changes)
            median, p99 = np.quantile(waited, (0.5, 0.99))
            print(f"| {size} | {changes} | {median:.0f} ms | {p99:.0f} ms | {max(waited):.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
