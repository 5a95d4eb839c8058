"""The last warnings and errors of the log, kept in memory for diagnostics."""

import logging
from collections import deque
from collections.abc import Iterable

from contract.times import format_instant

__all__ = ["Troubles"]

KEPT = 50
_MOST_CHARACTERS = 300


class Troubles(logging.Handler):
    """Takes what is logged as a warning or worse; `secrets` are left out of it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__(logging.WARNING)
        self._secrets = [secret for secret in secrets if secret]
        self._kept: deque[dict[str, str]] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        text = record.getMessage()
        for secret in self._secrets:
            text = text.replace(secret, "(hidden)")
        self._kept.append(
            {
                "at": format_instant(round(record.created * 1000)),
                "level": record.levelname.lower(),
                "message": text[:_MOST_CHARACTERS],
            }
        )

    def last(self) -> list[dict[str, str]]:
        """The last of them, oldest first."""
        return list(self._kept)
