"""An id that several hosts report under is found, and an id of one host is not taken for one."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from contract.report import Report, decode_report
from service.agents.shared_ids import SharedIds
from service.control.database import ControlDatabase
from tests.service.conftest import StartService
from tests.support.reports import as_json, original, post
from tests.support.running import wait_until

START_MS = 1_700_000_000_000
Window = tuple[float, float]
"""Start and end in seconds."""


def shared(tmp_path: Path) -> SharedIds:
    return SharedIds(ControlDatabase(tmp_path / "control.db"))


def report(start_s: float, end_s: float, user: str = "a", **members: object) -> Report:
    times = {"start_timestamp": START_MS + round(start_s * 1000), "end_timestamp": START_MS + round(end_s * 1000)}
    return decode_report(as_json(original(user, **times, **members)))


def windows(first_s: float, count: int, width_s: float = 2.0) -> list[Window]:
    return [(first_s + place * width_s, first_s + (place + 1) * width_s) for place in range(count)]


def in_turn(*hosts: Iterable[Window]) -> list[Window]:
    return [window for turn in zip(*hosts, strict=True) for window in turn]


@pytest.mark.parametrize("offset_s", [0.3, 1.0, 1.7, -0.9, -3.5])
def test_two_hosts_with_one_id_are_found(tmp_path: Path, offset_s: float) -> None:
    found = shared(tmp_path)
    told = [found.observe([report(*window)]) for window in in_turn(windows(0, 12), windows(offset_s, 12))]
    assert [ids for ids in told if ids] == [["a"]]
    assert found.found["a"].windows >= 9
    assert found.found["a"].last_ms >= START_MS + 20_000


@pytest.mark.parametrize("ahead_s", [60.0, 86_400.0, 400 * 86_400.0])
def test_two_hosts_are_found_after_a_clock_that_ran_ahead(tmp_path: Path, ahead_s: float) -> None:
    """What was sent then is newer than all that comes: it counts no more after a while."""
    found = shared(tmp_path)
    for window in [*windows(ahead_s, 5), *windows(0, 20)]:
        found.observe([report(*window)])
    assert not found.found
    for window in in_turn(windows(40, 12), windows(40.7, 12)):
        found.observe([report(*window)])
    assert set(found.found) == {"a"}


def test_two_hosts_are_found_long_after_windows_had_come_out_of_order(tmp_path: Path) -> None:
    """Once many followed one another again, a host takes no more memory and time than before."""
    found = shared(tmp_path)
    for window in [*windows(2, 1), *windows(0, 1), *windows(4, 40)]:
        found.observe([report(*window)])
    assert not found.found
    assert found.kept == 0
    for window in in_turn(windows(84, 12), windows(84.7, 12)):
        found.observe([report(*window)])
    assert set(found.found) == {"a"}
    assert found.kept == 1


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(windows(0, 50), id="one after the other"),
        pytest.param([(start - 0.04, end) for start, end in windows(0, 50)], id="clocks read unequally"),
        pytest.param([*windows(100, 10), *windows(0, 50), *windows(120, 10)], id="what waited in a spool"),
        pytest.param(in_turn(windows(1000, 40), windows(0, 40)), id="what waited comes beside what is new"),
        pytest.param([*windows(0, 50), *windows(90, 50)], id="the clock is set back by 10 s"),
        pytest.param(
            [*windows(0, 50), *windows(99.2, 50), *windows(198, 50)], id="the clock is set back a little, twice"
        ),
        pytest.param([*windows(0, 50), *windows(60, 50)], id="the clock is set back by 40 s"),
        pytest.param([*windows(86_400, 5), *windows(0, 90)], id="the clock is set back by a day"),
        pytest.param([*windows(0, 30), *windows(36, 30), *windows(60, 30)], id="the clock is set back by 24 s, twice"),
        pytest.param([(0, 2), (2, 4), (2, 4), (0, 2), (4, 6)], id="sent again"),
        pytest.param([*windows(0, 5), *windows(500, 5)], id="after a pause"),
    ],
)
def test_one_host_is_not_taken_for_two(tmp_path: Path, sent: list[Window]) -> None:
    found = shared(tmp_path)
    for window in sent:
        found.observe([report(*window)])
    assert not found.found


def test_metrics_that_are_reported_apart_are_of_one_host(tmp_path: Path) -> None:
    found = shared(tmp_path)
    load = {"type": "LOAD", "load1": {"avg": 1.0}, "load5": {"avg": 1.0}, "load15": {"avg": 1.0}}
    for start, end in windows(0, 20):
        found.observe([report(start, end), report(start + 1, end + 1, metrics=[load])])
    assert not found.found


def test_runs_of_an_agent_one_after_the_other_are_one_host_and_in_turn_two(tmp_path: Path) -> None:
    found = shared(tmp_path)
    for run in ("first", "first", "second", "third", "third"):
        assert not found.listened("a", run, START_MS)
    assert found.listened("a", "second", START_MS + 5) == ["a"]
    assert (found.found["a"].windows, found.found["a"].last_ms) == (0, START_MS + 5)


def test_what_was_found_is_remembered(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")
    found = SharedIds(control)
    found.observe([report(*window) for window in in_turn(windows(0, 9), windows(0.7, 9))])
    assert found.waiting
    found.write()
    assert not found.waiting
    control.close()
    assert shared(tmp_path).found == found.found


@pytest.mark.server
def test_users_and_agents_say_which_ids_are_shared(start: StartService) -> None:
    service = start()
    status = {"version": "1", "cpu_seconds": 1.0, "resident_bytes": 1}
    with service.client() as client:
        for start_s, end_s in in_turn(windows(0, 11), windows(0.7, 11)):
            post(client, report(start_s, end_s, "two", agent=status))
        for start_s, end_s in windows(0, 11):
            post(client, report(start_s, end_s, "one", agent=status))
        users = {user["user_id"]: user for user in client.get("/api/v1/users").json()["users"]}
        agents = {agent["user_id"]: agent for agent in client.get("/api/v1/agents").json()["agents"]}
        assert users["one"]["shared_at"] is agents["one"]["shared_at"] is None
        assert users["one"]["shared_windows"] == 0
        assert users["two"]["shared_windows"] == agents["two"]["shared_windows"] >= 15
        assert users["two"]["shared_at"] == agents["two"]["shared_at"] == "2023-11-14T22:13:42.700Z"
        wait_until(lambda: "more than one host reports as 'two'" in service.log, "the log names the id")
