"""Schedules of reports: when they are due, what is kept of them, and what is said where a run fails."""

import asyncio
import os
import time
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from contract import times
from contract.times import MINUTE_MS
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.reporting import schedules as limits
from service.reporting.maker import FinishedReport, ReportFailed, TooManyReports
from service.reporting.scheduler import ReportScheduler
from service.reporting.schedules import RETRIES, RETRY_MS, KeptReport, Schedules, Timing, TooManySchedules
from service.reporting.worker import ReportRefused, ReportRequest

ME = Actor("none", "127.0.0.1")
FLEET = Timing(days=("mon",), at="06:00")
PAGE = KeptReport(b"<h1>Fleet report</h1>" * 1000, "default-src 'none'")


@pytest.fixture
def schedules(control: ControlDatabase) -> Schedules:
    return Schedules(control, Audit(control))


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def make_due(control: ControlDatabase) -> None:
    with control.transaction() as db:
        db.execute("UPDATE reporting_schedule SET next_ms = 1")


def run(schedules: Schedules, outcome: Callable[[ReportRequest], FinishedReport | ReportRefused]) -> ReportScheduler:
    """Make what is due, with this outcome."""

    async def make(request: ReportRequest, schedule: int) -> FinishedReport | ReportRefused:
        return outcome(request)

    scheduler = ReportScheduler(schedules, make)
    asyncio.run(scheduler.make_due())
    return scheduler


def finished(request: ReportRequest) -> FinishedReport:
    return FinishedReport(PAGE.content, PAGE.policy, "x", time.monotonic())


