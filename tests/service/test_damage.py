"""Damage at rest: what is whole is answered, what is lost is said, and nothing more is lost by going on."""

import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import StartService
from tests.support import preloaded
from tests.support.followers import STREAM, Event, events_of, lines_of
from tests.support.reports import END_MS, METRICS, as_json, entries, history, post, small
from tests.support.running import clean_environment, wait_until

pytestmark = pytest.mark.server


def counted(client: httpx.Client, user: str = "one") -> int:
    query = {"start": END_MS, "end": END_MS + 3_600_000, "stat": "count", "resample_rate": "1h"}
    return int(sum(value for _, value in entries(history(client, user, **query))))


def metric_of(client: httpx.Client, name: str) -> float:
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(line.split()[1])


def flip(path: Path, place: int) -> bytes:
    """One bit of a byte is another from now on; returns what the file holds then."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    return bytes(content)


def journal_file(data_dir: Path) -> Path:
    (path,) = (path for path in (data_dir / "journal").glob("*.journal") if b"user_id" in path.read_bytes())
    return path


@pytest.mark.parametrize("record", [0, 100, 199])
def test_a_flipped_bit_in_the_journal_loses_one_report_of_two_hundred(
    start: StartService, data_dir: Path, record: int
) -> None:
    service = start("--flush-interval", "3600")
    with service.client() as client:
        for number in range(200):
            assert post(client, small("one", END_MS + number * 1000)).json()["accepted"] == 1
    service.kill()
    file = journal_file(data_dir)
    place = [found.start() for found in re.finditer(b'"user_id', file.read_bytes())][record]
    damaged = flip(file, place + 3)
    for restart in range(2):
        service = start("--flush-interval", "3600")
        with service.client() as client:
            assert counted(client) == 199 + restart
            # The agent that sends it again is believed; a new offset is given.
            new = END_MS + 1_000_000 + restart * 1000
            assert post(client, small("one", new)).json() == {"accepted": 1, "duplicates": 0}
            assert f"1 acknowledged reports (offsets {record + 1} to {record + 1}) are lost" in service.log
            assert metric_of(client, "loadlens_journal_lost") == 1
            ready = client.get("/readyz")
            assert ready.status_code == 200
            assert f"offsets {record + 1} to {record + 1}" in str(ready.json()["problems"])
        assert file.read_bytes() == damaged
        service.kill()
    service = start()
    with service.client() as client:
        assert counted(client) == 201
    assert service.stop() == 0
    kept = [path for path in data_dir.rglob(f"*{file.name}") if path.read_bytes() == damaged]
    assert len(kept) == 1
    service = start()
    with service.client() as client:
        assert counted(client) == 201


def test_offsets_of_the_stream_are_not_given_twice_behind_damage(start: StartService, data_dir: Path) -> None:
    service = start("--flush-interval", "3600")
    with service.client() as client:
        for number in range(20):
            post(client, small("one", END_MS + number * 1000))
    service.kill()
    file = journal_file(data_dir)
    flip(file, file.read_bytes().rindex(b"user_id"))
    service = start("--flush-interval", "3600")
    with service.client() as client:
        post(client, small("one", END_MS + 50_000))
        with client.stream("GET", STREAM, params={"after": 0}) as answer:
            found = [*takewhile_inclusive(events_of(lines_of(answer.iter_bytes())), 21)]
    assert [event.id for event in found if event.name == "message"] == [*range(1, 20), 21]
    assert len([event for event in found if event.name == "gap"]) == 1


def takewhile_inclusive(events: Iterator[Event], last: int) -> Iterator[Event]:
    for event in events:
        yield event
        if event.id >= last:
            return


# The embedded store


def filled(start: StartService, *, flushes: int = 3) -> list[Path]:
    """A store with `flushes` files of ten reports each, of an hour each, and nothing else; its service has ended."""
    for number in range(flushes):
        service = start("--flush-interval", "3600", "--stream-keep", "0")
        with service.client() as client:
            for place in range(10):
                post(client, small("one", END_MS + number * 3_600_000 + place * 1000, mean=0.25))
        assert service.stop() == 0, service.log
    return sorted((service.data_dir / "raw").glob("*.parquet"))


def all_counted(client: httpx.Client, rate: str = "7s") -> httpx.Response:
    query = {"start": END_MS - 1000, "end": END_MS + 10 * 3_600_000, "stat": "count", "resample_rate": rate}
    return history(client, "one", **query)


def total(answer: httpx.Response) -> int:
    return int(sum(value for _, value in entries(answer)))


def run(command: str, data_dir: Path) -> "subprocess.CompletedProcess[str]":
    arguments = (
        ["repair", "--data-dir", str(data_dir)] if command == "repair" else ["--port", "0", "--data-dir", str(data_dir)]
    )
    return preloaded.run("service", *arguments, environment=clean_environment())


def contents(files: list[Path]) -> list[bytes]:
    return [file.read_bytes() for file in files]


@pytest.mark.parametrize("how", ["missing", "older", "truncated", "empty", "flipped"])
def test_without_its_catalogue_the_store_is_refused_and_repair_makes_it(
    start: StartService, data_dir: Path, how: str, tmp_path: Path
) -> None:
    files = filled(start, flushes=1)
    database = data_dir / "loadlens.duckdb"
    older = database.read_bytes()
    files = filled_again(start, data_dir)
    before = contents(files)
    if how == "missing":
        database.unlink()
    elif how == "flipped":
        content = bytearray(database.read_bytes())
        for place in range(0, len(content), 4096):
            content[place + 17] ^= 255
        database.write_bytes(content)
    else:
        cut = database.read_bytes()[: database.stat().st_size // 2]
        database.write_bytes({"older": older, "truncated": cut, "empty": b""}[how])
    refused = run("service", data_dir)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "loadlens-service repair" in refused.stderr
    assert contents(files) == before
    repaired = run("repair", data_dir)
    assert repaired.returncode == 0, repaired.stderr
    assert contents(files) == before
    service = start()
    with service.client() as client:
        for rate in ("7s", "5m", "1h", "1d"):
            assert total(all_counted(client, rate)) == 30
        assert "caveat" not in all_counted(client).json()
        (user,) = client.get("/api/v1/users").json()["users"]
        assert (user["user_id"], user["os_type"], user["cores"]) == ("one", "Linux", 0)
        assert post(client, small("one", END_MS)).json() == {"accepted": 0, "duplicates": 1}
        assert post(client, small("one", END_MS + 9 * 3_600_000)).json() == {"accepted": 1, "duplicates": 0}
        assert total(all_counted(client)) == 31


def filled_again(start: StartService, data_dir: Path) -> list[Path]:
    for number in (1, 2):
        service = start("--flush-interval", "3600", "--stream-keep", "0")
        with service.client() as client:
            for place in range(10):
                post(client, small("one", END_MS + number * 3_600_000 + place * 1000, mean=0.25))
        assert service.stop() == 0, service.log
    return sorted((data_dir / "raw").glob("*.parquet"))


@pytest.mark.parametrize("how", ["flipped", "cut", "missing"])
def test_a_damaged_file_of_windows_leaves_the_rest_to_be_answered(
    start: StartService, data_dir: Path, how: str
) -> None:
    files = filled(start)
    damaged = files[1]
    content = bytearray(damaged.read_bytes())
    if how == "missing":
        damaged.unlink()
    elif how == "cut":
        damaged.write_bytes(content[:-100])
    else:
        content[200:700] = bytes(byte ^ 255 for byte in content[200:700])
        damaged.write_bytes(content)
    service = start()
    with service.client() as client:
        answer = all_counted(client)
        assert answer.status_code == 200
        assert total(answer) == 20
        assert damaged.name in answer.json()["caveat"]
        assert damaged.name in answer.headers["Caveat"]
        # Rollups have it still, and an answer from them lacks nothing.
        query = {"start": END_MS - END_MS % 86_400_000, "end": END_MS - END_MS % 86_400_000 + 2 * 86_400_000}
        whole = history(client, "one", **query, stat="count", resample_rate="1d")
        assert total(whole) == 30
        assert "caveat" not in whole.json()
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert damaged.name in ready.json()["problem"]
        assert metric_of(client, "loadlens_store_segments_damaged") == 1
        windows = client.get("/api/v1/windows/byUser/one", params={"start": END_MS - 1000, "resample_rate": "7s",
                                                                  "end": END_MS + 4 * 3_600_000})  # fmt: skip
        assert windows.status_code == 200
        assert damaged.name in windows.headers["Caveat"]
        assert post(client, small("one", END_MS + 9 * 3_600_000)).json() == {"accepted": 1, "duplicates": 0}
    assert service.stop() == 0
    assert "Traceback" not in service.log
    repaired = run("repair", data_dir)
    assert repaired.returncode == 0, repaired.stderr
    assert how == "missing" or (data_dir / "raw" / "set-aside" / damaged.name).exists()
    service = start()
    with service.client() as client:
        assert total(all_counted(client)) == 21
        assert damaged.name in all_counted(client).json()["caveat"]
        assert "problem" not in client.get("/readyz").json()


@pytest.mark.parametrize("name", ["control.db", "loadlens.duckdb"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_database_is_one_line(start: StartService, data_dir: Path, name: str, share: float) -> None:
    filled(start, flushes=1)
    path = data_dir / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    ended = run("service", data_dir) if name == "loadlens.duckdb" or share else None
    if ended is not None:
        assert ended.returncode == 1
        assert "Traceback" not in ended.stderr
        (line,) = [line for line in ended.stderr.splitlines() if "error" in line.lower()]
        assert name in line


def test_a_full_disk_is_told_while_it_lasts(start: StartService) -> None:
    """The kernel refuses writes of the running service, as it does on a full disk."""
    service = start("--flush-interval", "0.3")
    with service.client() as client:
        for number in range(3):
            assert client.post(METRICS, content=bulky(number)).status_code == 202
        assert client.get("/readyz").json()["status"] == "ready"
        worker = service.worker().pid
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
        statuses = [client.post(METRICS, content=bulky(number)).status_code for number in range(3, 15)]
        assert 503 in statuses
        full = client.get("/readyz")
        assert full.status_code == 503
        assert "cannot be put on disk" in full.json()["detail"]
        assert metric_of(client, "loadlens_journal_failures_total") > 0
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        # Nobody needs to send a report for it to be noticed.
        wait_until(lambda: client.get("/readyz").status_code == 200, "room on the disk")
        assert client.post(METRICS, content=bulky(99)).status_code == 202


def bulky(number: int) -> bytes:
    return as_json(small("one", END_MS + number * 1000, padding="x" * (1 << 20)))


def test_a_control_database_whose_seal_is_broken_is_told(start: StartService, data_dir: Path) -> None:
    service = start()
    with service.client() as client:
        assert "problems" not in client.get("/readyz").json()
    service.stop()
    flip(data_dir / "control.db", 80)  # a byte of the header that means nothing
    service = start()
    with service.client() as client:
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "control.db: its checksum is not that of when it was closed" in ready.json()["problems"][0]


def test_rules_that_could_not_be_read_again_are_told(start: StartService, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    good = '[[rules]]\nname = "high"\nkind = "threshold"\nmetric = "cpuLoadAvg"\nabove = 0.9\nfor = "1m"\n'
    rules.write_text(good)
    service = start("--rules", str(rules))
    with service.client() as client:
        wait_until(lambda: "problems" not in client.get("/readyz").json(), "a good start")
        rules.write_text("[[rules]]\nname = 3\n")
        wait_until(lambda: "problems" in client.get("/readyz").json(), "the broken file to be told")
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "rules.toml" in ready.json()["problems"][0]
        assert metric_of(client, "loadlens_rules_reload_failing") == 1
        assert metric_of(client, "loadlens_rules_reload_failures_total") >= 1
        listed = preloaded.run("service", "rules", "list", "--url", service.url, environment=clean_environment())
        assert listed.returncode == 0
        assert "These rules stay in force" in listed.stdout and "high" in listed.stdout
        rules.write_text(good)
        wait_until(lambda: "problems" not in client.get("/readyz").json(), "the good file")
        assert metric_of(client, "loadlens_rules_reload_failing") == 0


@pytest.mark.parametrize("name", ["notes.txt", "abc.journal", "1.journal", "x.spare", "mine.new"])
def test_a_stray_file_in_the_journal_folder_is_left_alone(start: StartService, data_dir: Path, name: str) -> None:
    (data_dir / "journal").mkdir(parents=True)
    (data_dir / "journal" / name).write_text("mine")
    service = start()
    with service.client() as client:
        assert client.post(METRICS, content=as_json(small("one", END_MS))).status_code == 202
    assert service.stop() == 0
    assert (data_dir / "journal" / name).read_text() == "mine"
    assert "Traceback" not in service.log
    assert name in service.log
