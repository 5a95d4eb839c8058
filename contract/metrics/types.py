"""The metric types: what a report may tell of, each with its members and quantities.

A new type is a struct beside the others and an entry in `TYPES`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Union

from msgspec import UNSET, Meta, UnsetType

from contract.metrics.base import (
    LAST_CORE,
    MAX_QUANTITY,
    Cores,
    DeviceRates,
    DeviceShares,
    Distribution,
    Histogram,
    Metric,
    NamedDevices,
    Quantity,
    Share,
    SquaredShare,
)


class Cpu(Metric, tag="CPU", gc=False, frozen=True, omit_defaults=True):
    """Utilization in [0, 1]. Members `..._by_core` have one entry for each logical core.

    Mean and variance are the original's, minimum, maximum, histograms and `cores` are additions;
    a variance or a list `var_utilization_by_core` left out (or empty) says the samples were not aggregated.
    """

    avg_utilization: Share
    var_utilization: SquaredShare = 0.0
    avg_utilization_by_core: Annotated[list[Share], Cores] = []
    var_utilization_by_core: Annotated[list[SquaredShare], Cores] = []
    min_utilization: Share | UnsetType = UNSET
    max_utilization: Share | UnsetType = UNSET
    histogram: Histogram | UnsetType = UNSET
    min_utilization_by_core: Annotated[list[Share], Cores] = []
    max_utilization_by_core: Annotated[list[Share], Cores] = []
    histogram_by_core: Annotated[list[Histogram], Cores] = []
    cores: Annotated[list[Annotated[int, Meta(ge=0, le=65535)]], Cores] = []
    """The number of each core in the lists; 0, 1, 2, ... where it is left out, as while all are online."""

    quantities = (Quantity("cpu.utilization", "avg_utilization", "CPU utilization", "1", bounded=True),)
    of_cores = quantities


class Memory(Metric, tag="MEMORY", gc=False, frozen=True, omit_defaults=True):
    """Share of the memory that is not available to programs, in [0, 1]."""

    utilization: Distribution

    quantities = (Quantity("memory.utilization", "utilization", "Memory in use", "1", bounded=True),)


class Swap(Metric, tag="SWAP", gc=False, frozen=True, omit_defaults=True):
    """Share of the swap space in use, in [0, 1]; 0 on a host without any."""

    utilization: Distribution

    quantities = (Quantity("swap.utilization", "utilization", "Swap in use", "1", bounded=True),)


class Disk(Metric, tag="DISK", gc=False, frozen=True, omit_defaults=True):
    """Rates between two samples, each at least 0."""

    read_bytes: Distribution
    written_bytes: Distribution
    reads: Distribution
    writes: Distribution

    quantities = (
        Quantity("disk.read_bytes", "read_bytes", "Disk bytes read", "By/s", bounded=False),
        Quantity("disk.written_bytes", "written_bytes", "Disk bytes written", "By/s", bounded=False),
        Quantity("disk.reads", "reads", "Disk read operations", "{operation}/s", bounded=False),
        Quantity("disk.writes", "writes", "Disk write operations", "{operation}/s", bounded=False),
    )


class Network(Metric, tag="NETWORK", gc=False, frozen=True, omit_defaults=True):
    """Rates between two samples, each at least 0."""

    received_bytes: Distribution
    sent_bytes: Distribution

    quantities = (
        Quantity("network.received_bytes", "received_bytes", "Network bytes received", "By/s", bounded=False),
        Quantity("network.sent_bytes", "sent_bytes", "Network bytes sent", "By/s", bounded=False),
    )


class Load(Metric, tag="LOAD", gc=False, frozen=True, omit_defaults=True):
    """Load averages over one, five and fifteen minutes, each at least 0."""

    load1: Distribution
    load5: Distribution
    load15: Distribution

    quantities = (
        Quantity("load.1m", "load1", "Load average, 1 min", "{process}", bounded=False),
        Quantity("load.5m", "load5", "Load average, 5 min", "{process}", bounded=False),
        Quantity("load.15m", "load15", "Load average, 15 min", "{process}", bounded=False),
    )


class Times(Metric, tag="TIMES", gc=False, frozen=True, omit_defaults=True):
    """How the CPU time of the whole host is divided, each kind a share of all time in [0, 1].

    `user`, `system`, `irq`, `steal` and `guest` add up to what `Cpu` counts as busy; stolen time is among it, and
    `work` is the same without it. `iowait` is idle time, with a task that waits for input or output.
    """

    user: Distribution
    """Programs, niced ones too, without guests."""
    system: Distribution
    iowait: Distribution
    steal: Distribution
    """Wanted, and given to others by the hypervisor."""
    irq: Distribution
    """Interrupts, soft ones too."""
    guest: Distribution
    """Virtual machines that run here."""
    work: Distribution

    quantities = (
        Quantity("cpu_time.user", "user", "CPU time of programs", "1", bounded=True),
        Quantity("cpu_time.system", "system", "CPU time of the kernel", "1", bounded=True),
        Quantity("cpu_time.iowait", "iowait", "CPU idle, waiting for input and output", "1", bounded=True),
        Quantity("cpu_time.steal", "steal", "CPU time stolen by the hypervisor", "1", bounded=True),
        Quantity("cpu_time.irq", "irq", "CPU time of interrupts", "1", bounded=True),
        Quantity("cpu_time.guest", "guest", "CPU time of virtual machines", "1", bounded=True),
        Quantity("cpu_time.work", "work", "CPU utilization without stolen time", "1", bounded=True),
    )


class Scheduler(Metric, tag="SCHEDULER", gc=False, frozen=True, omit_defaults=True):
    """What the scheduler has to do, each at least 0."""

    context_switches: Distribution
    runnable: Distribution
    """Threads that run, or wait for a core."""
    blocked: Distribution
    """Threads that wait for input or output."""

    quantities = (
        Quantity("scheduler.context_switches", "context_switches", "Context switches", "{switch}/s", bounded=False),
        Quantity("scheduler.runnable", "runnable", "Threads that run or wait for a core", "{thread}", bounded=False),
        Quantity("scheduler.blocked", "blocked", "Threads that wait for input or output", "{thread}", bounded=False),
    )


class Pressure(Metric, tag="PRESSURE", gc=False, frozen=True, omit_defaults=True):
    """The share of time, in [0, 1], in which `some` or all (`full`) work waited for a resource (Linux's PSI).

    Of the CPU there is no `full`: something always runs while work waits for it.
    """

    cpu_some: Distribution
    memory_some: Distribution
    memory_full: Distribution
    io_some: Distribution
    io_full: Distribution

    quantities = (
        Quantity("pressure.cpu_some", "cpu_some", "Pressure: some wait for the CPU", "1", bounded=True),
        Quantity("pressure.memory_some", "memory_some", "Pressure: some wait for memory", "1", bounded=True),
        Quantity("pressure.memory_full", "memory_full", "Pressure: all wait for memory", "1", bounded=True),
        Quantity("pressure.io_some", "io_some", "Pressure: some wait for input and output", "1", bounded=True),
        Quantity("pressure.io_full", "io_full", "Pressure: all wait for input and output", "1", bounded=True),
    )


BURST = 0.9
"""From so high a sample on, a share, a burst goes on."""


class Bursts(Metric, tag="BURSTS", gc=False, frozen=True, omit_defaults=True):
    """How long at a time the CPU is at 100 %, and how often it is nearly so; each a number of a whole window.

    Merged, all stay exact: shares and rates are means over time, and the longest run is the highest. A run belongs to
    each window that it reaches into, with all of its length so far, so one that crosses an edge is neither cut nor
    lost; a burst belongs to the window in which it begins.
    """

    saturated: Distribution
    """The share of time at exactly 100 %, of the host."""
    longest: Distribution
    """The longest run of samples at 100 %, seconds."""
    begun: Distribution
    """Bursts that began, per minute: runs of samples of `BURST` or more."""
    core_saturated: Distribution
    """The share of time at 100 %, of a core; the mean of the cores."""
    core_longest: Distribution
    """The longest run of any one core, seconds."""
    core_begun: Distribution
    """Bursts that began on single cores, per minute; of all cores together."""
    cores: Annotated[list[Annotated[int, Meta(ge=0, le=LAST_CORE)]], Cores] = []
    """The number of each core in the lists, which have one entry for each; 0, 1, 2, ... where it is left out."""
    saturated_by_core: Annotated[list[Share], Cores] = []
    """As `saturated`, of each core; left out, as the other two, where cores are not told one by one."""
    longest_by_core: Annotated[list[Annotated[float, Meta(ge=0.0, le=MAX_QUANTITY)]], Cores] = []
    begun_by_core: Annotated[list[Annotated[float, Meta(ge=0.0, le=MAX_QUANTITY)]], Cores] = []

    quantities = (
        Quantity("burst.saturated", "saturated", "Share of time at 100 %", "1", bounded=True),
        Quantity("burst.longest", "longest", "Longest run at 100 %", "s", bounded=False),
        Quantity("burst.begun", "begun", "Bursts over 90 % per minute", "{burst}/min", bounded=False),
        Quantity("burst.core_saturated", "core_saturated", "Share of time at 100 %, of a core", "1", bounded=True),
        Quantity("burst.core_longest", "core_longest", "Longest run at 100 % of a core", "s", bounded=False),
        Quantity(
            "burst.core_begun", "core_begun", "Bursts over 90 % of cores per minute", "{burst}/min", bounded=False
        ),
    )
    of_cores = quantities[:3]

    def core_numbers(self) -> Sequence[int]:
        """The cores that it tells of one by one."""
        return self.cores or range(len(self.saturated_by_core))

    def core_values(self) -> Sequence[Sequence[float]]:
        """Shares, seconds and rates of each core."""
        return self.saturated_by_core, self.longest_by_core, self.begun_by_core


class Limits(Metric, tag="LIMITS", gc=False, frozen=True, omit_defaults=True):
    """What the control group of the agent, such as its container, uses of what it may."""

    cpu: Distribution
    """CPU time against the limit, or against the host's cores where there is none; in [0, 1]."""
    throttled: Distribution
    """The share of the scheduler's periods in which the group had to wait, having used its limit up."""
    throttled_time: Distribution
    """For how long it had to wait, seconds per second, added up over cores."""
    memory: Distribution
    """Memory against the limit, or against the host's where there is none; in [0, 1]."""

    quantities = (
        Quantity("limit.cpu", "cpu", "CPU against the group's limit", "1", bounded=True),
        Quantity("limit.throttled", "throttled", "Share of periods throttled", "1", bounded=True),
        Quantity("limit.throttled_time", "throttled_time", "Time throttled, all cores", "s/s", bounded=False),
        Quantity("limit.memory", "memory", "Memory against the group's limit", "1", bounded=True),
    )


class MemoryBytes(Metric, tag="MEMORY_BYTES", gc=False, frozen=True, omit_defaults=True):
    """Memory and swap in bytes, each at least 0; shares of them are `Memory` and `Swap`."""

    used: Distribution
    """All memory but what is available."""
    available: Distribution
    """What programs can get without swapping."""
    swap_used: Distribution

    quantities = (
        Quantity("memory_bytes.used", "used", "Memory in use, bytes", "By", bounded=False),
        Quantity("memory_bytes.available", "available", "Memory available, bytes", "By", bounded=False),
        Quantity("memory_bytes.swap_used", "swap_used", "Swap in use, bytes", "By", bounded=False),
    )


class FileSystems(Metric, tag="FILESYSTEMS", gc=False, frozen=True, omit_defaults=True):
    """Space of the local file systems that can be written to."""

    fullest: Distribution
    """The share in use of the fullest one, in [0, 1], of what users other than root can use."""
    used: Distribution
    """Bytes in use, of all together."""
    available: Distribution
    """Bytes that users other than root can still write, of all together."""

    quantities = (
        Quantity("filesystem.fullest", "fullest", "Space in use of the fullest file system", "1", bounded=True),
        Quantity("filesystem.used", "used", "Space in use, all file systems", "By", bounded=False),
        Quantity("filesystem.available", "available", "Space available, all file systems", "By", bounded=False),
    )


class Frequency(Metric, tag="FREQUENCY", gc=False, frozen=True, omit_defaults=True):
    """At what frequency the CPU runs."""

    cpu: Distribution
    """The mean of the cores, Hz."""

    quantities = (Quantity("frequency.cpu", "cpu", "CPU frequency", "Hz", bounded=False),)


class Temperature(Metric, tag="TEMPERATURE", gc=False, frozen=True, omit_defaults=True):
    """How hot the CPU is."""

    cpu: Distribution
    """The hottest of its sensors, degrees Celsius; 0 below."""

    quantities = (Quantity("temperature.cpu", "cpu", "CPU temperature", "Cel", bounded=False),)


class Disks(Metric, tag="DISKS", gc=False, frozen=True, omit_defaults=True):
    """Each disk by name, and all together; rates are at least 0."""

    busy: Distribution
    """The share of time in which the busiest disk had something to do, in [0, 1]."""
    read_bytes: Distribution
    """Of all disks together, also of those that are not named."""
    written_bytes: Distribution
    devices: NamedDevices = []
    """The disk of each entry in the lists."""
    busy_by_device: DeviceShares = []
    read_bytes_by_device: DeviceRates = []
    written_bytes_by_device: DeviceRates = []

    quantities = (
        Quantity("disks.busy", "busy", "Busy time of the busiest disk", "1", bounded=True),
        Quantity("disks.read_bytes", "read_bytes", "Bytes read, by disk", "By/s", bounded=False),
        Quantity("disks.written_bytes", "written_bytes", "Bytes written, by disk", "By/s", bounded=False),
    )
    of_devices = quantities

    def device_names(self) -> Sequence[str]:
        """The disks that it names."""
        return self.devices

    def device_values(self) -> Sequence[Sequence[float]]:
        """Share of busy time and rates of each disk."""
        return self.busy_by_device, self.read_bytes_by_device, self.written_bytes_by_device


class Interfaces(Metric, tag="INTERFACES", gc=False, frozen=True, omit_defaults=True):
    """Each network interface by name, and all together; rates are at least 0."""

    received_bytes: Distribution
    """Of all interfaces together, also of those that are not named."""
    sent_bytes: Distribution
    devices: NamedDevices = []
    """The interface of each entry in the lists."""
    received_bytes_by_device: DeviceRates = []
    sent_bytes_by_device: DeviceRates = []

    quantities = (
        Quantity("interfaces.received_bytes", "received_bytes", "Bytes received, by interface", "By/s", bounded=False),
        Quantity("interfaces.sent_bytes", "sent_bytes", "Bytes sent, by interface", "By/s", bounded=False),
    )
    of_devices = quantities

    def device_names(self) -> Sequence[str]:
        """The interfaces that it names."""
        return self.devices

    def device_values(self) -> Sequence[Sequence[float]]:
        """Rates of each interface."""
        return self.received_bytes_by_device, self.sent_bytes_by_device


TYPES: tuple[type[Metric], ...] = (
    Cpu, Memory, Swap, Disk, Network, Load, Times, Scheduler, Pressure, Bursts, Limits, MemoryBytes, FileSystems,
    Frequency, Temperature, Disks, Interfaces,
)  # fmt: skip

# A Union built at run time is what msgspec decodes; a type checker sees the base class.
if TYPE_CHECKING:
    AnyMetric = Metric
else:
    AnyMetric = Union[TYPES]  # noqa: UP007
