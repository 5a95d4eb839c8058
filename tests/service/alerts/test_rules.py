"""Rules in a running service: from files and the API, over restarts and crashes, told to those who want to know."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.commands.test_rules import run as run_command
from tests.service.conftest import StartService
from tests.support.reports import END_MS, post, small
from tests.support.running import RunningService, clean_environment, wait_until
from tests.support.webhooks import KEY, Receiver

pytestmark = pytest.mark.server

BUSY = """
[[rules]]
name = "busy"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.8
severity = "critical"
targets = ["ops"]
group = "0s"

[targets.ops]
webhook = "env:HOOK"
secret = "env:HOOK_SECRET"
timeout = 0.5
"""
JSON = {"Content-Type": "application/json"}


def alerts(client: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/v1/alerts", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["alerts"]
    return found


def wait_for_alerts(client: httpx.Client, count: int, **query: Any) -> list[dict[str, Any]]:
    wait_until(lambda: len(alerts(client, **query)) == count, f"{count} alerts of {query}")
    return alerts(client, **query)


def notifications(client: httpx.Client, state: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/notifications", params={"state": state}).json()["notifications"]
    return found


class Kit:
    """A service with rules in a file, and a receiver for what they find."""

    def __init__(self, start: StartService, rules: Path, receiver: Receiver) -> None:
        self._start = start
        self.rules = rules
        self._environment = clean_environment(HOOK=receiver.url, HOOK_SECRET=KEY)

    def start(self, *arguments: str, private: bool = True) -> RunningService:
        more = ("--notify-private",) if private else ()
        return self._start("--rules", str(self.rules), *more, *arguments, environment=self._environment)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(BUSY)
    return path


def test_what_fires_is_listed_and_told_with_a_valid_signature(start: StartService, rules: Path) -> None:
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start("--public-url", "https://loadlens.example.org/")
        with service.client() as client:
            used = {"seconds": 5.0, "cores": 1, "busy_s": 4.0, "processes": [{"name": "python3", "cpu_s": 3.0}]}
            post(client, small("calm", END_MS, 0.5), small("busy", END_MS, 0.9) | {"processes": used})
            (alert,) = wait_for_alerts(client, 1)
            assert alert["rule"] == "busy"
            assert (alert["user"], alert["state"], alert["value"]) == ("busy", "firing", 0.9)
            assert alert["severity"] == "critical"
            assert alert["who"] == [{"name": "python3", "unit": "", "share": 0.75}]
            wait_until(lambda: len(receiver.accepted) == 1, "the webhook")
            post(client, small("busy", END_MS + 5000, 0.5))
            wait_for_alerts(client, 0)
            (alert,) = wait_for_alerts(client, 1, state="resolved")
            assert alert["resolved"] == "2018-07-12T13:37:50.626Z"
            wait_until(lambda: len(receiver.accepted) == 2, "the webhook")
        (change,) = receiver.accepted[0].body["data"]["alerts"]
        assert change["summary"] == "cpuLoadAvg is 90 %, level 80 %; most of the CPU by python3 75 %"
        assert change["link"].startswith("https://loadlens.example.org/host?id=busy&from=")
        told = receiver.accepted[0].body["data"]
        assert (told["metric"], told["stat"], told["above"]) == ("cpuLoadAvg", "mean", 0.8)
        first, second = (received.body["data"] for received in receiver.accepted)
        assert first["rule"] == second["rule"] == "busy"
        assert [change["state"] for change in first["alerts"] + second["alerts"]] == ["firing", "resolved"]
        assert receiver.invalid == 0
        assert "secret-path" not in service.log


def test_a_receiver_that_fails_and_recovers_gets_each_notification(start: StartService, rules: Path) -> None:
    """It answers 500, then not at all, then with a redirect, then it is well again."""
    failures: list[int | None] = [500, 500, None, 302, 503]
    with Receiver(lambda place: failures[place] if place < len(failures) else 204) as receiver:
        kit = Kit(start, rules, receiver)
        service = kit.start()
        with service.client() as client:
            for number in range(5):
                post(client, small(f"user-{number}", END_MS, 0.9))
                wait_for_alerts(client, number + 1)
            wait_until(lambda: len(receiver.requests) >= 2, "a second attempt")
        service.kill()
        service = kit.start()
        with service.client() as client:
            wait_until(lambda: not notifications(client, "gathering") + notifications(client, "waiting"), "delivery")
            told = [change["user"] for one in receiver.accepted for change in one.body["data"]["alerts"]]
            assert sorted(told) == [f"user-{number}" for number in range(5)]
            ids = {received.id for received in receiver.requests}
            assert ids == {received.id for received in receiver.accepted}
            bodies = {(received.id, str(received.body)) for received in receiver.requests}
            assert len(bodies) == len(ids)
            assert notifications(client, "dead") == []


def test_one_notification_tells_of_many_users(start: StartService, rules: Path) -> None:
    rules.write_text(BUSY.replace('group = "0s"', 'group = "1s"'))
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start()
        with service.client() as client:
            post(client, *(small(f"user-{number}", END_MS, 0.9) for number in range(1500)))
            wait_for_alerts(client, 1500, limit=2000)
            wait_until(lambda: not notifications(client, "gathering") + notifications(client, "waiting"), "delivery")
            # One whose answer comes too late is sent again, with its id.
            told = {received.id: len(received.body["data"]["alerts"]) for received in receiver.accepted}
            assert [*told.values()] == [1000, 500]


def test_what_a_receiver_wants_no_more_is_dead_and_can_be_sent_again(start: StartService, rules: Path) -> None:
    with Receiver(lambda place: 410 if place == 0 else 204) as receiver:
        service = Kit(start, rules, receiver).start()
        with service.client() as client:
            post(client, small("busy", END_MS, 0.9))
            wait_until(lambda: bool(notifications(client, "dead")), "a dead notification")
            (dead,) = notifications(client, "dead")
            assert "410" in dead["error"]
            answer = client.post(f"/api/v1/notifications/{dead['id']}/redeliver")
            assert answer.status_code == 202
            wait_until(lambda: bool(receiver.accepted), "the webhook")
            assert receiver.accepted[0].id == dead["id"]
            assert client.get(f"/api/v1/notifications/{dead['id']}").json()["rule"] == "busy"
        tried = run_command("notify", "ops", "--url", service.url)
        assert "ops took it" in tried.stdout, tried.stderr
        assert receiver.accepted[-1].body["data"]["rule"] == "test"
        again = run_command("redeliver", dead["id"], "--url", service.url)
        assert "1 sent again" in again.stdout, again.stderr
        assert "There are none." in run_command("redeliver", "--dead", "--url", service.url).stdout
        assert dead["id"] in run_command("notifications", "--url", service.url).stdout
        wrong = run_command("notify", "opps", "--url", service.url)
        assert wrong.returncode == 1 and "expected one of ops" in wrong.stderr


def test_private_addresses_are_not_called_unless_that_is_allowed(start: StartService, rules: Path) -> None:
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start(private=False)
        with service.client() as client:
            post(client, small("busy", END_MS, 0.9))
            wait_until(lambda: bool([one for one in notifications(client, "waiting") if one["attempts"]]), "an attempt")
            assert "--notify-private" in notifications(client, "waiting")[0]["error"]
            assert receiver.requests == []
        assert "secret-path" not in service.log


def test_states_survive_a_crash_and_nothing_is_evaluated_twice(start: StartService, rules: Path) -> None:
    rules.write_text(BUSY.replace("above = 0.8", 'above = 0.8\nfor = "1m"\nover = "1m"'))
    with Receiver() as receiver:
        kit = Kit(start, rules, receiver)
        service = kit.start("--flush-interval", "0.3")
        users = [f"user-{number}" for number in range(20)]
        seconds = 0
        for _ in range(4):
            with service.client() as client:
                for _ in range(6):
                    seconds += 5
                    post(client, *(small(user, END_MS + seconds * 1000, 0.9) for user in users))
            service.kill()
            service = kit.start("--flush-interval", "0.3")
        with service.client() as client:
            found = wait_for_alerts(client, 20, state="firing")
            # The first window ends at second 5; the condition has held for a minute at second 65.
            assert {alert["fired"] for alert in found} == {"2018-07-12T13:38:50.626Z"}
            post(client, *(small(user, END_MS + (seconds + 65) * 1000, 0.1) for user in users))
            wait_for_alerts(client, 20, state="resolved")
            # In this order: a message that is gathered is waiting next, and must not be missed in between.
            wait_until(lambda: not notifications(client, "gathering") + notifications(client, "waiting"), "delivery")
            numbers = client.get("/metrics").text
            assert "loadlens_rules_skipped_total 0.0" in numbers
        told = [(one["user"], one["state"]) for got in receiver.accepted for one in got.body["data"]["alerts"]]
        assert sorted(told) == sorted([(user, state) for user in users for state in ("firing", "resolved")])


def test_files_are_read_again_when_they_change_and_stay_in_force_when_they_are_wrong(
    start: StartService, rules: Path
) -> None:
    with Receiver() as receiver:
        kit = Kit(start, rules, receiver)
        service = kit.start()
        with service.client() as client:
            post(client, small("a", END_MS, 0.7))
            rules.write_text(BUSY.replace("0.8", "0.6").replace('name = "busy"', 'name = "busier"'))
            wait_until(lambda: "busier" in client.get("/api/v1/rules").text, "the new rule")
            post(client, small("a", END_MS + 5000, 0.7))
            (alert,) = wait_for_alerts(client, 1)
            assert alert["rule"] == "busier"
            rules.write_text(BUSY.replace("0.8", '"much"'))
            wait_until(lambda: "rules stay as they were" in service.log, "the complaint")
            assert f"{rules}:6: rule busy: above" in service.log
            assert len(alerts(client)) == 1
            assert f"{rules}:6: rule busy: above" in client.get("/api/v1/rules").json()["problem"]
            os.kill(service.process.pid, signal.SIGHUP)
            wait_until(lambda: service.log.count("rules stay as they were") == 2, "the second complaint")
        service.stop()
        service = kit.start()
        with service.client() as client:
            listed = client.get("/api/v1/rules").json()
            assert [one["rule"]["name"] for one in listed["rules"]] == ["busier"], "a broken file stops no start"
            assert f"{rules}:6: rule busy: above" in listed["problem"]
            assert "Rules stay as they were" in client.get("/readyz").text
            assert len(wait_for_alerts(client, 1)) == 1
            rules.write_text(BUSY)
            wait_for_alerts(client, 0)
            assert wait_for_alerts(client, 1, state="resolved")[0]["rule"] == "busier"
            assert client.get("/api/v1/rules").json()["problem"] is None


def test_wrong_files_keep_the_service_from_starting(start: StartService, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.toml").write_text(BUSY.replace('kind = "threshold"', 'kind = "treshold"'))
    (folder / "b.yaml").write_text("rules:\n  - name: b\n    kind: threshold\n    metric: cpu\n    above: 1\n")
    service = start("--rules", str(folder))
    assert service.process.wait(30) != 0
    assert "a.toml:4: rule busy: kind" in service.log
    assert "b.yaml:4: rule b: metric: expected a metric of GET /api/v1/metrics, got 'cpu'" in service.log
    assert "Traceback" not in service.log


def test_rules_of_the_api_are_made_changed_and_deleted(start: StartService) -> None:
    service = start()
    rule: dict[str, Any] = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.8}
    with service.client() as client:
        path = "/api/v1/rules/mine"
        assert client.put(path, json=rule).status_code == 428
        made = client.put(path, json=rule, headers={"If-None-Match": "*"})
        assert made.status_code == 201, made.text
        assert client.put(path, json=rule, headers={"If-None-Match": "*"}).status_code == 412
        assert client.get(path).headers["ETag"] == made.headers["ETag"]
        wait_until(lambda: "loadlens_rules 1.0" in client.get("/metrics").text, "the rule to be in force")
        post(client, small("a", END_MS, 0.7), small("b", END_MS, 0.9))
        wait_for_alerts(client, 1)
        stale = client.put(path, json=rule, headers={"If-Match": '"1234"'})
        assert stale.status_code == 412
        changed = client.put(path, json=rule | {"above": 0.6}, headers={"If-Match": made.headers["ETag"]})
        assert changed.status_code == 200
        wait_for_alerts(client, 0)
        post(client, small("a", END_MS + 5000, 0.7))
        wait_for_alerts(client, 1)
        wrong = client.put(path, json=rule | {"above": "much"}, headers={"If-Match": "*"})
        assert wrong.status_code == 422
        assert wrong.json()["errors"][0]["pointer"] == "/above"
        nowhere = client.put(path, json=rule | {"targets": ["ops"]}, headers={"If-Match": "*"})
        assert nowhere.json()["errors"][0]["pointer"] == "/targets/0"
    service.stop()
    service = start()
    with service.client() as client:
        assert client.get(path).json()["rule"]["above"] == 0.6
        assert len(wait_for_alerts(client, 1)) == 1
        assert client.delete(path, headers={"If-Match": changed.headers["ETag"]}).status_code == 204
        assert client.get(path).status_code == 404
        assert client.delete(path, headers={"If-Match": "*"}).status_code == 404
        wait_for_alerts(client, 0)
        assert "rule:mine" in client.get("/api/v1/audit").text


def test_rules_of_files_are_not_changed_by_the_api(start: StartService, rules: Path) -> None:
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start()
        with service.client() as client:
            listed = client.get("/api/v1/rules").json()
            assert [(one["source"], one["rule"]["name"]) for one in listed["rules"]] == [("file", "busy")]
            assert listed["targets"] == {"ops": "http://127.0.0.1/..."}
            answer = client.put("/api/v1/rules/busy", json={}, headers={"If-Match": "*"})
            assert answer.status_code == 409
            assert "rules.toml" in answer.json()["detail"]


def test_a_page_of_another_site_cannot_make_a_rule(start: StartService) -> None:
    """A form can send only some content types; others need the consent of the service, which it does not give."""
    service = start()
    with service.client() as client:
        headers = {"Content-Type": "text/plain", "If-None-Match": "*"}
        assert client.put("/api/v1/rules/mine", content=b"{}", headers=headers).status_code == 415
        assert client.post("/api/v1/silences", content=b"{}", headers=headers).status_code == 415


def test_what_is_silenced_is_not_told_until_the_silence_is_over(start: StartService, rules: Path) -> None:
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start()
        with service.client() as client:
            made = client.post("/api/v1/silences", json={"user": "lab-*", "duration": "1h", "comment": "moving"})
            assert made.status_code == 201, made.text
            post(client, small("lab-1", END_MS, 0.9), small("web-1", END_MS, 0.9), small("lab-2", END_MS, 0.9))
            found = wait_for_alerts(client, 3)
            assert {alert["user"]: alert["silenced"] for alert in found} == {
                "lab-1": True, "web-1": False, "lab-2": True,
            }  # fmt: skip
            post(client, small("lab-2", END_MS + 5000, 0.1))
            wait_for_alerts(client, 2)
            wait_until(lambda: bool(receiver.accepted), "the webhook")
            assert client.get("/api/v1/silences").json()["silences"][0]["comment"] == "moving"
            assert client.delete(f"/api/v1/silences/{made.json()['id']}").status_code == 204
            wait_until(lambda: len(receiver.accepted) == 2, "what was silenced")
            told = [one["user"] for got in receiver.accepted for one in got.body["data"]["alerts"]]
            assert told == ["web-1", "lab-1"]
            assert client.delete(f"/api/v1/silences/{made.json()['id']}").status_code == 404
            later = {"user": "lab-1", "start": "2001-01-01", "duration": "1h"}
            for wrong in (
                later,
                {},
                {"duration": "0s"},
                {"until": "2001-01-01"},
                {"rule": "", "duration": "1h"},
                {"x": 1},
            ):
                assert client.post("/api/v1/silences", json=wrong).status_code == 422, wrong


def test_pending_alarms_are_listed(start: StartService, rules: Path) -> None:
    rules.write_text(BUSY.replace("above = 0.8", 'above = 0.8\nfor = "1h"'))
    with Receiver() as receiver:
        service = Kit(start, rules, receiver).start()
        with service.client() as client:
            post(client, small("busy", END_MS, 0.9))
            (alert,) = wait_for_alerts(client, 1, state="pending")
            assert (alert["user"], alert["since"]) == ("busy", "2018-07-12T13:37:45.626Z")
            assert alerts(client, rule="other") == []
            assert client.get("/api/v1/alerts?state=loud").status_code == 422
