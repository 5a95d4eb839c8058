"""The report: what an agent says of one window of samples, and its JSON."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from contract.metrics import AnyMetric
from contract.problems import explained, undecodable
from contract.processes import ProcessUse
from contract.selectors import Labels, UserId

OsType = Literal["Linux", "MacOS", "Windows"]
OS_TYPES: tuple[OsType, ...] = ("Linux", "MacOS", "Windows")

EpochMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
"""Milliseconds since 1970, UTC, to the end of year 9999."""
FUTURE_MS = 5 * 60 * 1000
"""How far a window may end ahead of the service's clock."""


_MAX_COUNT = 2**53
"""The largest whole number that every reader of JSON has."""
_Count = Annotated[int, Meta(ge=0, le=_MAX_COUNT)]
_Words = Annotated[str, Meta(max_length=64)]
_Setting = (
    _Words
    | Annotated[int, Meta(ge=-_MAX_COUNT, le=_MAX_COUNT)]
    | float
    | bool
    | Annotated[list[_Words], Meta(max_length=64)]
)


class AgentStatus(Struct, gc=False, frozen=True, omit_defaults=True):
    """What an agent says of itself, so that its cost and its losses can be seen."""

    version: Annotated[str, Meta(max_length=64)]
    cpu_seconds: Annotated[float, Meta(ge=0.0, le=1e12)]
    """CPU time the agent's process has used since it started."""
    resident_bytes: _Count
    spooled: _Count = 0
    """Reports waiting on the agent's disk, before this one."""
    dropped: _Count = 0
    """Reports the spool had to drop since it was made: too old, or no room."""
    refused: _Count = 0
    """Reports the service refused as invalid since the agent started."""
    settings: Annotated[dict[_Words, _Setting], Meta(max_length=32)] = {}
    """The settings in force that change what is sampled: interval, samples, metrics."""
    remote: bool | UnsetType = UNSET
    """Whether the agent takes settings and commands from the service; not said by agents that know of none."""
    settings_version: Annotated[str, Meta(max_length=64)] = ""
    """The version of what the service asked for that is in force; empty where it asked for nothing."""
    settings_refused: Annotated[str, Meta(max_length=64)] = ""
    """The version that the agent refused to apply; its reasons are in `contract.agent_protocol.AgentState`."""
    clock_ahead_s: Annotated[float, Meta(ge=-1e12, le=1e12)] | UnsetType = UNSET
    """How far its host's clock is ahead of the service's; negative where it is behind, left out where not known."""


class Report(Struct, gc=False, frozen=True, omit_defaults=True):
    """One window of samples of one host, reduced to summaries.

    The members without a default are the original system's; extra members are ignored.
    A report is identified by its user, a metric's type and `end_timestamp`.
    """

    user_id: UserId
    start_timestamp: EpochMs
    """When the first sample began."""
    end_timestamp: EpochMs
    """When the last sample ended: the time of the report, which decides the bucket it counts in."""
    observations_per_metric: Annotated[int, Meta(ge=1, le=2**40)]
    os_type: OsType
    os_version: Annotated[str, Meta(max_length=256)]
    metrics: Annotated[list[AnyMetric], Meta(min_length=1, max_length=64)]
    report_id: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    agent: AgentStatus | UnsetType = UNSET
    processes: ProcessUse | UnsetType = UNSET
    """Who used the CPU; only where that is asked of the agent."""
    labels: Labels | UnsetType = UNSET
    """What the host is labelled with; left out by who knows of no labels, which says nothing of them."""


def report_id(user_id: str, end_ms: int) -> str:
    """What an agent calls a report."""
    return f"{user_id[:100]}@{end_ms}"


_decoder = msgspec.json.Decoder(Report)
_encoder = msgspec.json.Encoder()


def decode_report(body: bytes | memoryview | msgspec.Raw) -> Report:
    """The report of a JSON body.

    Raises msgspec.ValidationError where a member is wrong (the message ends in its path) and
    msgspec.DecodeError where the body is not JSON in UTF-8. Agreement between members is checked by
    `contract.validation`.
    """
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error) from None
    except msgspec.DecodeError as error:
        raise explained(error, body) from None


def encode(report: Report) -> bytes:
    """The JSON of a report, in UTF-8, on one line."""
    return _encoder.encode(report)
