"""What a report says beside the windows: what people noted of moments, and who used the CPU."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import pandas as pd

from analytics.reports.text import each, quoted, span
from contract.selectors import matcher
from contract.times import HOUR_MS, MINUTE_MS, parse_timestamp

if TYPE_CHECKING:
    from analytics.sources.base import Source


AFTER_MS: Final = HOUR_MS
"""What came so much later at most is told as after it."""
_NOT_FOR_US: Final = (403, 404)
"""Tokens for some hosts only may not read annotations, and services of earlier versions have none."""


class ReportAnnotation(NamedTuple):
    """What is said of a moment, or of a stretch of time, in epoch milliseconds."""

    time_ms: int
    end_ms: int
    """Where the stretch ends; `time_ms` for a moment."""
    text: str
    user: str
    """A pattern: the hosts that it is about."""


def annotations_of(
    source: "Source", start_ms: int, end_ms: int, user: str | None = None
) -> tuple[ReportAnnotation, ...]:
    """Those that matter in a range, about one host or about any, by time; none where a source keeps none.

    Raises what a service raises.
    """
    from analytics.sources.operations import Operations
    from analytics.sources.service_api import ProblemError

    if not isinstance(source, Operations):
        return ()
    try:
        found = source.annotations(start=max(0, start_ms - AFTER_MS), end=end_ms, user=user)
    except ProblemError as error:
        if error.status in _NOT_FOR_US:
            return ()
        raise
    return tuple(
        ReportAnnotation(
            parse_timestamp(one["time"]),
            parse_timestamp(one["end"] or one["time"]),
            one["text"],
            one["user"],
        )
        for one in found
    )


def about_all(annotations: Iterable[ReportAnnotation], users: Sequence[str]) -> list[ReportAnnotation]:
    """Those that are about each of these hosts."""
    return [one for one in annotations if all(map(matcher([one.user]), users))]


def shortly_after(annotations: Sequence[ReportAnnotation], moment_ms: int, width_ms: int = 0) -> str:
    """What a moment came shortly after, such as `2 minutes after “deploy 1.4”`; nothing where there is no such thing.

    `annotations` are by time; the last that fits is told. It fits for `AFTER_MS` from its end on. `width_ms` says how
    exactly the moment is known: it is the start of a bucket of that width, in which something happened. What was noted
    within that bucket fits too, unless it is wider than `AFTER_MS`.
    """
    bucket_end_ms = moment_ms + (width_ms if width_ms <= AFTER_MS else 0)
    for one in reversed(annotations):
        if one.time_ms <= moment_ms < one.end_ms:
            return f"during {quoted(one.text)}"
        if moment_ms < one.time_ms < bucket_end_ms:
            return f"in the same {each(width_ms)} as {quoted(one.text)}"
        past_ms = moment_ms - one.end_ms
        if 0 <= past_ms <= AFTER_MS:
            length = "less than a minute" if past_ms < MINUTE_MS else span(past_ms // MINUTE_MS * MINUTE_MS)
            return f"{length} after {quoted(one.text)}"
    return ""


TOP = 20


class CpuUse(NamedTuple):
    """What a source says of a range, by process and by unit; frames as `Client.who` describes them."""

    processes: pd.DataFrame
    over_time: pd.DataFrame
    """Processes, in buckets as wide as those of the host."""
    units_over_time: pd.DataFrame
    hosts: int
    """How many hosts told of their processes."""


def use_of(source: "Source", start_ms: int, end_ms: int, rate: str, user: str | None = None) -> CpuUse | None:
    """Who used the CPU of a host, or of all; None where a source keeps nothing of it, and where nobody said.

    Raises what a service raises.
    """
    from analytics.sources.service import Client
    from analytics.sources.service_api import ProblemError

    if not isinstance(source, Client):
        return None
    try:
        processes = source.who(user, start=start_ms, end=end_ms, top=TOP)
        if not processes.attrs["machines"] or not processes.attrs["busy_s"]:
            return None
        over_time = source.who(user, start=start_ms, end=end_ms, top=TOP, rate=rate)
        units = source.who(user, start=start_ms, end=end_ms, by="unit", top=TOP, rate=rate)
    except ProblemError as error:
        if error.status in _NOT_FOR_US:
            return None
        raise
    return CpuUse(processes, over_time, units, processes.attrs["machines"])
