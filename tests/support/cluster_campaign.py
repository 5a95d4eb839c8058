"""Faults of a cluster by hand, each again and again: three nodes of NATS, InfluxDB, and processes with a role each.

    python -m tests.support.cluster_campaign --rounds 10 [--pause 30] [FAULT ...]

prints a row for each fault: how often it was tried, the reports that were acknowledged, hosts of which any is lost
or counted twice, alerts that did not fire once or were told twice, requests that were refused, that did not reach their
process, or that had no answer though they did, and the longest that a host waited.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from tests.support.cluster_load import ClusterUnderLoad, restart_one_by_one
from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats
from tests.support.running import wait_until

_ROLES = ("api", "rules", "rules", "writer", "writer")
"""Those of the rules take reports and answer, too."""
_PAUSE_S = 0.02
"""Of each host between two reports, so that the host that all of this runs on is not what is waited for."""
_GO_ON = 60
"""Reports between a fault and the next."""
_LINES = 15
"""Of each log, where a campaign cannot go on."""
Fault = Callable[[ClusterUnderLoad, float], None]
"""What happens to a cluster; where something stands still, for so many seconds."""
Chosen = Callable[[ClusterUnderLoad], int]
"""The number of a process."""


@contextmanager
def _standing_still(load: ClusterUnderLoad, number: int) -> Iterator[None]:
    """A service that does nothing, while hosts report to the others."""
    process = psutil.Process(load.services[number].process.pid)
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.suspend()
    try:
        yield
    finally:
        for one in reversed(family):
            one.resume()


def _kill_service(chosen: Chosen, load: ClusterUnderLoad, _: float) -> None:
    number = chosen(load)
    load.services[number].kill()
    load.go_on(_GO_ON)
    load.restart(number)


def _pause_service(chosen: Chosen, load: ClusterUnderLoad, pause_s: float) -> None:
    with _standing_still(load, chosen(load)):
        time.sleep(pause_s)
    load.go_on(_GO_ON)


def _kill_node(load: ClusterUnderLoad, _: float) -> None:
    node = load.nats.nodes[load.leader()]
    node.kill()
    load.go_on(_GO_ON)
    node.start()
    load.nats.wait()


def _pause_node(load: ClusterUnderLoad, pause_s: float) -> None:
    node = load.nats.nodes[load.leader()]
    node.pause()
    time.sleep(pause_s)
    node.resume()
    load.go_on(_GO_ON)
    # Servers of 2.9 may not find themselves well again after that until they are started anew.
    node.kill()
    node.start()
    wait_until(load.is_replicated, "all copies of the log", 120)


def _cut_node(load: ClusterUnderLoad, pause_s: float) -> None:
    number = load.leader()
    node = load.nats.nodes[number]
    load.nats.cut_off(number)
    time.sleep(pause_s)
    load.nats.join(number)
    load.go_on(_GO_ON)
    # As above.
    node.kill()
    node.start()
    wait_until(load.is_replicated, "all copies of the log", 120)


def _kill_influx(load: ClusterUnderLoad, _: float) -> None:
    load.influx.kill()
    load.go_on(_GO_ON)
    load.influx.start()


def _pause_influx(load: ClusterUnderLoad, pause_s: float) -> None:
    load.influx.pause()
    time.sleep(pause_s)
    load.influx.resume()
    load.go_on(_GO_ON)


def _restart(load: ClusterUnderLoad, _: float) -> None:
    restart_one_by_one(load)


def _api(load: ClusterUnderLoad) -> int:
    return _ROLES.index("api")


FAULTS: dict[str, Fault] = {
    "kill -9 of the NATS node that leads": _kill_node,
    "kill -9 of api": partial(_kill_service, _api),
    "kill -9 of the writer": partial(_kill_service, ClusterUnderLoad.writer),
    "kill -9 of rules": partial(_kill_service, ClusterUnderLoad.rules),
    "kill -9 of influxd": _kill_influx,
    "SIGTERM of each in turn": _restart,
    "SIGSTOP of the NATS node that leads": _pause_node,
    "SIGSTOP of api": partial(_pause_service, _api),
    "SIGSTOP of the writer": partial(_pause_service, ClusterUnderLoad.writer),
    "SIGSTOP of rules": partial(_pause_service, ClusterUnderLoad.rules),
    "SIGSTOP of influxd": _pause_influx,
    "the NATS node that leads is cut off": _cut_node,
}


def _campaign(folder: Path, name: str, rounds: int, pause_s: float) -> None:
    fault = FAULTS[name]
    with RunningNats(folder / "nats", relayed="cut off" in name) as nats, RunningInflux(folder / "influx") as influx:
        load = ClusterUnderLoad(folder / "services", nats, influx, "fleet", _ROLES, pause_s=_PAUSE_S)
        try:
            load.go_on(_GO_ON)
            for _ in range(rounds):
                fault(load, pause_s)
            load.go_on(_GO_ON)
            problems = load.finish()
            wrong = [one for one in problems if "acknowledged" in one]
            alerts = [one for one in problems if one not in wrong]
            refused = [text for sender in load.senders for text in sender.refused]
            unreached = sum(sender.unreached for sender in load.senders)
            cut = sum(sender.cut for sender in load.senders)
            longest = max(sender.longest_s for sender in load.senders)
            print(
                f"| {name} | {rounds} | {load.acknowledged} | {len(wrong)} | {load.fired} | {len(alerts)} |"
                f" {load.told.sent_again} | {len(refused)} | {unreached} | {cut} | {longest:.1f} s |",
                flush=True,
            )
            for line in [*problems, *sorted(set(refused))[:3]]:
                print(f"    {line}", flush=True)
        except AssertionError:
            # The folder goes, so what it says of the reason is told.
            for sender in load.senders:
                print(f"    {sender.user}: {sender.acknowledged} acknowledged, refused last: {sender.refused[-1:]}")
            for service in load.services:
                print("    " + "\n    ".join(service.log.splitlines()[-_LINES:]), flush=True)
            raise
        finally:
            load.close()


def main() -> None:
    """Run the faults that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pause", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=f"words of: {', '.join(FAULTS)} (default: all)")
    asked = parser.parse_args()
    print(
        "| fault | times | acknowledged | lost or twice | alerts | not once | notifications sent again | refused |"
        " not reached | cut off | longest wait |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        flush=True,
    )
    for name in FAULTS:
        if not asked.faults or any(words in name for words in asked.faults):
            with tempfile.TemporaryDirectory() as folder:
                _campaign(Path(folder), name, asked.rounds, asked.pause)


if __name__ == "__main__":
    main()
