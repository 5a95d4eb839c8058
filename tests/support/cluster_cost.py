"""What a report costs in CPU time, process by process: alone with InfluxDB, and in a cluster.

    python -m tests.support.cluster_cost --reports 20000
    python -m tests.support.cluster_cost --catch-up 32000

64 senders, one report a request, each of four cores. The time is that of user and system together. In a cluster all
reports go to one process; another that takes none follows the log beside it. With `--catch-up` so many wait in the log
when a writer is started, which then writes them as fast as it can.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.support.influxd import RunningInflux
from tests.support.load import Connection
from tests.support.nats_cluster import RunningNats
from tests.support.reports import METRICS, as_json, original
from tests.support.running import RunningService, wait_until

_SENDERS = 64
_LOOK_S = 0.5
"""So seldom it is asked whether the store has all: an answer costs as much as many reports."""


def _body(user: str, end_ms: int) -> bytes:
    report = original(user, start_timestamp=end_ms - 5000, end_timestamp=end_ms)
    by_core = [0.1957, 0.1921, 0.2484, 0.2112]
    report["metrics"][0] |= {"avg_utilization_by_core": by_core, "var_utilization_by_core": [0.0034] * 4}
    return as_json(report)


async def _send(port: int, sender: int, reports: int, end_ms: int) -> None:
    async with Connection(port) as connection:
        for number in range(reports):
            status, answer = await connection.post(METRICS, _body(f"host-{sender}", end_ms + 5000 * number))
            assert status == 202, answer


def _seconds(processes: Mapping[str, list[int]]) -> dict[str, float]:
    found = {}
    for name, pids in processes.items():
        every = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
        found[name] = sum(sum(one.cpu_times()[:2]) for one in every)
    return found


def _measure(name: str, services: Mapping[str, RunningService], others: Mapping[str, list[int]], reports: int) -> None:
    processes = {role: [service.process.pid] for role, service in services.items()} | others
    service = next(iter(services.values()))
    each = reports // _SENDERS
    end_ms = int(time.time() * 1000) - 5000 * each * 2

    async def send(end_ms: int, each: int) -> None:
        await asyncio.gather(*(_send(service.port, sender, each, end_ms) for sender in range(_SENDERS)))

    asyncio.run(send(end_ms - 5000 * 40, 20))
    before, began = _seconds(processes), time.monotonic()
    asyncio.run(send(end_ms, each))
    took = time.monotonic() - began
    with service.client() as client:
        while "\nloadlens_journal_behind 0.0" not in client.get("/metrics").text:
            time.sleep(_LOOK_S)
    after = _seconds(processes)
    cost = {role: (after[role] - before[role]) / (each * _SENDERS) * 1e6 for role in processes}
    words = ", ".join(f"{role} {value:.0f} us" for role, value in cost.items())
    if "writer" in cost:
        words += f"; api and writer {cost['api'] + cost['writer']:.0f} us"
    print(f"{name}: {each * _SENDERS / took:.0f} reports/s; CPU a report: {words}", flush=True)


def _catch_up(reports: int) -> None:
    """What a report costs a writer that has nothing else to do."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        influx = stack.enter_context(RunningInflux(root / "influx"))
        nats = stack.enter_context(RunningNats(root / "nats", 1))
        shared = ("--journal", nats.address(), "--store", influx.address(), "--flush-interval", "2")
        api = stack.enter_context(RunningService(root / "api", *shared, "--role", "api"))
        each = reports // _SENDERS
        end_ms = int(time.time() * 1000) - 5000 * each * 2

        async def send() -> None:
            await asyncio.gather(*(_send(api.port, sender, each, end_ms) for sender in range(_SENDERS)))

        asyncio.run(send())
        writer = stack.enter_context(RunningService(root / "writer", *shared, "--role", "writer"))
        processes = {"writer": [writer.process.pid], "InfluxDB": [influx.process.pid]}
        before, began = _seconds(processes), time.monotonic()
        with api.client() as client:
            wait_until(lambda: "\nloadlens_journal_behind 0.0" in client.get("/metrics").text, "the store", 300)
        took, after = time.monotonic() - began, _seconds(processes)
        cost = {name: (after[name] - before[name]) / (each * _SENDERS) * 1e6 for name in processes}
        words = ", ".join(f"{name} {value:.0f} us" for name, value in cost.items())
        print(f"catching up: {each * _SENDERS / took:.0f} reports/s; CPU a report: {words}", flush=True)


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nodes", type=int, nargs="+", choices=(0, 1, 3), default=(0, 1, 3), help="0: alone")
    parser.add_argument("--catch-up", type=int, metavar="REPORTS")
    asked = parser.parse_args()
    if asked.catch_up:
        _catch_up(asked.catch_up)
        return
    for number in range(asked.rounds):
        for nodes in asked.nodes:
            with contextlib.ExitStack() as stack:
                root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                influx = stack.enter_context(RunningInflux(root / "influx"))
                store = ("--store", influx.address(), "--flush-interval", "2")
                others = {"InfluxDB": [influx.process.pid]}
                services = {}
                if nodes:
                    nats = stack.enter_context(RunningNats(root / "nats", nodes))
                    others["NATS"] = [node.process.pid for node in nats.nodes]
                    for process, role in (("api", "api"), ("writer", "writer"), ("another api", "api")):
                        arguments = ("--journal", nats.address(), "--role", role, *store)
                        services[process] = stack.enter_context(RunningService(root / process, *arguments))
                else:
                    services["service"] = stack.enter_context(RunningService(root / "alone", *store))
                name = f"{nodes} nodes of NATS" if nodes else "alone"
                _measure(f"round {number + 1}, {name}", services, others, asked.reports)


if __name__ == "__main__":
    main()
