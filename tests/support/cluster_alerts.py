"""Alerts of a cluster under load: what its hosts report so that alarms fire, how often, and who was told."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests.support.running import clean_environment
from tests.support.webhooks import KEY, Receiver

__all__ = ["ToldOnce", "firings", "mean_of"]

_BLOCK = 40
"""So many reports of a host are busy, then as many are not."""
_RULES = """
[[rules]]
name = "busy"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.8
targets = ["ops"]
group = "0s"

[targets.ops]
webhook = "env:HOOK"
secret = "env:HOOK_SECRET"
timeout = 5
"""


def mean_of(number: int) -> float:
    """The load of a host's report of that number."""
    return 0.95 if number // _BLOCK % 2 else 0.2


def firings(reports: int) -> int:
    """How often the alarm of a host with so many reports has fired."""
    return ((reports - 1) // _BLOCK + 1) // 2 if reports else 0


class ToldOnce:
    """Somebody who is told of alerts, and who looks whether each has fired once and was told once."""

    def __init__(self, folder: Path) -> None:
        self._receiver = Receiver()
        self._receiver.__enter__()
        rules = folder / "rules.toml"
        rules.write_text(_RULES)
        self.arguments = ("--rules", str(rules), "--notify-private")
        self.environment = clean_environment(HOOK=self._receiver.url, HOOK_SECRET=KEY)

    def fired_wrongly(self, client: httpx.Client, reports: Mapping[str, int]) -> list[str]:
        """What a service says of alerts that is not as it should be, by the number of each host's reports."""
        fired: Counter[str] = Counter()
        for state in ("firing", "resolved"):
            answer = client.get("/api/v1/alerts", params={"limit": 1000, "state": state})
            assert answer.status_code == 200, answer.text
            fired += Counter(alert["user"] for alert in answer.json()["alerts"])
        expected = {user: firings(number) for user, number in reports.items()}
        return [
            f"{user}: expected {number} alerts, got {fired[user]}"
            for user, number in expected.items()
            if fired[user] != number
        ]

    @property
    def told_twice(self) -> list[str]:
        """What was told in more than one notification. One that is sent again, with its id, counts once."""
        notifications = {one.id: one.body["data"]["alerts"] for one in self._receiver.accepted}
        told = Counter(
            (change["user"], change["state"], change["since"])
            for changes in notifications.values()
            for change in changes
        )
        return [f"{what} was told {count} times" for what, count in told.items() if count > 1]

    @property
    def sent_again(self) -> int:
        """How many notifications came more than once, with the same id."""
        return len(self._receiver.accepted) - len({one.id for one in self._receiver.accepted})

    def unheard(self, reports: Mapping[str, int]) -> list[str]:
        """Hosts whose newest state was not told."""
        newest = {
            change["user"]: change["state"] for one in self._receiver.accepted for change in one.body["data"]["alerts"]
        }
        expected = {
            user: "firing" if (number - 1) // _BLOCK % 2 else "resolved"
            for user, number in reports.items()
            if firings(number)
        }
        return [
            f"{user}: expected {state} to be told last, got {newest.get(user)}"
            for user, state in expected.items()
            if newest.get(user) != state
        ]

    def close(self) -> None:
        """Listen no more."""
        self._receiver.__exit__(None, None, None)
