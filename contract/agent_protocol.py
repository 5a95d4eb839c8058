"""What service and agent tell each other besides reports: what is asked, and what has become of it.

Asked are commands, to do something once, and settings: what an agent can be told to do differently while it runs. The
members of these have the same checks where an operator sets them and where an agent applies them.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from contract.problems import Problem, did_you_mean, plural, problem_of, shortened
from contract.processes import ProcessDetail
from contract.report import EpochMs, OsType
from contract.selectors import Labels

MetricName = Literal[
    "cpu", "memory", "swap", "disk", "network", "load", "times", "scheduler", "pressure", "bursts", "limits",
    "memory_bytes", "filesystems", "frequency", "temperature", "disks", "interfaces",
]  # fmt: skip
METRIC_NAMES: tuple[MetricName, ...] = get_args(MetricName)
METRICS_EXPECTED = f"a list of {', '.join(METRIC_NAMES[:-1])} and {METRIC_NAMES[-1]}"
"""What is right for the setting, in words."""
LogLevel = Literal["debug", "info", "warning", "error"]
IntervalS = Annotated[float, Meta(ge=0.01, le=60.0)]
SamplesPerReport = Annotated[int, Meta(ge=1, le=10_000)]

SHORTEST_WINDOW_S = 0.1
LONGEST_WINDOW_S = 3600.0
"""The bounds of interval times samples that can be set from afar: ten reports a second, one an hour."""


class DesiredSettings(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked of an agent. A member that is not set leaves the agent's own setting in force."""

    interval: IntervalS | UnsetType = UNSET
    """Seconds between two samples."""
    samples: SamplesPerReport | UnsetType = UNSET
    """Samples in one report."""
    metrics: Annotated[list[MetricName], Meta(min_length=1)] | UnsetType = UNSET
    """What is sampled."""
    processes: ProcessDetail | UnsetType = UNSET
    """What it tells of the processes that use the CPU."""
    paused: bool | UnsetType = UNSET
    """Whether it samples nothing for now."""
    log_level: LogLevel | UnsetType = UNSET
    """The least serious messages that the agent logs."""


class SettingsInForce(Struct, frozen=True, kw_only=True):
    """What an agent does now; the members are those of `DesiredSettings`."""

    interval: IntervalS
    samples: SamplesPerReport
    metrics: Annotated[list[MetricName], Meta(max_length=64)]
    processes: ProcessDetail = "off"
    paused: bool = False
    log_level: LogLevel = "info"


class InvalidSettings(ValueError):
    """Settings that cannot be used; `problems` names each wrong member."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{one.pointer.lstrip('/')}: {one.detail}".lstrip(": ") for one in self.problems))


_KINDS: dict[str, Any] = get_type_hints(DesiredSettings, include_extras=True)
_EXPECTED = {
    "interval": "seconds from 0.01 to 60, such as 0.05",
    "samples": "a whole number from 1 to 10000",
    "metrics": METRICS_EXPECTED,
    "processes": "off, names or full",
    "paused": "true or false",
    "log_level": "debug, info, warning or error",
}


def parse_settings(document: object) -> DesiredSettings:
    """The settings of a decoded JSON document; raises InvalidSettings, which names every wrong member."""
    if not isinstance(document, Mapping):
        raise InvalidSettings([Problem("", 'expected an object such as {"interval": 0.1, "samples": 50}')])
    values, problems = {}, []
    for name, value in document.items():
        if name not in _KINDS:
            problems.append(Problem(f"/{_escaped(name)}", _unknown(name)))
            continue
        try:
            values[name] = msgspec.convert(value, _KINDS[name])
        except msgspec.ValidationError as error:
            inner = problem_of(error)
            problems.append(Problem(f"/{name}{inner.pointer}", f"{inner.detail}; expected {_EXPECTED[name]}"))
    metrics = values.get("metrics", ())
    if len(set(metrics)) < len(metrics):
        problems.append(Problem("/metrics", "expected each metric once, got one twice"))
    if problems:
        raise InvalidSettings(problems)
    desired = DesiredSettings(**values)
    if desired.interval is not UNSET and desired.samples is not UNSET:
        _check_window(desired.interval, desired.samples)
    return desired


def merged(layers: Iterable[DesiredSettings]) -> DesiredSettings:
    """All layers in one: of each member, the last layer that sets it."""
    values: dict[str, Any] = {}
    for layer in layers:
        values |= _given(layer)
    return DesiredSettings(**values)


def overlaid(own: SettingsInForce, desired: DesiredSettings) -> SettingsInForce:
    """What is in force where `desired` is asked of an agent with settings of its `own`.

    Raises InvalidSettings where a member of one does not go with a member of the other.
    """
    given = _given(desired)
    result = msgspec.structs.replace(own, **given)
    if "interval" in given or "samples" in given:
        _check_window(result.interval, result.samples)
    return result


def version_of(desired: DesiredSettings) -> str:
    """A short name for exactly these settings; empty where nothing is asked."""
    if not _given(desired):
        return ""
    import hashlib

    return hashlib.blake2b(msgspec.json.encode(desired), digest_size=8).hexdigest()


def _given(layer: DesiredSettings) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(layer).items() if value is not UNSET}


def _check_window(interval_s: float, samples: int) -> None:
    window_s = round(interval_s * samples, 6)
    if not SHORTEST_WINDOW_S <= window_s <= LONGEST_WINDOW_S:
        raise InvalidSettings(
            [
                Problem(
                    "/samples",
                    f"expected a report each {SHORTEST_WINDOW_S:g} s to {LONGEST_WINDOW_S:g} s, got one each "
                    f"{window_s:g} s from {plural(samples, 'sample')} at {interval_s:g} s",
                )
            ]
        )


def _unknown(name: str) -> str:
    return f"expected one of {', '.join(_KINDS)}, got {shortened(ascii(name))}{did_you_mean(name, _KINDS)}"


def _escaped(name: str) -> str:
    """A member's name as a part of a JSON pointer (RFC 6901)."""
    return shortened(name).replace("~", "~0").replace("/", "~1")


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
    """A document for `contract.agent_protocol`, checked by who applies it: it may have members of a newer version."""
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
