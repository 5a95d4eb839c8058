"""A process that fills a store as fast as it can, until it is killed; it says each offset that is on disk.

`python flusher.py FOLDER`. Window n of the only host has n % 5 + 1 samples of n % 64 / 64 and ends n seconds after
the first.
"""

import sys
from pathlib import Path

from contract.metrics import Cpu
from contract.report import Report
from service.stores.embedded.store import EmbeddedStore

START_MS = 1_706_572_800_000
STEP_MS = 30_000


def window(number: int) -> Report:
    """The report at offset `number`."""
    end = START_MS + number * STEP_MS
    share = number % 64 / 64
    cpu = Cpu(share, 0.0, [share] * 2, [0.0] * 2)
    return Report("flusher", end - 1000, end, number % 5 + 1, "Linux", "12", [cpu])


def main(folder: Path) -> None:
    """Go on from where the store ends."""
    store = EmbeddedStore(folder, "256MB", holds=lambda after, through: True)
    while True:
        first = store.flushed + 1
        store.add(first + 9, [window(number) for number in range(first, first + 10)])
        store.flush()
        print(store.flushed, flush=True)
        store.compact()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
