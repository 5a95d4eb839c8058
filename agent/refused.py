"""Where reports go that the service refused as invalid: a file beside the spool, for a person to look at."""

import logging
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from contract import times

__all__ = ["RefusedFile"]

MAX_BYTES = 4 * 1024 * 1024
"""At this size the file becomes `refused.ndjson.1`, in the place of the one before."""

_log = logging.getLogger(__name__)


class _Refused(Struct):
    refused_at: int
    """Epoch milliseconds."""
    status: int
    problems: Any
    report: msgspec.Raw


class RefusedFile:
    """Lines of JSON: when, with which status and for what problems a report was refused, and the report."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "refused.ndjson"

    def add(self, body: bytes, status: int, problems: object) -> None:
        """Put a report aside. Where that fails the log has the reasons; it is not kept then."""
        line = msgspec.json.encode(_Refused(times.now_ms(), status, problems, msgspec.Raw(body)))
        try:
            if self._path.exists() and self._path.stat().st_size + len(line) > MAX_BYTES:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            _log.warning("a refused report cannot be kept in %s: %s", self._path, error)
