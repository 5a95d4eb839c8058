"""Hostile requests: what the slowest takes, whether any fails by our fault, and the memory of the service.

    .venv/bin/python bench/hostile.py

First those that once took seconds or much memory (`HEAVY` in tests/support/hostile.py), then such as are made from
seeds: queries, bodies, reports, compressed bytes, paths, conditions. All go to one service, one behind the other, which
also keeps a few reports, so that there is something to answer.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from options import Options, scratch
from output import machine, number, table

from tests.support.hostile import HEAVY, Outcome, requests, send
from tests.support.running import RunningService


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--count", 400, tiny=20, help="how many requests of each seed")
    parser.size("--seeds", 3, tiny=1, help="how many seeds")
    parser.shared("--folder")
    options = parser.parse()
    print(f"{machine()}\n")
    # With a prefix it is an interpreter of its own, and no fork: its memory is measured.
    with (
        scratch(options) as folder,
        RunningService(Path(folder) / "data", "--flush-interval", "1", prefix=("env",)) as service,
    ):
        rows = [_row(name, found) for name, found in _measured(service, options)]
        if "Traceback" in service.log:
            raise RuntimeError(f"a fault of ours: {service.log[-5000:]}")
    statuses = ("sent", "2xx", "4xx", "cut off", "5xx")
    print(table(("Requests", *statuses, "most CPU ms", "slowest ms", "longest answer KB", "MB"), rows))


def _measured(service: RunningService, options: argparse.Namespace) -> Iterator[tuple[str, Outcome]]:
    print("those that once were heavy ...", file=sys.stderr)
    yield "that once were heavy", send(service, HEAVY.values())
    for seed in range(1, options.seeds + 1):
        print(f"seed {seed} ...", file=sys.stderr)
        yield f"of seed {seed}", send(service, islice(requests(seed), options.count))


def _row(name: str, found: Outcome) -> list[str]:
    """A line of the table; a request that is cut off is one whose head is too large."""
    kinds = [sum(count for status, count in found.statuses.items() if status // 100 == kind) for kind in (2, 4, 0, 5)]
    return [
        name, str(sum(found.statuses.values())), *map(str, kinds), number(found.busiest_s * 1000),
        number(found.slowest_s * 1000), number(found.largest / 1000), number(found.memory / 1e6),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
