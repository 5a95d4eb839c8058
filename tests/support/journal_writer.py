"""A process that writes to a journal until it is killed; it says each offset that is on disk.

`python -m tests.support.journal_writer PATH`. Report n is the JSON number n, and a text to make it longer.
"""

import sys
from pathlib import Path

from service.journal.journal import Journal


def report(number: int) -> bytes:
    """The JSON of the report at an offset; some are longer than others."""
    return b'[%d, "%s"]' % (number, b"x" * (number % 97 * 50))


def main(path: Path) -> None:
    """Go on from where the journal ends, one to seven reports at a time."""
    journal = Journal(path, 1 << 40)
    while True:
        first = journal.last + 1
        last = journal.append([report(number) for number in range(first, first + 1 + first % 7)])
        print(last, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
