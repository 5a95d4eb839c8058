"""Evaluates the rules beside ingest, in a thread: reads the journal's log, and keeps how far it has come.

What has followed from the reports up to an offset, the alarms at this offset, and the offset itself are written in one
transaction. After a crash it goes on behind that offset, so that nothing is evaluated twice or left out.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from contract import times
from contract.report import Report
from service.alerts.alarms import AlarmState, Transition
from service.alerts.engine import Engine
from service.alerts.notifier import Notifier
from service.alerts.repository import RuleRepository
from service.alerts.rule_set import RuleFileError, RuleSet, parse_rule_set, read_rule_set, stamp
from service.alerts.rules import Rule
from service.alerts.silences import WeeklySilence
from service.control.database import ControlError, ControlSuperseded
from service.journal.base import Log
from service.journal.reader import JournalReader
from service.notifications.queue import NotificationQueue
from service.notifications.targets import Target

_log = logging.getLogger("loadlens.service")
_POLL_S = 0.1
_TICK_S = 1.0
_KEEP_EVERY_S = 5.0
_RETRY_S = 5.0
_MAX_QUEUED = 20_000
"""Reports in memory; what is more is read from the journal."""
_SLICE = 64
"""Reports that are looked at before other threads get their turn."""

_Commit = tuple[int, Sequence[Report]]
"""The offset of the last report of a commit, and its reports."""


class Runner:
    """The thread, and the rules that are in force."""

    def __init__(
        self,
        journal: Log,
        repository: RuleRepository,
        queue: NotificationQueue,
        path: Path | None,
        *,
        public_url: str = "",
        is_paused: Callable[[str], bool] = lambda user: False,
        is_mine: Callable[[], bool] = lambda: True,
        take_over: Callable[[], None] = lambda: None,
        labels_of: Callable[[str], Mapping[str, str]] = lambda user: {},
    ) -> None:
        """Read the rules of `path`, a file or folder; raises RuleFileError where they were never good.

        Notifications link to `public_url`, where there is one; `is_paused` says whose agent is meant not to report, and
        `is_mine` whether this process is the one of a cluster that evaluates them. `take_over` is called before it
        begins: what the one before has kept is in the control database then, and that one can keep nothing any more.
        `labels_of` says what a host said last of its labels.
        """
        self._take_over = take_over
        self._journal = journal
        self._repository = repository
        self._is_paused = is_paused
        self._is_mine = is_mine
        self._notifier = Notifier(repository, queue, public_url=public_url, is_paused=is_paused, labels_of=labels_of)
        self._path = path
        self._stamp = self._seen = stamp(path) if path else ()
        self.reload_failures = 0
        """How often files could not be read again."""
        self.reload_problem: str | None = None
        """Why the rules in force are not those of the files; None where they are."""
        self.rule_set = self._first_rule_set(path) if path else RuleSet()
        self.engine = Engine(is_paused=is_paused)
        repository.on_change = self.reload
        self.lock = threading.Lock()
        """Held while the engine works."""
        self._reader = JournalReader(journal)
        self._queue: deque[_Commit] = deque()
        self._queue_lock = threading.Lock()
        self._leaving: deque[str] = deque()
        self.queued = 0
        self._reload = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rules", daemon=True)
        self._rules: dict[str, Rule] = {}
        self._offset = journal.last
        self._from_journal = self._left = 0
        """Up to this offset reports are read from the journal; those behind it come by `publish`, but for those up to
        `_left`, which were too many."""
        self._pending: list[Transition] = []
        self._kept_at = self._ticked_at = 0.0
        self.evaluated = 0
        self.transitions = 0
        self.skipped = 0
        self.seconds = 0.0
        self.problem: str | None = None
        """Why rules could not be evaluated when it was last tried; None where they could."""

    # For the event loop

    def publish(self, last: int, reports: Sequence[Report]) -> None:
        """Take the reports of one commit, the last of them at offset `last`."""
        with self._queue_lock:
            if self.queued > _MAX_QUEUED:
                self._left = self._queue[-1][0]
                self._queue.clear()
                self.queued = 0
            self._queue.append((last, reports))
            self.queued += len(reports)

    # For any thread

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules in force, by name."""
        return self._rules

    @property
    def targets(self) -> Mapping[str, Target]:
        """Where notifications can go, by name."""
        return self.rule_set.targets

    @property
    def routes(self) -> Mapping[str, Sequence[str]]:
        """By severity, the targets of rules that name none."""
        return self.rule_set.routes

    @property
    def weekly_silences(self) -> Sequence[WeeklySilence]:
        """The silences of the files, in force or not."""
        return self.rule_set.silences

    @property
    def behind(self) -> int:
        """How many reports are acknowledged and not evaluated; 0 where another process of a cluster evaluates them."""
        return self._journal.waiting(self._offset) if self._is_mine() else 0

    @property
    def alarms(self) -> int:
        """How many alarms the rules keep."""
        return sum(len(one.alarms) for one in self.engine.evaluations.values())

    def count(self, what: Literal["late", "refused"]) -> int:
        """What the rules in force have counted."""
        return sum(getattr(one, what) for one in self.engine.evaluations.values())

    def reload(self) -> None:
        """Look at files and definitions anew."""
        self._reload.set()

    def forget(self, user: str) -> None:
        """Forget a user's alarms soon; those that fire are resolved."""
        self._leaving.append(user)

    def start(self) -> None:
        """Start the thread that evaluates rules."""
        self._thread.start()

    def stop(self) -> None:
        """End, after what is acknowledged by now is evaluated."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    # The thread

    def _first_rule_set(self, path: Path) -> RuleSet:
        """The files' rules; where these are wrong, as the files were when they were good."""
        try:
            rule_set = read_rule_set(path)
        except RuleFileError as error:
            kept = self._repository.files(_root(path))
            if not kept:
                raise
            try:
                rule_set = parse_rule_set({Path(file): text for file, text in kept.items()})
            except RuleFileError:
                raise error from None
            self._complain(error)
        else:
            self._keep_files(path, rule_set)
        return rule_set

    def _keep_files(self, path: Path, rule_set: RuleSet) -> None:
        self._repository.put_files(_root(path), {str(file.absolute()): text for file, text in rule_set.texts.items()})

    def _complain(self, error: RuleFileError) -> None:
        self.reload_failures += 1
        self.reload_problem = str(error)
        _log.error("rules stay as they were: %s", error)

    def _run(self) -> None:
        begun = False
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = _POLL_S
            if not self._is_mine():
                # What was kept last is where it goes on, should it be the one again.
                begun = False
                continue
            try:
                if not begun:
                    self._begin()
                    begun = True
                self._turn()
                self.problem = None
            except ControlSuperseded:
                _log.warning("another process evaluates the rules now")
                begun = False
            except (ControlError, OSError) as error:
                self.problem = str(error)
                _log.error("rules cannot go on, for want of disk or log; trying again in %.0f s: %s", _RETRY_S, error)
                begun, pause = False, _RETRY_S
            except Exception as error:  # noqa: BLE001 - it must go on
                self.problem = str(error) or type(error).__name__
                _log.exception("rules could not be evaluated; going on from what was kept last in %.0f s", _RETRY_S)
                begun, pause = False, _RETRY_S
        if begun:
            try:
                self._turn()
                self._keep()
            except ControlError as error:
                _log.error("what rules have come to could not be kept: %s", error)

    def _begin(self) -> None:
        """Take up what was kept, and look at what has come since."""
        self._take_over()
        with self.lock:
            self.engine = Engine(is_paused=self._is_paused)
            self._pending = []
            progress = self._repository.progress()
            last = self._from_journal = self._journal.last
            self._offset = last if progress is None else min(progress, last)
            self._use_rules()
        self._kept_at = time.monotonic()
        if self.engine.evaluations:
            self._read_journal()

    def _use_rules(self) -> None:
        """Evaluate what files and definitions say now; alerts of what they do not say any more are resolved."""
        defined = {
            name: rule for name, (rule, _) in self._repository.rules().items() if name not in self.rule_set.rules
        }
        self._notifier.weekly = self.rule_set.silences
        rules = {name: self.rule_set.routed(rule) for name, rule in (defined | self.rule_set.rules).items()}
        before = dict(self.engine.evaluations)
        self.engine.use(rules.values())
        evaluations = self.engine.evaluations
        new = [one.rule for name, one in evaluations.items() if before.get(name) is not one]
        for rule in new:
            self.engine.restore(rule.name, self._repository.alarms(rule))
        meant = {name: one.rule.fingerprint for name, one in evaluations.items()}
        stale = {name for name, fingerprint in self._repository.seen().items() if meant.get(name) != fingerprint}

        def change() -> None:
            with self._repository.control.transaction():
                ended = [
                    Transition(alert.rule, alert.user, "resolved", times.now_ms(), alert.since_ms, alert.value)
                    for alert in self._repository.firing_of(stale)
                ]
                # Of what changed while the service was down, only the new definition says who is to hear.
                self._notifier.notify(ended, rules | self._rules)
                self._repository.drop_alarms(stale)
                for rule in new:
                    self._repository.put_alarms(rule, {})
                self._repository.put_progress(self._offset if evaluations else None)

        self._repository.control.attempt(change)
        self._rules = rules

    def _turn(self) -> None:
        """Look at what has come, and at the clock."""
        now = time.monotonic()
        is_tick = now - self._ticked_at >= _TICK_S
        if is_tick or self._reload.is_set():
            self._look_for_changes()
        self._evaluate(self._taken())
        while self._leaving:
            user = self._leaving.popleft()
            self._notifier.forget(user)
            with self.lock:
                self._pending += self.engine.forget(user, times.now_ms())
        if is_tick:
            self._ticked_at = now
            with self.lock:
                self._pending += self.engine.tick(times.now_ms())
            self._repository.control.attempt(lambda: self._notifier.notify_of_firing(self._rules, self._value_of))
        if self._pending or time.monotonic() - self._kept_at >= _KEEP_EVERY_S:
            self._keep()

    def _value_of(self, rule: str, user: str) -> float | None:
        """The value of an alarm now; None where there is none any more."""
        evaluation = self.engine.evaluations.get(rule)
        return None if evaluation is None else evaluation.value_of(user, times.now_ms())

    def _taken(self) -> list[_Commit]:
        """The commits that came since the last time."""
        with self._queue_lock:
            groups = list(self._queue)
            self._queue.clear()
            self.queued = 0
            self._from_journal, self._left = max(self._from_journal, self._left), 0
        return groups

    def _evaluate(self, groups: Sequence[_Commit]) -> None:
        if not self.engine.evaluations:
            self._offset = groups[-1][0] if groups else self._offset
            return
        self._read_journal()
        if self._offset < self._from_journal:
            return
        # Not by how far it has come: in another copy of a cluster's log, reports have offsets that others had before,
        # and some that are known already are between them.
        for last, reports in groups:
            news = reports[max(0, self._from_journal + len(reports) - last) :]
            if news:
                self._observe(news, max(last, self._offset))

    def _read_journal(self) -> None:
        while self._offset < self._from_journal and not self._stopping.is_set():
            page = self._reader.page(self._offset, self._from_journal)
            if page is None:
                self._skip(self._from_journal)
                return
            if page.first > self._offset + 1:
                self._skip(page.first - 1)
            self._observe(page.reports[max(0, self._offset + 1 - page.first) :], page.last)
            self._from_journal = max(self._from_journal, page.last)

    def _skip(self, through: int) -> None:
        _log.error("rules skip reports %d to %d: the journal has them no more", self._offset + 1, through)
        self.skipped += through - self._offset
        self._offset = through

    def _observe(self, reports: Sequence[Report], last: int) -> None:
        began = time.perf_counter()
        now_ms = times.now_ms()
        self._notifier.hear(reports)
        for start in range(0, len(reports), _SLICE):
            with self.lock:
                self._pending += self.engine.observe(reports[start : start + _SLICE], now_ms)
            time.sleep(0)
        self._offset = last
        self.evaluated += len(reports)
        self.seconds += time.perf_counter() - began

    def _keep(self) -> None:
        """Write down what has followed, the alarms, and how far it is."""
        self._kept_at = time.monotonic()
        if not self.engine.evaluations:
            return

        def change() -> None:
            with self._repository.control.transaction():
                self._notifier.notify(self._pending, self._rules)
                for evaluation in self.engine.evaluations.values():
                    saved = {user: evaluation.saved(user) for user in evaluation.changed}
                    self._repository.put_alarms(evaluation.rule, saved)
                    self._repository.forget_alarms(evaluation.rule, evaluation.forgotten)
                self._repository.put_progress(self._offset)

        self._repository.control.attempt(change)
        self.transitions += len(self._pending)
        self._pending = []
        for evaluation in self.engine.evaluations.values():
            evaluation.changed.clear()
            evaluation.forgotten.clear()

    def _look_for_changes(self) -> None:
        is_asked = self._reload.is_set()
        self._reload.clear()
        seen = stamp(self._path) if self._path else ()
        # A file that is being written is half a file: only one that has stood still for a while is read.
        is_still, self._seen = seen == self._seen, seen
        if self._path and (is_asked or (seen != self._stamp and is_still)):
            self._stamp = seen
            try:
                self.rule_set = read_rule_set(self._path)
                self.reload_problem = None
                self._keep_files(self._path, self.rule_set)
                _log.info("%d rules read from %s", len(self.rule_set.rules), self._path)
            except RuleFileError as error:
                self._complain(error)
            is_asked = True
        if is_asked:
            self._keep()
            with self.lock:
                self._use_rules()

    def pending(self) -> list[tuple[str, str, int, int, float]]:
        """Alarms whose condition holds, but not long enough yet: rule, user, since, newest window, value."""
        with self.lock:
            return [
                (name, user, alarm.since_ms, alarm.last_ms, alarm.value)
                for name, evaluation in self.engine.evaluations.items()
                for user, alarm in evaluation.alarms.items()
                if alarm.state is AlarmState.PENDING
            ]


def _root(path: Path) -> str:
    """What the files of a path are kept under."""
    return str(path.absolute())
