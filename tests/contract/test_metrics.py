"""The catalogue: every name that can be asked for, and what it answers."""

import pytest

from contract.metrics import BY_CORE, NAMES, QUANTITIES, STATISTICS, TYPES, Cpu, type_name


@pytest.mark.parametrize(
    ("name", "statistic", "over_cores"),
    [
        ("cpuLoadAvg", "mean", None),
        ("cpuLoadVar", "var", None),
        ("cpuCoreLoadAvgMax", "mean", "max"),
        ("cpuCoreLoadAvgMin", "mean", "min"),
        ("cpuCoreLoadVarMax", "var", "max"),
        ("cpuCoreLoadVarMin", "var", "min"),
        ("cpuCoreLoadMinMin", "var", "min"),
    ],
)
def test_the_original_systems_names_are_known(name: str, statistic: str, over_cores: str | None) -> None:
    metric = NAMES[name]
    assert (metric.name, metric.quantity.name) == (name, "cpu.utilization")
    assert (metric.statistic, metric.over_cores) == (statistic, over_cores)


def test_both_spellings_of_the_lowest_variance_answer_the_same() -> None:
    right, misspelt = NAMES["cpuCoreLoadVarMin"], NAMES["cpuCoreLoadMinMin"]
    assert (right.quantity, right.statistic, right.over_cores) == (
        misspelt.quantity,
        misspelt.statistic,
        misspelt.over_cores,
    )


def test_every_quantity_can_be_asked_for() -> None:
    assert {metric.quantity.name for metric in NAMES.values()} == set(QUANTITIES)
    expected = {
        "cpuUtilization", "memoryUtilization", "swapUtilization",
        "diskReadBytes", "diskWrittenBytes", "diskReads", "diskWrites",
        "networkReceivedBytes", "networkSentBytes", "load1m", "load5m", "load15m",
    }  # fmt: skip
    assert expected <= set(NAMES)


def test_one_core_can_be_asked_for_of_cpu_and_its_bursts() -> None:
    cpu = {"cpuLoadAvg", "cpuLoadVar", "cpuUtilization"}
    assert set(BY_CORE) == cpu | {"burstSaturated", "burstLongest", "burstBegun"}


def test_types_and_stored_names_are_unique() -> None:
    assert [type_name(kind) for kind in TYPES] == [
        "CPU", "MEMORY", "SWAP", "DISK", "NETWORK", "LOAD", "TIMES", "SCHEDULER", "PRESSURE", "BURSTS", "LIMITS",
        "MEMORY_BYTES", "FILESYSTEMS", "FREQUENCY", "TEMPERATURE", "DISKS", "INTERFACES",
    ]  # fmt: skip
    assert len(QUANTITIES) == sum(len(kind.quantities) for kind in TYPES)


@pytest.mark.parametrize("kind", TYPES, ids=type_name)
def test_a_type_has_a_member_for_each_of_its_quantities(kind: type) -> None:
    members = kind.__struct_fields__  # type: ignore[attr-defined]
    assert all(quantity.attribute in members for quantity in kind.quantities)  # type: ignore[attr-defined]
    of_cores = [f"{quantity.attribute}_by_core" for quantity in kind.of_cores]  # type: ignore[attr-defined]
    of_devices = [f"{quantity.attribute}_by_device" for quantity in kind.of_devices]  # type: ignore[attr-defined]
    parts = ["cores", *of_cores] if of_cores else ["devices", *of_devices] if of_devices else []
    assert kind is Cpu or [*members[len(kind.quantities) :]] == parts  # type: ignore[attr-defined]


def test_every_name_has_a_title_and_a_statistic() -> None:
    assert all(metric.title and metric.statistic in STATISTICS for metric in NAMES.values())
