"""The control group of the agent: what limits it, what it uses of that, and its CPU in place of the host's."""

from pathlib import Path

import pytest

from agent.probes import NotMeasured
from agent.probes.base import QuantitySamples
from agent.probes.cpu import CpuProbe
from agent.probes.groups import Group, GroupTimes, LimitsProbe
from contract.metrics import Limits


class Tree:
    """A hierarchy as the kernel shows it: the root, a pod with two cores, a container in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "cgroup"
        self.container = self.root / "pod" / "container"
        self.container.mkdir(parents=True)
        (self.root / "cgroup.controllers").write_text("cpu memory")
        (self.root / "pod" / "cpu.max").write_text("max 100000\n")
        (self.root / "pod" / "memory.max").write_text("max\n")
        (self.container / "memory.max").write_text("1000\n")
        (self.container / "memory.current").write_text("250\n")
        self.process = folder / "self"
        self.process.write_text("0::/pod/container\n")
        self.limit("50000 100000")
        self.used(0)

    def limit(self, text: str) -> None:
        (self.container / "cpu.max").write_text(text + "\n")

    def used(self, usage: int, periods: int = 0, throttled: int = 0, waited: int = 0) -> None:
        """CPU time and waits so far, in microseconds."""
        (self.container / "cpu.stat").write_text(
            f"usage_usec {usage}\nuser_usec 1\nnr_periods {periods}\n"
            f"nr_throttled {throttled}\nthrottled_usec {waited}\n"
        )

    def group(self) -> Group:
        return Group(self.root, self.process)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_lowest_limit_of_the_group_and_those_above_it_counts(tree: Tree) -> None:
    assert tree.group().limited_cores == 0.5
    (tree.root / "pod" / "cpu.max").write_text("20000 100000")
    assert tree.group().limited_cores == 0.2
    assert tree.group().memory_bytes == 1000


def test_a_group_without_a_limit_may_use_the_host(tree: Tree) -> None:
    tree.limit("max 100000")
    assert tree.group().limited_cores is None
    assert tree.group().cores >= 1.0


def test_what_is_used_stands_against_the_limit(tree: Tree) -> None:
    probe = LimitsProbe(1.0, tree.group)
    tree.used(1_000_000, 100, 10, 5_000)
    probe.restart(0.0)
    tree.used(1_250_000, 110, 14, 205_000)
    assert probe.sample(1.0)
    samples = probe.collect()
    assert isinstance(samples, QuantitySamples)
    told = samples.metric(1)
    assert isinstance(told, Limits)
    assert told.cpu.mean == pytest.approx(0.5)  # a quarter of a second, of half a core
    assert told.throttled.mean == pytest.approx(0.4)
    assert told.throttled_time.mean == pytest.approx(0.2)
    assert told.memory.mean == pytest.approx(0.25)


def test_the_cpu_of_the_group_is_what_it_used_of_what_it_could(tree: Tree) -> None:
    now_us = 0
    source = GroupTimes(tree.group(), lambda: now_us * 1000)
    probe = CpuProbe(source)
    probe.restart(0.0)
    used = 0
    for place, share in enumerate((0.0, 0.5, 1.0, 3.0), 1):
        now_us += 1_000_000
        used += round(500_000 * share)
        tree.used(used)
        assert probe.sample(float(place))
    samples = probe.collect()
    assert samples is not None
    assert samples.host.values == pytest.approx([0.0, 0.5, 1.0, 1.0])  # more than the limit, for a moment, is all
    assert samples.cores == ()
    told = samples.metric(4)
    assert told.avg_utilization_by_core == []


def test_a_limit_that_is_changed_is_heeded_within_seconds(tree: Tree) -> None:
    now_us = 0
    source = GroupTimes(tree.group(), lambda: now_us * 1000)
    probe = CpuProbe(source)
    probe.restart(0.0)
    now_us = 6_000_000
    tree.limit("100000 100000")
    tree.used(0)
    probe.sample(6.0)
    now_us = 7_000_000
    tree.used(500_000)
    probe.sample(7.0)
    samples = probe.collect()
    assert samples is not None
    if tree.group().cores == 1.0:
        assert samples.host.values[-1] == pytest.approx(0.5)


def test_without_a_unified_hierarchy_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="no control group of version 2"):
        Group(tmp_path)


def test_seen_from_inside_a_container_its_group_is_the_root(tree: Tree) -> None:
    tree.process.write_text("0::/../../elsewhere-that-is-not-here\n")
    (tree.root / "cpu.stat").write_text("usage_usec 7\n")
    assert tree.group().cpu() == {"usage_usec": 7}
