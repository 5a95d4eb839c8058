"""What answers hold, as types; member names and order are those of the JSON."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from contract.agent_protocol import DesiredSettings
from contract.metrics import Statistic
from contract.problems import Problem
from contract.processes import Named
from service.alerts.rules import AnyRule, Severity
from service.alerts.silences import WeeklySilence
from service.credentials.identity import Role
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


class Overhead(Document):
    """What an agent costs."""

    cpu_share: float | None
    """Of one core, between its last two reports."""
    resident_bytes: int | None


class AgentSpool(Document):
    """What an agent keeps on its disk, and what it has lost."""

    waiting: int
    dropped: int
    refused: int


class AgentOverview(Document):
    """An agent."""

    user_id: str
    os_type: str
    os_version: str
    labels: dict[str, str]
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
    spool: AgentSpool | None
    commands_waiting: int
    clock_ahead_s: float | None
    shared_windows: int
    shared_at: Instant | None


class LayerDocument(Document):
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


class AgentPage(Document):
    """A page of agents, by id."""

    agents: list[AgentOverview]
    total: int
    in_step: int
    next: str | None


class SelectionDocument(Document):
    """The layer of a selection."""

    selector: str
    rank: int
    settings: DesiredSettings
    etag: str


class SelectionList(Document):
    """The layers in the order in which they are laid; at most 201."""

    layers: list[SelectionDocument]


class Created(Document):
    """The id of what was made."""

    id: str


class CommandStatus(Document):
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


class CommandList(Document):
    """The last commands of an agent, the newest first; at most 100."""

    commands: list[CommandStatus]


class RuleDocument(Document):
    """A rule, and where it is from."""

    source: Literal["api", "file"]
    rule: AnyRule
    etag: str | UnsetType = UNSET


class RulePage(Document):
    """A page of rules, by name."""

    rules: list[RuleDocument]
    targets: dict[str, str]
    """What is told, by name, with as much of its address as may be shown."""
    routes: dict[Severity, list[str]]
    """By severity, the targets of rules that name none."""
    problem: str | None
    """Why the rules in force are not those of the files; null where they are."""
    next: str | None


class AlertDocument(Document):
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
    who: list[Named] | UnsetType = UNSET
    """Who used most of the host's CPU when it fired, at most three; empty where the host did not say so."""


class AlertPage(Document):
    """A page of alerts: those that fired, the newest first, then the pending ones."""

    alerts: list[AlertDocument]
    total: int
    next: str | None


class SilenceDocument(Document):
    """Nobody is notified of alerts of these rules and users until then."""

    id: str
    rule: str
    user: str
    start: Instant
    until: Instant
    comment: str
    created: Instant


class WeeklyDocument(Document):
    """A silence of a file of rules, and whether it is in force now."""

    silence: WeeklySilence
    in_force: bool


class SilencePage(Document):
    """A page of silences, the next to end first."""

    silences: list[SilenceDocument]
    weekly: list[WeeklyDocument]
    """Those of the files."""
    next: str | None


class NotificationDocument(Document):
    """What is told to a target."""

    id: str
    rule: str
    target: str
    state: Literal["gathering", "waiting", "delivered", "dead"]
    created: Instant
    due: Instant
    attempts: int
    error: str
    rejected: bool
    """Whether the receiver has said no to this very message: others do not wait for it."""
    alerts: list[dict[str, AnyJson]]


class NotificationPage(Document):
    """A page of notifications, the newest first."""

    notifications: list[NotificationDocument]
    counts: dict[str, int]
    """How many are in each state."""
    next: str | None


class AuditEntry(Document):
    """A change."""

    id: int
    at: Instant
    token: str
    """The id of the token that was shown; `operator` or `token` for those of the settings, `none` without any."""
    address: str
    actor: str
    """Who it says it was; nobody checks that."""
    action: str
    target: str
    before: AnyJson
    after: AnyJson


class AuditPage(Document):
    """A page of the audit trail, the newest first."""

    entries: list[AuditEntry]
    next: int | None


class SecretDocument(Document):
    """One text of a token, without the text."""

    created: Instant
    expires: Instant | None
    """When it ends though the token goes on, as a newer one has taken its place."""


class TokenDocument(Document):
    """A token, without what opens."""

    id: str
    name: str
    role: Role
    scope: str
    created: Instant
    expires: Instant | None
    revoked: Instant | None
    uses_left: int | None
    """Of an enrolment token: how often it may still be used."""
    last_used: Instant | None
    last_address: str | None
    secrets: list[SecretDocument]


class NewTokenDocument(TokenDocument):
    """A token, and its text, once."""

    token: str


class TokenPage(Document):
    """A page of tokens, by id."""

    tokens: list[TokenDocument]
    next: str | None


class SessionDocument(Document):
    """A browser that has signed in."""

    id: str
    token: str
    """The id of the token that it has signed in with."""
    role: Role
    created: Instant
    expires: Instant
    address: str
    browser: str
    """What it says it is."""


class SessionPage(Document):
    """A page of sessions, by id."""

    sessions: list[SessionDocument]
    next: str | None


class IdentityDocument(Document):
    """Who asks."""

    role: Role
    scope: str
    """The user ids that may be asked about: a pattern, an agent's own id, or `*` for all."""
    token: str
    """The id of the token; `operator` or `token` for those of the settings, `none` without any."""
