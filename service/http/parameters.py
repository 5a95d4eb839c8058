"""The parameters that questions take in their query string: their names, kinds, bounds and meaning. Empty is not given.

Requests are read with the names of these types, and `/openapi.json` is made of them.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from analytics.frames.weights import Weight
from contract.devices import MAX_NAME as MAX_DEVICE_NAME
from contract.metrics import Statistic
from contract.selectors import BY_LABEL, MAX_PATTERN, MAX_USER_ID, NAME_PATTERN
from contract.times import MAX_RATE_MS, format_duration
from service.stores.base import Grouping

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
MAX_USERS = 10_000
MAX_ALERTS = 10_000
_MOMENT = {"format": "loadlens-moment", "examples": ["2018-07-12T12:15:00Z"]}
DURATION = {"format": "loadlens-duration", "examples": ["15m"]}

Start = Annotated[
    str,
    Meta(
        description="Where the range begins: ISO 8601 or epoch milliseconds; the range is [start, end).",
        extra_json_schema=_MOMENT,
    ),
]
End = Annotated[str, Meta(description="Where the range ends; now unless it is said.", extra_json_schema=_MOMENT)]
Rate = Annotated[
    str,
    Meta(
        description=f"The width of a bucket, an InfluxQL duration from 1s to {format_duration(MAX_RATE_MS)}, or `all`"
        " for one bucket, the range itself.",
        extra_json_schema=DURATION,
    ),
]
Zone = Annotated[
    str,
    Meta(
        description="A place whose clock buckets follow, a zone of the IANA database.",
        extra_json_schema={"examples": ["Europe/Berlin"], "format": "loadlens-zone"},
    ),
]
Offset = Annotated[
    str,
    Meta(
        description="Moves where buckets begin: a duration below the rate, also with a minus.",
        extra_json_schema=DURATION | {"examples": ["5m"]},
    ),
]
Core = Annotated[str, Meta(description="The number of one core.", extra_json_schema={"examples": ["0"]})]
Device = Annotated[
    str,
    Meta(
        max_length=MAX_DEVICE_NAME,
        description="The name of a disk or an interface, of metrics that name them.",
        extra_json_schema={"examples": ["sda"]},
    ),
]
WeightOf = Annotated[Weight, Meta(description="What counts the same: samples, cores, or hosts.")]
Top = Annotated[int, Meta(ge=1, le=10_000, description="Keeps so many groups, those with the highest values.")]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many entries a page has at most.")]
After = Annotated[str, Meta(description="The `next` of the page before.")]
UserId = Annotated[str, Meta(max_length=MAX_USER_ID, description="The id of a host.")]
Pattern = Annotated[
    str, Meta(max_length=MAX_PATTERN, description="A pattern: `*`, `?`, `[ab]`, `[!ab]` as in fnmatch.")
]

LabelsOf = Annotated[
    str, Meta(description="Hosts with labels: `role=web`, or `role=web,zone=eu-*` for all of several.")
]

GROUPINGS: tuple[Grouping, ...] = ("user", "os_type", "os_version")
GroupedBy = Annotated[
    str,
    Meta(
        pattern=f"^({'|'.join(GROUPINGS)}|{BY_LABEL}{NAME_PATTERN.strip('^$')})?$",
        description="What groups are by: `label:role` for the values of the label `role`.",
        extra_json_schema={"examples": ["user", "label:role"]},
    ),
]


def names_of(kind: type[Struct]) -> tuple[str, ...]:
    """The names of a request's parameters."""
    return kind.__struct_encode_fields__


class HistoryParameters(Struct, kw_only=True):
    """Values of one host."""

    start: Start | None = None
    end: End | None = None
    resample_rate: Rate = "15m"
    stat: Statistic | None = None
    core: Core | None = None
    device: Device | None = None
    tz: Zone | None = None
    offset: Offset | None = None


class FleetParameters(Struct, kw_only=True):
    """Values of the fleet, or of groups of it."""

    start: Start | None = None
    end: End | None = None
    resample_rate: Rate = "15m"
    stat: Statistic | None = None
    by: GroupedBy | None = None
    top: Top | None = None
    weight: WeightOf = "samples"
    tz: Zone | None = None
    offset: Offset | None = None


Level = str
"""One of `LEVELS`, or `label:` and the name of a label."""
PARTS: tuple[Level, ...] = ("core", "device")
"""Groupings that have a group for each part of each host."""
LEVELS: tuple[Level, ...] = ("all", *GROUPINGS, *PARTS)


