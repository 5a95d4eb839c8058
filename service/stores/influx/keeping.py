"""How long InfluxDB itself keeps points, which anybody may change at any time."""

import contextlib
import logging
import time
from typing import Final

from analytics.sources.influx_client import InfluxClient, Refused
from contract.times import format_duration
from service.stores.influx.places import Place, kept_ms

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S: Final = 60.0


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


def _is_shorter(one_ms: int | None, other_ms: int | None) -> bool:
    return one_ms is not None and (other_ms is None or one_ms < other_ms)


def _shown(span_ms: int | None) -> str:
    return "ever" if span_ms is None else format_duration(span_ms)
