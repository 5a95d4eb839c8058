"""Users that are forgotten: out of answers, lists, settings and files; whole or not at all, over crashes too."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.service.backup.test_backup import backup, restore, run
from tests.service.conftest import StartService
from tests.support.agent_states import agent, state
from tests.support.influx_proxy import Fault, InfluxProxy
from tests.support.influxd import RunningInflux
from tests.support.reports import END_MS, entries, history, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

ABSENT = """
[[rules]]
name = "silent"
kind = "absence"
after = "1s"
"""
OFTEN = ("--flush-interval", "0.2")


def users(client: httpx.Client) -> list[str]:
    return [user["user_id"] for user in client.get("/api/v1/users").json()["users"]]


def counted(client: httpx.Client, user: str) -> float:
    """How many windows are answered of a user; 0 for one that is not known."""
    answer = history(client, user, stat="count")
    return 0.0 if answer.status_code == 404 else sum(value for _, value in entries(answer))


def fill(client: httpx.Client, user: str, number: int, first: int = 0) -> None:
    reports = [small(user, END_MS + second * 1000) for second in range(first, first + number)]
    assert post(client, *reports, small(user, END_MS)).status_code == 202


def files_with(folder: Path, text: str) -> list[str]:
    """The files of windows and of the journal that have a text."""
    found = []
    for path in (*folder.glob("raw/*.parquet"), *folder.glob("journal/*")):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(path.name)
    return found


def test_a_forgotten_user_leaves_everything_and_a_restart_does_not_bring_it_back(
    start: StartService, tmp_path: Path
) -> None:
    (tmp_path / "rules.toml").write_text(ABSENT)
    arguments = (*OFTEN, "--rules", str(tmp_path / "rules.toml"))
    service = start(*arguments)
    with service.client() as client:
        for user in ("gone-for-good", "stays"):
            assert client.post(f"{agent(user)}/state", json=state()).status_code == 200
            headers = {"If-Match": "*"}
            assert client.put(f"{agent(user)}/settings", json={"samples": 50}, headers=headers).status_code == 200
            fill(client, user, 50)
            note = {"text": "moved", "time": "2018-07-12", "user": user}
            assert client.post("/api/v1/annotations", json=note).status_code == 201
            assert client.post("/api/v1/schedules", json={"user": user}).status_code == 201
        wait_until(lambda: client.get("/api/v1/alerts?state=firing").json()["total"] == 2, "both alerts")
        wait_until(lambda: bool(list((service.data_dir / "raw").glob("*.parquet"))), "files of windows")
        fill(client, "gone-for-good", 5, first=100)
        gone = client.delete("/api/v1/users/gone-for-good", headers={"X-Loadlens-Actor": "carol"})
        assert gone.status_code == 204, gone.text
        assert users(client) == ["stays"]
        assert counted(client, "gone-for-good") == 0
        assert client.delete("/api/v1/users/gone-for-good").status_code == 404
        assert client.get(agent("gone-for-good")).status_code == 404
        audited = client.get("/api/v1/audit?target=user:gone-for-good").json()["entries"]
        assert [(entry["action"], entry["actor"]) for entry in audited] == [("forget", "carol")]
        assert len(client.get("/api/v1/annotations", params={"start": 0}).json()["annotations"]) == 1
        assert [one["schedule"]["user"] for one in client.get("/api/v1/schedules").json()["schedules"]] == ["stays"]
        wait_until(lambda: not files_with(service.data_dir, "gone-for-good"), "the files to be without it")
        wait_until(lambda: client.get("/api/v1/alerts?state=resolved").json()["total"] == 0, "its alerts to be gone")
        assert client.get("/readyz").json()["status"] == "ready"
        fill(client, "stays", 5, first=200)
    service.kill()
    service = start(*arguments)
    with service.client() as client:
        assert users(client) == ["stays"]
        assert counted(client, "stays") == 55
        fill(client, "gone-for-good", 3, first=20)
        assert counted(client, "gone-for-good") == 4, "what was known of it is new again"
        assert client.get(agent("gone-for-good")).status_code == 404
    assert service.stop() == 0
    with start(*arguments).client() as client:
        assert (counted(client, "gone-for-good"), counted(client, "stays")) == (4, 55)


@pytest.mark.parametrize("delay_s", [0.0, 0.005, 0.02, 0.05, 0.1])
def test_a_kill_in_the_middle_leaves_the_user_or_removes_it_whole(start: StartService, delay_s: float) -> None:
    service = start("--flush-interval", "0.1")
    with service.client() as client:
        for first in range(0, 400, 100):
            fill(client, "gone", 100, first)
            fill(client, "stays", 100, first)
    answered: list[int] = []

    def forget() -> None:
        with contextlib.suppress(httpx.HTTPError), service.client() as client:
            answered.append(client.delete("/api/v1/users/gone").status_code)

    asking = threading.Thread(target=forget)
    asking.start()
    time.sleep(delay_s)
    service.kill()
    asking.join()
    service = start("--flush-interval", "0.1")
    with service.client() as client:
        whole = counted(client, "gone")
        assert whole in ((0,) if answered else (0, 400))
        assert ("gone" in users(client)) == (whole == 400)
        assert counted(client, "stays") == 400
        if not whole:
            fill(client, "stays", 1, first=1000)
            wait_until(lambda: not files_with(service.data_dir, "gone"), "the files to be without it")
        assert client.get("/readyz").json().get("problems") is None


def test_reports_that_come_meanwhile_are_taken_later_and_of_others_at_once(start: StartService) -> None:
    """Whatever was acknowledged after the answer is there, of a user that is new."""
    service = start(*OFTEN)

    async def load() -> tuple[int, int]:
        async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
            done = asyncio.Event()
            taken = {"gone": 0, "stays": 0}

            async def send(user: str) -> None:
                number = 0
                while not done.is_set() or number < 20:
                    number += 1
                    answer = await client.post("/api/v1/metrics", json=small(user, END_MS + number * 1000))
                    assert answer.status_code in ((202, 503) if user == "gone" else (202,)), answer.text
                    taken[user] += answer.status_code == 202

            async def forget() -> tuple[int, int]:
                while min(taken.values()) < 10:  # noqa: ASYNC110 - it looks on while others send
                    await asyncio.sleep(0.01)
                answer = await client.delete("/api/v1/users/gone")
                assert answer.status_code == 204, answer.text
                before = taken["gone"]
                while taken["gone"] < before + 10:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.01)
                done.set()
                return before, taken["gone"]

            (before, after), *_ = await asyncio.gather(forget(), send("gone"), send("stays"))
            return after - before, taken["stays"]

    late, stays = asyncio.run(load())
    with service.client() as client:
        assert late <= counted(client, "gone") <= late + 2, "one may have come between"
        assert counted(client, "stays") == stays


def test_backups_and_verify_agree_afterwards(start: StartService, tmp_path: Path) -> None:
    service = start(*OFTEN)
    with service.client() as client:
        fill(client, "gone", 100)
        fill(client, "stays", 100)
        wait_until(lambda: bool(list((service.data_dir / "raw").glob("*.parquet"))), "files of windows")
        assert client.delete("/api/v1/users/gone").status_code == 204
        wait_until(lambda: not files_with(service.data_dir, "gone"), "the files to be without it")
    backup(service.data_dir, tmp_path / "backups")
    assert service.stop() == 0
    for folder in (service.data_dir, tmp_path / "backups"):
        verified = run("verify", folder)
        assert verified.returncode == 0, verified.stdout + verified.stderr
    restore(tmp_path / "backups", tmp_path / "restored")
    assert files_with(tmp_path / "restored", "gone") == []
    with RunningService(tmp_path / "restored") as restored, restored.client() as client:
        assert users(client) == ["stays"]
        assert counted(client, "stays") == 100
        assert client.delete("/api/v1/users/stays").status_code == 204
        assert client.get("/api/v1/users", params={"after": "a"}).json()["users"] == []


def test_influxdb_forgets_as_well_and_what_is_asked_while_it_is_away_changes_nothing(
    start: StartService, influx: RunningInflux
) -> None:
    with InfluxProxy(influx, 1) as proxy:
        store = ("--store", proxy.url.replace("http://", "influx://") + "/FORGET", *OFTEN)
        service = start(*store)
        with service.client() as client:
            fill(client, "gone", 50)
            fill(client, "stays", 50)
            metrics = "loadlens_store_head_windows 0.0"
            wait_until(lambda: metrics in client.get("/metrics").text, "the windows to be in InfluxDB")
            fill(client, "gone", 5, first=100)
            proxy.fault = lambda request: Fault(503)
            assert client.delete("/api/v1/users/gone").status_code == 503
            proxy.fault = lambda request: None
            assert counted(client, "gone") == 55
            assert client.delete("/api/v1/users/gone").status_code == 204
            assert (users(client), counted(client, "gone"), counted(client, "stays")) == (["stays"], 0, 50)
        service.kill()
        with start(*store).client() as client:
            assert (users(client), counted(client, "stays")) == (["stays"], 50)
            fill(client, "gone", 2, first=20)
            assert counted(client, "gone") == 3


def test_influxdb_3_which_cannot_delete_says_what_to_do(start: StartService, influx: RunningInflux) -> None:
    with InfluxProxy(influx, 3) as proxy:
        with start("--store", proxy.url.replace("http://", "influx://") + "/THREE", *OFTEN).client() as client:
            fill(client, "gone", 5)
            refused = client.delete("/api/v1/users/gone")
            assert refused.status_code == 501
            assert "InfluxDB 3 cannot delete the points of one user: set a retention period" in refused.json()["detail"]
            assert counted(client, "gone") == 5
            fill(client, "gone", 1, first=20)
            assert counted(client, "gone") == 6
