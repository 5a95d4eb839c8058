"""Where reports go: to the service by way of the spool, or to standard output."""

import sys
from threading import Thread
from typing import Protocol

from agent.sender import Sender
from agent.spool import Spool
from contract.report import Report, encode

__all__ = ["Outbox", "Printer", "Service"]

CLOSE_S = 3.0
"""How long the last reports may take when the agent ends; then they stay in the spool."""


class Outbox(Protocol):
    """Takes reports."""

    def counts(self) -> dict[str, int]:
        """What `AgentStatus` says of reports: `spooled`, `dropped`, `refused`."""

    def put(self, report: Report) -> None:
        """Take a report; it is safe when this returns."""

    def close(self) -> None:
        """Deliver what can be delivered quickly."""


class Service:
    """Spools reports; `thread` runs the sender."""

    def __init__(self, spool: Spool, sender: Sender, thread: Thread) -> None:
        self._spool = spool
        self._sender = sender
        self._thread = thread

    @property
    def trouble(self) -> str | None:
        """Why reports are not taken now; None where they are."""
        return self._sender.trouble

    def counts(self) -> dict[str, int]:
        """The spool's and the sender's counts."""
        return {"spooled": self._spool.waiting, "dropped": self._spool.dropped, "refused": self._sender.refused}

    def put(self, report: Report) -> None:
        """Write the report to the spool."""
        self._spool.put(encode(report), report.end_timestamp)
        self._sender.wake()

    def close(self) -> None:
        """Send for a few seconds; what is left then is sent at the next start."""
        self._sender.close(CLOSE_S)
        self._thread.join(CLOSE_S + 0.5)
        self._spool.close()


class Printer:
    """Prints each report on a line of standard output."""

    def counts(self) -> dict[str, int]:
        """None: nothing waits."""
        return {}

    def put(self, report: Report) -> None:
        """Print the report. Raises BrokenPipeError where nobody reads any more."""
        sys.stdout.write(encode(report).decode() + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is kept."""
