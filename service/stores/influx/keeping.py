"""How long InfluxDB itself keeps points, which anybody may change at any time."""

import contextlib
import json
import logging
import re
import time
from typing import Final

from analytics.sources.influx_client import InfluxClient, Refused
from contract.influx import identifier
from contract.times import format_duration
from service.stores.influx.places import RETENTION_3, Place

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S: Final = 60.0
_PARTS_MS: Final = {"h": 3_600_000, "m": 60_000, "s": 1000}


class Keeping:
    """The retention period of a database; `wanted_ms` is how long the service wants to keep points (None: for ever)."""

    def __init__(self, client: InfluxClient, wanted_ms: int | None) -> None:
        self._client = client
        self._wanted_ms = wanted_ms
        self._kept_ms: int | None = None
        self._looked: float | None = None
        self.problem: str | None = None
        """That it was made shorter while the service ran; None where it was not."""

    def look(self, place: Place, *, anew: bool = False) -> None:
        """Ask for it, once a minute, or where something says that it is another. Raises Unreachable."""
        if not anew and self._looked is not None and time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        before, first = self._kept_ms, self._looked is None
        with contextlib.suppress(Refused):  # who may write need not be one who may ask this
            self._kept_ms = kept_ms(self._client, place)
        self._looked = time.monotonic()
        if self._kept_ms == before:
            return
        words = f"{self._client.address} keeps points for {_shown(self._kept_ms)}"
        if not first and _is_shorter(self._kept_ms, before):
            self.problem = f"{words} now, before for {_shown(before)}: what is older is gone, and is not written"
            _log.error("%s", self.problem)
        elif not first:
            self.problem = None
            _log.info("%s now, before for %s", words, _shown(before))
        elif _is_shorter(self._kept_ms, self._wanted_ms):
            _log.warning("%s, shorter than the %s that the settings say", words, _shown(self._wanted_ms))

    def oldest_ms(self, now_ms: int) -> int:
        """Points before this are not kept, epoch ms."""
        return 0 if self._kept_ms is None else now_ms - self._kept_ms


def kept_ms(client: InfluxClient, place: Place) -> int | None:
    """How long InfluxDB itself keeps points there, ms; None for ever, and where it does not say.

    Raises Unreachable or Refused.
    """
    server = client.server()
    if server.generation == 2:
        # Its SHOW RETENTION POLICIES says 0s of every bucket.
        bucket = json.loads(client.request("GET", f"/api/v2/buckets/{place.bucket}").data)
        seconds = [int(rule.get("everySeconds", 0)) for rule in bucket.get("retentionRules") or []]
        return min((one * 1000 for one in seconds if one > 0), default=None)
    if server.generation > 2 and server.number < RETENTION_3:
        return None
    try:
        found = client.execute(f"SHOW RETENTION POLICIES ON {identifier(client.address.database)}")
    except Refused as error:
        # In 3.x a database is only there from its first write on.
        if server.generation < 3 or "not found" not in str(error):
            raise
        return None
    policies = [dict(zip(one["columns"], row, strict=True)) for one in found for row in one.get("values", [])]
    for policy in policies:
        if policy.get("default", True):
            return _duration_ms(str(policy.get("duration", ""))) or None
    return None


def _duration_ms(text: str) -> int:
    """What `168h0m0s` means, ms."""
    return sum(int(number) * _PARTS_MS[unit] for number, unit in re.findall(r"(\d+)([hms])(?![a-z])", text))


def _is_shorter(one_ms: int | None, other_ms: int | None) -> bool:
    return one_ms is not None and (other_ms is None or one_ms < other_ms)


def _shown(span_ms: int | None) -> str:
    return "ever" if span_ms is None else format_duration(span_ms)
