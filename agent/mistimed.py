"""Reports that the service refuses while one of the two clocks is off: they are not invalid, and are not lost."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from agent.clock import DATE_S, ServiceTime, Timeline, steady_s
from agent.spool import Spool
from agent.spool_file import SpooledReport
from contract.report import FUTURE_MS, decode_report, encode, report_id

HOLD_S = 3600.0
"""A report waits for the service's clock where that is behind it by no more: a host without a clock of its own starts
with a time that was saved up to an hour ago, and hears of the right one soon."""
RESENT_WAIT_S = DATE_S
"""The least wait before what was refused is sent again as it was."""
SLACK_MS = 5000
"""By so much the service's clock may have gone on since it refused a report, or be known wrongly."""
_END = "/end_timestamp"


class Resent(NamedTuple):
    """Those of refused reports that are to be sent again, by number."""

    moved: frozenset[int] = frozenset()
    """They have got other times."""
    waiting: frozenset[int] = frozenset()
    """They are as they were, and want a wait."""


class Mistimed:
    """Knows which reports may be given other times, and gives them.

    - A report that differs from the service's clock by more than `agent.clock.CLOCK_LIMIT_S` gets the service's time,
      as if that had been known when it was made.
    - One that an earlier attempt may have brought to the service keeps its times, or it would count twice. So does one
      of another run of the host, whose time nobody can tell. It waits until the service's clock is there, as long as
      that is `HOLD_S` behind at most.
    - The clock of the answer that refuses a report may be a second old. What is refused for its end alone is asked
      about once more.
    """

    def __init__(self, spool: Spool, service_time: ServiceTime | None, timeline: Timeline | None = None) -> None:
        """Without a `service_time` times stay as they are; new ends come from the `timeline` of all windows."""
        self._spool = spool
        self._time = service_time
        self._timeline = timeline or Timeline(spool.given_out())
        self._earlier = spool.newest
        """The last report of earlier runs, of which it is not known what they sent."""
        self._perhaps_taken: set[int] = set()
        self._asked_again: set[int] = set()

    def sent_in_vain(self, entries: Iterable[SpooledReport]) -> None:
        """Note that these were sent without a word on what became of them."""
        self._perhaps_taken.update(entry.number for entry in entries)

    def done(self, number: int) -> None:
        """Forget the reports up to this one, which are off the spool."""
        for noted in (self._perhaps_taken, self._asked_again):
            noted.difference_update([one for one in noted if one <= number])

    def place(self, entries: Sequence[SpooledReport]) -> list[SpooledReport]:
        """Settle the times of reports that were made before the service's time was known."""
        return self._spool.place(entries, self._placed)

    def resent(self, refused: Iterable[tuple[SpooledReport, Any]]) -> Resent:
        """Which of the reports that were refused, with the problems of each, are to be sent again."""
        now_ms = None if self._time is None else self._time.at_ms(steady_s())
        if self._time is None or now_ms is None:
            return Resent()
        moved: list[SpooledReport] = []
        waiting: list[int] = []
        for entry, problems in refused:
            ended_at = self._spool.ended_at(entry)
            ahead_ms = entry.end_ms - now_ms
            if ended_at is not None and not self._is_perhaps_taken(entry):
                if self._time.correction_ms(entry.end_ms, ended_at):
                    moved.append(entry)
                    continue
            elif FUTURE_MS - SLACK_MS < ahead_ms < FUTURE_MS + HOLD_S * 1000:
                waiting.append(entry.number)
                continue
            if entry.number not in self._asked_again and _is_for_its_end(problems):
                self._asked_again.add(entry.number)
                waiting.append(entry.number)
        self.place([entry._replace(is_placed=False) for entry in moved])
        return Resent(frozenset(entry.number for entry in moved), frozenset(waiting))

    def _is_perhaps_taken(self, entry: SpooledReport) -> bool:
        return entry.number <= self._earlier or entry.number in self._perhaps_taken

    def _placed(self, entry: SpooledReport, ended_at: float | None) -> SpooledReport:
        by_ms = 0 if ended_at is None or self._time is None else self._time.correction_ms(entry.end_ms, ended_at)
        if not by_ms:
            return entry
        try:
            report = decode_report(entry.body)
        except msgspec.DecodeError:
            # Damaged on disk. It goes as it is, and is put aside when the service refuses it.
            return entry
        start_ms, end_ms = max(0, report.start_timestamp + by_ms), max(0, report.end_timestamp + by_ms)
        # A window that was made meanwhile may have that one.
        end_ms = self._timeline.give_out(end_ms)
        moved = msgspec.structs.replace(
            report, start_timestamp=start_ms, end_timestamp=end_ms, report_id=report_id(report.user_id, end_ms)
        )
        return entry._replace(end_ms=end_ms, body=encode(moved))


def _is_for_its_end(problems: Any) -> bool:
    """Whether the end of its window is all that is wrong with a report."""
    try:
        return {problem["pointer"] for problem in problems} == {_END}
    except (TypeError, KeyError):
        return False
