"""Scrapes are put together from parts in any order, and counters say what they grew by."""

import random
from collections.abc import Iterable, Iterator

import pytest

from contract.metrics import (
    Cpu,
    Disk,
    FileSystems,
    Load,
    Memory,
    MemoryBytes,
    Metric,
    Network,
    Pressure,
    Scheduler,
    Swap,
    Times,
)
from contract.report import Report
from service.ingest.node_exporter import NAMES, NODE_EXPORTER, places_of
from service.ingest.scrapes import ScrapedValue, Scrapes, Slot

START_MS = 1_700_000_000_000
STEP_MS = 15_000
NOW_MS = START_MS + 1000 * STEP_MS


def place(name: str, **labels: str) -> Slot:
    return places_of({"__name__": name, **labels})[0]


def scrape(number: int, host: str = "web-1", cores: int = 2) -> list[ScrapedValue]:
    """A scrape of a host whose core 0 is busy for 10 of 15 s, and its core 1 for 5."""
    at_ms = START_MS + number * STEP_MS
    modes = {"idle": (4.0, 9.0), "iowait": (1.0, 1.0), "user": (6.0, 3.0), "system": (3.0, 1.0), "steal": (1.0, 1.0)}
    cpu = "node_cpu_seconds_total"
    return [
        ScrapedValue(host, place(cpu, cpu=str(core), mode=mode), at_ms, 1000.0 + number * grown[core % 2])
        for core in range(cores)
        for mode, grown in modes.items()
    ]  # fmt: skip


def taken(scrapes: Scrapes, parts: Iterable[list[ScrapedValue]]) -> Iterator[Report]:
    """The reports of some requests."""
    for part in parts:
        windows = scrapes.windows(scrapes.add(part, NOW_MS))
        yield from (window.report for window in windows if window.report is not None)
        scrapes.keep(windows)


def metrics(reports: Iterable[Report]) -> list[Metric]:
    return [metric for report in reports for metric in report.metrics]


def test_shares_are_the_growth_of_counters_from_one_scrape_to_the_next() -> None:
    reports = [*taken(Scrapes(NODE_EXPORTER), (scrape(number) for number in range(8)))]
    assert [(one.start_timestamp, one.end_timestamp) for one in reports] == [
        (START_MS + number * STEP_MS, START_MS + (number + 1) * STEP_MS) for number in range(7)
    ]
    for cpu in metrics(reports):
        assert isinstance(cpu, Cpu)
        assert cpu.avg_utilization_by_core == pytest.approx([2 / 3, 1 / 3])
        assert cpu.avg_utilization == pytest.approx(0.5)
        assert cpu.cores == []


def test_parts_of_scrapes_may_come_in_any_order_and_more_than_once() -> None:
    whole = [*taken(Scrapes(NODE_EXPORTER), (scrape(number, cores=5) for number in range(40)))]
    for seed in range(20):
        dice = random.Random(seed)
        # Three shards of a sender, none of which is more than two scrapes behind another.
        queues: list[list[list[ScrapedValue]]] = [[], [], []]
        for number in range(40):
            for shard, part in enumerate(scrape(number, cores=5)[shard::3] for shard in range(3)):
                queues[shard] += [part, part] if dice.random() < 0.3 else [part]
        sent: list[list[ScrapedValue]] = []
        while any(queues):
            ahead = min(queue[0][0].at_ms for queue in queues if queue) + 2 * STEP_MS
            queue = dice.choice([one for one in queues if one and one[0][0].at_ms <= ahead])
            sent.append(queue.pop(0))
        assert [*taken(Scrapes(NODE_EXPORTER), sent)] == whole


def test_what_was_not_kept_is_made_again_and_what_was_is_not() -> None:
    scrapes = Scrapes(NODE_EXPORTER)
    assert len([*taken(scrapes, (scrape(number) for number in range(6)))]) == 5
    heard = scrapes.add(scrape(6), NOW_MS)
    first = scrapes.windows(heard)
    assert scrapes.windows(scrapes.add(scrape(6), NOW_MS)) == first
    scrapes.keep(first)
    assert scrapes.windows(scrapes.add(scrape(6), NOW_MS)) == []


