"""The agent's log, one line a message whatever a server has put into it."""

import logging

from contract.problems import display


class OneLine(logging.Formatter):
    """Writes out what cannot be seen in a message: line breaks, NUL, escapes that steer a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line of a record; a traceback comes behind it as it is."""
        record.message = display(record.message)
        return super().formatMessage(record)
