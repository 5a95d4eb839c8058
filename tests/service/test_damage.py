"""Damage at rest: what is whole is answered, what is lost is said, and nothing more is lost by going on."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import StartService
from tests.service.following import STREAM, Event, events_of, lines_of
from tests.service.reports import END_MS, METRICS, as_json, entries, history, post, small

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
