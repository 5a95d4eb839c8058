"""Each byte of the network counts once, whatever interfaces stand above each other."""

import sys
from pathlib import Path

import pytest

from agent.interfaces import counted_interfaces
from agent.probes.system import Rates
from contract.metrics import Network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads sysfs")


class Sysfs:
    """A tree as in /sys/class/net."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.add("lo")

    def add(self, name: str, *, device: bool = False, bridge: bool = False, over: tuple[str, ...] = ()) -> None:
        """An interface, `over` others as a VLAN is over its interface."""
        (self.root / name).mkdir()
        if device:
            (self.root / name / "device").mkdir()
        if bridge:
            (self.root / name / "bridge").mkdir()
        for lower in over:
            (self.root / name / f"lower_{lower}").symlink_to(self.root / lower)

    def master(self, name: str, *parts: str) -> None:
        """Make interfaces parts of another, as of a bond."""
        for part in parts:
            (self.root / part / "master").symlink_to(self.root / name)
            (self.root / name / f"lower_{part}").symlink_to(self.root / part)

    def counted(self) -> set[str]:
        return set(counted_interfaces((path.name for path in self.root.iterdir()), self.root))


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    return Sysfs(tmp_path)


def test_over_a_bond_a_bridge_a_vlan_pairs_and_tunnels_only_the_hardware_counts(sysfs: Sysfs) -> None:
    sysfs.add("eno1", device=True)
    sysfs.add("eno2", device=True)
    sysfs.add("bond0")
    sysfs.master("bond0", "eno1", "eno2")
    sysfs.add("bond0.7", over=("bond0",))
    sysfs.add("br0", bridge=True)
    sysfs.add("veth1")
    sysfs.master("br0", "bond0.7", "veth1")
    for name in ("docker0", "tun0", "wg0", "dummy0"):
        sysfs.add(name)
    assert sysfs.counted() == {"eno1", "eno2"}


def test_in_a_container_its_own_interfaces_count(sysfs: Sysfs) -> None:
    sysfs.add("eth0")
    sysfs.add("eth1")
    sysfs.add("eth0.5", over=("eth0",))
    sysfs.add("docker0", bridge=True)
    sysfs.add("veth1")
    sysfs.master("docker0", "veth1")
    sysfs.add("tun0")
    assert sysfs.counted() == {"eth0", "eth1"}


def test_a_container_whose_only_interface_is_a_tap_counts_that(sysfs: Sysfs) -> None:
    sysfs.add("tap0")
    assert sysfs.counted() == {"tap0"}


def test_an_accelerated_interface_and_its_virtual_function_count_once(sysfs: Sysfs) -> None:
    sysfs.add("eth0", device=True)
    sysfs.add("enP1s1", device=True)
    sysfs.master("eth0", "enP1s1")
    assert sysfs.counted() == {"eth0"}


def test_a_switchs_ports_and_its_conduit_count_once(sysfs: Sysfs) -> None:
    sysfs.add("eth0", device=True)
    sysfs.add("lan1", device=True, over=("eth0",))
    sysfs.add("lan2", device=True, over=("eth0",))
    assert sysfs.counted() == {"eth0"}


def test_a_host_without_any_but_loopback_counts_none(sysfs: Sysfs) -> None:
    assert sysfs.counted() == set()


def test_two_megabytes_a_second_over_a_bond_a_bridge_and_a_vlan_are_two(sysfs: Sysfs) -> None:
    sysfs.add("eth0", device=True)
    for name, over in (("bond0", "eth0"), ("bond0.7", "bond0"), ("br0", "bond0.7"), ("veth1", "br0")):
        sysfs.add(name, over=(over,))
    readings = iter([0, 2_000_000])

    def read() -> dict[str, tuple[int, int]]:
        count = next(readings)
        every = {path.name: (count, count) for path in sysfs.root.iterdir()}
        return {name: every[name] for name in counted_interfaces(every, sysfs.root)}

    probe = Rates(Network, 0.05, read)
    probe.restart(0.0)
    probe.sample(1.0)
    samples = probe.collect()
    assert samples is not None
    network = samples.metric(20)
    assert isinstance(network, Network)
    assert network.received_bytes.mean == network.sent_bytes.mean == 2_000_000
