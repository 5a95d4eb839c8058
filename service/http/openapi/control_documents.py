"""What answers about agents, rules, alerts, tokens and their like hold, as types; as in the module documents."""

from typing import Literal

from msgspec import UNSET, UnsetType

from contract.agent_protocol import DesiredSettings
from contract.problems import Problem
from contract.processes import Named
from service.alerts.rules import AnyRule, Severity
from service.alerts.silences import WeeklySilence
from service.credentials.identity import Role
from service.http.openapi.documents import AnyJson, Document, Instant


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
