"""Labels of hosts over HTTP: shown, grouped by, selected by, and refused where they are none."""

from typing import Any

import httpx
import pytest

import analytics
from contract import times
from contract.selectors import NOT_LABELLED
from tests.support.agent_states import agent, state
from tests.support.reports import METRICS, entries, post, small

pytestmark = pytest.mark.server

T0 = 1_531_396_800_000
RANGE: dict[str, Any] = {"start": T0, "end": T0 + 3_600_000, "resample_rate": "1h"}
STATUS = {"version": "0.1", "cpu_seconds": 1.0, "resident_bytes": 1, "remote": True}


@pytest.fixture
def team(client: httpx.Client, user: str) -> str:
    """A label's value that only three hosts have: two of role web at 0.2 and 0.4, one of role db at 0.9."""
    for place, (role, load) in enumerate((("web", 0.2), ("web", 0.4), ("db", 0.9))):
        labels = {"team": user, "role": role}
        answer = post(client, small(f"{user}-{place}", T0 + 60_000, load, labels=labels, agent=STATUS))
        assert answer.status_code == 202, answer.text
    return user


def test_labels_are_listed_with_users_and_agents(client: httpx.Client, team: str) -> None:
    users = {one["user_id"]: one["labels"] for one in client.get("/api/v1/users").json()["users"]}
    assert users[f"{team}-2"] == {"team": team, "role": "db"}
    assert client.get(agent(f"{team}-0")).json()["labels"] == {"team": team, "role": "web"}
    page = client.get("/api/v1/agents", params={"selector": f"label:team={team},role=w*"}).json()
    assert [one["user_id"] for one in page["agents"]] == [f"{team}-0", f"{team}-1"]


def test_the_fleet_is_grouped_by_a_label(client: httpx.Client, team: str) -> None:
    found = client.get(f"{METRICS}/cpuLoadAvg/fleet", params=RANGE | {"by": "label:team"})
    groups = {entry["group"]: entry["value"] for entry in found.json()["entries"]}
    assert entries(found)
    assert groups[team] == pytest.approx(0.5)
    cores = client.get(f"{METRICS}/cpuLoadAvg/fleet", params=RANGE | {"by": "label:team", "weight": "hosts"})
    assert {entry["group"]: entry["value"] for entry in cores.json()["entries"]}[team] == pytest.approx(0.5)


def test_a_table_takes_labels_as_groups_and_as_selectors(client: httpx.Client, team: str) -> None:
    asked: dict[str, Any] = RANGE | {"by": "label:role", "user": f"team={team}", "stat": "mean"}
    series = client.get("/api/v1/query", params=asked).json()["series"]
    assert {(one["by"], one["group"]): one["values"] for one in series} == {
        ("label:role", "db"): [0.9], ("label:role", "web"): [pytest.approx(0.3)],
    }  # fmt: skip
    both = client.get("/api/v1/query", params=asked | {"by": "user", "user": f"team={team},role=web"}).json()["series"]
    assert [one["group"] for one in both] == [f"{team}-0", f"{team}-1"]
    highest = client.get("/api/v1/query", params=asked | {"top": 1}).json()["series"]
    assert [one["group"] for one in highest] == ["db"]
    unlabelled = client.get("/api/v1/query", params=asked | {"by": "label:rack"}).json()["series"]
    assert [one["group"] for one in unlabelled] == [NOT_LABELLED]
    assert client.get("/api/v1/query", params=asked | {"user": "team=nobody's"}).json()["series"] == []


@pytest.mark.parametrize("by", ["label:", "label:1st", "label:a b", "labels:role", "label"])
def test_a_grouping_by_no_label_is_refused(client: httpx.Client, by: str) -> None:
    for path in ("/api/v1/query", f"{METRICS}/cpuLoadAvg/fleet"):
        answer = client.get(path, params=RANGE | {"by": by})
        assert answer.status_code == 422
        assert "label:" in answer.text


def test_the_library_has_labels_as_text_and_groups_by_them(client: httpx.Client, team: str) -> None:
    with analytics.connect(str(client.base_url)) as source:
        users = source.users().set_index("user")
        assert users.loc[f"{team}-2", "labels"] == f"role=db,team={team}"
        values = source.fleet(start=T0, end=T0 + 3_600_000, rate="1h", by="label:team", stat="mean")
        assert values.set_index(values["label"].astype(str))["value"][team] == pytest.approx(0.5)
        assert analytics.labels(source.users(), "role")[f"{team}-2"] == "db"


def test_what_is_no_label_is_refused_by_member(client: httpx.Client, user: str) -> None:
    for labels in ({"role": "a,b"}, {"role": "\x1b[2J"}, {"": "x"}, {"role": ""}, {f"l{n}": "x" for n in range(17)}):
        answer = post(client, small(user, T0, labels=labels))
        assert (answer.status_code, answer.json()["errors"][0]["pointer"][:7]) == (422, "/labels"), answer.text
        assert client.post(f"{agent(user)}/state", json=state(labels=labels)).status_code == 422


def test_settings_are_for_agents_with_a_label_as_soon_as_they_have_it(client: httpx.Client, user: str) -> None:
    selection = {"selector": f"label:team={user}"}
    path, force = "/api/v1/settings", {"If-Match": "*"}
    assert client.put(path, params=selection, json={"samples": 33}, headers=force).status_code == 200
    try:
        assert client.post(f"{agent(user)}/state", json=state()).json()["settings"] == {}
        told = client.post(f"{agent(user)}/state", json=state(labels={"team": user})).json()
        assert told["settings"] == {"samples": 33}
        # A report that says otherwise takes the host out again, in the answer to itself.
        status = STATUS | {"settings_version": told["version"]}
        answer = post(client, small(user, times.now_ms(), labels={"team": "other"}, agent=status)).json()
        assert answer["instructions"]["settings"] == {}
        for wrong in ("label:", "label:team", "label:=x", "label:a b=c"):
            assert client.get(path, params={"selector": wrong}).status_code == 422
    finally:
        client.delete(path, params=selection, headers=force)
