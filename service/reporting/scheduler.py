"""Has reports made that are due by a schedule: one after the other, whoever else asks for reports going first."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from contract import times
from contract.times import parse_duration
from service.control.database import ControlError
from service.reporting.maker import FinishedReport, ReportFailed, TooManyReports
from service.reporting.schedules import KeptReport, Schedule, Schedules
from service.reporting.worker import ReportRefused, ReportRequest

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 5.0
_PASSING = 503
"""The status of a refusal that passes by: the store is away."""
Make = Callable[[ReportRequest, int], Awaitable[FinishedReport | ReportRefused]]
"""Makes a report for a schedule, which is named by its id; raises TooManyReports and ReportFailed."""


class ReportScheduler:
    """Everything here runs on the event loop; what was due while the service was down is made once, when it is back."""

    def __init__(self, schedules: Schedules, make: Make, is_mine: Callable[[], bool] = lambda: True) -> None:
        """`is_mine` says whether this process is the one of a cluster that makes them."""
        self.schedules = schedules
        self._make = make
        self._is_mine = is_mine
        self._task: asyncio.Task[None] | None = None
        self.failed = 0
        """Runs that made no report."""

    def start(self) -> None:
        """Begin to make reports when they are due."""
        self._task = asyncio.create_task(self._look_after())

    async def stop(self) -> None:
        """End; a report that is being made is due at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look_after(self) -> None:
        while True:
            try:
                await self.make_due()
            except ControlError as error:
                _log.warning("reports of schedules have to wait: %s", error)
            except Exception:  # noqa: BLE001 - whatever it was, the schedules of tomorrow are to be kept
                _log.exception("a schedule could not be kept")
            await asyncio.sleep(_LOOK_EVERY_S)

    async def make_due(self) -> None:
        """Make the reports that are due now, if that is up to this process. Raises ControlError.

        What is not done stays due.
        """
        if not self._is_mine():
            return
        for schedule in await asyncio.to_thread(self.schedules.due, times.now_ms()):
            await self._run(schedule)

    async def _run(self, schedule: Schedule) -> None:
        timing, forgotten = schedule.timing, self.schedules.forgotten
        # Up to now, not to the newest data: a fleet that has gone silent is not reported as it was before.
        request = ReportRequest(
            user_id=timing.user, form="html", end_ms=times.now_ms(), last_ms=parse_duration(timing.last),
            target=timing.target, tz=timing.tz,
        )  # fmt: skip
        try:
            made = await self._make(request, schedule.id)
        except TooManyReports:
            return  # it stays due: the next look is soon
        except ReportFailed as error:
            _log.error("The report of schedule %d could not be made: %s", schedule.id, error)
            await self._fail(schedule, "The report could not be made; the log says why.", again=True)
            return
        if isinstance(made, ReportRefused):
            _log.warning("The report of schedule %d could not be made: %s", schedule.id, made.detail)
            await self._fail(schedule, made.detail, again=made.status == _PASSING)
            return
        await asyncio.to_thread(self.schedules.note_made, schedule, KeptReport(made.content, made.policy), forgotten)

    async def _fail(self, schedule: Schedule, failure: str, *, again: bool) -> None:
        self.failed += 1
        await asyncio.to_thread(self.schedules.note_failed, schedule, failure, again=again)
