"""The notifier: what alarms do becomes alerts, and notifications to the rule's targets unless it is muted."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

from contract import times
from contract.processes import Named, ProcessUse, in_words, top
from contract.report import Report
from contract.selectors import host_matcher, matcher
from contract.times import MINUTE_MS
from service.alerts import wording
from service.alerts.alarms import Transition
from service.alerts.evaluations.base import FLEET_USER
from service.alerts.repository import RuleRepository
from service.alerts.rules import Rule
from service.alerts.silences import WeeklySilence
from service.notifications.queue import NotificationQueue

_NEAR_MS = 2 * MINUTE_MS
"""What a host said so long before or after a moment tells who used its CPU then."""
_MAX_USED = 20_000

_Changes = dict[str, list[dict[str, Any]]]
"""What targets are to be told, by rule."""


class Notifier:
    """Writes alerts and notifications, in the transaction under way where there is one."""

    def __init__(
        self,
        repository: RuleRepository,
        queue: NotificationQueue,
        *,
        public_url: str = "",
        is_paused: Callable[[str], bool] = lambda user: False,
        labels_of: Callable[[str], Mapping[str, str]] = lambda user: {},
    ) -> None:
        """Links lead to `public_url`, where there is one; `is_paused` says whether an agent is meant not to report,
        and `labels_of` what a host said last of its labels.
        """
        self._repository = repository
        self._queue = queue
        self._public_url = public_url
        self._is_paused = is_paused
        self._labels_of = labels_of
        self._used: OrderedDict[str, tuple[int, ProcessUse]] = OrderedDict()
        self.weekly: Sequence[WeeklySilence] = ()
        """The scheduled silences that are known."""

    def hear(self, reports: Iterable[Report]) -> None:
        """Remember who used the CPU of hosts that say so, of each what it said last."""
        for report in reports:
            if report.processes is not UNSET:
                self._used[report.user_id] = report.end_timestamp, report.processes
                self._used.move_to_end(report.user_id)
        while len(self._used) > _MAX_USED:
            self._used.popitem(last=False)

    def forget(self, user: str) -> None:
        """Forget what a host said."""
        self._used.pop(user, None)

    def _who(self, user: str, at_ms: int) -> list[Named]:
        """Who used most of the CPU of a host around a moment; empty where that is not known."""
        end_ms, use = self._used.get(user, (0, None))
        return [] if use is None or abs(end_ms - at_ms) > _NEAR_MS else top(use)

    def notify(self, transitions: Sequence[Transition], rules: Mapping[str, Rule]) -> None:
        """Note what alarms have done, and notify targets; nobody hears of a rule that is not among `rules`."""
        if not transitions:
            return
        told: _Changes = {}
        with self._repository.control.transaction():
            is_muted = self._muter(rules, transitions)
            for one in transitions:
                rule = rules.get(one.rule)
                if one.state == "resolved":
                    is_due = self._repository.resolve(one)
                else:
                    is_due = rule is not None and not is_muted(rule, one.user)
                    self._repository.fire(
                        one, rule.severity if rule else "info", notified=is_due, who=self._who(one.user, one.at_ms)
                    )
                if rule is not None and is_due:
                    self._collect(told, rule, one.user, one.state, one.since_ms, one.at_ms, one.value)
            self._add(told, rules)
            self._repository.trim_alerts()

    def notify_of_firing(self, rules: Mapping[str, Rule], value_of: Callable[[str, str], float | None]) -> None:
        """Notify of what fires and was muted, once nothing mutes it, and again of what is to be repeated by now.

        `value_of` gives the value of a rule's alarm of a user as it is now, where there is one.
        """
        now_ms = times.now_ms()
        unnotified = self._repository.unnotified()
        before = [
            alert
            for rule in rules.values()
            if rule.repeat_ms is not None
            for alert in self._repository.to_repeat(rule.name, rule.repeat_ms, now_ms)
            if not self._is_paused(alert.user)
        ]
        if not unnotified and not before:
            return
        told: _Changes = {}
        with self._repository.control.transaction():
            is_muted = self._muter(rules)
            for alert in (*unnotified, *before):
                rule = rules.get(alert.rule)
                if rule is not None and not is_muted(rule, alert.user):
                    self._repository.mark_notified(alert)
                    value = value_of(alert.rule, alert.user)
                    self._collect(
                        told, rule, alert.user, alert.state, alert.since_ms, alert.fired_ms,
                        alert.value if value is None else value, repeated=bool(alert.notified),
                    )  # fmt: skip
            self._add(told, rules)

    def _collect(
        self, told: _Changes, rule: Rule, user: str, state: str, since_ms: int, at_ms: int, value: float, *,
        repeated: bool = False,
    ) -> None:  # fmt: skip
        used = self._who(user, times.now_ms() if repeated else at_ms) if state == "firing" else ()
        change = wording.change(
            rule, user, state, since_ms, at_ms, value, public_url=self._public_url, repeated=repeated,
            who=[in_words(one) for one in used],
        )  # fmt: skip
        told.setdefault(rule.name, []).append(change)

    def _add(self, told: _Changes, rules: Mapping[str, Rule]) -> None:
        for name, changes in told.items():
            self._queue.add(rules[name], changes, times.now_ms(), wording.facts(rules[name]))

    def _muter(self, rules: Mapping[str, Rule], beginning: Iterable[Transition] = ()) -> Callable[[Rule, str], bool]:
        """Whether nobody is to hear of a rule and user now: silenced, or inhibited by what fires or `beginning`s."""
        now_ms = times.now_ms()
        silences = [
            (matcher([one.rule]), host_matcher([one.user]))
            for one in self._repository.silences(now_ms)
            if one.start_ms <= now_ms
        ]
        silences += [(matcher([one.rule]), host_matcher([one.user])) for one in self.weekly if one.covers(now_ms)]
        causes = {name for rule in rules.values() for name in rule.inhibited_by}
        firing = self._repository.firing_users(causes)
        for one in beginning:
            if one.state == "firing" and one.rule in causes:
                firing[one.rule].add(one.user)

        def is_muted(rule: Rule, user: str) -> bool:
            if any(not firing[cause].isdisjoint((user, FLEET_USER)) for cause in rule.inhibited_by):
                return True
            applying = [takes_host for takes_rule, takes_host in silences if takes_rule(rule.name)]
            labels = self._labels_of(user) if applying else {}
            return any(takes_host(user, labels) for takes_host in applying)

        return is_muted
