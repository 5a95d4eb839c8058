"""One contract for every log of reports (`service.journal.base`): files of this machine, or a stream of NATS."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from contract.report import Report, decode_report
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.log import ReplicatedLog
from service.journal.base import Log
from service.journal.journal import Journal, JournalFull
from service.journal.reader import JournalReader
from tests.support.nats_cluster import RunningNats
from tests.support.reports import END_MS, as_json, small
from tests.support.running import wait_until

pytestmark = pytest.mark.server
LIMIT = 16 * 1024 * 1024
Append = Callable[[list[bytes], list[Report]], int]


class Kept:
    """A log that can be opened again, as by another process or after a restart."""

    def __init__(self, open_: Callable[[int, int], tuple[Log, Append]]) -> None:
        self._open = open_
        self._stack = ExitStack()
        self._opened: tuple[Log, Append] | None = None

    def opened(self, limit_bytes: int = LIMIT, keep_bytes: int = 0) -> Log:
        """The log, opened anew; a stream has the limit with which it was made."""
        self.close()
        log, _ = self._opened = self._open(limit_bytes, keep_bytes)
        self._stack.callback(log.close)
        return log

    @property
    def log(self) -> Log:
        """The log as it is open."""
        return self.opened() if self._opened is None else self._opened[0]

    def append(self, numbers: range) -> int:
        """Put reports of a host, by the seconds at which they end; the offset of the last."""
        bodies = texts(numbers)
        assert self.log is not None
        assert self._opened is not None
        return self._opened[1](bodies, [decode_report(body) for body in bodies])

    def read(self, after: int = 0) -> list[bytes]:
        """The texts behind an offset, each record's last offset being as it should be."""
        records = list(self.log.read(after))
        found = [[bytes(raw) for raw in msgspec.json.decode(record.body, type=list[msgspec.Raw])] for record in records]
        for (before, _), (record, texts) in pairwise(zip(records, found, strict=True)):
            assert record.last == before.last + len(texts)
        return [one for texts in found for one in texts]

    def close(self) -> None:
        """Let go of it."""
        self._stack.close()
        self._opened = None


def text(number: int) -> bytes:
    """A report."""
    return as_json(small("web-1", END_MS + 1000 * number))


def texts(numbers: range) -> list[bytes]:
    """Reports."""
    return [text(number) for number in numbers]


@pytest.fixture(params=["files", "nats"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """An empty log."""
    if request.param == "files":

        def of_files(limit: int, keep: int) -> tuple[Log, Append]:
            journal = Journal(tmp_path / "journal", limit, keep)
            return journal, lambda texts, _: journal.append(texts)

        kept = Kept(of_files)
        yield kept
        kept.close()
        return
    nats: RunningNats = request.getfixturevalue("one_node")
    cluster = Cluster(ClusterAddress.parse(nats.address(request.getfixturevalue("name"))))

    def of_nats(limit: int, keep: int) -> tuple[Log, Append]:
        log = ReplicatedLog(cluster, limit, keep)
        return log, log.append

    kept = Kept(of_nats)
    yield kept
    kept.close()
    cluster.close()


def test_a_new_log_is_empty(kept: Kept) -> None:
    assert (kept.log.last, kept.log.size, kept.read()) == (0, 0, [])
    assert (kept.log.problem, kept.log.failures) == (None, 0)


def test_reports_come_back_in_order_from_any_offset(kept: Kept) -> None:
    assert kept.append(range(1)) == 1
    assert kept.append(range(1, 4)) == 4
    assert kept.append(range(4, 250)) == 250
    assert kept.log.last == 250
    for after in (0, 1, 3, 4, 100, 249, 250):
        # Records may begin before the offset that is asked for; what is behind it is there, last.
        found = kept.read(after)
        assert found[len(found) - (250 - after) :] == texts(range(after, 250))


def test_a_log_that_is_opened_again_goes_on(kept: Kept) -> None:
    kept.append(range(5))
    log = kept.opened()
    assert log.last == 5
    assert kept.read() == texts(range(5))
    assert kept.append(range(5, 6)) == 6


def test_what_the_store_has_goes_and_what_it_has_not_stays(kept: Kept) -> None:
    for number in range(20):
        kept.append(range(number, number + 1))
    kept.log.prune(7)
    assert kept.read(7) == texts(range(7, 20))
    assert kept.append(range(20, 21)) == 21
    kept.log.prune(0)
    assert kept.read(7) == texts(range(7, 21))
    kept.log.prune(21)
    assert kept.read(21) == []
    assert kept.append(range(21, 22)) == 22


def test_at_its_limit_a_log_takes_no_more_until_the_store_is_there(kept: Kept) -> None:
    kept.opened(100_000)
    taken = 0
    while takes(kept, range(taken, taken + 50)):
        taken += 50
    assert 0 < taken < 1000
    assert kept.read()[:taken] == texts(range(taken))
    kept.log.prune(kept.log.last)
    wait_until(lambda: takes(kept, range(20_000, 20_001)), "room")


def takes(kept: Kept, numbers: range) -> bool:
    """Whether a log takes reports."""
    try:
        kept.append(numbers)
    except JournalFull:
        return False
    return True


def test_readers_follow_it_page_by_page(kept: Kept) -> None:
    for first in range(0, 120, 10):
        kept.append(range(first, first + 10))
    reader = JournalReader(kept.log, page_bytes=4000)
    found: list[bytes] = []
    after = 0
    while (page := reader.page(after, 120)) is not None and after < 120:
        assert page.first == after + 1
        found += page.texts
        after = page.last
    assert found == texts(range(120))
