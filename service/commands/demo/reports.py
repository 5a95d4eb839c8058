"""A fleet's windows as reports: the bodies of requests.

A window of the fleet is a mean and no more. As a report it is one observation: its minimum, its maximum and
its histogram are that of one value, so quantiles over windows are those of the recorded values.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from contract.histogram import LINEAR, flatten
from service.commands.demo.fleet import WINDOW_MS, Fleet

_BATCH_REPORTS = 4000
"""About 1.2 MB, a seventh of what the service takes at once."""


class Batch(NamedTuple):
    """The body of one request."""

    body: bytes
    """A report a line (NDJSON)."""
    reports: int


def batches(fleet: Fleet) -> Iterator[Batch]:
    """All windows of a fleet, in batches of some thousand.

    Each machine's windows come in order of time, and all in one batch unless they are very many: requests
    may then arrive in any order, and yet no window comes after a newer one.
    """
    # Reports differ in user, time and value only, so the texts around these are made once for each.
    values, which = np.unique(fleet.percent, return_inverse=True)
    tails = [_tail(value / 100, fleet.system) for value in values.tolist()]
    lines: list[str] = []
    for user, (first, last) in zip(fleet.users, pairwise(fleet.bounds.tolist()), strict=True):
        head = f'{{"user_id":{json.dumps(user)},"start_timestamp":'
        ends, places = fleet.end_ms[first:last].tolist(), which[first:last].tolist()
        lines += [
            f'{head}{end - WINDOW_MS},"end_timestamp":{end}{tails[place]}'
            for end, place in zip(ends, places, strict=True)
        ]
        if len(lines) >= _BATCH_REPORTS:
            yield from _cut(lines)
            lines = []
    if lines:
        yield from _cut(lines)


def _cut(lines: list[str]) -> Iterator[Batch]:
    for first in range(0, len(lines), 2 * _BATCH_REPORTS):
        some = lines[first : first + 2 * _BATCH_REPORTS]
        yield Batch("".join(some).encode(), len(some))


def _tail(share: float, system: str) -> str:
    """What follows a report's times, for one value."""
    cpu = {
        "type": "CPU",
        "avg_utilization": share,
        "var_utilization": 0.0,
        "avg_utilization_by_core": [],
        "min_utilization": share,
        "max_utilization": share,
        "histogram": flatten({LINEAR.index(share): 1}),
    }
    members = {"observations_per_metric": 1, "os_type": "Linux", "os_version": system, "metrics": [cpu]}
    return "," + json.dumps(members, separators=(",", ":"))[1:] + "\n"
