"""The rows that machines have in what is kept of the fleet."""

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class MachineRows:
    """The number of each machine, given once and for good, so that a row stays a machine's whoever else joins."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._guard = threading.Lock()

    def of(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """The rows of machines, new ones at the end. May be called by several threads."""
        numbers = self._numbers
        with self._guard:
            for name in names:
                if name not in numbers:
                    numbers[name] = len(numbers)
                    self.names.append(name)
        return np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))