class ChoiceParameters(Struct, kw_only=True):
    """Hosts, by what they are and do."""

    sort: Annotated[
        Literal["name", "mean", "p95", "max", "change", "cores", "seen"], Meta(description="The order of hosts.")
    ] = "name"
    order: Literal["asc", "desc"] = "asc"
    q: Annotated[str, Meta(description="Hosts whose names hold it.")] = ""
    os: Annotated[Literal["Linux", "MacOS", "Windows"], Meta(description="Hosts of a system.")] | None = None
    label: LabelsOf = ""
    state: Literal["hot", "idle", "silent", "alerting"] | None = None
    first: Annotated[int, Meta(ge=0, le=10**9, description="The place of the first host in the order.")] = 0
    count: Annotated[int, Meta(ge=1, le=10**9, description="How many hosts there are from it on.")] | None = None


class TableParameters(ChoiceParameters, kw_only=True):
    """Several metrics, statistics, groupings and hosts."""

    metric: Annotated[
        list[str],
        Meta(
            description="Names of metrics, `cpuLoadAvg.p95` with the statistic of one.",
            extra_json_schema={"examples": [["cpuLoadAvg", "memoryUtilization.p95"]]},
        ),
    ] = msgspec.field(default_factory=lambda: ["cpuLoadAvg"])
    stat: Annotated[
        list[str],
        Meta(
            description="Statistics of each metric that does not say its own.",
            extra_json_schema={"examples": [["mean", "p95"]]},
        ),
    ] = []
    by: Annotated[
        list[str],
        Meta(
            description=f"Groupings, of {', '.join(LEVELS)}, and `label:` with the name of a label.",
            extra_json_schema={"examples": [["all", "user"], ["label:role"]]},
        ),
    ] = msgspec.field(default_factory=lambda: ["all"])
    user: Annotated[
        list[Pattern],
        Meta(description="Ids of hosts, patterns, or labels such as `role=web`; all hosts unless said."),
    ] = []
    start: Start | None = None
    end: End | None = None
    resample_rate: Rate = "15m"
    tz: Zone | None = None
    offset: Offset | None = None
    top: Top | None = None
    weight: WeightOf = "samples"


WINDOWS_METRIC = Annotated[
    str, Meta(description="The name of a metric.", extra_json_schema={"examples": ["cpuUtilization"]})
]
WindowsRate = Annotated[
    str, Meta(description="The width of a bucket, or `raw`: the windows as they came.", extra_json_schema=DURATION)
]
Histograms = Annotated[
    Literal["true", "false", "1", "0"], Meta(description="Whether each window comes with its histogram.")
]


MAX_TOP_USERS = 100


class WhoParameters(Struct, kw_only=True):
    """Who used the CPU."""

    host: UserId | None = None
    start: Start | None = None
    end: End | None = None
    by: Annotated[Literal["process", "unit"], Meta(description="Processes by name, user and unit; or units alone.")] = (
        "process"
    )
    top: Annotated[int, Meta(ge=1, le=MAX_TOP_USERS, description="How many are named.")] = 5
    resample_rate: (
        Annotated[str, Meta(description="Also what each used in buckets so wide.", extra_json_schema=DURATION)] | None
    ) = None


class UserWindowsParameters(Struct, kw_only=True):
    """Windows of one host."""

    metric: WINDOWS_METRIC = "cpuUtilization"
    start: Start | None = None
    end: End | None = None
    resample_rate: WindowsRate = "15m"
    core: Annotated[str, Meta(description="The number of a core, or `each`.")] | None = None
    device: (
        Annotated[str, Meta(max_length=MAX_DEVICE_NAME, description="The name of a disk or an interface, or `each`.")]
        | None
    ) = None
    histograms: Histograms = "false"


class SelectionParameters(ChoiceParameters, kw_only=True):
    """Hosts, as the fleet's picture of a metric and a range chooses them."""

    metric: WINDOWS_METRIC = "cpuUtilization"
    start: Start | None = None
    end: End | None = None


class HostsParameters(SelectionParameters, kw_only=True):
    """A page of hosts."""

    resample_rate: (
        Annotated[
            str,
            Meta(
                description="Taken as a picture does, and without effect: statistics are over the range.",
                extra_json_schema=DURATION,
            ),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=MAX_USERS, description="How many hosts a page has at most.")] = MAX_LIMIT
    after: After | None = None


class FleetWindowsParameters(SelectionParameters, kw_only=True):
    """Windows of the fleet, or of the hosts that its picture of the range shows."""

    resample_rate: WindowsRate = "15m"
    by: Annotated[Literal["user"], Meta(description="Each host by itself.")] | None = None
    user: Annotated[
        list[Pattern],
        Meta(description="Ids of hosts, patterns, or labels such as `role=web`; all hosts unless said."),
    ] = []
    histograms: Histograms = "false"
    weight: WeightOf = "samples"
