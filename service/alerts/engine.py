"""All rules, fed with the reports in the order of the journal: who looks at whose, and what follows."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import UNSET

from contract.report import OS_TYPES, Report
from service.alerts.alarms import SavedAlarm, Transition
from service.alerts.evaluations.anomaly import AnomalyEvaluation
from service.alerts.evaluations.base import MAX_ALARMS, Evaluation
from service.alerts.evaluations.levels import AbsenceEvaluation, ChangeEvaluation, FleetEvaluation, ThresholdEvaluation
from service.alerts.rules import AbsenceRule, AnomalyRule, ChangeRule, FleetRule, Rule, ThresholdRule

_log = logging.getLogger("loadlens.service")
_MAX_ROUTES = 100_000
_UNLABELLED: Mapping[str, str] = {}
_EVALUATIONS: dict[type[Rule], type[Evaluation]] = {
    ThresholdRule: ThresholdEvaluation,
    ChangeRule: ChangeEvaluation,
    AbsenceRule: AbsenceEvaluation,
    FleetRule: FleetEvaluation,
    AnomalyRule: AnomalyEvaluation,
}


class Engine:
    """The evaluations of all rules that are enabled. For one thread at a time."""

    def __init__(self, *, max_alarms: int = MAX_ALARMS, is_paused: Callable[[str], bool] = lambda user: False) -> None:
        """A rule keeps at most `max_alarms`, one for each user; `is_paused` says whose agent is meant not to report."""
        self._is_paused = is_paused
        self._max_alarms = max_alarms
        self.evaluations: dict[str, Evaluation] = {}
        self._routes: dict[tuple[str, str], tuple[Evaluation, ...]] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        """What each user's reports said last of its labels."""

    def use(self, rules: Iterable[Rule]) -> None:
        """Evaluate these rules from now on. What a rule has seen is kept as long as it means the same."""
        before = self.evaluations
        self.evaluations = {}
        for rule in rules:
            if rule.enabled:
                known = before.get(rule.name)
                if known is not None and known.rule.fingerprint == rule.fingerprint:
                    known.rule = rule
                    self.evaluations[rule.name] = known
                else:
                    self.evaluations[rule.name] = _EVALUATIONS[type(rule)](rule, max_alarms=self._max_alarms)
        self._routes = {}

    def restore(self, rule: str, alarms: Mapping[str, SavedAlarm]) -> None:
        """Take a rule's alarms as they were kept, oldest first, so that the order of silence is known again.

        Those that cannot be read are left out.
        """
        evaluation = self.evaluations[rule]
        for user, saved in sorted(alarms.items(), key=lambda item: item[1].last_ms):
            try:
                evaluation.restore(user, saved)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other alarms are good
                _log.error("an alarm of rule %s, of %r, is left out: %s", rule, user, error)
                evaluation.forgotten.add(user)

    def observe(self, reports: Sequence[Report], now_ms: int) -> Iterator[Transition]:
        """What follows from reports that arrived at `now_ms`."""
        routes = self._routes
        for report in reports:
            if report.labels is not UNSET and report.labels != self._labels.get(report.user_id):
                yield from self._label(report.user_id, report.labels, now_ms)
            origin = (report.user_id, report.os_type)
            for evaluation in routes.get(origin) or self._route(origin):
                evaluation.heard.add(report.user_id)
                transition = evaluation.observe(report, now_ms)
                if transition is not None:
                    yield transition

    def _route(self, origin: tuple[str, str]) -> tuple[Evaluation, ...]:
        if origin not in self._routes:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            labels = self._labels.get(origin[0], _UNLABELLED)
            self._routes[origin] = tuple(one for one in self.evaluations.values() if one.rule.takes(*origin, labels))
        return self._routes[origin]

    def _label(self, user: str, labels: Mapping[str, str], now_ms: int) -> Iterator[Transition]:
        """Take a user's labels. Rules that are about others now let it go: what they wait for would never come."""
        if len(self._labels) >= _MAX_ROUTES:
            self._labels.clear()
        self._labels[user] = labels or _UNLABELLED
        for system in OS_TYPES:
            self._routes.pop((user, system), None)
        for evaluation in self.evaluations.values():
            if evaluation.rule.by_labels and not evaluation.rule.takes_host(user, labels):
                yield from evaluation.let_go(user, now_ms)

    def forget(self, user: str, now_ms: int) -> Iterator[Transition]:
        """Forget a user's alarms; those that fire are resolved."""
        for evaluation in self.evaluations.values():
            yield from evaluation.let_go(user, now_ms)

    def tick(self, now_ms: int) -> Iterator[Transition]:
        """What follows from the time being `now_ms`."""
        for evaluation in self.evaluations.values():
            yield from evaluation.tick(now_ms, self._is_paused)
