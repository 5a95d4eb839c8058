"""Writing lines: in batches, by the API that the server has; lines that it refuses are found one by one."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import urllib3

from analytics.sources.influx_client import InfluxClient, Refused, Unreachable, raise_for_status
from contract.influx import TIERS, measurement_of
from service.stores.influx.lines import Lines
from service.stores.influx.places import Place

_log = logging.getLogger("loadlens.service")
_BATCH_BYTES = 2_000_000
_WRONG_LINES = (400, 413, 422)
"""Answers that are about the lines; 401, 403 and 404 are about who asks, or for what."""
_TOO_LARGE = 413
_LONGEST_FILE = 100_000_000
_EXPIRED = re.compile(r"beyond retention policy dropped=(\d+)|dropped (\d+) points outside retention policy")
"""What 1.x and 2.x say of points that are older than they keep any; the others of the batch are written."""
_ROLLUPS = tuple(f"{measurement_of(tier, cores=cores)}," for tier in TIERS for cores in (False, True))
_NAMED = 300
_LOGGED = 10
"""So many of the lines that are put aside at once are shown."""


class RefusedLine(NamedTuple):
    """A line that InfluxDB refuses."""

    row: int
    """Its place among the rows that were given."""
    words: str
    """InfluxDB's own."""
    line: str