def test_a_counter_that_begins_anew_says_nothing_of_that_window() -> None:
    again = [one._replace(at_ms=one.at_ms + 6 * STEP_MS) for number in range(3) for one in scrape(number)]
    reports = [*taken(Scrapes(NODE_EXPORTER), [*(scrape(number) for number in range(6)), again])]
    moments = [(one.end_timestamp - START_MS) // STEP_MS for one in reports]
    assert moments == [1, 2, 3, 4, 5, 7, 8]
    assert {round(cpu.avg_utilization, 9) for cpu in metrics(reports) if isinstance(cpu, Cpu)} == {0.5}


def test_an_incomplete_scrape_is_left_out_and_the_next_window_is_longer() -> None:
    parts = [scrape(number)[: 7 if number == 6 else None] for number in range(16)]
    spans = [
        ((one.start_timestamp - START_MS) // STEP_MS, (one.end_timestamp - START_MS) // STEP_MS)
        for one in taken(Scrapes(NODE_EXPORTER), parts)
    ]
    assert (5, 7) in spans
    assert all(end - start == 1 for start, end in spans if end != 7)
    assert spans[-1] == (14, 15)


def test_a_core_that_ends_or_comes_changes_what_is_waited_for() -> None:
    ended = [ScrapedValue(one.host, one.place, START_MS + 6 * STEP_MS, None) for one in scrape(6)[5:]]
    parts = [*(scrape(number) for number in range(6)), ended, *(scrape(number, cores=1) for number in range(6, 9))]
    cores = [
        cpu.avg_utilization_by_core for cpu in metrics(taken(Scrapes(NODE_EXPORTER), parts)) if isinstance(cpu, Cpu)
    ]
    assert [len(one) for one in cores] == [2] * 5 + [1] * 3
    parts = [*(scrape(number, cores=1) for number in range(6)), *(scrape(number) for number in range(6, 12))]
    cores = [
        cpu.avg_utilization_by_core for cpu in metrics(taken(Scrapes(NODE_EXPORTER), parts)) if isinstance(cpu, Cpu)
    ]
    assert [len(one) for one in cores] == [1] * 6 + [2] * 5


def gauges(number: int) -> list[ScrapedValue]:
    """Everything but the CPU."""
    at_ms = START_MS + number * STEP_MS
    values = {
        "node_memory_MemTotal_bytes": 8e9, "node_memory_MemAvailable_bytes": 2e9, "node_memory_SwapTotal_bytes": 0.0,
        "node_memory_SwapFree_bytes": 0.0, "node_load1": 1.5, "node_load5": 1.25, "node_load15": 0.5,
        "node_context_switches_total": 1e6 + 30_000.0 * number, "node_procs_running": 3.0, "node_procs_blocked": 1.0,
        **{f"node_pressure_{what}_seconds_total": 100.0 + 0.15 * place * number for place, what in enumerate(
            ("cpu_waiting", "memory_waiting", "memory_stalled", "io_waiting", "io_stalled"), 1)},
    }  # fmt: skip
    readings = [
        ScrapedValue("web-1", where, at_ms, value)
        for name, value in values.items()
        for where in places_of({"__name__": name})
    ]
    for device, (size, free, available) in {"/dev/sda1": (100e9, 60e9, 55e9), "/dev/sdb1": (10e9, 1e9, 1e9)}.items():
        told = {"size": size, "free": free, "avail": available}
        readings += [
            ScrapedValue("web-1", place(f"node_filesystem_{name}_bytes", device=device, fstype="ext4"), at_ms, value)
            for name, value in told.items()
        ]
    for name, rate in (("network_receive", 1500.0), ("network_transmit", 750.0)):
        for device in ("eth0", "eth1"):
            counter = place(f"node_{name}_bytes_total", device=device)
            readings.append(ScrapedValue("web-1", counter, at_ms, 5e9 + rate * number))
    for name, rate in (
        ("read_bytes", 300.0),
        ("written_bytes", 600.0),
        ("reads_completed", 15.0),
        ("writes_completed", 30.0),
    ):
        readings.append(
            ScrapedValue("web-1", place(f"node_disk_{name}_total", device="sda"), at_ms, 7.0 + rate * number)
        )
    return readings


def test_memory_disks_networks_load_and_the_scheduler_are_kept_too() -> None:
    reports = [*taken(Scrapes(NODE_EXPORTER), (gauges(number) for number in range(5)))]
    last = {type(metric): metric for metric in reports[-1].metrics}
    assert {*last} == {Memory, Swap, MemoryBytes, FileSystems, Load, Scheduler, Pressure, Network, Disk}
    found = {
        f"{kind.__name__}.{quantity.attribute}": distribution.mean
        for kind, metric in last.items()
        for quantity, distribution in metric.distributions()
    }
    assert found == pytest.approx({
        "Memory.utilization": 0.75, "Swap.utilization": 0.0, "Load.load1": 1.5, "Load.load5": 1.25, "Load.load15": 0.5,
        "Scheduler.context_switches": 2000.0, "Scheduler.runnable": 3.0, "Scheduler.blocked": 1.0,
        "Pressure.cpu_some": 0.01, "Pressure.memory_some": 0.02, "Pressure.memory_full": 0.03,
        "Pressure.io_some": 0.04, "Pressure.io_full": 0.05,
        "Network.received_bytes": 200.0, "Network.sent_bytes": 100.0,
        "MemoryBytes.used": 6e9, "MemoryBytes.available": 2e9, "MemoryBytes.swap_used": 0.0,
        "FileSystems.fullest": 0.9, "FileSystems.used": 49e9, "FileSystems.available": 56e9,
        "Disk.read_bytes": 20.0, "Disk.written_bytes": 40.0, "Disk.reads": 1.0, "Disk.writes": 2.0,
    })  # fmt: skip


def test_kinds_of_time_are_told_where_guests_are() -> None:
    def with_guests(number: int) -> list[ScrapedValue]:
        guest, at_ms = "node_cpu_guest_seconds_total", START_MS + number * STEP_MS
        guests = [
            ScrapedValue("web-1", place(guest, cpu=str(core), mode=mode), at_ms, float(number if mode == "user" else 0))
            for core in range(2) for mode in ("user", "nice")
        ]  # fmt: skip
        return scrape(number) + guests

    found = metrics(taken(Scrapes(NODE_EXPORTER), (with_guests(number) for number in range(5))))
    times = next(one for one in found if isinstance(one, Times))
    shares = {quantity.attribute: distribution.mean * 15 for quantity, distribution in times.distributions()}
    # Of 15 s: 4.5 s of user time, of which 1 s was a guest's.
    assert shares == pytest.approx(
        {"user": 3.5, "system": 2.0, "iowait": 1.0, "steal": 1.0, "irq": 0.0, "guest": 1.0, "work": 6.5}
    )


def test_a_gauge_counts_only_where_there_are_no_counters() -> None:
    def gauge(number: int, host: str) -> ScrapedValue:
        at_ms = START_MS + number * STEP_MS
        return ScrapedValue(host, place("instance:node_cpu_utilisation:rate5m"), at_ms, 0.25)

    parts = [[*scrape(number, "both"), gauge(number, "both"), gauge(number, "gauge")] for number in range(6)]
    reports = [*taken(Scrapes(NODE_EXPORTER), parts)]
    shares = {(one.user_id, round(metric.avg_utilization, 9)) for one in reports for metric in one.metrics
              if isinstance(metric, Cpu)}  # fmt: skip
    assert shares == {("both", 0.5), ("gauge", 0.25)}


def test_what_is_held_is_bounded_and_who_was_not_heard_for_longest_is_forgotten_first() -> None:
    scrapes = Scrapes(NODE_EXPORTER, most=600)
    for number in range(30):
        for host in range(20):
            scrapes.keep(scrapes.windows(scrapes.add(scrape(number, f"host-{number}-{host}"), NOW_MS)))
            assert scrapes.size <= 600
    assert len([*taken(scrapes, (scrape(number, "last") for number in range(30, 36)))]) == 5
    for host in range(2000):
        scrapes.name_system(f"named-{host}", "Linux", "6.1")
    assert scrapes.size <= 600


def test_a_clock_that_ran_ahead_silences_nobody() -> None:
    scrapes = Scrapes(NODE_EXPORTER)
    now_ms, moments = START_MS + 4 * STEP_MS, []
    for number in (10, 11, 12, 13, 14, *range(4, 9)):
        windows = scrapes.windows(scrapes.add(scrape(number), now_ms))
        scrapes.keep(windows)
        if number < 10:
            moments.append([(one.report.end_timestamp - START_MS) // STEP_MS for one in windows if one.report])
            now_ms += STEP_MS
    # The first has nothing to be compared with any more.
    assert moments == [[], [5], [6], [7], [8]]


def test_idle_time_alone_says_nothing() -> None:
    idle = [[one for one in scrape(number) if one.place.key[1] in ("idle", "iowait")] for number in range(8)]
    assert metrics(taken(Scrapes(NODE_EXPORTER), idle)) == []


def test_the_system_is_what_the_host_says() -> None:
    scrapes = Scrapes(NODE_EXPORTER)
    scrapes.name_system("web-1", "Darwin", "23.1.0")
    (report,) = [*taken(scrapes, [[one for one in gauges(0) if one.place.group == "load"]])]
    assert (report.os_type, report.os_version) == ("MacOS", "23.1.0")


@pytest.mark.parametrize("core", ["", "-1", "x", "99999999999", "٣"])
def test_a_core_without_a_number_is_refused(core: str) -> None:
    with pytest.raises(ValueError, match="expected in cpu the number of a core"):
        places_of({"__name__": "node_cpu_seconds_total", "cpu": core, "mode": "idle"})


def test_devices_that_stand_on_others_and_modes_that_nobody_knows_are_passed_over() -> None:
    for device in ("lo", "veth12", "docker0", "br-1f", "dm-0", "loop3"):
        for name in NAMES:
            if name.startswith(("node_disk", "node_network")):
                assert places_of({"__name__": name, "device": device}) == ()
    assert places_of({"__name__": "node_cpu_seconds_total", "cpu": "0", "mode": "dreaming"}) == ()
    for device, kind in (("tmpfs", "tmpfs"), ("nas:/home", "nfs4"), ("/dev/loop3", "squashfs")):
        assert places_of({"__name__": "node_filesystem_size_bytes", "device": device, "fstype": kind}) == ()
