"""The sending thread: takes reports off the spool, oldest first, as the service accepts them.

A report that the service refuses as invalid goes to the dead-letter file beside the spool, for a person to look at.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.clock import ServiceTime, Timeline
from agent.connection import Connection, ServiceAnswer, ServiceUnreachable
from agent.mistimed import RESENT_WAIT_S, Mistimed
from agent.spool import Spool
from agent.spool_file import SpooledReport
from contract import times
from contract.logs import Seldom
from contract.problems import decode_json
from contract.retry import Backoff

MAX_DEAD_LETTER_BYTES = 4 * 1024 * 1024
"""A file of dead letters that would grow larger becomes `refused.ndjson.1`, in the place of the one before."""

_log = logging.getLogger(__name__)


class _DeadLetter(Struct):
    refused_at: int
    """Epoch milliseconds."""
    status: int
    problems: Any
    report: msgspec.Raw


class DeadLetters:
    """Lines of JSON: when, with which status and for what problems a report was refused, and the report."""

    def __init__(self, directory: Path, max_bytes: int = MAX_DEAD_LETTER_BYTES) -> None:
        self._path = directory / "refused.ndjson"
        self._max_bytes = max_bytes

    def add(self, body: bytes, status: int, problems: object) -> None:
        """Put a report aside. Where that fails the log has the reasons; it is not kept then."""
        line = msgspec.json.encode(_DeadLetter(times.now_ms(), status, problems, msgspec.Raw(body)))
        try:
            if self._path.exists() and self._path.stat().st_size + len(line) > self._max_bytes:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            _log.warning("a refused report cannot be kept in %s: %s", self._path, error)


MAX_REPORTS = 1000
"""In one request."""
MAX_BYTES = 256 * 1024
"""In one request, before compression: far below what the service takes, and little of the agent's memory."""
TIMEOUT_S = 20.0
MISCONFIGURED_WAIT_S = 30.0
"""The least wait where only a person can help."""

_NO_REPORTS = b"[]"
_MISTIMED = "it does not take the times of these reports, which wait for a clock to be set"
_ACCEPTED = 202
_REFUSED = (400, 413, 415, 422)
"""The service refuses reports as they are with these. A proxy uses them too, so the body has to be the service's."""
_PROBLEM = "application/problem+json"
_MISCONFIGURED = {
    301: "set --url to where the service has moved",
    302: "set --url to where the service has moved",
    307: "set --url to where the service has moved",
    308: "set --url to where the service has moved",
    401: "it asks for another token: set --token",
    403: "it takes no reports of this id with this token: set --token to one that is for it",
}
_HINTS = _MISCONFIGURED | {404: "check --url"}


class _Rejected(Struct):
    index: int
    problems: Any = None


class _Receipt(Struct):
    """The service's answer to reports."""

    accepted: int
    duplicates: int
    rejected: list[_Rejected] = []
    rejected_count: int = 0
    """How many there are, where not all are listed: only the first are."""
    instructions: msgspec.Raw | UnsetType = UNSET
    """What the service asks of the agent."""


