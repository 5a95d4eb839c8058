"""Reports that are not the newest of their host: late, backfilled, sent twice. How many a second one core takes.

    .venv/bin/python bench/late.py [--beside TREE]

As in bench/ingest.py the server has core 0, wrk core 1 and 64 connections, a report a request, of 1,000 hosts. The
service has to tell what it knows from what is new. First with windows in memory, then, after a restart, with the same
on disk. With --beside TREE the service of another work tree is measured as well, the two of them in turn.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ingest import IngestContestant, OfferedLoad, contestants, wrk
from options import Options, scratch, trees
from output import machine, number, table
from processes import SERVER_CORE
from servers import Server, installed, loadlens

from contract import times
from contract.times import DAY_MS, HOUR_MS


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--seconds", 6, tiny=1, help="how long each kind is measured")
    parser.size("--connections", 64, tiny=8, help="that wrk keeps busy")
    parser.size("--most", 0, tiny=200, help="answers after which it sends no more, before its time is over; 0: never")
    parser.size("--rounds", 2, tiny=1, help="how often each is measured")
    parser.shared("--beside", "--folder", "--fleet")
    options = parser.parse()
    if not installed("wrk"):
        sys.exit("wrk measures here; nothing can be said without it")
    print(f"{machine()}\n")
    found: dict[tuple[str, str], list[tuple[float, int]]] = {}
    with scratch(options) as folder:
        contestant = next(one for one in contestants(Path(folder), options.fleet) if "our agent" in one.name)
        for turn in range(options.rounds):
            for name, tree in trees(options).items():
                for kind, rate, p99_us in _measured(Path(folder) / f"{name}-{turn}", tree, contestant, options):
                    found.setdefault((kind, name), []).append((rate, p99_us))
    rows = [
        [
            f"{kind}, {name}", number(sum(rate for rate, _ in some) / len(some)),
            f"{max(p99 for _, p99 in some) / 1000:.1f}",
        ]
        for (kind, name), some in found.items()
    ]  # fmt: skip
    print(table(("One core, one report a request", "requests/s", "p99 ms"), rows))


def _measured(
    folder: Path, tree: Path, contestant: IngestContestant, options: argparse.Namespace
) -> Iterator[tuple[str, float, int]]:
    """Each kind of report, how many a second, and the 99th percentile of what a sender waits."""
    day_ago = times.now_ms() - DAY_MS

    def sent(server: Server, kind: str, seconds: int, first_end: int, *, known: bool) -> tuple[str, float, int]:
        print(f"{folder.name}: {kind} ...", file=sys.stderr)
        before = server.metrics()
        outcome = wrk(contestant, server, OfferedLoad(options.connections, 0, seconds, options.most), first_end)
        duplicates = server.metrics()["loadlens_reports_duplicate_total"] - before["loadlens_reports_duplicate_total"]
        if outcome.refused or outcome.broken or (duplicates > outcome.requests // 2) != known:
            raise RuntimeError(
                f"{kind}: {outcome.refused} refused, {outcome.broken} broken, {duplicates} of {outcome.requests} known"
            )
        return kind, outcome.rate, outcome.p99_us

    def started() -> AbstractContextManager[Server]:
        return loadlens(folder, "--flush-interval", "3600", core=SERVER_CORE, tree=tree)

    half = max(1, options.seconds // 2)
    with started() as server:
        yield sent(server, "the newest of each host", options.seconds, day_ago, known=False)
        yield sent(server, "sent twice, in memory", half, day_ago, known=True)
        yield sent(server, "backfilled, older than all", half, day_ago - 12 * HOUR_MS, known=False)
    with started() as server:
        yield sent(server, "sent twice, on disk", half, day_ago, known=True)
        yield sent(server, "late, between those on disk", half, day_ago + 2500, known=False)


if __name__ == "__main__":
    main()
