"""Reports say in plain words who used the CPU, and whose the spikes are."""

import time

import httpx
import pytest

from tests.support.hostile_names import NAMES
from tests.support.nightly_backup import reports
from tests.support.reports import post, small

pytestmark = pytest.mark.server

HOSTILE = NAMES[2]


def report(client: httpx.Client, user: str, form: str) -> httpx.Response:
    answer = client.get(f"/reports/users/{user}", params={"format": form, "last": "7d"}, timeout=110)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_spikes_of_an_hour_are_somebodys(client: httpx.Client, user: str) -> None:
    post(client, *reports(user, time.time_ns() // 1_000_000, HOSTILE))
    found = report(client, user, "json").json()
    spikes, most = [one for one in found["findings"] if one["kind"] == "who"]
    assert spikes["sentence"] == "The 14:00 UTC spikes are “backup.service”, 82.0 % of what the host used then."
    assert (spikes["severity"], spikes["numbers"]["hour"]) == ("watch", 14)
    assert most["sentence"].startswith(("“python3” used most of the CPU: ", "“postgres” used most of the CPU: "))
    table = found["tables"]["who"]
    assert sum(row[3] for row in table["rows"]) == pytest.approx(1.0)
    for form in ("html", "md"):
        text = report(client, user, form).text
        assert "backup.service" in text
        assert HOSTILE not in text


def test_of_hosts_that_say_nothing_there_is_nothing(client: httpx.Client, user: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    post(client, *(small(user, now_ms - 900_000 * step) for step in range(50)))
    found = report(client, user, "json").json()
    assert not [one for one in found["findings"] if one["kind"] == "who"]
    assert "who" not in found["tables"]
