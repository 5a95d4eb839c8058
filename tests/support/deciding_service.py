"""A service that decides: one process, or two of a cluster."""

from pathlib import Path
from typing import Any

import msgspec

from contract.agent_protocol import AgentState
from tests.support.agent_states import state
from tests.support.deciding import (
    DecidingProcess,
    DecidingProcesses,
)

__all__ = ["MINUTE_MS", "Service", "entries_of", "saying"]


MINUTE_MS = 60_000


class Service:
    """`here` is asked to change something, `there` what holds."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self._processes = DecidingProcesses(folder)
        self._address = address
        self._open()

    def _open(self) -> None:
        self.here = self._processes.open("a", self._address)
        self.there = self.here if self._address is None else self._processes.open("b", self._address)

    @property
    def processes(self) -> list[DecidingProcess]:
        """Both; where they are one, it is here twice."""
        return [self.here, self.there]

    def settle(self) -> None:
        """Return when each process has what was changed so far."""
        for process in self.processes:
            process.catch_up()

    def join(self) -> DecidingProcess:
        """A process that is new; by itself a service has no other."""
        return self.here if self._address is None else self._processes.open("c", self._address)

    def restart(self) -> None:
        """End all, and begin again."""
        self.close()
        self._open()

    def close(self) -> None:
        """End all."""
        self._processes.end_all()


def entries_of(process: DecidingProcess) -> list[dict[str, Any]]:
    """The audit trail, newest first, without the numbers of its entries."""
    found = process.audit.entries(target=None, before=None, limit=1000)
    return [{name: value for name, value in entry.items() if name != "id"} for entry in found]


def saying(**members: Any) -> AgentState:
    """What an agent says of its state."""
    return msgspec.convert(state(**members), AgentState)