class Writer:
    """Writes to one database; `aside` is the file for lines that it refuses. One thread at a time.

    `place` says which bucket of InfluxDB 2 that is; `guard` is asked before each batch, and raises Unreachable where
    nothing may be written.
    """

    def __init__(
        self,
        client: InfluxClient,
        aside: Path,
        timeout_s: float,
        place: Callable[[], Place],
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._place = place
        self._guard = guard
        self.aside = aside
        self._timeout_s = timeout_s
        self._api: Any = None
        self.written_lines = 0
        self.set_aside = 0
        """Lines that were refused."""
        self.dropped = 0
        """Of these, those that the file had no room for."""
        self.refused_rows = 0
        """Of these, rows of rollups: answers of 5 minutes and coarser lack what they have."""
        self.expired = 0
        """Lines that are older than InfluxDB keeps any; they are not put aside, as it will never take them."""

    @property
    def problem(self) -> str | None:
        """That lines were refused; None where none were."""
        if not self.set_aside:
            return None
        words = f"InfluxDB refused {self.set_aside} lines since the start, put aside in {self.aside}"
        words += f", but for {self.dropped} that it had no room for" if self.dropped else ""
        if self.refused_rows:
            words += f"; {self.refused_rows} of them are rows of rollups: answers of 5 minutes and coarser are too low"
        return words

    def write(self, parts: Iterable[Lines]) -> None:
        """Write all lines, and put aside those that are refused.

        Raises Unreachable where InfluxDB cannot take them now, or lets nobody write; writing again does no harm.
        """
        refused = self.try_write(parts)
        if refused:
            self.put_aside((one.words, one.line) for one in refused)

    def try_write(self, parts: Iterable[Lines]) -> list[RefusedLine]:
        """Write all lines but those that are refused, which are returned; raises what `write` raises."""
        refused: list[RefusedLine] = []
        for part in parts:
            for start, end in _batches(part.text):
                refused += [
                    RefusedLine(int(part.rows[place]), words, part.text[place].as_py())
                    for place, words in self._batch(part.text, start, end)
                ]
        return refused

    def _batch(self, text: pa.StringArray, start: int, end: int) -> list[tuple[int, str]]:
        """Write lines `start` to `end`; the places of those that were refused, and why."""
        self._guard()
        body = _body(text, start, end)
        try:
            self._post(body)
        except Refused as error:
            if self._client.server().generation > 2 and error.status != _TOO_LARGE:
                return self._around_wrong_line(text, start, end, error)
            if error.status not in _WRONG_LINES:
                raise Unreachable(f"{self._client.address} lets nobody write: {error}") from None
            if _expired(str(error)) >= end - start:
                return [(place, str(error)) for place in range(start, end)]
            if end - start > 1:
                # Halves are sent again whole: the same point overwrites itself.
                middle = (start + end) // 2
                return self._batch(text, start, middle) + self._batch(text, middle, end)
            return [(start, str(error))]
        self.written_lines += end - start
        return []

    def _around_wrong_line(self, text: pa.StringArray, start: int, end: int, error: Refused) -> list[tuple[int, str]]:
        """Write what is before and behind the first line that InfluxDB 3 finds wrong; nothing was written yet.

        It answers 400 to much that is no fault of a line, such as a write-ahead log that is full: a wrong line is what
        it names as one.
        """
        found = _wrong_line(error.body)
        if found is None or not 0 < found[0] <= end - start:
            raise Unreachable(f"{self._client.address} cannot take writes: {error}") from None
        place = start + found[0] - 1
        before = self._batch(text, start, place) if place > start else []
        behind = self._batch(text, place + 1, end) if place + 1 < end else []
        return [*before, (place, f"InfluxDB answers {error.status}: {found[1]}"), *behind]

    def put_aside(self, lines: Iterable[tuple[str, str]]) -> None:
        """Keep lines that are not in InfluxDB, each with the reason; they are on disk when it returns.

        Those that are older than InfluxDB keeps any are counted only, and so are those that the file has no room for.
        """
        named = [*lines]
        texts = [f"# {words}\n{line}".encode() for words, line in named if not _expired(words)]
        self.expired += len(named) - len(texts)
        if not texts:
            return
        room = _LONGEST_FILE - (self.aside.stat().st_size if self.aside.exists() else 0)
        fitting = int(np.searchsorted(np.cumsum([len(text) for text in texts]), room, side="right"))
        with self.aside.open("ab") as file:
            file.writelines(texts[:fitting])
            file.flush()
            os.fsync(file.fileno())
        self.set_aside += len(texts)
        self.refused_rows += sum(line.startswith(_ROLLUPS) for words, line in named if not _expired(words))
        if fitting < len(texts):
            self.dropped += len(texts) - fitting
            _log.error("%s has no room for more: %d refused lines are dropped", self.aside, len(texts) - fitting)
        for text in texts[:_LOGGED]:
            _log.error("put aside in %s: %s", self.aside, text[:_NAMED].decode(errors="replace").rstrip())
        if len(texts) > _LOGGED:
            _log.error("put aside in %s: %d more lines", self.aside, len(texts) - _LOGGED)

    def _post(self, body: bytes) -> None:
        client = self._client
        generation = client.server().generation
        if generation == 1:
            client.request("POST", "/write", {"db": client.address.database, "precision": "ms"}, body)
        elif generation == 2:
            self._post_by_api(body)
        else:
            parameters = {"db": client.address.database, "precision": "millisecond", "accept_partial": "false"}
            client.request("POST", "/api/v3/write_lp", parameters, body)

    def _post_by_api(self, body: bytes) -> None:
        from influxdb_client.rest import ApiException

        try:
            place = self._place()
            api = self._write_api()
            api.write(bucket=place.bucket, org=place.organization, record=body, write_precision="ms")
        except ApiException as error:
            content = error.body or error.reason or ""
            raise_for_status(error.status or 500, str(content).encode(), error.headers or {})
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self._client.address} cannot be reached: {type(error).__name__}") from None

    def _write_api(self) -> Any:
        if self._api is None:
            from influxdb_client.client.influxdb_client import InfluxDBClient
            from influxdb_client.client.write_api import SYNCHRONOUS

            client = InfluxDBClient(
                url=self._client.address.url, token=self._client.credentials.token, org="-",
                timeout=int(self._timeout_s * 1000), retries=False, debug=False,
            )  # fmt: skip
            self._api = client.write_api(write_options=SYNCHRONOUS)
        return self._api


def _expired(words: str) -> int:
    """How many points of a batch were older than InfluxDB keeps any, as it says."""
    found = _EXPIRED.search(words)
    return int(found[1] or found[2]) if found else 0


def _wrong_line(body: bytes) -> tuple[int, str] | None:
    """The number, from 1, of the first line that an answer of InfluxDB 3 names as wrong, and what is wrong with it."""
    try:
        content = msgspec.json.decode(body)
        data = content["data"]
        first = min(data, key=lambda one: one["line_number"]) if isinstance(data, list) else data
        return int(first["line_number"]), str(first["error_message"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def _batches(text: pa.StringArray) -> Iterator[tuple[int, int]]:
    """The first and the behind-last line of each batch."""
    offsets = _offsets(text)
    start = 0
    while start < len(text):
        end = max(int(np.searchsorted(offsets, offsets[start] + _BATCH_BYTES)) - 1, start + 1)
        yield start, min(end, len(text))
        start = end


def _body(text: pa.StringArray, start: int, end: int) -> bytes:
    offsets = _offsets(text)
    return bytes(memoryview(text.buffers()[2])[offsets[start] : offsets[end]])


def _offsets(text: pa.StringArray) -> npt.NDArray[np.int32]:
    return np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
