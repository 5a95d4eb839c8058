"""Who used the CPU, for a report: asked of a source that keeps it."""

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from analytics.sources.base import Source

_NOT_FOR_US = (403, 404)
"""Services of earlier versions have no such answer."""
TOP = 20


class CpuUse(NamedTuple):
    """What a source says of a range, by process and by unit; frames as `Client.who` describes them."""

    processes: pd.DataFrame
    over_time: pd.DataFrame
    """Processes, in buckets as wide as those of the machine."""
    units_over_time: pd.DataFrame
    machines: int
    """How many machines told of their processes."""


def use_of(source: "Source", start_ms: int, end_ms: int, rate: str, user: str | None = None) -> CpuUse | None:
    """Who used the CPU of a machine, or of all; None where a source keeps nothing of it, and where nobody said.

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
