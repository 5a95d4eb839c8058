"""What service and agent tell each other besides reports: what is asked, and what has become of it."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from contract.agent_settings import SettingsInForce
from contract.labels import Labels
from contract.problems import Problem
from contract.report import EpochMs, OsType

CommandName = Literal["report_now", "diagnostics"]
COMMANDS: tuple[CommandName, ...] = ("report_now", "diagnostics")
"""All that an agent can be told to do once; it never does anything else."""

MAX_DOCUMENT = 64 * 1024
"""The most bytes of a command's result."""
MAX_OUTCOMES = 16
"""The most outcomes in one message, and commands that may wait for one agent."""

INSTANCE_HEADER = "X-Loadlens-Instance"
"""A header of the request for an agent's stream: drawn anew by each run of an agent, so that two hosts with one user id
are told apart."""

Version = Annotated[str, Meta(max_length=64)]
CommandId = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[0-9a-zA-Z_-]+$")]


class AgentCommand(Struct, frozen=True):
    """Something to do once, known by its id however often it is told."""

    id: CommandId
    command: Annotated[str, Meta(max_length=64)]
    """One of `COMMANDS`, or a name of a newer service, which an agent refuses."""


class Instructions(Struct, frozen=True, omit_defaults=True):
    """What the service asks of one agent: an event of its stream, or a part of the answer to a report."""

    version: Version = ""
    """Names `settings`; empty where nothing is asked."""
    settings: msgspec.Raw = msgspec.Raw(b"{}")
    """A document for `contract.agent_settings`, checked by who applies it: it may have members of a newer version."""
    commands: list[AgentCommand] = []


class Refusal(Struct, frozen=True):
    """Settings that an agent did not apply; what was in force before still is."""

    version: Version
    problems: Annotated[list[Problem], Meta(max_length=32)]


class Outcome(Struct, frozen=True, omit_defaults=True):
    """What has become of a command."""

    id: CommandId
    status: Literal["done", "refused", "interrupted"]
    """`interrupted`: the agent ended while it was at it, and does not begin again."""
    detail: Annotated[str, Meta(max_length=1000)] = ""
    document: msgspec.Raw | UnsetType = UNSET
    """What was asked for, JSON of at most `MAX_DOCUMENT` bytes."""


class AgentState(Struct, frozen=True, omit_defaults=True):
    """What is in force at an agent, sent when it starts or connects, when it changes, and now and then while paused."""

    at: EpochMs
    """The agent's clock."""
    os_type: OsType
    os_version: Annotated[str, Meta(max_length=256)]
    agent_version: Annotated[str, Meta(max_length=64)]
    settings: SettingsInForce
    settings_version: Version = ""
    """The version that is in force."""
    refused: Refusal | UnsetType = UNSET
    outcomes: Annotated[list[Outcome], Meta(max_length=MAX_OUTCOMES)] = []
    labels: Labels = {}
    """What the host is labelled with."""
