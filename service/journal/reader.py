"""What was reported a while ago, read from the journal in pages, for those who come back or are behind."""

from collections import deque

import msgspec

from contract.report import Report
from service.journal.base import Log
from service.journal.files import Record

PAGE_BYTES = 256 * 1024
_KEPT_PAGES = 16
_TRIES = 3
_TEXTS = msgspec.json.Decoder(list[msgspec.Raw])
_REPORTS = msgspec.json.Decoder(list[Report])


class Page:
    """Reports that follow each other in the journal; the first lies at offset `first`."""

    def __init__(self, first: int, records: list[Record], texts: list[bytes]) -> None:
        self.first = first
        self.texts = texts
        """The JSON of each report."""
        self._records = records
        self._reports: list[Report] | None = None

    @property
    def last(self) -> int:
        """The offset of the last report."""
        return self.first + len(self.texts) - 1

    @property
    def reports(self) -> list[Report]:
        """The reports, decoded when somebody asks."""
        if self._reports is None:
            self._reports = [report for record in self._records for report in _REPORTS.decode(record.body)]
        return self._reports


class JournalReader:
    """Pages of the journal, the newest of them kept for others who read the same. For one thread."""

    def __init__(self, journal: Log, *, page_bytes: int = PAGE_BYTES) -> None:
        """A page ends with the record that brings it to more than `page_bytes`."""
        self._journal = journal
        self._page_bytes = page_bytes
        self._pages: deque[Page] = deque(maxlen=_KEPT_PAGES)

    def page(self, after: int, through: int) -> Page | None:
        """The page with the oldest report behind `after` that is still there, at most up to the record of `through`.

        It begins behind `after + 1` where the reports in between are pruned; None where all up to `through` are.
        """
        for page in self._pages:
            if page.first <= after + 1 <= page.last:
                return page
        found = None
        for _ in range(_TRIES):
            try:
                found = self._read(after, through)
            except FileNotFoundError:
                # Pruned meanwhile; what comes next is in another file.
                continue
            if found is None or found.first == after + 1 or self._journal.first > after + 1:
                break
        if found is not None:
            self._pages.append(found)
        return found

    def _read(self, after: int, through: int) -> Page | None:
        records: list[Record] = []
        texts: list[bytes] = []
        size = 0
        for record in self._journal.read(after):
            if size > self._page_bytes:
                break
            some = [bytes(raw) for raw in _TEXTS.decode(record.body)]
            if record.last - len(some) >= through:
                break
            if records and record.last - len(some) != records[-1].last:
                # The file was used again while it was read.
                break
            records.append(record)
            texts += some
            size += len(record.body)
        return Page(records[-1].last - len(texts) + 1, records, texts) if records else None
