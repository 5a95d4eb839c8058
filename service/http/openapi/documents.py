"""What answers hold, as types; member names and order are those of the JSON."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from contract.agent_settings import DesiredSettings
from contract.metrics import Statistic
from contract.problems import Problem
from service.alerts.rules import AnyRule
from service.http.resources.ingest import Rejected

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""ISO 8601 in UTC."""
AnyJson = Any


class Status(Struct):
    """That the process answers."""

    status: Literal["ok"]


class Readiness(Struct):
    """Whether reports are taken now."""

    status: Literal["ready", "full"]
    store: str
    detail: str | UnsetType = UNSET
    problem: str | UnsetType = UNSET
    """Why the store could not be used when it was last tried."""


class ProblemDocument(Struct):
    """Problem details (RFC 9457); batches of reports add their counts."""

    type: str
    title: str
    status: int
    detail: str | UnsetType = UNSET
    errors: list[Problem] | UnsetType = UNSET


class Taken(Struct):
    """What became of the reports of a request."""

    accepted: int
    duplicates: int
    rejected: list[Rejected] | UnsetType = UNSET
    instructions: "InstructionsDocument | UnsetType" = UNSET
    """What is asked of the agent, where that is not in force."""


class CommandDocument(Struct):
    """Something to do once."""

    id: str
    command: str


class InstructionsDocument(Struct):
    """What is asked of an agent."""

    version: str = ""
    settings: dict[str, AnyJson] = {}
    commands: list[CommandDocument] = []


class MetricDocument(Struct):
    """A metric that can be asked for."""

    name: str
    title: str
    unit: str
    statistic: Statistic
    """What is answered unless another is asked for."""
    by_core: bool
    type: str
    """The type of report that has it."""
    stored: str
    """The name of the quantity that is kept."""


class Catalogue(Struct):
    """What can be asked for."""

    metrics: list[MetricDocument]
    statistics: list[Statistic]


class Entry(Struct):
    """The value of a bucket."""

    date: Instant
    """The bucket's start."""
    value: float
    group: str | UnsetType = UNSET


class Entries(Struct):
    """Values, one for each bucket with data, in order of time."""

    entries: list[Entry]
    approximation: str | UnsetType = UNSET
    """How they are approximate, where they are."""


class WindowDocument(Struct):
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
    histogram: list[int] | UnsetType = UNSET


class WindowsDocument(Struct):
    """Windows."""

    windows: list[WindowDocument]


class UserDocument(Struct):
    """What a machine last said of itself."""

    user_id: str
    os_type: str
    os_version: str
    cores: int
    first_seen: Instant
    last_seen: Instant


class UserPage(Struct):
    """A page of machines, by id."""

    users: list[UserDocument]
    next: str | None


class Overhead(Struct):
    """What an agent costs."""

    cpu_share: float | None
    """Of one core, between its last two reports."""
    resident_bytes: int | None


class Spool(Struct):
    """What an agent keeps on its disk, and what it has lost."""

    waiting: int
    dropped: int
    refused: int


class AgentOverview(Struct):
    """An agent."""

    user_id: str
    os_type: str
    os_version: str
    version: str | None
    last_seen: Instant
    connected: bool
    desired: DesiredSettings
    reported: dict[str, AnyJson] | None
    """What is in force; of old agents, what their reports say of it."""
    in_step: bool
    why: str | None
    """Why it is not in sync, where it is not."""
    settled: bool
    overhead: Overhead
    spool: Spool | None
    commands_waiting: int


class LayerDocument(Struct):
    """A layer of settings that an agent stands under."""

    target: str
    rank: int
    settings: DesiredSettings


class AgentDetail(AgentOverview):
    """An agent, with the layers that make up what is asked of it, the strongest last."""

    desired_version: str
    reported_version: str
    refused: list[Problem]
    layers: list[LayerDocument]


class AgentPage(Struct):
    """A page of agents, by id."""

    agents: list[AgentOverview]
    total: int
    in_step: int
    next: str | None


class SelectionDocument(Struct):
    """The layer of a selection."""

    selector: str
    rank: int
    settings: DesiredSettings
    etag: str


class SelectionList(Struct):
    """The layers in the order in which they are laid; at most 201."""

    layers: list[SelectionDocument]


class Created(Struct):
    """What was made."""

    id: str


class CommandStatus(Struct):
    """What has become of a command."""

    id: str
    user_id: str
    command: str
    status: Literal["waiting", "done", "refused", "interrupted", "expired"]
    created: Instant
    expires: Instant
    finished: Instant | None
    detail: str


class CommandResult(CommandStatus):
    """A command with its result."""

    document: AnyJson


class CommandList(Struct):
    """The last commands of an agent, the newest first; at most 100."""

    commands: list[CommandStatus]


class RuleDocument(Struct):
    """A rule, and where it is from."""

    source: Literal["api", "file"]
    rule: AnyRule
    etag: str | UnsetType = UNSET


class RulePage(Struct):
    """A page of rules, by name."""

    rules: list[RuleDocument]
    targets: dict[str, str]
    """What is told, by name, with as much of its address as may be shown."""
    next: str | None


class AlertDocument(Struct):
    """What a rule has found."""

    rule: str
    user: str
    state: Literal["pending", "firing", "resolved"]
    since: Instant
    value: float
    id: int | UnsetType = UNSET
    """Not there while it is pending, as are those below."""
    severity: Literal["info", "warning", "critical"] | UnsetType = UNSET
    fired: Instant | UnsetType = UNSET
    resolved: Instant | UnsetType | None = UNSET
    silenced: bool | UnsetType = UNSET


class AlertPage(Struct):
    """A page of alerts: those that fired, the newest first, then the pending ones."""

    alerts: list[AlertDocument]
    total: int
    next: str | None


class SilenceDocument(Struct):
    """Nobody is notified of alerts of these rules and users until then."""

    id: str
    rule: str
    user: str
    until: Instant
    comment: str
    created: Instant


class SilencePage(Struct):
    """A page of silences, the next to end first."""

    silences: list[SilenceDocument]
    next: str | None


class NotificationDocument(Struct):
    """What is told to a target."""

    id: str
    rule: str
    target: str
    state: Literal["gathering", "waiting", "delivered", "dead"]
    created: Instant
    due: Instant
    attempts: int
    error: str
    alerts: list[dict[str, AnyJson]]


class NotificationPage(Struct):
    """A page of notifications, the newest first."""

    notifications: list[NotificationDocument]
    counts: dict[str, int]
    """How many are in each state."""
    next: str | None


class AuditEntry(Struct):
    """A change."""

    id: int
    at: Instant
    token: Literal["operator", "token", "none"]
    address: str
    actor: str
    """Who it says it was; nobody checks that."""
    action: str
    target: str
    before: AnyJson
    after: AnyJson


class AuditPage(Struct):
    """A page of the audit trail, the newest first."""

    entries: list[AuditEntry]
    next: int | None
