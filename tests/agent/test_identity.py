"""Who a host says it is."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.identity import HostIdentity, Interface, NoIdentity, first_real_address, identity

MAC = "6a:d6:96:d3:45:35"
OTHER = "0a:42:ac:11:00:02"
COMMON = ["0a:58:0a:f4:00:05", "02:00:00:00:00:00", "ee:ee:ee:ee:ee:ee"]
CONTAINERS = "02:42:ac:11:00:02"


@pytest.mark.parametrize(
    ("interfaces", "address"),
    [
        pytest.param([Interface("eth0", 2, MAC, True)], MAC, id="the only one"),
        pytest.param([Interface("eth1", 3, OTHER, True), Interface("eth0", 2, MAC, True)], MAC, id="lowest index"),
        pytest.param(
            [Interface("lo", 1, "00:00:00:00:00:00", False), Interface("eth0", 2, MAC, True)], MAC, id="loopback"
        ),
        pytest.param([Interface("docker0", 2, OTHER, False), Interface("wlan0", 5, MAC, True)], MAC, id="docker"),
        pytest.param([Interface("bond0", 2, OTHER, False), Interface("eno1", 5, MAC, True)], MAC, id="hardware first"),
        pytest.param([Interface("eth0", 7, MAC, False)], MAC, id="in a container"),
        pytest.param([Interface("tun0", 2, "", False), Interface("eth0", 7, MAC, False)], MAC, id="no address"),
        pytest.param([Interface("veth12", 2, OTHER, False)], None, id="virtual only"),
        pytest.param([Interface("eth0", 7, CONTAINERS, False)], None, id="what Docker gives to every first container"),
        pytest.param(
            [Interface("eth0", 2, CONTAINERS.upper().replace(":", "-"), True), Interface("eth1", 3, MAC, True)],
            MAC,
            id="Docker's in another notation",
        ),
        pytest.param([Interface("eth0", 2, "00:00:00:00:00:00", True)], None, id="zeros"),
        *(pytest.param([Interface("eth0", 2, common, True)], None, id=common) for common in COMMON),
        pytest.param([Interface("eth0", 2, "52:54:00:12:34:56", True)], "52:54:00:12:34:56", id="QEMU's own"),
        pytest.param([], None, id="none"),
        pytest.param(
            [Interface("lo0", 1, ""), Interface("awdl0", 3, OTHER), Interface("en0", 6, MAC)], MAC, id="macOS"
        ),
        pytest.param(
            [Interface("vEthernet (WSL)", 2, OTHER), Interface("Ethernet", 6, MAC.upper().replace(":", "-"))],
            MAC,
            id="Windows",
        ),
    ],
)
def test_the_user_id_is_the_address_of_the_first_real_interface(
    interfaces: list[Interface], address: str | None
) -> None:
    assert first_real_address(interfaces) == address


@pytest.mark.parametrize(
    "address", [CONTAINERS, "00:00:00:00:00:00", "00-00-00-00-00-00", "FF:FF:FF:FF:FF:FF", *COMMON]
)
def test_an_address_that_many_hosts_have_is_refused_as_a_user_id(address: str) -> None:
    with pytest.raises(NoIdentity, match="expected a user id that no other host has"):
        identity(address)


def test_a_given_user_id_is_taken_as_it_is() -> None:
    assert identity("build-server 7").user_id == "build-server 7"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /sys")
def test_this_host_has_the_address_of_one_of_its_interfaces() -> None:
    addresses = {file.read_text().strip() for file in Path("/sys/class/net").glob("*/address")}
    try:
        me = identity(None)
    except NoIdentity:
        pytest.skip("this machine has no real interface")
    assert me.user_id in addresses


@pytest.mark.skipif(sys.platform != "linux", reason="reads os-release")
def test_the_system_is_named_without_what_changes_with_each_update() -> None:
    me = identity("u")
    assert isinstance(me, HostIdentity)
    assert me.os_type == "Linux"
    assert me.os_version
    assert "(" not in me.os_version


@pytest.mark.server
def test_an_agent_that_knows_no_address_yet_ends_so_that_systemd_starts_it_again() -> None:
    command = [sys.executable, "-m", "agent", "--dry-run", "--user-id", CONTAINERS]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, "2 would be a wrong setting, after which systemd starts it no more"
    assert "expected a user id that no other host has" in done.stderr