class ReportSender:
    """Sends what waits in the spool: one report as it comes, many in a request when behind.

    A report leaves the spool when the service has accepted it, or refused it as invalid: then it is put aside,
    and the others go on. Any other answer, or none, is tried again later, with the same report first. Only the
    service's own receipt or problem document counts: what a proxy or a sign-in page answers decides nothing, unless
    it turns away one report and lets the next pass. Nor does a refusal while one of the two clocks is off
    (`agent.mistimed`).
    """

    def __init__(
        self,
        spool: Spool,
        connection: Connection,
        dead_letters: DeadLetters,
        backoff: Backoff,
        *,
        misconfigured_wait_s: float = MISCONFIGURED_WAIT_S,
        service_time: ServiceTime | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        """`service_time` is told of the service's clock, and places windows by it; without one nobody asks for it.

        `timeline` is that of whoever makes the reports, from which windows that are placed anew get their ends.
        """
        self.refused = 0
        """How many reports the service has refused since the agent started."""
        self._refusals = Seldom()
        self.on_instructions: Callable[[msgspec.Raw], object] | None = None
        """Gets the instructions that come with the service's answers."""
        self.on_attempt: Callable[[], object] | None = None
        """Called after each attempt to send, whatever came of it."""
        self._spool = spool
        self._connection = connection
        self._dead_letters = dead_letters
        self._backoff = backoff
        self._misconfigured_wait_s = misconfigured_wait_s
        self._time = service_time
        self._mistimed = Mistimed(spool, service_time, timeline)
        self._is_told = service_time is None
        self._limit = MAX_REPORTS
        self._problem: str | None = None
        self._wake = Event()
        self._closing = Event()
        self._deadline = float("inf")

    @property
    def problem(self) -> str | None:
        """Why reports are not taken now; None where they are."""
        return self._problem

    def wake(self) -> None:
        """Note that there is something to send."""
        self._wake.set()

    def close(self, within_s: float) -> None:
        """Have `run` end: it sends what there is, without a second attempt and for `within_s` seconds at most."""
        self._deadline = time.monotonic() + within_s
        self._closing.set()
        self._wake.set()

    def run(self) -> None:
        """Send until `close` is called."""
        while time.monotonic() < self._deadline:
            # In this order: what is said after it was cleared is seen below, or ends the wait.
            self._wake.clear()
            closing = self._closing.is_set()
            batch = self._spool.peek(self._limit, MAX_BYTES)
            wait_s = self._send(batch) if batch else 0.0
            if batch and self.on_attempt is not None:
                self.on_attempt()
            if closing and (wait_s or not batch):
                break
            if wait_s:
                self._closing.wait(wait_s)
            elif not batch:
                self._wake.wait()
        self._connection.close()

    def _send(self, batch: Sequence[SpooledReport]) -> float:
        """Make one attempt; returns how long to wait before the next."""
        timeout_s = min(TIMEOUT_S, max(0.1, self._deadline - time.monotonic()))
        try:
            if not self._is_told:
                # Before anything is sent by a clock that may be years away: how late is it there?
                answer = self._connection.post([_NO_REPORTS], timeout_s)
                self._is_told = self._note_time(answer) or answer.status in _REFUSED
                if not self._is_told:
                    return self._unsettled(answer)
            batch = self._mistimed.place(batch)
            answer = self._connection.post([entry.body for entry in batch], timeout_s)
        except ServiceUnreachable as error:
            if self._is_told and error.is_perhaps_taken:
                self._doubt(batch)
            return self._later(str(error), 0.0)
        if answer.is_repeated:
            self._mistimed.sent_in_vain(batch)
        self._note_time(answer)
        return self._judged(batch, answer, timeout_s)

    def _judged(self, batch: Sequence[SpooledReport], answer: ServiceAnswer, timeout_s: float) -> float:
        """Do as the answer to a batch says; returns how long to wait before the next attempt."""
        receipt = _receipt(answer)
        if receipt is not None:
            if receipt.instructions is not UNSET and self.on_instructions is not None:
                self.on_instructions(receipt.instructions)
            rejected = [one for one in receipt.rejected if 0 <= one.index < len(batch)]
            if rejected and receipt.rejected_count > len(receipt.rejected):
                # Of what stands behind the last that is listed it is not known which were taken: it is sent again.
                listed = rejected[-1].index + 1
                if receipt.accepted + receipt.duplicates > listed - len(rejected):
                    self._mistimed.sent_in_vain(batch[listed:])
                batch = batch[:listed]
            return self._settled(batch, answer.status, rejected)
        if answer.status in _REFUSED and len(batch) > 1:
            # Refused as a whole, without a word on which: smaller batches find out.
            self._limit = len(batch) // 2
            return 0.0
        problems = _problems(answer)
        if problems is None and answer.status in _REFUSED and self._next_passes(timeout_s):
            problems = answer.body[:1000].decode(errors="replace") or f"answered {answer.status}"
        if problems is not None:
            return self._settled(batch, answer.status, [_Rejected(0, problems)])
        self._doubt(batch)
        return self._unsettled(answer)

    def _doubt(self, batch: Sequence[SpooledReport]) -> None:
        """Note that of these it is not known whether they were taken; until it is, no others join them."""
        self._mistimed.sent_in_vain(batch)
        self._limit = len(batch)

    def _note_time(self, answer: ServiceAnswer) -> bool:
        """Learn the service's time from an answer; False where the answer is not the service's."""
        if _receipt(answer) is None and _problems(answer) is None:
            return False
        if self._time is not None and answer.date_s is not None:
            self._time.heard(answer.date_s, answer.asked_at, answer.answered_at)
        return True

    def _next_passes(self, timeout_s: float) -> bool:
        """Whether the service takes the second oldest report, when something before it turns the oldest away.

        Then the oldest would hold back all others for ever. The second is sent again later, and counts once.
        """
        following = self._mistimed.place(self._spool.peek(2, 2 * MAX_BYTES)[1:])
        self._mistimed.sent_in_vain(following)
        try:
            return bool(following) and _receipt(self._connection.post([following[0].body], timeout_s)) is not None
        except ServiceUnreachable:
            return False

    def _settled(self, batch: Sequence[SpooledReport], status: int, rejected: Sequence[_Rejected]) -> float:
        """Take off the spool what was taken or refused; returns how long to wait before what is left."""
        moved, waiting = self._mistimed.resent((batch[one.index], one.problems) for one in rejected)
        again = moved | waiting
        if again:
            first = next(place for place, entry in enumerate(batch) if entry.number in again)
            # What was taken behind it goes once more, too.
            self._mistimed.sent_in_vain(entry for entry in batch[first:] if entry.number not in again)
            batch, rejected = batch[:first], [one for one in rejected if one.index < first]
        if batch:
            self._take_off(batch, status, rejected)
        return self._later(_MISTIMED, RESENT_WAIT_S) if waiting else 0.0

    def _take_off(self, batch: Sequence[SpooledReport], status: int, rejected: Sequence[_Rejected]) -> None:
        for one in rejected:
            self.refused += 1
            self._dead_letters.add(batch[one.index].body, status, one.problems)
            if self._refusals.allows():
                reason = _text(one.problems)
                _log.warning(
                    "the service refused a report, which is put aside: %s%s", reason, self._refusals.left_out()
                )
        self._spool.done(batch)
        self._mistimed.done(batch[-1].number)
        self._backoff.reset()
        self._limit = min(MAX_REPORTS, self._limit * 2)
        if self._problem is not None:
            self._problem = None
            _log.info("the service takes reports again; %d wait", self._spool.waiting)

    def _unsettled(self, answer: ServiceAnswer) -> float:
        reason = f"it answered {answer.status}"
        if answer.status == _ACCEPTED or answer.status in _REFUSED:
            reason += ", but not as the service does: check --url, and the limits of a proxy on the way"
        elif hint := _HINTS.get(answer.status):
            reason += f" ({hint})"
        return self._later(
            reason, self._misconfigured_wait_s if answer.status in _MISCONFIGURED else 0.0, answer.retry_after_s
        )

    def _later(self, reason: str, least_s: float, retry_after_s: float = 0.0) -> float:
        wait_s = self._backoff.next_s(max(least_s, retry_after_s))
        # Once for each problem: an outage of a night would fill the log otherwise.
        level = logging.DEBUG if reason == self._problem else logging.WARNING
        self._problem = reason
        _log.log(
            level, "%s takes no reports: %s; %d wait, next attempt in %.1f s",
            self._connection.url, reason, self._spool.waiting, wait_s,
        )  # fmt: skip
        return wait_s


def _receipt(answer: ServiceAnswer) -> _Receipt | None:
    """The service's receipt, where the answer is one: of an accepted request, or of one all of which it refused."""
    if answer.status != _ACCEPTED and answer.status not in _REFUSED:
        return None
    try:
        receipt = decode_json(answer.body, _Receipt)
    except msgspec.DecodeError:
        return None
    return receipt if answer.status == _ACCEPTED or receipt.rejected else None


def _problems(answer: ServiceAnswer) -> Any:
    """What the service's problem document (RFC 9457) says is wrong; None where the answer is no refusal of its own."""
    if answer.status not in _REFUSED or answer.media_type != _PROBLEM:
        return None
    try:
        document = decode_json(answer.body, dict[str, Any])
    except msgspec.DecodeError:
        return None
    if document.get("status") != answer.status:
        return None
    return document.get("errors") or document.get("detail") or document.get("title") or document


def _text(problems: Any) -> str:
    """Problems on one line of a log."""
    if isinstance(problems, str):
        return " ".join(problems.split())[:500]
    return msgspec.json.encode(problems).decode()[:500]
