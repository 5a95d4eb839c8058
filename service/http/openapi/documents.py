"""What answers hold, as types; member names and order are those of the JSON."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from contract.metrics import Statistic
from contract.problems import Problem
from service.http.resources.ingest import Rejected

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601 in UTC."""
AnyJson = Any


class Document(Struct, forbid_unknown_fields=True):
    """What an answer holds, and no more."""


class Status(Document):
    """That the process answers."""

    status: Literal["ok"]


class LagDocument(Document):
    """What of a cluster's log waits for the store, of what this process has seen."""

    reports: int
    seconds: float
    """How long at least the oldest of them has waited."""
    partitions: dict[str, int]
    """The reports of each partition in which any wait."""


class Readiness(Document):
    """Whether reports are taken now."""

    status: Literal["ready", "full"]
    store: str
    detail: str | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    """Why the store could not be used when it was last tried."""
    lag: LagDocument | UnsetType = UNSET
    """In a cluster."""


class ProblemDocument(Struct):
    """Problem details (RFC 9457); batches of reports add their counts."""

    type: str
    title: str
    status: int
    detail: str | UnsetType = UNSET
    errors: list[Problem] | UnsetType = UNSET


class Taken(Document):
    """What became of the reports of a request."""

    accepted: int
    duplicates: int
    rejected: list[Rejected] | UnsetType = UNSET
    instructions: "InstructionsDocument | UnsetType" = UNSET
    """What is asked of the agent, where that is not in force."""


class CommandDocument(Document):
    """Something to do once."""

    id: str
    command: str


class InstructionsDocument(Document):
    """What is asked of an agent."""

    version: str = ""
    settings: dict[str, AnyJson] = {}
    commands: list[CommandDocument] = []


class MetricDocument(Document):
    """A metric that can be asked for."""

    name: str
    title: str
    unit: str
    statistic: Statistic
    """What is answered unless another is asked for."""
    by_core: bool
    by_device: bool
    type: str
    """The type of report that has it."""
    stored: str
    """The name of the quantity that is kept."""


class Catalogue(Document):
    """What can be asked for."""

    metrics: list[MetricDocument]
    statistics: list[Statistic]


class Entry(Document):
    """The value of a bucket."""

    date: Instant
    """The bucket's start."""
    value: float
    group: str | UnsetType = UNSET


class Entries(Document):
    """Values, one for each bucket with data, in order of time."""

    entries: list[Entry]
    approximation: str | UnsetType = UNSET
    """How they are approximate, where they are."""


class WindowDocument(Document):
    """A window, or the windows of a bucket merged."""

    time: Instant
    count: int
    mean: float
    var: float
    min: float
    max: float
    approximated: int
    """How many samples came without extremes."""
    user: str | UnsetType = UNSET
    core: int | UnsetType | None = UNSET
    device: str | UnsetType | None = UNSET
    histogram: list[int] | UnsetType = UNSET


class WindowsDocument(Document):
    """Windows."""

    windows: list[WindowDocument]


class UserDocument(Document):
    """What a host last said of itself."""

    user_id: str
    os_type: str
    os_version: str
    cores: int
    first_seen: Instant
    last_seen: Instant
    shared_windows: int
    """How many windows of several hosts that share this id overlapped."""
    shared_at: Instant | None
    clock_ahead_s: float | None
    """How far its clock is ahead of the service's, seconds; negative where it is behind; null where it has not said."""
    labels: dict[str, str]


class UserPage(Document):
    """A page of hosts, by id."""

    users: list[UserDocument]
    next: str | None


class MachineDocument(Document):
    """What is known of a host, and its statistics over a range; null without samples."""

    user_id: str
    states: list[Literal["hot", "idle", "silent", "alerting"]]
    mean: float | None
    p95: float | None
    max: float | None
    change: float | None
    """The mean less that of the same time before."""
    cores: int
    os_type: str
    last_seen: Instant
    labels: dict[str, str]


class MachinePage(Document):
    """A page of hosts, in the order that was asked for."""

    machines: list[MachineDocument]
    total: int
    next: str | None
