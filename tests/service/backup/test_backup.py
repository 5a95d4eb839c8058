"""Backups of a data folder: made while the service takes reports, whole or not there at all, put back as they were."""

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import StartService
from tests.support import preloaded
from tests.support.influxd import RunningInflux
from tests.support.reports import END_MS, as_json, entries, history, post, small, wait_for_flush
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

Ended = "subprocess.CompletedProcess[str]"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "service", *map(str, arguments)]


def run(*arguments: str | Path) -> Ended:
    return preloaded.run("service", *map(str, arguments), environment=clean_environment(), timeout=200)


def backup(data_dir: Path, target: Path, *arguments: str) -> Ended:
    done = run("backup", target, "--data-dir", data_dir, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def restore(target: Path, folder: Path, *arguments: str) -> None:
    done = run("restore", target, "--data-dir", folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def used(start: StartService) -> None:
    """A data folder that a service has made and left."""
    service = start()
    with service.client() as client:
        post(client, small("one", END_MS)).raise_for_status()
    assert service.stop() == 0


def names(target: Path) -> list[str]:
    return sorted(path.stem for path in (target / "backups").glob("*.json"))


class Sender(threading.Thread):
    """Sends reports, one second of windows after the other, until it is told to stop."""

    def __init__(self, service: RunningService, user: str) -> None:
        super().__init__()
        self.user = user
        self.acknowledged = 0
        self._service = service
        self.stopping = threading.Event()

    def run(self) -> None:
        with self._service.client() as client:
            while not self.stopping.is_set():
                answer = post(client, small(self.user, END_MS + self.acknowledged * 1000))
                assert answer.status_code == 202
                self.acknowledged += 1


@contextmanager
def load(service: RunningService, users: int = 3) -> Iterator[list[Sender]]:
    senders = [Sender(service, f"user-{number}") for number in range(users)]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stopping.set()
            sender.join()


def sent(senders: list[Sender], least: int) -> None:
    before = [sender.acknowledged for sender in senders]
    wait_until(lambda: all(one.acknowledged >= then + least for one, then in zip(senders, before, strict=True)), "load")


def counts(client: httpx.Client, user: str) -> list[float]:
    """How often each second's window is there."""
    query = {"start": END_MS, "end": END_MS + 36_000_000, "stat": "count", "resample_rate": "1s"}
    return [value for _, value in entries(history(client, user, **query))]


def test_a_backup_under_load_has_all_that_was_acknowledged_before_it_began(
    start: StartService, data_dir: Path, tmp_path: Path
) -> None:
    service = start("--flush-interval", "0.2")
    target = tmp_path / "backups"
    began: list[list[int]] = []
    with load(service) as senders:
        for _ in range(3):
            sent(senders, 100)
            began.append([sender.acknowledged for sender in senders])
            backup(data_dir, target)
    service.kill()
    assert "snapshot" not in service.log
    assert not [path for path in (data_dir / "snapshot").iterdir() if path.name != "loadlens.lock"]
    assert len(names(target)) == 3
    for number, (name, acknowledged) in enumerate(zip(names(target), began, strict=True)):
        folder = tmp_path / f"restored-{number}"
        restore(target, folder, "--backup", name)
        with RunningService(folder) as restored, restored.client() as client:
            for sender, least in zip(senders, acknowledged, strict=True):
                found = counts(client, sender.user)
                assert least <= len(found) <= sender.acknowledged
                assert set(found) == {1.0}
            assert post(client, small("new", END_MS)).json() == {"accepted": 1, "duplicates": 0}
            assert "problems" not in client.get("/readyz").json()
            assert restored.stop() == 0


def test_a_backup_has_what_operators_decided_and_its_rollups(
    start: StartService, data_dir: Path, tmp_path: Path
) -> None:
    service = start("--flush-interval", "0.2")
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9}
    with service.client() as client:
        client.put("/api/v1/rules/hot", json=rule, headers={"If-None-Match": "*"}).raise_for_status()
        post(client, *(small("one", END_MS + number * 1000) for number in range(100)))
        wait_until(lambda: any((data_dir / "raw").glob("*.parquet")), "a segment")
        backup(data_dir, tmp_path / "backups")
        asked = [client.get(path).json() for path in ("/api/v1/rules", "/api/v1/audit", "/api/v1/users")]
        hourly = history(client, "one", resample_rate="1d", start=END_MS - 86_400_000, end=END_MS + 86_400_000).json()
    restore(tmp_path / "backups", tmp_path / "restored")
    with RunningService(tmp_path / "restored") as restored, restored.client() as client:
        assert [client.get(path).json() for path in ("/api/v1/rules", "/api/v1/audit", "/api/v1/users")] == asked
        query = {"resample_rate": "1d", "start": END_MS - 86_400_000, "end": END_MS + 86_400_000}
        assert history(client, "one", **query).json() == hourly


def test_files_that_a_backup_has_are_not_copied_again(start: StartService, data_dir: Path, tmp_path: Path) -> None:
    service = start("--flush-interval", "0.2", "--stream-keep", "0")
    target = tmp_path / "backups"
    with service.client() as client:
        for number in range(2):
            post(client, small("one", END_MS + number * 1000))
            # A file that is there may not be in the catalogue yet.
            wait_for_flush(client)
            backup(data_dir, target)
            if not number:
                segment = next((data_dir / "raw").glob("*.parquet")).read_bytes()
                (copy,) = [path for path in (target / "objects").glob("*/*") if path.read_bytes() == segment]
                written = copy.stat()
    assert copy.stat().st_mtime_ns == written.st_mtime_ns
    assert copy.stat().st_ino == written.st_ino
    first, second = names(target)
    kept = backup(data_dir, target, "--keep", "1")
    assert f"Removed {first}." in kept.stdout
    assert f"Removed {second}." in kept.stdout
    assert len(names(target)) == 1
    assert run("verify", target).returncode == 0


def test_the_data_folder_of_a_stopped_service_is_backed_up_too(
    start: StartService, data_dir: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backups"
    for number in range(2):
        service = start("--flush-interval", "3600")
        with service.client() as client:
            post(client, *(small("one", END_MS + (10 * number + place) * 1000) for place in range(10)))
        if number:
            service.kill()
        else:
            assert service.stop() == 0
        backup(data_dir, target)
    assert not [path for path in target.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    restore(target, tmp_path / "restored")
    with RunningService(tmp_path / "restored") as restored, restored.client() as client:
        assert counts(client, "one") == [1.0] * 20
    restore(target, tmp_path / "older", "--backup", names(target)[0])
    with RunningService(tmp_path / "older") as restored, restored.client() as client:
        assert counts(client, "one") == [1.0] * 10


def test_a_backup_that_is_killed_leaves_the_earlier_ones_usable(
    start: StartService, data_dir: Path, tmp_path: Path
) -> None:
    service = start("--flush-interval", "0.2")
    target = tmp_path / "backups"
    dice = random.Random(1)
    with service.client() as client:
        for number in range(5):
            texts = b"\n".join(as_json(small(f"u{number}-{user}", END_MS + user)) for user in range(500))
            headers = {"Content-Type": "application/x-ndjson"}
            assert client.post("/api/v1/metrics", content=texts, headers=headers).status_code == 202
            if not number:
                backup(data_dir, target)
                (earlier,) = names(target)
                continue
            process = subprocess.Popen(
                command("backup", target, "--data-dir", data_dir), cwd=ROOT, env=clean_environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            before = set(target.rglob("*"))
            wait_until(lambda: set(target.rglob("*")) != before or process.poll() is not None, "the first file")  # noqa: B023
            time.sleep(dice.random() * 0.02)
            process.kill()
            process.wait()
            assert run("verify", target).returncode == 0
        restore(target, tmp_path / "restored", "--backup", earlier)
        backup(data_dir, target)
        assert run("verify", target).returncode == 0
    with RunningService(tmp_path / "restored") as restored, restored.client() as client:
        assert len(client.get("/api/v1/users").json()["users"]) == 500


def test_restore_refuses_a_folder_that_has_something_in_it(start: StartService, data_dir: Path, tmp_path: Path) -> None:
    used(start)
    backup(data_dir, tmp_path / "backups")
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    refused = run("restore", tmp_path / "backups", "--data-dir", data_dir)
    assert refused.returncode == 1
    assert "expected an empty folder" in refused.stderr
    assert {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()} == before


def test_a_restore_that_was_cut_short_is_no_data_folder(start: StartService, data_dir: Path, tmp_path: Path) -> None:
    data_dir.mkdir()
    (data_dir / "restore.unfinished").touch()
    for arguments in (
        ("--port", "0", "--data-dir", data_dir),
        ("backup", tmp_path / "backups", "--data-dir", data_dir),
    ):
        refused = run(*arguments)
        assert refused.returncode == 1
        assert "was cut short; empty the folder and restore again" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert [path.name for path in data_dir.iterdir() if path.name != "loadlens.lock"] == ["restore.unfinished"]


def test_a_damaged_backup_is_not_restored_and_leaves_the_folder_empty(
    start: StartService, data_dir: Path, tmp_path: Path
) -> None:
    used(start)
    target = tmp_path / "backups"
    backup(data_dir, target)
    for path in (target / "objects").glob("*/*"):
        flip(path, 0)
    refused = run("restore", target, "--data-dir", tmp_path / "restored")
    assert refused.returncode == 1
    assert re.search(r"\S+ is damaged in .*; take another --backup", refused.stderr)
    assert [*(tmp_path / "restored").iterdir()] == []


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def filled(start: StartService) -> None:
    """Something in each kind of file: the journal, a segment, the catalogue, the control database."""
    service = start("--flush-interval", "0.2")
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9}
    with service.client() as client:
        client.put("/api/v1/rules/hot", json=rule, headers={"If-None-Match": "*"}).raise_for_status()
        for number in range(5):
            post(client, *(small("one", END_MS + number * 10_000 + place * 1000) for place in range(10)))
    assert service.stop() == 0


def test_one_flipped_bit_anywhere_in_a_backup_is_found(start: StartService, data_dir: Path, tmp_path: Path) -> None:
    from service.backup.repository import BackupError, Repository

    filled(start)
    target = tmp_path / "backups"
    backup(data_dir, target)
    dice = random.Random(2)
    repository = Repository(target)
    (name,) = names(target)
    contained = {file.path for file in repository.read(name).files}
    assert {"control.db", "loadlens.duckdb", "loadlens.format"} <= contained
    assert {path.partition("/")[0] for path in contained} >= {"journal", "raw"}
    for path in [*(target / "objects").glob("*/*"), *(target / "backups").iterdir()]:
        for _ in range(20):
            bit = dice.randrange(path.stat().st_size * 8)
            flip(path, bit)
            try:
                assert [*repository.faults(repository.read(name), {}, int)]
            except BackupError as error:
                assert "damaged" in str(error)  # noqa: PT017 - either may say it
            flip(path, bit)
    assert not [*repository.faults(repository.read(name), {}, int)]
    flip(next((target / "objects").glob("*/*")), 77)
    found = run("verify", target)
    assert found.returncode == 1
    assert "DAMAGED" in found.stdout


def test_one_flipped_bit_anywhere_in_a_data_folder_is_found(start: StartService, data_dir: Path) -> None:
    from service.backup.verification import faults

    filled(start)
    assert not [*faults(data_dir)]
    dice = random.Random(3)
    looked_at = set()
    for path in sorted(data_dir.rglob("*")):
        if not path.is_file() or path.name in ("loadlens.lock", "control.db.sha256") or path.suffix == ".spare":
            continue
        used = path.stat().st_size
        if path.suffix == ".journal":
            # Behind its last record a file of the journal has an end mark of 16 bytes, and what nobody reads.
            used = path.read_bytes().rindex(b"]") + 17 if b"]" in path.read_bytes() else 0
        looked_at.add(path.suffix or path.name)
        for _ in range(8 if used else 0):
            bit = dice.randrange(used * 8)
            flip(path, bit)
            assert [*faults(data_dir)], f"bit {bit} of {path}"
            flip(path, bit)
    assert looked_at == {".journal", ".parquet", ".duckdb", ".db", ".format"}
    assert not [*faults(data_dir)]
    flip(data_dir / "control.db", 5000)
    found = run("verify", data_dir)
    assert found.returncode == 1
    assert "control.db" in found.stdout


def test_verify_leaves_a_running_service_alone(start: StartService, data_dir: Path) -> None:
    with start().client() as client:
        assert client.get("/readyz").status_code == 200  # it has the folder
    refused = run("verify", data_dir)
    assert refused.returncode == 1
    assert "in use by another process" in refused.stderr


@pytest.mark.parametrize("arguments", [(), ("backup", "TARGET"), ("repair",), ("verify",)])
def test_a_data_folder_of_a_newer_release_is_refused_and_not_touched(
    data_dir: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (data_dir / "raw").mkdir(parents=True)
    (data_dir / "loadlens.format").write_text("2\n")
    words = [str(tmp_path / "backups") if word == "TARGET" else word for word in arguments] or ["--port", "0"]
    words += [str(data_dir)] if arguments == ("verify",) else ["--data-dir", str(data_dir)]
    refused = run(*words)
    assert refused.returncode == 1
    assert "has format 2; this Loadlens knows formats up to 1. Use the newer Loadlens that wrote it." in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(path.name for path in data_dir.rglob("*") if path.suffix != ".lock") == ["loadlens.format", "raw"]
    assert (data_dir / "loadlens.format").read_text() == "2\n"


def test_what_a_service_with_an_influxdb_has_not_written_yet_is_in_its_backup(
    start: StartService, data_dir: Path, tmp_path: Path, influx: RunningInflux
) -> None:
    store = ("--store", influx.address("BACKED-UP"))
    service = start(*store, "--flush-interval", "3600")
    with service.client() as client:
        post(client, *(small("one", END_MS + number * 1000) for number in range(10)))
        backup(data_dir, tmp_path / "backups")
        post(client, small("one", END_MS + 20_000))
    service.kill()
    restore(tmp_path / "backups", tmp_path / "restored")
    with RunningService(tmp_path / "restored", *store) as restored, restored.client() as client:
        assert counts(client, "one") == [1.0] * 10
