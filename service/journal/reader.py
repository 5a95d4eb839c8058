"""What was reported a while ago, read from the journal for those who come back or are behind."""

import time
from collections import deque
from typing import NamedTuple

import msgspec

from contract.report import Report
from service.journal.journal import Entry, Journal
from service.stream.channels import Channel, Piece

_PAGE_BYTES = 256 * 1024
_PAGES = 16
_TRIES = 3
_LONGEST_PAUSE_S = 0.1
_TEXTS = msgspec.json.Decoder(list[msgspec.Raw])
_REPORTS = msgspec.json.Decoder(list[Report])


class Stretch(NamedTuple):
    """Encoded reports that follow each other."""

    first: int
    """The offset of the first report that was looked at; those between this and what was asked for are gone."""
    last: int
    pieces: list[Piece]


class Page:
    """Reports that follow each other in the journal; the first lies at offset `first`."""

    def __init__(self, first: int, entries: list[Entry], texts: list[bytes]) -> None:
        self.first = first
        self.texts = texts
        self._entries = entries
        self._reports: list[Report] | None = None

    @property
    def last(self) -> int:
        """The offset of the last report."""
        return self.first + len(self.texts) - 1

    @property
    def reports(self) -> list[Report]:
        """The reports, decoded when somebody asks."""
        if self._reports is None:
            self._reports = [report for entry in self._entries for report in _REPORTS.decode(entry.body)]
        return self._reports


class History:
    """Pages of the journal, the newest of them kept for others who read the same. For one thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pages: deque[Page] = deque(maxlen=_PAGES)

    def page(self, after: int, through: int) -> Page | None:
        """The page with the oldest report behind `after` that is still there, at most up to the record of `through`."""
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
        entries: list[Entry] = []
        texts: list[bytes] = []
        size = 0
        for entry in self._journal.read(after):
            if size > _PAGE_BYTES:
                break
            some = [bytes(raw) for raw in _TEXTS.decode(entry.body)]
            if entry.last - len(some) >= through:
                break
            if entries and entry.last - len(some) != entries[-1].last:
                # The file was used again while it was read.
                break
            entries.append(entry)
            texts += some
            size += len(entry.body)
        return Page(entries[-1].last - len(texts) + 1, entries, texts) if entries else None

    def encoded(self, channel: Channel, after: int, through: int) -> Stretch:
        """What a channel selects of the reports behind `after`: a page of them at most.

        Rests as long as it worked, so that those who are behind take a bounded share of the processor.
        """
        began = time.monotonic()
        stretch = self._encoded(channel, after, through)
        time.sleep(min(time.monotonic() - began, _LONGEST_PAUSE_S))
        return stretch

    def _encoded(self, channel: Channel, after: int, through: int) -> Stretch:
        page = self.page(after, through)
        if page is None:
            return Stretch(through + 1, through, [])
        skipped = max(0, after + 1 - page.first)
        # A round may end within a record.
        last = min(page.last, through)
        end = last - page.first + 1
        reports = page.reports[skipped:end] if channel.selection.needs_report else None
        first = page.first + skipped
        return Stretch(first, last, channel.encode(first, page.texts[skipped:end], reports))
