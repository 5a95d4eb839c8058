"""Which version of the data a range has, so that an answer that is known already need not be made again."""

import hashlib
import secrets
from collections.abc import Sequence

from falcon import ETag
from falcon.asgi import Request, Response

from contract import times
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS
from service.http.authentication import identity_of
from service.http.problems import is_known
from service.stores.base import Store


class RangeVersions:
    """Numbers the changes of the data, and tells the last of a range. Used on the event loop.

    A range that has ended changes only when a late report comes, or when retention takes something away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._run = secrets.token_hex(4)
        """Numbers begin anew when the service is started."""
        self._last = 0
        self._hours: dict[int, int] = {}
        self._days: dict[int, int] = {}

    def take(self, reports: Sequence[Report]) -> None:
        """Note reports that queries answer from now on."""
        self._last += 1
        for hour in {report.end_timestamp // HOUR_MS for report in reports}:
            self._hours[hour] = self._days[hour * HOUR_MS // DAY_MS] = self._last

    def renew(self) -> None:
        """Take everything for changed."""
        self._run = secrets.token_hex(4)

    def of(self, start_ms: int, end_ms: int) -> str:
        """The version of [start, end): equal for equal data, to the hour."""
        return f"{self._run}.{self._last_change(start_ms, end_ms)}.{self._kept(start_ms, end_ms)}"

    @property
    def newest(self) -> str:
        """The version of everything."""
        return f"{self._run}.{self._last}"

    def _last_change(self, start_ms: int, end_ms: int) -> int:
        first_day, last_day = -(-start_ms // DAY_MS), end_ms // DAY_MS
        whole = max((self._days[day] for day in _within(self._days, first_day, last_day)), default=0)
        first, last = start_ms // HOUR_MS, -(-end_ms // HOUR_MS)
        begin_end = min(first_day * DAY_MS // HOUR_MS, last)
        end_begin = max(last_day * DAY_MS // HOUR_MS, begin_end)
        edges = (*range(first, begin_end), *range(end_begin, last))
        return max([whole, *(self._hours.get(hour, 0) for hour in edges)])

    def _kept(self, start_ms: int, end_ms: int) -> str:
        now_ms = times.now_ms()
        return f"{self._store.finest_ms(start_ms, now_ms)}-{self._store.finest_ms(end_ms, now_ms)}"


def _within(days: dict[int, int], first: int, last: int) -> Sequence[int]:
    """The days of [first, last) that have changes; a range of centuries asks no more than there are."""
    if last - first < len(days):
        return [day for day in range(first, last) if day in days]
    return [day for day in days if first <= day < last]


def is_unchanged(
    req: Request,
    resp: Response,
    versions: RangeVersions,
    form: str,
    range_ms: tuple[int, int],
    *,
    by_hosts: bool = False,
) -> bool:
    """Name the version of an answer, and whether the asker has it already (then it is 304).

    Only a question whose end is in its address has one: of others, the same address asks for something else each time.
    With `by_hosts` it depends on what hosts last said of themselves, their system, labels or cores, so any report
    may change it. Whoever sees other hosts gets another version.
    """
    for name in ("Accept", "Authorization", "Cookie"):
        resp.append_header("Vary", name)
    if "end" not in req.params:
        resp.cache_control = ["no-store"]
        return False
    version = versions.newest if by_hosts else versions.of(*range_ms)
    parts = [version, form.rpartition("/")[2].rpartition(".")[2]]
    if "start" not in req.params:
        parts.append(str(range_ms[0]))
    identity = identity_of(req)
    if identity.is_scoped:
        # A scope may have any characters, and a tag may not.
        parts.append(hashlib.sha256(f"{identity.role} {identity.scope}".encode()).hexdigest()[:16])
    tag = ETag(".".join(parts))
    tag.is_weak = True
    resp.etag = tag
    resp.cache_control = ["private", "no-cache"]
    return is_known(req, resp, str(tag))
