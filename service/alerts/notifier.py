"""The notifier: what alarms do becomes alerts, and notifications to the rule's targets unless it is silenced."""

from collections.abc import Callable, Mapping, Sequence

from contract import times
from contract.patterns import matcher
from contract.times import format_instant
from service.alerts.alarms import Transition
from service.alerts.repository import RuleRepository
from service.alerts.rules import Rule
from service.notifications.queue import NotificationQueue


class Notifier:
    """Writes alerts and notifications, in the transaction under way where there is one."""

    def __init__(self, repository: RuleRepository, queue: NotificationQueue) -> None:
        self._repository = repository
        self._queue = queue

    def notify(self, transitions: Sequence[Transition], rules: Mapping[str, Rule]) -> None:
        """Note what alarms have done, and notify targets; nobody hears of a rule that is not among `rules`."""
        if not transitions:
            return
        is_silenced = self._silencer()
        changes_of: dict[str, list[dict[str, object]]] = {}
        with self._repository.control.transaction():
            for one in transitions:
                rule = rules.get(one.rule)
                if one.state == "resolved":
                    is_due = self._repository.resolve(one) and rule is not None
                else:
                    is_due = rule is not None and not is_silenced(one.rule, one.user)
                    self._repository.fire(one, rule.severity if rule else "info", notified=is_due)
                if is_due:
                    changes_of.setdefault(one.rule, []).append(
                        _change(one.user, one.state, one.since_ms, one.at_ms, one.value)
                    )
            self._add(changes_of, rules)
            self._repository.trim_alerts()

    def notify_of_unsilenced(self, rules: Mapping[str, Rule]) -> None:
        """Notify of what fires and was silenced, once the silence is over."""
        unnotified = self._repository.unnotified()
        if not unnotified:
            return
        is_silenced = self._silencer()
        changes_of: dict[str, list[dict[str, object]]] = {}
        with self._repository.control.transaction():
            for alert in unnotified:
                if alert.rule in rules and not is_silenced(alert.rule, alert.user):
                    self._repository.mark_notified(alert)
                    change = _change(alert.user, alert.state, alert.since_ms, alert.fired_ms, alert.value)
                    changes_of.setdefault(alert.rule, []).append(change)
            self._add(changes_of, rules)

    def _add(self, changes_of: Mapping[str, Sequence[dict[str, object]]], rules: Mapping[str, Rule]) -> None:
        for name, changes in changes_of.items():
            self._queue.add(rules[name], changes, times.now_ms())

    def _silencer(self) -> Callable[[str, str], bool]:
        """Whether a rule and user are silenced now."""
        silences = [(matcher([one.rule]), matcher([one.user])) for one in self._repository.silences(times.now_ms())]
        return lambda rule, user: any(takes_rule(rule) and takes_user(user) for takes_rule, takes_user in silences)


def _change(user: str, state: str, since_ms: int, at_ms: int, value: float) -> dict[str, object]:
    return {
        "user": user,
        "state": state,
        "since": format_instant(since_ms),
        "at": format_instant(at_ms),
        "value": value,
    }
