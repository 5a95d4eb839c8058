"""The claim of a database: one service at a time writes to it (docs/influxdb.md).

InfluxDB has no locks and no transactions, and version 3 does not promise that a point overwrites another. So a claim is
a series of new points, of which the newest of each owner counts. Their times are the server's, and so is the clock by
which one is stale: those of the services' hosts need not agree.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import NamedTuple

import pyarrow as pa

from analytics.sources.influx_client import InfluxClient, InfluxError, Refused, Unreachable
from contract import times
from contract.influx import CLAIM, OWNER, SINCE, identifier, string_field, tag
from contract.times import DAY_MS, format_instant
from service.control.process_names import has_ended, own_name
from service.stores.influx.lines import lines_of
from service.stores.influx.writing import Writer

_log = logging.getLogger("loadlens.service")
CLAIM_S = 60.0
"""So long after its last point a claim is stale, and may be taken over."""
_BEATS = 6
"""Points within that time."""
_FRESH = 0.75
"""The part of that time in which the owner may rely on its last point; the rest is for requests under way."""
_RIVALS_S = 10.0
"""How long to wait for another that asks at the same time and has to give up."""
_LOOK_S = 0.1
_UNDER_WAY_S = 5.0
"""How long to wait, at most, for requests under way of one that has ended without letting go."""
_LET_GO_S = 5.0
"""How long to wait for a request under way before the end."""
_ASKS, _HAS, _LEFT, _GAVE_UP = "asks", "has", "left", "gave up"


class InUse(Unreachable):
    """Another service has the database; the message says which, and what to do."""


class _Claimed(NamedTuple):
    """The newest point of an owner."""

    owner: str
    phase: str
    since: int
    """When it took the database, epoch ms; later than that of whoever had it before."""
    place: str
    process: str


class Claim:
    """A folder's claim of a database; any thread may call.

    `owner` is the folder's name, unlike any other, `since` when it had the database last, epoch ms (None: never), and
    `note` keeps that. A service that is killed and started again with the same folder has the same claim.
    """

    def __init__(
        self,
        client: InfluxClient,
        writer: Writer,
        owner: str,
        folder: Path,
        since: int | None,
        note: Callable[[int], None],
        stale_s: float = CLAIM_S,
    ) -> None:
        self._client = client
        self._writer = writer
        self._owner = owner
        self._place = f"{socket.gethostname()}, folder {folder.resolve()}"
        self._process = own_name()
        self._since = since
        self._note = note
        self._stale_s = stale_s
        self._confirmed: float | None = None
        """When, by the monotonic clock, nobody else had it."""
        self._lost: str | None = None
        self._emptied: str | None = None
        self._doubted = False
        self.losses = 0
        """How often the database was dropped or emptied while this service had it."""
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._beating = threading.Thread(target=self._beat_on, name="claim", daemon=True)

    @property
    def problem(self) -> str | None:
        """That another took the database over, or that what was in it is gone; None where all is well."""
        return self._lost or self._emptied

    def begin(self) -> None:
        """Take the database, whoever had it before, and keep it. Raises what `hold` raises."""
        self._since = None
        self.hold()

    def hold(self) -> None:
        """See that the database is this folder's, and take it where it was not asked of for too long.

        Raises InUse where another has it, Unreachable where it cannot be told, or another has had it meanwhile: what is
        in memory may not fit to what that one wrote.
        """
        if self._lost is None and self._is_fresh:
            return
        with self._lock:
            if self._lost is None and not self._is_fresh:
                self._take()
            if self._lost is not None:
                raise Unreachable(self._lost)

    def doubt(self) -> None:
        """Look anew before anything else is written: something went wrong."""
        self._doubted = True

    def let_go(self) -> None:
        """End it, so that another can have the database at once; what cannot be written becomes stale."""
        self._ending.set()
        if not self._lock.acquire(timeout=_LET_GO_S):
            return
        try:
            if self._lost is None and self._confirmed is not None:
                with contextlib.suppress(InfluxError):
                    if not self._is_fresh:
                        # Another may have it by now, with a copy of this folder.
                        self._look_for_heirs(self._newest(DAY_MS))
                    if self._lost is None:
                        self._tell(_LEFT)
                self._confirmed = None
        finally:
            self._lock.release()

    def abandon(self) -> None:
        """Say nothing any more: another goes on in the same name."""
        self._ending.set()

    @property
    def _is_fresh(self) -> bool:
        if self._confirmed is None or self._doubted:
            return False
        return time.monotonic() - self._confirmed < self._stale_s * _FRESH

    def _take(self) -> None:
        before = self._newest(DAY_MS)
        mine = next((one for one in before if one.owner == self._owner), None)
        if mine is None and self._confirmed is not None and time.monotonic() - self._confirmed < DAY_MS / 1000:
            self._note_emptied()
        self._look_for_heirs(before)
        if self._lost is not None:
            return
        for other in self._others():
            if other.phase == _HAS:
                raise self._in_use(other)
        if self._since is None and self._was_just_cut_short():
            # What it sent last InfluxDB may still be busy with, and would write after it was read what there is.
            sleep(min(self._stale_s * (1.0 - _FRESH), _UNDER_WAY_S))
        since = max([times.now_ms(), *(one.since + 1 for one in before)])
        self._tell(_ASKS, since)
        end = time.monotonic() + _RIVALS_S
        while True:
            looked = time.monotonic()
            rivals = [one for one in self._others() if one.phase in (_HAS, _ASKS)]
            if not rivals:
                break
            # Of those that ask at once one waits until the others have given up, or one has it.
            first = min(rivals, key=lambda one: (one.phase != _HAS, one.owner))
            if first.phase == _HAS or first.owner < self._owner or looked > end:
                self._tell(_GAVE_UP, since)
                raise self._in_use(first)
            sleep(_LOOK_S)
        self._tell(_HAS, since)
        self._since, self._confirmed, self._doubted = since, looked, False
        self._note(since)
        if self._beating.ident is None:
            self._beating.start()

    def _look_for_heirs(self, found: list[_Claimed]) -> None:
        """Note where somebody took the database over after this one."""
        for one in found:
            if self._since is not None and one.since > self._since and one.phase in (_HAS, _LEFT):
                self._lost = (
                    f"{self._client.address} was taken over at {format_instant(one.since)} by the service on "
                    f"{one.place}: nothing is written any more. Stop one of the two, and restart this one; what it has "
                    "not written waits in its journal."
                )
                _log.error("%s", self._lost)
                return

    def _note_emptied(self) -> None:
        self.losses += 1
        self._emptied = (
            f"{self._client.address} was dropped or emptied, which was noticed at {format_instant(times.now_ms())}:"
            " what was written before is gone; what comes is written."
        )
        _log.error("%s", self._emptied)

    def _in_use(self, other: _Claimed) -> InUse:
        return InUse(
            f"{self._client.address} is in use by the service on {other.place}, since {format_instant(other.since)}. "
            "One service at a time can write to a database: stop that one, or name another database. "
            f"If it was killed, this one can start {self._stale_s:.0f} s after."
        )

    def _beat_on(self) -> None:
        while not self._ending.wait(self._stale_s / _BEATS):
            with self._lock, contextlib.suppress(InfluxError):
                # What was not asked of for too long is taken by whoever writes next, or not.
                if self._lost is None and self._is_fresh and not self._ending.is_set():
                    self._beat()

    def _beat(self) -> None:
        looked = time.monotonic()
        found = self._newest(round(self._stale_s * 1000))
        self._look_for_heirs(found)
        if self._lost is not None:
            return
        # The server's clock may have been set forward: so it is looked for further back before it is missed.
        if all(one.owner != self._owner for one in found) and not any(
            one.owner == self._owner for one in self._newest(DAY_MS)
        ):
            self._note_emptied()
        self._tell(_HAS)
        self._confirmed = looked

    def _others(self) -> list[_Claimed]:
        """Those of other owners that are not stale, nor known to have ended."""
        return [one for one in self._of_others() if not has_ended(one.process)]

    def _was_just_cut_short(self) -> bool:
        """Whether a process of another owner has ended without letting go, and its claim is not stale."""
        return any(one.phase == _HAS and has_ended(one.process) for one in self._of_others())

    def _of_others(self) -> list[_Claimed]:
        return [one for one in self._newest(round(self._stale_s * 1000)) if one.owner != self._owner]

    def _newest(self, span_ms: int) -> list[_Claimed]:
        """The newest point of each owner, not older than `span_ms` by the server's clock."""
        types = {OWNER: pa.string(), "phase": pa.string(), SINCE: pa.int64()}
        types |= {"place": pa.string(), "process": pa.string()}
        columns = ", ".join(map(identifier, types))
        try:
            rows = self._client.select(
                f"SELECT {columns} FROM {identifier(CLAIM)} WHERE time > now() - {span_ms}ms"
                f" GROUP BY {identifier(OWNER)} ORDER BY time DESC LIMIT 1",
                types,
            )
        except Refused as error:
            # There is no such database (any more).
            if error.status != 404 and "not found" not in str(error):
                raise
            return []
        return [_Claimed(**row | {"process": row["process"] or ""}) for row in rows.to_pylist()]

    def _tell(self, phase: str, since: int | None = None) -> None:
        """Write a point; without a time, so that the server gives it its own."""
        fields = f'phase="{phase}",{SINCE}={since or self._since}i,place={string_field(self._place)}'
        fields += f",process={string_field(self._process)}" if self._process else ""
        for refusal in self._writer.try_write([lines_of([f"{CLAIM}{tag(OWNER, self._owner)} {fields}\n"])]):
            raise Unreachable(f"{self._client.address} takes no claim: {refusal.words}")
