"""From what alarms do to alerts and notifications: noted, and said to whom it concerns unless it is silenced."""

from collections.abc import Callable, Mapping, Sequence

from contract import times
from contract.patterns import matcher
from contract.times import format_instant
from service.alerts.alarms import Transition
from service.alerts.repository import Shelf
from service.alerts.rules import Rule
from service.notifications.queue import Queue

Change = dict[str, object]


class Teller:
    """Writes alerts and notifications, in the transaction under way where there is one."""

    def __init__(self, shelf: Shelf, queue: Queue) -> None:
        self._shelf = shelf
        self._queue = queue

    def tell(self, transitions: Sequence[Transition], rules: Mapping[str, Rule]) -> None:
        """Note what alarms of `rules` have done, and say it; nobody hears of a rule that is not among them."""
        if not transitions:
            return
        is_silenced = self._silencer()
        said: dict[str, list[Change]] = {}
        with self._shelf.control.transaction():
            for one in transitions:
                rule = rules.get(one.rule)
                if one.state == "resolved":
                    is_due = self._shelf.resolve(one) and rule is not None
                else:
                    is_due = rule is not None and not is_silenced(one.rule, one.user)
                    self._shelf.fire(one, rule.severity if rule else "info", notified=is_due)
                if is_due:
                    said.setdefault(one.rule, []).append(
                        _change(one.user, one.state, one.since_ms, one.at_ms, one.value)
                    )
            self._add(said, rules)
            self._shelf.trim_alerts()

    def tell_unsaid(self, rules: Mapping[str, Rule]) -> None:
        """Say what fires and was silenced, once the silence is over."""
        unsaid = self._shelf.unsaid()
        if not unsaid:
            return
        is_silenced = self._silencer()
        said: dict[str, list[Change]] = {}
        with self._shelf.control.transaction():
            for alert in unsaid:
                if alert.rule in rules and not is_silenced(alert.rule, alert.user):
                    self._shelf.mark_said(alert)
                    change = _change(alert.user, alert.state, alert.since_ms, alert.fired_ms, alert.value)
                    said.setdefault(alert.rule, []).append(change)
            self._add(said, rules)

    def _add(self, said: Mapping[str, Sequence[Change]], rules: Mapping[str, Rule]) -> None:
        for name, changes in said.items():
            self._queue.add(rules[name], changes, times.now_ms())

    def _silencer(self) -> Callable[[str, str], bool]:
        """Whether a rule and user are silenced now."""
        silences = [(matcher([one.rule]), matcher([one.user])) for one in self._shelf.silences(times.now_ms())]
        return lambda rule, user: any(takes_rule(rule) and takes_user(user) for takes_rule, takes_user in silences)


def _change(user: str, state: str, since_ms: int, at_ms: int, value: float) -> Change:
    return {
        "user": user,
        "state": state,
        "since": format_instant(since_ms),
        "at": format_instant(at_ms),
        "value": value,
    }
