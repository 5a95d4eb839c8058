"""Reports that may be known are looked up together, and each request gets the answer it would get alone."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from contract.metrics import Cpu
from contract.report import Report, encode
from service.ingest.acknowledgement import Acknowledgement, Ingest, Unavailable
from service.journal.journal import Journal
from service.stores.embedded.store import EmbeddedStore

END_MS = 1_700_000_000_000


def report(user: str, end_ms: int) -> Report:
    return Report(user, end_ms - 5000, end_ms, 100, "Linux", "12", [Cpu(0.5)])


class Opened:
    """An ingest with a journal and a store in a folder."""

    def __init__(self, folder: Path, journal_bytes: int = 1 << 27) -> None:
        self.journal = Journal(folder / "journal", journal_bytes)
        self.store = EmbeddedStore(folder, "256MB")
        self.ingest = Ingest(
            lambda texts, reports: self.journal.append(texts), self.store, lambda last, bodies, reports: None
        )

    def take(self, *requests: Sequence[Report]) -> list[Acknowledgement | BaseException]:
        """Requests that come at once."""

        async def together() -> list[Acknowledgement | BaseException]:
            taken = [self.ingest.take([encode(one) for one in some], some) for some in requests]
            return await asyncio.gather(*taken, return_exceptions=True)

        return asyncio.run(together())

    def close(self) -> None:
        self.ingest.close()
        self.store.close()
        self.journal.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made = Opened(tmp_path)
    yield made
    made.close()


def restarted(opened: Opened) -> Ingest:
    """Ingest on another loop, over the same journal and store."""
    opened.ingest.close()
    opened.ingest = Ingest(
        lambda texts, reports: opened.journal.append(texts), opened.store, lambda last, bodies, reports: None
    )
    return opened.ingest


def test_of_requests_that_bring_the_same_late_report_at_once_one_counts(opened: Opened) -> None:
    newest, late = report("a", END_MS), report("a", END_MS - 5000)
    answers = opened.take([newest], [late], [late], [late, newest], [late])
    assert answers == [(1, 0), (1, 0), (0, 1), (0, 2), (0, 1)]
    assert opened.ingest.duplicates == 4
    assert opened.store.newest() == {("a", Cpu): END_MS}
    restarted(opened)
    assert opened.take([late], [newest, late]) == [(0, 1), (0, 2)]


def test_a_thousand_late_reports_at_once_are_all_told_apart(opened: Opened) -> None:
    users = [f"machine-{number}" for number in range(10)]
    opened.take([report(user, END_MS) for user in users])
    restarted(opened)
    late = [report(user, END_MS - 1000 * step) for step in range(1, 101) for user in users]
    assert opened.take(*([one] for one in late)) == [(1, 0)] * 1000
    restarted(opened)
    beside = [report(one.user_id, one.end_timestamp - 500) for one in late]
    mixed = [one for pair in zip(late, beside, strict=True) for one in pair]
    assert opened.take(*([one] for one in mixed)) == [(0, 1), (1, 0)] * 1000
    opened.store.flush()
    restarted(opened)
    assert opened.take(*([one] for one in mixed)) == [(0, 1)] * 2000


def test_a_duplicate_of_what_could_not_be_put_on_disk_is_not_acknowledged(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.take([report("a", END_MS)])
    opened.store.flush()
    restarted(opened)
    opened.journal.limit_bytes = 0
    late = report("a", END_MS - 5000)
    first, second, known = opened.take([late], [late], [report("a", END_MS)])
    assert isinstance(first, Unavailable)
    assert isinstance(second, Unavailable)
    assert known == (0, 1)
    opened.close()


def test_a_damaged_file_keeps_only_those_from_an_answer_whose_windows_it_may_hold(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.take([report("a", END_MS)], [report("b", END_MS + 1_000_000)])
    opened.store.flush()
    (file,) = (tmp_path / "raw").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    restarted(opened)
    opened.take([report("c", END_MS + 2_000_000)])
    restarted(opened)
    late = report("c", END_MS + 1_999_000)
    lost, told, again, other = opened.take([report("a", END_MS)], [late], [late], [report("b", END_MS + 1)])
    assert isinstance(lost, Unavailable)
    assert isinstance(other, Unavailable)
    assert (told, again) == ((1, 0), (0, 1))
    opened.close()