@pytest.mark.parametrize(
    ("timing", "now", "due"),
    [
        (Timing(at="06:00"), "2026-03-02T05:59:59Z", "2026-03-02T06:00:00Z"),
        (Timing(at="06:00"), "2026-03-02T06:00:00Z", "2026-03-03T06:00:00Z"),
        (FLEET, "2026-03-02T06:00:00Z", "2026-03-09T06:00:00Z"),
        (Timing(days=("sat", "sun"), at="00:00"), "2026-03-02T00:00:00Z", "2026-03-07T00:00:00Z"),
        (Timing(at="06:00", tz="Asia/Tokyo"), "2026-03-02T00:00:00Z", "2026-03-02T21:00:00Z"),
        # Clocks in Berlin go forward on 29 March 2026 at 2 and back on 25 October at 3.
        (Timing(at="06:00", tz="Europe/Berlin"), "2026-03-28T06:00:00Z", "2026-03-29T04:00:00Z"),
        (Timing(at="02:30", tz="Europe/Berlin"), "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
        (Timing(at="02:30", tz="Europe/Berlin"), "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        (Timing(at="02:30", tz="Europe/Berlin"), "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
    ],
)
def test_a_report_is_due_at_the_time_of_its_place_on_its_days(timing: Timing, now: str, due: str) -> None:
    assert timing.next_after(moment(now)) == moment(due)


def test_the_next_time_is_later_and_on_a_day_that_was_asked_for_all_year_round() -> None:
    timing = Timing(days=("tue", "fri"), at="02:30", tz="Europe/Berlin")
    now_ms = moment("2026-01-01T00:00:00Z")
    for _ in range(104):
        before, now_ms = now_ms, timing.next_after(now_ms)
        assert 0 < now_ms - before <= 4 * 86_400_000 + 3_600_000
        assert datetime.fromtimestamp(now_ms / 1000, ZoneInfo("Europe/Berlin")).weekday() in (1, 4)


def test_what_was_made_is_kept_over_a_restart_and_its_next_time_comes(
    control: ControlDatabase, schedules: Schedules, tmp_path: Path
) -> None:
    made = schedules.add(FLEET, ME)
    assert (made.ran_ms, made.made_ms, schedules.report(made.id)) == (None, None, None)
    assert schedules.due(made.next_ms - 1) == []
    make_due(control)
    asked: list[ReportRequest] = []

    def outcome(request: ReportRequest) -> FinishedReport:
        asked.append(request)
        return finished(request)

    run(schedules, outcome)
    [request] = asked
    assert (request.user_id, request.form, request.last_ms, request.target) == (None, "html", 7 * 86_400_000, 0.8)
    assert request.end_ms is not None and made.created_ms <= request.end_ms <= time.time_ns() // 1_000_000
    run(schedules, outcome)
    assert len(asked) == 1, "it is not due any more"
    control.close()
    again = ControlDatabase(tmp_path / "control.db")
    kept = Schedules(again, Audit(again))
    [one] = kept.all()
    assert (one.timing, one.failure, one.next_ms) == (FLEET, None, made.next_ms)
    assert one.made_ms is not None and one.made_ms == one.ran_ms
    assert kept.report(one.id) == PAGE
    again.close()


def test_a_schedule_does_not_wait_for_a_time_from_which_the_clock_was_set_back(
    control: ControlDatabase, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = times.now_ms()
    monkeypatch.setattr(times, "now_ms", lambda: now_ms + 400 * times.DAY_MS)
    made, new = schedules.add(FLEET, ME), schedules.add(FLEET, ME)
    with control.transaction() as db:
        db.execute("UPDATE reporting_schedule SET next_ms = 1, created_ms = 1 WHERE id = ?", (made.id,))
    run(schedules, finished)
    monkeypatch.setattr(times, "now_ms", lambda: now_ms)
    assert schedules.due(now_ms) == []
    assert {one.next_ms for one in schedules.all()} == {FLEET.next_after(now_ms)}
    assert {one.id for one in schedules.due(FLEET.next_after(now_ms))} == {made.id, new.id}


@pytest.mark.parametrize(
    ("refused", "again"), [(ReportRefused(404, "Nothing was reported."), False), (ReportRefused(503, "away"), True)]
)
def test_a_run_that_fails_is_said_and_leaves_the_last_report(
    control: ControlDatabase, schedules: Schedules, refused: ReportRefused, again: bool
) -> None:
    made = schedules.add(FLEET, ME)
    make_due(control)
    run(schedules, finished)
    make_due(control)
    assert run(schedules, lambda request: refused).failed == 1
    [one] = schedules.all()
    assert one.failure == refused.detail
    assert schedules.report(one.id) == PAGE
    assert (one.next_ms == made.next_ms) != again


def test_what_may_pass_by_is_tried_again_a_few_times_and_then_on_its_next_day(
    control: ControlDatabase, schedules: Schedules
) -> None:
    made = schedules.add(FLEET, ME)

    def broken(request: ReportRequest) -> FinishedReport:
        raise ReportFailed("exit code 1")

    for failed in range(RETRIES + 1):
        make_due(control)
        run(schedules, broken)
        [one] = schedules.all()
        assert one.failure == "The report could not be made; the log says why."
        assert one.ran_ms is not None
        assert one.next_ms == (one.ran_ms + RETRY_MS if failed < RETRIES else made.next_ms)
    make_due(control)
    run(schedules, finished)
    assert schedules.all()[0].failure is None


def test_where_too_many_reports_are_being_made_it_stays_due(control: ControlDatabase, schedules: Schedules) -> None:
    schedules.add(FLEET, ME)
    make_due(control)

    def busy(request: ReportRequest) -> FinishedReport:
        raise TooManyReports

    run(schedules, busy)
    [one] = schedules.due(MINUTE_MS)
    assert (one.ran_ms, one.failure) == (None, None)


def test_of_a_cluster_one_process_makes_what_is_due(control: ControlDatabase, schedules: Schedules) -> None:
    schedules.add(FLEET, ME)
    make_due(control)

    async def make(request: ReportRequest, schedule: int) -> FinishedReport:
        return finished(request)

    is_mine = False
    scheduler = ReportScheduler(schedules, make, is_mine=lambda: is_mine)
    asyncio.run(scheduler.make_due())
    assert len(schedules.due(times.now_ms())) == 1
    is_mine = True
    asyncio.run(scheduler.make_due())
    assert schedules.due(times.now_ms()) == []


@pytest.mark.parametrize("size", [1, 256 << 10, (256 << 10) + 1, 2_000_000])
def test_reports_of_an_older_release_are_kept(tmp_path: Path, size: int) -> None:
    report = KeptReport(os.urandom(size), "default-src 'none'")
    packed = zlib.compress(report.content)
    control = ControlDatabase(tmp_path / "control.db")
    control.migrate("reporting", limits._STEPS[:1])
    with control.transaction() as db:
        db.executemany(
            "INSERT INTO reporting_schedule (definition, created_ms, next_ms, made_ms, policy, content)"
            " VALUES (?, 1, 1, 1, ?, ?)",
            [(msgspec.json.encode(FLEET).decode(), report.policy, content) for content in (packed, None, packed)],
        )
    schedules = Schedules(control, Audit(control))
    assert [one.timing for one in schedules.all()] == [FLEET] * 3
    assert [schedules.report(number) for number in (1, 2, 3)] == [report, None, report]
    schedules.note_made(schedules.all()[0], PAGE, 0)
    assert [schedules.report(number) for number in (1, 2, 3)] == [PAGE, None, report]
    control.close()


def test_a_host_that_is_forgotten_is_in_no_schedule_and_in_no_report(
    control: ControlDatabase, schedules: Schedules
) -> None:
    fleet, gone = schedules.add(FLEET, ME), schedules.add(Timing(user="gone"), ME)
    make_due(control)
    run(schedules, finished)
    schedules.drop("gone")
    assert [one.id for one in schedules.all()] == [fleet.id]
    assert schedules.report(fleet.id) is schedules.report(gone.id) is None

    def forgets_meanwhile(request: ReportRequest) -> FinishedReport:
        schedules.drop("another")
        return finished(request)

    run(schedules, forgets_meanwhile)
    assert schedules.report(fleet.id) is None
    run(schedules, finished)
    assert schedules.report(fleet.id) == PAGE, "it is made anew, without waiting for its day"


def test_a_report_that_is_too_large_is_a_failure(
    control: ControlDatabase, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BYTES", 10)
    schedules.add(FLEET, ME)
    make_due(control)
    run(schedules, finished)
    assert "too large" in str(schedules.all()[0].failure)


def test_there_are_only_so_many_and_each_change_is_in_the_audit_trail(
    control: ControlDatabase, schedules: Schedules
) -> None:
    made = [schedules.add(FLEET, ME) for _ in range(limits.MOST)]
    with pytest.raises(TooManySchedules):
        schedules.add(FLEET, ME)
    assert schedules.delete(made[0].id, ME)
    assert not schedules.delete(made[0].id, ME)
    entries = Audit(control).entries(target=f"schedule:{made[0].id}", before=None, limit=9)
    assert [(entry["action"], entry["before"] is None, entry["after"] is None) for entry in entries] == [
        ("schedule", False, True), ("schedule", True, False),
    ]  # fmt: skip
    assert msgspec.json.decode(bytes(entries[0]["before"]), type=Timing) == FLEET
    assert schedules.add(FLEET, ME).id > made[-1].id, "an id is not given again"
